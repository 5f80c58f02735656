"""install.sh of the archive: run as a person runs it, in a home of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import integration
import product
import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="installs on Linux only")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    folder = tmp_path / "the archive"
    internal = folder / "program" / "_internal"
    internal.mkdir(parents=True)
    command = folder / "program" / product.COMMAND
    command.write_text('#!/bin/sh\nprintf "[%s]" "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (internal / "library.so.1").write_text("1", encoding="utf-8")
    (internal / "library.so").symlink_to("library.so.1")
    integration.write(folder / "share", integration.files())
    integration.write(folder, {"install.sh": integration.filled("install.sh").encode()})
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / 'a "home" of Zoë, $5 & 100%'
    (folder / ".local" / "share" / "applications").mkdir(parents=True)
    (folder / ".local" / "share" / "applications" / "of-somebody.desktop").touch()
    return folder


def run(home: Path, script: Path, *words: str, tools: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": tools, "LC_ALL": "C.UTF-8"}
    return subprocess.run(["/bin/sh", script, *words], env=environment, capture_output=True, text=True, timeout=60)


def tree(folder: Path) -> dict[str, str]:
    """Paths with what they are: the caches that the system's tools write are theirs."""
    paths = (path for path in folder.rglob("*") if path.name != "mimeinfo.cache")
    return {str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else str(path.is_dir()) for path in paths}


def test_that_installing_and_removing_leaves_the_home_as_it_was(unpacked: Path, home: Path) -> None:
    before = tree(home)
    assert run(home, unpacked / "install.sh").returncode == 0
    program = home / ".local" / "opt" / product.COMMAND
    assert (program / "_internal" / "library.so").is_symlink()
    started = subprocess.run([home / ".local" / "bin" / product.COMMAND, "a b", "c"], capture_output=True, text=True, timeout=60)
    assert started.stdout == "[a b][c]"
    removed = run(home, program / "install.sh", "--remove")
    assert removed.returncode == 0, removed.stderr
    assert tree(home) == before


def test_that_the_menu_entry_names_the_program_by_its_quoted_path(unpacked: Path, home: Path) -> None:
    run(home, unpacked / "install.sh")
    text = (home / ".local/share/applications" / f"{product.ID}.desktop").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("Exec="))
    unescaped = line.removeprefix("Exec=").replace("\\\\", "\\")  # of the file's strings; then of the command line's quotes
    quoted, argument = unescaped.rsplit(" ", 1)
    path = quoted[1:-1].replace('\\"', '"').replace("\\$", "$").replace("%%", "%")
    assert (quoted[0], quoted[-1], argument) == ('"', '"', "%f")
    assert Path(path) == home / ".local" / "opt" / product.COMMAND / product.COMMAND


def test_that_a_second_installation_replaces_the_first(unpacked: Path, home: Path) -> None:
    run(home, unpacked / "install.sh")
    before = tree(home)
    (unpacked / "program/_internal/library.so.1").rename(unpacked / "program/_internal/library.so.2")
    assert run(home, unpacked / "install.sh").returncode == 0
    internal = home / ".local/opt" / product.COMMAND / "_internal"
    assert {path.name for path in internal.iterdir()} == {"library.so", "library.so.2"}
    assert len(tree(home)) == len(before)
    assert run(home, unpacked / "install.sh", "--remove").returncode == 0
    assert set(tree(home)) == {
        ".local",
        ".local/share",
        ".local/share/applications",
        ".local/share/applications/of-somebody.desktop",
    }


def test_that_what_the_person_made_stays(unpacked: Path, home: Path) -> None:
    run(home, unpacked / "install.sh")
    results = home / ".local/share" / product.COMMAND / "results.sqlite"
    results.parent.mkdir()
    results.write_text("mine", encoding="utf-8")
    neighbour = home / ".local/opt/another program"
    neighbour.mkdir()
    assert run(home, unpacked / "install.sh", "--remove").returncode == 0
    assert results.read_text(encoding="utf-8") == "mine"
    assert neighbour.is_dir()


@pytest.mark.parametrize("place", [f".local/bin/{product.COMMAND}", f".local/opt/{product.COMMAND}"])
def test_that_what_others_put_in_its_place_is_not_overwritten(place: str, unpacked: Path, home: Path) -> None:
    foreign = home / place
    foreign.parent.mkdir(parents=True)
    foreign.write_text("of somebody", encoding="utf-8")
    before = tree(home)
    answer = run(home, unpacked / "install.sh")
    assert answer.returncode == 1
    assert str(foreign) in answer.stderr
    assert tree(home) == before


def test_that_half_an_archive_and_no_installation_are_said(unpacked: Path, home: Path) -> None:
    assert "not installed" in run(home, unpacked / "install.sh", "--remove").stderr
    assert "Usage" in run(home, unpacked / "install.sh", "--help").stderr
    shutil.rmtree(unpacked / "program")
    assert "whole archive" in run(home, unpacked / "install.sh").stderr

"""Sums that `sha256sum -c` accepts, and the stamp that the program reads back."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import product
import pytest
import stamp
import sums
from attnscope.build_facts import stamped


def test_that_what_is_downloaded_is_summed_by_name(tmp_path: Path) -> None:
    for name in ("b.deb", "a.rpm", "a.cdx.json", "notes.log"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "inside.deb").write_bytes(b"x")
    lines = sums.sums(tmp_path)
    assert [line.split("  ")[1] for line in lines] == ["a.cdx.json\n", "a.rpm\n", "b.deb\n"]
    assert lines[2] == f"{hashlib.sha256(b'b.deb').hexdigest()}  b.deb\n"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum here")
def test_that_sha256sum_accepts_the_file_and_sees_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one two.deb").write_bytes(b"installer")
    monkeypatch.setattr("sys.argv", ["sums.py", "--folder", str(tmp_path)])
    assert sums.main() == 0
    check = ["sha256sum", "--strict", "-c", sums.FILE]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "one two.deb").write_bytes(b"another")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_that_an_empty_folder_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sums.py", "--folder", str(tmp_path / "none")])
    assert sums.main() == 1


def test_that_the_program_reads_the_stamp_that_a_bundle_gets(tmp_path: Path) -> None:
    stamp.write(tmp_path, "all")
    facts = stamped(tmp_path)
    assert facts is not None
    assert (facts.version, facts.flavour) == (product.version(), "all")


def test_that_a_stamp_without_git_has_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp, "git", lambda *words: "")
    stamp.write(tmp_path, "small")
    facts = stamped(tmp_path)
    assert facts is not None
    assert (facts.commit, facts.built, facts.dirty) == ("", "", False)

"""Which build this is: from the stamp of a bundle, from git, or not known; and every place that says it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from attnscope import __version__, build_facts
from attnscope.__main__ import main
from attnscope.build_facts import BuildFacts, of_checkout, stamped
from attnscope.cli import doctor
from attnscope.figures.data import memory_figure, provenance
from attnscope.figures.job import FigureJob
from attnscope.figures.render import as_csv
from attnscope_engine.protocol import Choice, Workload

BUNDLE = BuildFacts("0.1.0", "abc123def456", "2026-11-24", "all", dirty=False)


def write(folder: Path, facts: BuildFacts) -> None:
    names = ("version", "commit", "built", "flavour", "dirty")
    (folder / build_facts.STAMP).write_text(json.dumps({name: getattr(facts, name) for name in names}))


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program finds the stamp of a bundle."""
    write(tmp_path, BUNDLE)
    monkeypatch.setattr(build_facts, "assets_folder", lambda: tmp_path)
    build_facts.build_facts.cache_clear()
    monkeypatch.setattr(build_facts, "of_checkout", lambda root: pytest.fail("git was asked though there is a stamp"))
    yield
    build_facts.build_facts.cache_clear()


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_that_a_stamp_is_read_back(tmp_path: Path) -> None:
    write(tmp_path, BUNDLE)
    assert stamped(tmp_path) == BUNDLE
    assert BUNDLE.build() == "bundle all, commit abc123def456, of 2026-11-24"
    assert BUNDLE.program() == "Attnscope 0.1.0 (abc123def456)"


@pytest.mark.parametrize("words", ["", "{", "[]", "3", '{"version": "0.1.0"}', "\xff"])
def test_that_a_broken_stamp_is_as_none(tmp_path: Path, words: str) -> None:
    (tmp_path / build_facts.STAMP).write_bytes(words.encode("latin-1"))
    assert stamped(tmp_path) is None
    assert stamped(tmp_path / "gone") is None


def test_that_a_checkout_says_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "First")
    git(tmp_path, "tag", "v9")
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert of_checkout(tmp_path) == BuildFacts(__version__, commit)
    (tmp_path / "file").write_text("two")
    changed = of_checkout(tmp_path)
    assert changed == BuildFacts(__version__, commit, dirty=True)
    assert changed.build() == f"from source, commit {commit} with changes"
    assert changed.program() == f"Attnscope {__version__} ({commit}, changed)"


def test_that_no_checkout_no_git_and_no_answer_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_checkout(tmp_path) is None
    (tmp_path / ".git").mkdir()
    assert of_checkout(tmp_path) is None

    def hangs(*words: object, **more: object) -> None:
        raise subprocess.TimeoutExpired("git", 2)

    with monkeypatch.context() as slow:
        slow.setattr(subprocess, "run", hangs)
        assert of_checkout(tmp_path) is None
    with monkeypatch.context() as bare:
        bare.setenv("PATH", "")
        assert of_checkout(tmp_path) is None
    assert BuildFacts("0.1.0").build() == "from source, commit unknown"
    assert BuildFacts("0.1.0").program() == "Attnscope 0.1.0"


@pytest.mark.usefixtures("bundled")
def test_that_a_bundle_says_so_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"attnscope {__version__} (commit abc123def456, all)\n"
    first = doctor.product_checks()[0]
    assert first["text"] == "0.1.0, bundle all, commit abc123def456, of 2026-11-24"
    assert first["facts"] == {
        "version": "0.1.0",
        "commit": "abc123def456",
        "built": "2026-11-24",
        "flavour": "all",
        "dirty": False,
    }
    said = provenance(Workload(seq_len=512, dtype="fp32"), None)
    assert said["program"] == "Attnscope 0.1.0 (abc123def456)"
    figure = memory_figure(Workload(seq_len=512, dtype="fp32"), (Choice("softmax_naive"),), (), on="cpu")
    assert as_csv(FigureJob(figure, provenance=said)).startswith("# Attnscope 0.1.0 (abc123def456)\n")


def test_that_the_version_is_one_short_line_from_source_and_asks_no_git() -> None:
    code = (
        "import sys, subprocess; subprocess.Popen = subprocess.run = None\n"
        "from attnscope.__main__ import main; main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"attnscope {__version__}\n"


def test_that_the_window_starts_without_asking_git() -> None:
    code = (
        "import sys, subprocess\n"
        "def run(command, *words, **more): sys.exit(f'asked {command}')\n"
        "subprocess.run = run\n"
        "from PySide6.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from attnscope.application import build\n"
        "window = build(command=[sys.executable, '-c', ''])\n"
        "window.show(); app.processEvents(); window.close(); print('open')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["open"], done.stderr


def test_that_the_doctor_names_the_folder_of_the_data() -> None:
    from attnscope.files import data_folder

    assert {"name": "Data", "text": str(data_folder())}.items() <= doctor.product_checks()[1].items()

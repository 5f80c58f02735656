"""Of the processes that the program starts beside itself: from source and frozen, and of those that it refuses."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from attnscope import programs
from attnscope.__main__ import main


@pytest.mark.parametrize("program", programs.MODULES)
def test_that_every_program_exists(program: str) -> None:
    assert importlib.util.find_spec(programs.MODULES[program]) is not None
    assert programs.named(f"--{program}") == program


def test_that_a_frozen_program_starts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.command("engine", "--device", "cpu") == (sys.executable, "-m", "attnscope_engine", "--device", "cpu")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert programs.command("engine", "--device", "cpu") == (sys.executable, "--engine", "--device", "cpu")


def test_that_the_same_word_starts_it_from_source() -> None:
    words = [sys.executable, "-m", "attnscope", "--engine", "--version"]
    done = subprocess.run(words, stdin=subprocess.PIPE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "attnscope-engine"), done.stderr


@pytest.mark.parametrize(
    "words", [["-m", "cuda.pathfinder"], ["-c", "print()"], ["-B", "-m", "x"], ["--engines"], ["engine-doctor-x"]]
)
def test_that_what_a_library_asks_of_a_python_opens_no_window(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert words[0] in capsys.readouterr().err


def test_that_refusing_imports_no_window() -> None:
    code = "import sys; from attnscope.__main__ import main; main(['-m', 'x']); sys.exit('PySide6' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL).returncode == 0

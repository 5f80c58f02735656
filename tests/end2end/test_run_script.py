"""Of `run.py`: what opens where. It is no package, so it is loaded from its file; nothing is installed here."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "run.py"


@pytest.fixture
def run(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("run_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STAMP", tmp_path / "stamp.json")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    module.called = []
    monkeypatch.setattr(module, "call", lambda *words, **options: module.called.append((words, options)) or 0)
    return module


def commands(run):
    return [" ".join(str(word) for word in words[3:]) for words, _ in run.called]


def test_that_with_no_display_the_report_is_written(run, monkeypatch):
    monkeypatch.setattr(run, "LINUX", True)
    assert run.start([]) == 0
    assert commands(run) == [f"report --out {run.ROOT / 'out'}"]


@pytest.mark.parametrize(("variable", "platform"), [("DISPLAY", "xcb"), ("WAYLAND_DISPLAY", "wayland;xcb")])
def test_that_a_display_gets_the_window_and_never_an_invisible_one(run, monkeypatch, variable, platform):
    monkeypatch.setattr(run, "LINUX", True)
    monkeypatch.setenv(variable, ":0")
    monkeypatch.setattr(run, "qt_platform", lambda environment: environment["QT_QPA_PLATFORM"])
    assert run.start(["a session"]) == 0
    assert commands(run) == ["a session"]
    assert run.called[0][1]["env"]["QT_QPA_PLATFORM"] == platform


def test_that_qts_libraries_are_installed_when_it_does_not_open_and_that_is_remembered(run, monkeypatch):
    opened, installed = iter(["", "xcb"]), []
    monkeypatch.setattr(run, "LINUX", True)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(run, "qt_platform", lambda environment: next(opened))
    monkeypatch.setattr(run, "install_system", lambda *words: installed.append(words) or True)
    assert run.start([]) == 0
    assert run.start([]) == 0  # a third look would end the iterator
    assert len(installed) == 1
    assert commands(run) == ["", ""]


def test_that_whoever_may_not_install_still_gets_a_report(run, monkeypatch):
    monkeypatch.setattr(run, "LINUX", True)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(run, "qt_platform", lambda environment: "")
    monkeypatch.setattr(run, "install_system", lambda *words: False)
    assert run.start([]) == 0
    assert commands(run) == [f"report --out {run.ROOT / 'out'}"]


def test_that_a_command_passes_through(run):
    run.start(["compare", "--help"])
    assert commands(run) == ["compare --help"]


def test_that_an_environment_for_tests_is_ready_for_the_app_and_not_the_other_way_round(run):
    want = run.wanted(tests=False)
    assert run.is_ready({**want, "tests": True}, want)
    assert run.is_ready(want, want)
    assert not run.is_ready(want, run.wanted(tests=True))
    assert not run.is_ready({**want, "python": "2.7"}, want)
    assert not run.is_ready({}, want)


def test_that_an_old_python_is_told(run, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11"):
        run.set_up(tests=False)

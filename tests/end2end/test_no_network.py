"""Nothing phones home: a session, a comparison and the doctor reach for no address, and nothing that could is imported.

What reaches out through Python's sockets is seen at run time, in every child too; Qt's own network module, which Python does not
see, must not be imported anywhere. Getting an add-on is the one thing that may ask for an address, when the person says so.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
REACHES_OUT = {
    "aiohttp",
    "asyncio",
    "ftplib",
    "http",
    "httpx",
    "requests",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "urllib",
    "urllib3",
}
QT_REACHES_OUT = {"QtNetwork", "QtWebSockets", "QtWebEngineCore", "QtWebEngineWidgets"}
MAY = ("attnscope_engine.addons",)
"""Packages that may: fetching what a person asked for."""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What processes say that start, and that reach out; every child is watched."""
    path = tmp_path / "network.log"
    path.touch()
    monkeypatch.setenv("ATTNSCOPE_TEST_NETWORK_LOG", str(path))
    paths = [str(SUPPORT / "no_network"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=110)


def tried(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("tried")]


def started(log: Path, what: str) -> bool:
    return any(line.startswith("started") and what in line for line in log.read_text().splitlines())


ATTEMPTS = {
    "socket.connect 192.0.2.1": "import socket; socket.socket().connect(('192.0.2.1', 9))",
    "socket.getaddrinfo example.org": "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://example.org/')",
    "socket.sendto 192.0.2.1": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
    "socket.bind 0.0.0.0": "import socket; socket.socket().bind(('0.0.0.0', 0))",
}


@pytest.mark.parametrize("said", ATTEMPTS)
def test_that_the_watch_sees_what_reaches_out_even_when_it_is_swallowed(log: Path, said: str) -> None:
    child = f"try:\n    {ATTEMPTS[said]}\nexcept OSError:\n    pass"
    run("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    assert tried(log) == [f"tried {said}"]


def test_that_the_watch_lets_this_machine_talk_to_itself(log: Path) -> None:
    serve = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()"
    assert run("-W", "ignore", "-c", f"{serve}; socket.create_connection(s.getsockname()); print('ok')").stdout == "ok\n"
    assert tried(log) == []


def test_that_a_session_in_the_window_reaches_for_nothing(log: Path, tmp_path: Path) -> None:
    done = run(str(SUPPORT / "quiet_session.py"), str(tmp_path))
    assert done.stdout.splitlines()[-1:] == ["closed"], done.stdout + done.stderr
    assert started(log, "-m attnscope_engine")
    assert started(log, "-m attnscope.figures")
    assert tried(log) == []


def test_that_a_comparison_reaches_for_nothing(log: Path, tmp_path: Path) -> None:
    shape = ["--seq-len", "64:128", "--heads", "2", "--head-dim", "32", "--budget", "0.05", "--device", "cpu"]
    done = run("-m", "attnscope", "compare", *shape, "--variants", "softmax_tiled,linear", "--out", str(tmp_path / "figures"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert started(log, "-m attnscope_engine")
    assert tried(log) == []


def test_that_the_doctor_reaches_for_nothing(log: Path) -> None:
    assert "Attnscope" in run("-m", "attnscope", "doctor").stdout
    assert started(log, "-m attnscope_engine.doctor")
    assert tried(log) == []


def reaching(tree: ast.AST) -> set[str]:
    """The modules that reach out and that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            literal = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            names = [literal] if called in {"import_module", "__import__"} and isinstance(literal, str) else []
        for name in names:
            parts = name.split(".")
            if parts[0] in REACHES_OUT or (parts[0] == "PySide6" and QT_REACHES_OUT & set(parts)):
                found.add(name)
    return found


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("import urllib.request", True),
        ("def f():\n    from http import client", True),
        ("from PySide6 import QtNetwork", True),
        ("from PySide6.QtNetwork import QLocalSocket", True),
        ("import importlib; importlib.import_module('requests')", True),
        ("from PySide6.QtCore import QUrl", False),
        ("from attnscope.http import x", False),
    ],
)
def test_that_an_import_that_reaches_out_is_seen_wherever_it_stands(code: str, caught: bool) -> None:
    assert bool(reaching(ast.parse(code))) is caught


def test_that_nothing_of_the_program_imports_what_reaches_out() -> None:
    found = {}
    files = [(path, top) for top in (ROOT / "app", ROOT / "engine", ROOT / "assets") for path in sorted(top.rglob("*.py"))]
    assert len(files) > 100
    for path, top in files:
        module = ".".join(path.relative_to(top).with_suffix("").parts)
        if not module.startswith(MAY) and (names := reaching(ast.parse(path.read_text(encoding="utf-8")))):
            found[module] = sorted(names)
    assert found == {}

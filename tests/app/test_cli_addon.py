"""`attnscope addon`: what it prints, and its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attnscope.__main__ import COMMANDS, main
from attnscope_engine.addons import lock
from attnscope_engine.addons.fitting import Machine
from attnscope_engine.addons.folder import PARTS, default_root, installed
from wheel_server import TARGET, WheelServer, entry, wheel_bytes, write_lock

TOY = wheel_bytes("toy", "1.0", {"toy.py": b""}, size=900_000)
FILE = "toy-1.0-py3-none-any.whl"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelServer]:
    with WheelServer() as serving:
        serving.served.files = {FILE: TOY}
        path = write_lock(tmp_path / "lock.json", {"gpu13": [entry("toy", "1.0", TOY, serving.address)]})
        monkeypatch.setattr(lock, "LOCK", path)
        lock._all.cache_clear()
        for module in ("attnscope_engine.addons.changing", "attnscope_engine.addons.rows", "attnscope.cli.addon"):
            monkeypatch.setattr(f"{module}.this_target", lambda: TARGET)
        monkeypatch.setattr("attnscope_engine.addons.rows.provided", lambda *_: "")
        monkeypatch.setattr("attnscope_engine.addons.rows.cupy_package", lambda _: "")
        monkeypatch.setattr("attnscope.cli.addon.read_machine", lambda: Machine(13000, (9, 0)))
        yield serving
    lock._all.cache_clear()


def test_that_an_addon_is_listed_added_and_removed(server, capsys):
    assert main(["addon", "list"]) == 0
    assert "gpu13  GPU parts, CUDA 13, 1 MB: not here" in capsys.readouterr().out
    assert main(["addon", "add", "gpu13"]) == 0
    said = capsys.readouterr()
    assert "is here (1 MB): toy 1.0." in said.out
    assert f"1 MB from {server.address.removeprefix('http://')}, into {default_root()}" in said.err
    assert list(installed(default_root())) == ["gpu13"]
    assert main(["addon", "list"]) == 0
    assert "installed, 1 MB" in capsys.readouterr().out
    assert main(["addon", "remove", "gpu13"]) == 0
    assert main(["addon", "remove", "gpu13"]) == 0
    assert "was not here" in capsys.readouterr().out
    assert installed(default_root()) == {}


def test_that_files_of_a_folder_are_taken(server, capsys, tmp_path):
    assert main(["addon", "add", "gpu13", "--from", str(tmp_path)]) == 1
    assert f"attnscope: {FILE} is not in {tmp_path}" in capsys.readouterr().err
    (tmp_path / FILE).write_bytes(TOY)
    assert main(["addon", "add", "gpu13", "--from", str(tmp_path)]) == 0
    assert server.served.asked == []


def test_that_addresses_and_check_sums_are_listed(server, capsys):
    assert main(["addon", "files", "gpu13"]) == 0
    assert capsys.readouterr().out.split() == [str(entry("toy", "1.0", TOY, "")["sha256"]), f"{server.address}/{FILE}"]


@pytest.mark.parametrize("action", ["add", "remove", "files"])
def test_that_an_addon_that_does_not_exist_is_a_sentence(action, capsys, server):
    assert main(["addon", action, "gpu99"]) == 1
    assert capsys.readouterr().err.startswith("attnscope: There is no add-on 'gpu99'; there are: gpu13,")


def test_that_what_does_not_fit_is_said_and_added_all_the_same(server, capsys, monkeypatch):
    monkeypatch.setattr("attnscope.cli.addon.read_machine", lambda: Machine())
    assert main(["addon", "add", "gpu13"]) == 0
    assert "No NVIDIA driver is found here. It is added all the same." in capsys.readouterr().err


def test_that_the_command_is_known_and_needs_an_action(capsys):
    assert "addon" in COMMANDS
    assert main(["addon"]) == 2
    assert "ACTION" in capsys.readouterr().err


SCRIPT = """
import signal
import sys
from pathlib import Path
from attnscope_engine.addons import changing, lock, rows
from attnscope.cli import addon
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started to ignore it
lock.LOCK = Path(sys.argv[1])
for module in (changing, rows, addon):
    module.this_target = lambda: "cp311-linux_x86_64"
from attnscope.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="XDG folders, signals")
def test_that_ctrl_c_stops_with_a_sentence_and_keeps_what_is_fetched(server, tmp_path):
    server.served.hold = threading.Event()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "lock.json"), "addon", "add", "gpu13"]
    part = default_root() / PARTS / f"{FILE}.part"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        for _ in range(600):
            if part.is_file() and part.stat().st_size:
                break
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Stopped. What is fetched is kept" in errors
    assert "Traceback" not in errors
    assert part.stat().st_size > 0

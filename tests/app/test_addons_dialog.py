"""The window of add-ons with its real child process: what it offers, that it never waits, and what it leaves."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attnscope.addon_process import AddonProcess
from attnscope.addon_words import progress_words, standing_words
from attnscope.panels.addons_dialog import AddonRow, AddonsDialog
from attnscope_engine.addons.changing import Progress
from attnscope_engine.addons.folder import PARTS, default_root, installed
from attnscope_engine.addons.rows import Row
from PySide6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot
from wheel_server import WheelServer, entry, wheel_bytes, write_lock

CHILD = Path(__file__).parents[1] / "support" / "addon_child.py"
TOY = wheel_bytes("toy", "1.0", {"toy.py": b""}, size=900_000)
FILE = "toy-1.0-py3-none-any.whl"
WAIT_MS = 30_000


@pytest.fixture
def server() -> Iterator[WheelServer]:
    with WheelServer() as serving:
        serving.served.files = {FILE: TOY}
        yield serving


@pytest.fixture
def dialog(qtbot: QtBot, server: WheelServer, tmp_path: Path) -> Iterator[AddonsDialog]:
    """Opened, on a machine whose GPU takes the parts for CUDA 13; every add-on is one toy."""
    toy = entry("toy", "1.0", TOY, server.address)
    lock = write_lock(tmp_path / "lock.json", {"gpu13": [toy], "gpu12": [toy], "torch": [{**toy, "sha256": ""}]})
    process = AddonProcess((sys.executable, str(CHILD), str(lock)))
    window = AddonsDialog(process)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: len(window.rows) == 3 and not process.busy, timeout=WAIT_MS)
    yield window
    process.stop()


def offered(row: AddonRow) -> list[str]:
    return [button.text() for button in (row.from_files, row.add, row.remove, row.cancel) if not button.isHidden()]


def settled(dialog: AddonsDialog, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not dialog._process.busy and dialog._job == ("", ""), timeout=WAIT_MS)


def test_that_each_row_offers_what_can_be_done_and_says_how_much_comes_from_where(dialog):
    gpu13, gpu12, torch = (dialog.rows[name] for name in ("gpu13", "gpu12", "torch"))
    assert offered(gpu13) == ["From files…", "Add"]
    assert gpu13.add.property("kind") == "accent"
    assert gpu13.state.text().startswith("Not here · 1 MB from 127.0.0.1")
    assert offered(gpu12) == []
    assert gpu12.state.text() == "Does not fit: the parts for CUDA 13 fit this GPU."
    assert offered(torch) == ["From files…"]
    assert "From files only" in torch.state.text()
    assert dialog.height() == dialog.layout().totalHeightForWidth(dialog.width())


def test_that_adding_shows_progress_then_what_is_installed_and_asks_for_a_new_engine(dialog, qtbot, server):
    server.served.hold = threading.Event()
    row = dialog.rows["gpu13"]
    row.add.click()
    qtbot.waitUntil(lambda: row.bar.value() > 0, timeout=WAIT_MS)
    assert offered(row) == ["Cancel"]
    assert "of 1 MB" in row.state.text()
    assert not dialog.rows["torch"].from_files.isEnabled()
    assert "GPU parts, CUDA 13 is being changed" in dialog.rows["torch"].from_files.toolTip()
    with qtbot.waitSignal(dialog.changed, timeout=WAIT_MS) as changed:
        server.served.hold.set()
    assert changed.args == ["GPU parts, CUDA 13 is added; the engine starts again."]
    settled(dialog, qtbot)
    qtbot.waitUntil(lambda: offered(row) == ["Remove"], timeout=WAIT_MS)
    assert row.state.text() == "Installed, 1 MB"
    assert dialog.rows["torch"].from_files.isEnabled()
    assert list(installed(default_root())) == ["gpu13"]


def test_that_cancel_keeps_what_is_fetched_and_offers_to_go_on(dialog, qtbot, server):
    server.served.hold = threading.Event()
    row = dialog.rows["gpu13"]
    row.add.click()
    qtbot.waitUntil(lambda: row.bar.value() > 0, timeout=WAIT_MS)
    row.cancel.click()
    qtbot.waitUntil(lambda: offered(row) == ["From files…", "Go on"], timeout=WAIT_MS)
    assert dialog.message.text() == "Stopped. What is fetched of GPU parts, CUDA 13 is kept."
    assert "are fetched" in row.state.text()
    server.served.hold = None
    with qtbot.waitSignal(dialog.changed, timeout=WAIT_MS):
        row.add.click()
    assert server.served.asked[-1].startswith("bytes=")


def test_that_removing_frees_the_disk_and_asks_for_a_new_engine(dialog, qtbot):
    row = dialog.rows["gpu13"]
    with qtbot.waitSignal(dialog.changed, timeout=WAIT_MS):
        row.add.click()
    qtbot.waitUntil(lambda: offered(row) == ["Remove"], timeout=WAIT_MS)
    with qtbot.waitSignal(dialog.changed, timeout=WAIT_MS) as changed:
        row.remove.click()
    assert changed.args == ["GPU parts, CUDA 13 is removed; the engine starts again."]
    qtbot.waitUntil(lambda: offered(row) == ["From files…", "Add"], timeout=WAIT_MS)
    assert installed(default_root()) == {}


def test_that_files_of_a_folder_are_taken_and_a_refusal_stays_readable(dialog, qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    row = dialog.rows["torch"]
    row.from_files.click()
    settled(dialog, qtbot)
    qtbot.waitUntil(lambda: row.from_files.isEnabled() and not row.from_files.isHidden(), timeout=WAIT_MS)
    assert dialog.message.text().startswith(f"{FILE} is not in {tmp_path}")
    assert dialog.message.property("role") == "danger"
    (tmp_path / FILE).write_bytes(TOY)
    with qtbot.waitSignal(dialog.changed, timeout=WAIT_MS):
        row.from_files.click()
    assert list(installed(default_root())) == ["torch"]


def test_that_closing_ends_the_child_and_leaves_parts_only(dialog, qtbot, server):
    server.served.hold = threading.Event()
    row = dialog.rows["gpu13"]
    row.add.click()
    qtbot.waitUntil(lambda: row.bar.value() > 0, timeout=WAIT_MS)
    dialog.close()
    assert not dialog._process.busy
    assert installed(default_root()) == {}
    assert (default_root() / PARTS / f"{FILE}.part").stat().st_size > 0


def test_that_a_child_that_can_not_start_is_told(qtbot):
    window = AddonsDialog(AddonProcess(("/no/such/program",)))
    qtbot.addWidget(window)
    qtbot.waitUntil(lambda: window.message.property("role") == "danger", timeout=WAIT_MS)
    assert "/no/such/program" in window.message.text()


def test_that_a_child_that_dies_is_told_with_its_last_words(qtbot):
    window = AddonsDialog(AddonProcess((sys.executable, "-c", "raise SystemExit('the driver is broken')")))
    qtbot.addWidget(window)
    qtbot.waitUntil(lambda: window.message.property("role") == "danger", timeout=WAIT_MS)
    assert "the driver is broken" in window.message.text()


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(59_000_000, 131_000_000, "fetching", 12.34e6), "59 of 131 MB, 45 %, 12.3 MB/s"),
        (Progress(0, 131_000_000, "fetching"), "0 of 131 MB, 0 %"),
        (Progress(500_000_000, 1_250_000_000, "unpacking"), "unpacking 500 of 1.25 GB, 40 %"),
    ],
)
def test_that_progress_is_amounts_a_share_and_a_rate(progress, words):
    assert progress_words(progress) == words


def test_that_an_addon_of_another_python_says_what_to_do():
    row = Row("torch", "torch", "", 1, "", "stale", "It was made for Python 3.12: add it again.")
    assert standing_words(row) == "not used: it was made for Python 3.12: add it again."

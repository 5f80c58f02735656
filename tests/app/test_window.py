"""The window as a whole, with a scripted engine: commands do what they say, and what was on the screen comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import scripted_engine
from attnscope.actions import COMMANDS
from attnscope.application import build
from attnscope.figures.job import MapFigure, MemoryFigure, ScalingFigure
from attnscope.page_figure import NothingToShowError, page_figure
from attnscope.preferences import default_path, load_preferences
from attnscope.state import Notice
from attnscope.window import Window
from attnscope_engine.protocol import FileSource, MapDrawn, TextSource
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication
from PySide6.QtWidgets import QApplication, QDialog
from pytestqt.qtbot import QtBot

Make = Callable[..., Window]


@pytest.fixture
def make(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Windows that are all closed at the end."""
    monkeypatch.setattr("sys.excepthook", __import__("sys").excepthook)
    monkeypatch.setattr("threading.excepthook", __import__("threading").excepthook)
    made: list[Window] = []

    def make_window(path: Path | None = None, mode: str = "ok", start: bool = True) -> Window:
        window = build(path, list(scripted_engine.command(mode)))
        qtbot.addWidget(window)
        window.resize(1280, 800)
        window.show()
        if start:
            window.client.start()
            qtbot.waitUntil(lambda: window.store.state.live.device is not None, timeout=20_000)
        made.append(window)
        return window

    yield make_window
    for window in made:
        window.close()


def test_that_the_first_page_is_the_map_of_the_sample_sentence(make: Make, qtbot: QtBot) -> None:
    window = make()
    qtbot.waitUntil(lambda: "map" in window.store.state.live.answers, timeout=20_000)
    answer = window.store.state.live.answers["map"].payload
    assert isinstance(answer, MapDrawn)
    assert [choice.variant for choice in answer.job.panels] == ["softmax_tiled", "chunked"]


def test_that_each_page_opens_and_draws(make: Make, qtbot: QtBot) -> None:
    window = make()
    for page in ("scaling", "memory", "map"):
        window.do(f"page_{page}")
        assert window.store.state.settings.page == page
        assert window._stack.currentWidget() is window.page(page)
        qtbot.wait(20)
        assert not window.grab().isNull()


def test_that_measure_all_measures_every_checked_variant(make: Make, qtbot: QtBot) -> None:
    window = make()
    window.store.update(measure_idle=False)
    qtbot.waitUntil(lambda: window.store.state.live.ceilings is not None, timeout=20_000)
    window.do("measure_all")
    qtbot.waitUntil(lambda: len(window.store.state.live.measurements) == 2 and not window.store.state.live.queue, timeout=20_000)


def test_that_stop_keeps_what_is_done(make: Make, qtbot: QtBot) -> None:
    window = make()
    window.store.update(measure_idle=False, page="scaling")
    qtbot.waitUntil(lambda: window.store.state.live.ceilings is not None, timeout=20_000)
    window.do("page_action")
    assert window.store.state.live.queue
    window.do("stop")
    assert not window.store.state.live.queue
    assert "points kept" in window.store.state.live.status


def test_that_undo_and_redo_follow_the_slider(make: Make) -> None:
    window = make(start=False)
    window.store.update(seq_len=1024)
    window.do("double_n")
    window.do("undo")
    assert window.store.state.settings.workload.seq_len != 2048
    window.do("redo")
    assert window.store.state.settings.workload.seq_len == 2048
    window.do("halve_n")
    assert window.store.state.settings.workload.seq_len == 1024


def test_that_settings_layout_and_recent_files_come_back_at_the_next_start(make: Make, tmp_path: Path) -> None:
    first = make(start=False)
    first.store.update(seq_len=12_800, page="memory")
    first.documents.save(tmp_path / "run.attnscope")
    first.close()
    preferences, problem = load_preferences(default_path())
    assert problem == ""
    assert preferences.recent == (str(tmp_path / "run.attnscope"),)
    second = make(start=False)
    assert second.store.state.settings.workload.seq_len == 12_800
    assert second.store.state.settings.page == "memory"


def test_that_a_session_on_the_command_line_is_opened(make: Make, tmp_path: Path) -> None:
    first = make(start=False)
    first.store.update(seq_len=320)
    first.documents.save(tmp_path / "run.attnscope")
    first.close()
    default_path().unlink()
    assert make(tmp_path / "run.attnscope", start=False).store.state.settings.workload.seq_len == 320


def test_that_the_title_tells_what_is_not_saved(make: Make, tmp_path: Path) -> None:
    window = make(start=False)
    window.documents.save(tmp_path / "run.attnscope")
    assert window._corner.text() == "run.attnscope"
    window.store.update(seq_len=320)
    assert window._corner.text() == "• run.attnscope"


def test_that_a_dropped_file_is_opened(make: Make, tmp_path: Path) -> None:
    window = make(start=False)
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader")
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(5, 5), copy, mime, left, none)
    window.dragEnterEvent(enter)
    assert enter.isAccepted()
    window.dropEvent(QDropEvent(QPointF(5, 5), copy, mime, left, none))
    assert window.store.state.settings.source == TextSource("Dear reader")


def test_that_a_session_reads_a_file_only_when_told_to(make: Make) -> None:
    window = make(start=False)
    window.do("read_file:/tmp/q.npz")
    assert window.store.state.settings.source == FileSource("/tmp/q.npz")


def test_that_pinning_needs_something_measured(make: Make, qtbot: QtBot) -> None:
    window = make()
    window.store.update(measure_idle=False)
    window.do("pin")
    assert not window.store.state.live.pinned
    qtbot.waitUntil(lambda: window.store.state.live.ceilings is not None, timeout=20_000)
    window.do("measure_all")
    qtbot.waitUntil(lambda: not window.store.state.live.queue and bool(window.store.state.live.measurements), timeout=20_000)
    window.do("pin")
    assert len(window.store.state.live.pinned) == len(window.store.state.live.measurements)
    window.do("pin")
    assert not window.store.state.live.pinned


@pytest.mark.parametrize(("page", "kind"), [("map", MapFigure), ("scaling", ScalingFigure), ("memory", MemoryFigure)])
def test_that_every_page_can_be_exported(make: Make, qtbot: QtBot, page: str, kind: type) -> None:
    window = make()
    qtbot.waitUntil(lambda: "map" in window.store.state.live.answers, timeout=20_000)
    window.store.update(page=page)
    job = page_figure(window.store.state)
    assert isinstance(job.figure, kind)
    assert job.provenance["device"] == "A made-up processor"


def test_that_nothing_checked_is_nothing_to_export(make: Make) -> None:
    window = make(start=False)
    window.store.update(checked=())
    with pytest.raises(NothingToShowError, match="Choose a variant"):
        page_figure(window.store.state)
    window.do("export")
    window.do("copy")
    assert "Choose a variant" in window.store.state.live.status


def test_that_a_copied_table_is_text(make: Make, qtbot: QtBot) -> None:
    window = make()
    window.store.update(page="memory")
    window.do("copy_table")
    assert QGuiApplication.clipboard().text().startswith("variant\t")


def test_that_copy_puts_picture_svg_and_table_on_the_clipboard(make: Make, qtbot: QtBot) -> None:
    window = make()
    window.store.update(page="memory")
    window.do("copy")
    qtbot.waitUntil(lambda: window.store.state.live.status.startswith("Copied"), timeout=30_000)
    mime = QGuiApplication.clipboard().mimeData()
    assert mime.hasFormat("image/svg+xml")
    assert mime.hasImage()
    assert mime.text().startswith("variant\t")


ASK_THE_SYSTEM = {"quit", "open_session", "save_session_as", "save_session"}


@pytest.mark.parametrize("command", [command.id for command in COMMANDS if command.id not in ASK_THE_SYSTEM])
def test_that_every_command_can_be_carried_out(make: Make, qtbot: QtBot, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PySide6.QtGui.QDesktopServices.openUrl", lambda _url: False)
    window = make()
    window._actions[command].trigger()
    qtbot.wait(10)
    for dialog in window.findChildren(QDialog):
        dialog.reject()
    for widget in QApplication.topLevelWidgets():
        if widget is not window:
            widget.close()


def test_that_an_exception_becomes_a_strip_and_the_window_goes_on(make: Make, qtbot: QtBot) -> None:
    import sys

    window = make(start=False)
    try:
        raise RuntimeError("planted <b>")
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    qtbot.waitUntil(lambda: bool(window.store.state.live.notices), timeout=2_000)
    (notice,) = window.store.state.live.notices
    assert isinstance(notice, Notice)
    assert "planted <b>" in notice.text
    window.do("double_n")


def test_that_damaged_preferences_are_told_and_kept(make: Make) -> None:
    default_path().parent.mkdir(parents=True, exist_ok=True)
    default_path().write_text("{")
    window = make(start=False)
    assert "Preferences could not be read" in window.store.state.live.notices[0].text


def test_that_neither_torch_nor_cupy_is_imported(make: Make) -> None:
    import sys

    make()
    assert "cupy" not in sys.modules
    pages = "attnscope.plots.scaling_page, attnscope.plots.memory_page"
    code = f"import sys, attnscope.application, {pages}; print({{'torch', 'cupy'}} & set(sys.modules))"
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_that_addons_open_once_and_a_change_starts_the_engine_again(make: Make, qtbot: QtBot) -> None:
    window = make()
    window.do("addons")
    dialog = window._addons.dialog
    assert dialog is not None
    assert dialog.isVisible()
    assert not dialog.isModal()
    window.do("addons")
    assert window._addons.dialog is dialog
    process = window._addons.process
    assert process is not None
    qtbot.waitUntil(lambda: not process.busy, timeout=30_000)
    pid = window.client.pid
    dialog.changed.emit("torch for the CPU is added; the engine starts again.")
    assert window.store.state.live.status == "torch for the CPU is added; the engine starts again."
    qtbot.waitUntil(lambda: window.client.pid not in (0, pid) and window.store.state.live.phase != "starting", timeout=20_000)
    dialog.close()
    assert window._addons.dialog is None


def test_that_closing_the_window_ends_what_is_done_to_addons(make: Make, qtbot: QtBot) -> None:
    window = make(start=False)
    window.do("addons")
    process = window._addons.process
    assert process is not None
    assert process.busy
    window.close()
    assert not process.busy

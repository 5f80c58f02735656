"""Builds the window's parts in their order, and catches what nothing else caught."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QCoreApplication, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from attnscope import __version__
from attnscope.engine_client import EngineClient
from attnscope.engine_wire import default_command
from attnscope.files import data_folder, state_folder
from attnscope.preferences import default_path, load_preferences
from attnscope.results import Results
from attnscope.state import Live, Notice
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope.window import Window

log = logging.getLogger("attnscope")

DESKTOP_ID = "org.attnscope.Attnscope"
"""Of the desktop entry that an installer brings: a window on Wayland has the icon of that entry."""


def start(path: Path | None) -> int:
    """Run the application until its window is closed."""
    with crash_log():
        return run(path)


@contextlib.contextmanager
def crash_log() -> Iterator[None]:
    """A fault below Python (in Qt, in a driver) leaves its stack in a file."""
    try:
        state_folder().mkdir(parents=True, exist_ok=True)
        file = (state_folder() / "crash.log").open("a")
    except OSError:
        yield
        return
    with file:
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()


def run(path: Path | None) -> int:
    """Build the window, show it, and only then start the engine."""
    name_application()
    app = QApplication.instance() or QApplication([*sys.argv[:1]])
    window = build(path)
    window.show()
    # The engine starts once the window is on the screen: predictions do not need it.
    QTimer.singleShot(0, window.client.start)
    return int(app.exec())


def name_application() -> None:
    """Say who we are before Qt starts: it tells the desktop, which finds icon and menu entry by it."""
    QCoreApplication.setApplicationName("attnscope")
    QCoreApplication.setApplicationVersion(__version__)
    QCoreApplication.setOrganizationName("attnscope")
    QGuiApplication.setDesktopFileName(DESKTOP_ID)


def build(path: Path | None = None, command: list[str] | None = None) -> Window:
    """Preferences, theme, store, results, client, window. `command`: another engine than this program's own."""
    preferences, problem = load_preferences(default_path())
    theme = Theme(preferences.theme)
    live = Live(
        measure_budget_s=preferences.measure_budget_s, tour_done=preferences.tour_done, told_no_gpu=preferences.told_no_gpu
    )
    store = Store(preferences.settings, live)
    results = Results(data_folder() / "results.sqlite")
    client = EngineClient(store, results, command or default_command(preferences.device), log_path=state_folder() / "engine.log")
    window = Window(store, theme, client, preferences)
    catch_exceptions(window)
    if problem:
        window.documents.tell("warn", problem)
    if path is not None:
        window.documents.open(path)
    return window


def catch_exceptions(window: Window) -> None:
    """An exception that nothing caught becomes a strip and a log entry; the window goes on."""
    folder = state_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(filename=folder / "attnscope.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    except OSError:
        logging.basicConfig(level=logging.WARNING)

    def caught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.error("uncaught\n%s", "".join(traceback.format_exception(kind, error, trace)))
        text = f"Something went wrong ({kind.__name__}: {error}). The window goes on; the log has the details."
        notice = Notice("danger", text[:300], (("Show log", "show_log"), ("Report", "report")), key="exception")
        QTimer.singleShot(0, window, lambda: post(window, notice))

    def caught_in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            caught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    sys.excepthook = caught
    threading.excepthook = caught_in_thread
    log.info("started at %s", time.strftime("%Y-%m-%d %H:%M:%S"))


def post(window: Window, notice: Notice) -> None:
    others = tuple(old for old in window.store.state.live.notices if old.key != notice.key)
    window.store.update_live(notices=(*others, notice))

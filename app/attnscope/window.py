"""The main window: docks, pages, menus from the table of commands, and what each command does."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
from attnscope_engine.protocol import FileSource
from PySide6.QtCore import QByteArray, QEvent, Qt, QTimer, QUrl
from PySide6.QtGui import (
    QAction,
    QActionGroup,
    QCloseEvent,
    QDesktopServices,
    QDragEnterEvent,
    QDropEvent,
    QGuiApplication,
    QKeySequence,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import QDockWidget, QFileDialog, QLabel, QMainWindow, QMenu, QStackedWidget, QVBoxLayout, QWidget

from attnscope import figure_clipboard, requests, window_place
from attnscope.actions import COMMANDS
from attnscope.addons_window import AddonsWindow
from attnscope.documents import OPEN_FILTER, Documents
from attnscope.engine_client import EngineClient
from attnscope.figure_process import FigureProcess
from attnscope.figures.job import FigureJob
from attnscope.figures.render import as_text_table
from attnscope.files import state_folder
from attnscope.page_figure import NothingToShowError, page_figure
from attnscope.panels.edit_text import EditTextDialog
from attnscope.panels.export_dialog import ExportDialog
from attnscope.panels.info import about_window, diagnostics_window, keys_window
from attnscope.panels.page_bar import PageBar
from attnscope.panels.preferences_dialog import THEMES, PreferencesDialog
from attnscope.panels.status import StatusBar
from attnscope.panels.strips import Strips
from attnscope.panels.variants import VariantsPanel
from attnscope.panels.workload import WorkloadPanel
from attnscope.plots.map_page import MapPage
from attnscope.preferences import Preferences, default_path, save_preferences, with_recent
from attnscope.session import SUFFIX
from attnscope.state import State
from attnscope.store import Store
from attnscope.theme import Theme, font

TITLE = "Attnscope"
MINIMUM = (1024, 680)
SAVE_AFTER_MS = 2000
"""Settings are on disk at most this long after a change: what a crash can cost."""


class Window(QMainWindow):
    """Attnscope's one window."""

    def __init__(
        self, store: Store, theme: Theme, client: EngineClient, preferences: Preferences, preferences_path: Path | None = None
    ) -> None:
        super().__init__()
        self.store, self.theme, self.client = store, theme, client
        self.preferences = preferences
        self._preferences_path = preferences_path or default_path()
        self._figures = FigureProcess(self)
        self._addons = AddonsWindow(self, self._addons_changed)
        self.documents = Documents(store, self._remember)
        self._actions: dict[str, QAction] = {}
        self._pages: dict[str, QWidget] = {}
        self._sized_for = 0
        self.setMinimumSize(*MINIMUM)
        self.setAcceptDrops(True)
        self.setDockOptions(QMainWindow.DockOption.AnimatedDocks & ~QMainWindow.DockOption.AnimatedDocks)
        self._build_menus()
        self._build_centre()
        self._build_docks()
        self._restore()
        self._saver = QTimer(self, singleShot=True, interval=SAVE_AFTER_MS)
        self._saver.timeout.connect(self._save_preferences)
        store.changed.connect(self._changed)
        self._changed(None, store.state)

    # ------------------------------------------------------------ building

    def _build_menus(self) -> None:
        bar = self.menuBar()
        bar.setNativeMenuBar(False)
        menus = {
            id_: bar.addMenu(text)
            for id_, text in (("file", "&File"), ("edit", "&Edit"), ("view", "&View"), ("run", "&Run"), ("help", "&Help"))
        }
        group: dict[str, int] = {}
        for command in COMMANDS:
            menu = menus[command.menu]
            if group.setdefault(command.menu, command.group) != command.group:
                menu.addSeparator()
                group[command.menu] = command.group
            action = QAction(command.text, self, checkable=command.checkable)
            action.setShortcuts([QKeySequence(keys) for keys in command.keys])
            action.setStatusTip(command.hint)
            action.triggered.connect(lambda _checked=False, id_=command.id: self.do(id_))
            menu.addAction(action)
            self._actions[command.id] = action
            if command.id == "open_session":
                self._recent = QMenu("Open &Recent", self)
                self._recent.aboutToShow.connect(self._fill_recent)
                menu.addMenu(self._recent)
        self._actions["quit"].setMenuRole(QAction.MenuRole.QuitRole)
        self._actions["about"].setMenuRole(QAction.MenuRole.AboutRole)
        self._actions["preferences"].setMenuRole(QAction.MenuRole.PreferencesRole)
        self._view_menu = menus["view"]
        self._build_theme_menu()
        self._corner = QLabel()
        self._corner.setFont(font("label"))
        self._corner.setProperty("role", "label")
        self._corner.setContentsMargins(0, 0, 12, 0)
        self._corner.setFixedHeight(bar.sizeHint().height())
        self._corner.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight)
        self._corner.setTextFormat(Qt.TextFormat.PlainText)
        bar.setCornerWidget(self._corner)

    def _build_theme_menu(self) -> None:
        menu = self._view_menu.addMenu("&Theme")
        group = QActionGroup(self)
        for mode, text in THEMES.items():
            action = QAction(text, self, checkable=True, checked=mode == self.theme.mode)
            action.triggered.connect(lambda _checked=False, mode=mode: self._set_theme(mode))
            group.addAction(action)
            menu.addAction(action)

    def _build_centre(self) -> None:
        self.page_bar = PageBar(self.store, self.theme)
        self.page_bar.action.connect(self.do)
        self.strips = Strips(self.store, self.theme)
        self.strips.action.connect(self.do)
        self._stack = QStackedWidget()
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for widget in (self.page_bar, self.strips):
            column.addWidget(widget)
        column.addWidget(self._stack, 1)
        self.setCentralWidget(centre)
        self.status = StatusBar(self.store, self.theme)
        self.status.action.connect(self.do)
        self.setStatusBar(self.status)

    def _build_docks(self) -> None:
        self.workload = WorkloadPanel(self.store, self.theme)
        self.variants = VariantsPanel(self.store, self.theme)
        self.variants.action.connect(self.do)
        self._docks = []
        for name, panel in (("Workload", self.workload), ("Variants", self.variants)):
            dock = QDockWidget(name, self)
            dock.setObjectName(name)
            dock.setWidget(panel)
            dock.setTitleBarWidget(QWidget())  # the panel draws its own head
            self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
            self._docks.append(dock)
            self._view_menu.addAction(dock.toggleViewAction())
        self._default_state = self.saveState()

    def page(self, name: str) -> QWidget:
        """The page, made when it is first needed: the two with curves import pyqtgraph."""
        if name not in self._pages:
            if name == "map":
                page: QWidget = MapPage(self.store, self.theme)
            elif name == "scaling":
                from attnscope.plots.scaling_page import ScalingPage

                page = ScalingPage(self.store, self.theme)
            else:
                from attnscope.plots.memory_page import MemoryPage

                page = MemoryPage(self.store, self.theme)
            page.action.connect(self.do)  # type: ignore[attr-defined]
            self._pages[name] = page
            self._stack.addWidget(page)
        return self._pages[name]

    # ------------------------------------------------------------ state to window

    def _changed(self, old: State | None, new: State) -> None:
        if old is None or old.settings.page != new.settings.page:
            self._stack.setCurrentWidget(self.page(new.settings.page))
        if (
            old is None
            or old.settings is not new.settings
            or old.live.saved is not new.live.saved
            or old.live.session_path != new.live.session_path
        ):
            self._name_window(new)
        if old is not None and old.settings is not new.settings and not self._saver.isActive():
            self._saver.start()
        self._actions["undo"].setEnabled(self.store.can_undo)
        self._actions["redo"].setEnabled(self.store.can_redo)
        self._actions["pin"].setChecked(bool(new.live.pinned))

    def _name_window(self, state: State) -> None:
        path = state.live.session_path
        name = Path(path).name if path else "untitled"
        unsaved = state.live.saved is not None and state.live.saved != state.settings
        self._corner.setText(f"• {name}" if unsaved else name)
        self.setWindowTitle(f"{name} – {TITLE}")

    # ------------------------------------------------------------ commands

    def do(self, id_: str) -> None:
        """Carry a command out, from a menu, a key, a button of a page or of a strip."""
        if id_.startswith("page_") and id_ != "page_action":
            self.store.update(page=id_.removeprefix("page_"))
        elif id_.startswith("read_file:"):
            self.store.update(source=FileSource(id_.partition(":")[2]), view=None)
        else:
            method = getattr(self, f"on_{id_}", None)
            if method is not None:
                method()

    def on_new_session(self) -> None:
        self.documents.new()

    def on_open_session(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open", "", OPEN_FILTER)
        if path:
            self.documents.open(Path(path))

    on_open_file = on_open_session

    def on_save_session(self) -> None:
        path = self.store.state.live.session_path
        if path:
            self.documents.save(Path(path))
        else:
            self.on_save_session_as()

    def on_save_session_as(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save session", f"untitled{SUFFIX}", f"Sessions (*{SUFFIX})")
        if path:
            self.documents.save(Path(path))

    def on_export(self) -> None:
        job = self._figure_job()
        if job is not None:
            dialog = ExportDialog(job, self.store.state.settings.page, self)
            dialog.saved.connect(lambda path: self.store.update_live(status=f"Saved {Path(path).name}"))
            dialog.copy_wanted.connect(self._copy)
            dialog.failed.connect(lambda text: self.documents.tell("danger", text))
            dialog.open()

    def on_quit(self) -> None:
        self.close()

    def on_undo(self) -> None:
        self.store.undo()

    def on_redo(self) -> None:
        self.store.redo()

    def on_copy(self) -> None:
        job = self._figure_job()
        if job is not None:
            self._copy(msgspec.structs.replace(job, dpi=200))

    def on_copy_table(self) -> None:
        job = self._figure_job()
        if job is not None:
            QGuiApplication.clipboard().setText(as_text_table(job.figure))
            self.store.update_live(status="Copied: table.")

    def on_pin(self) -> None:
        live = self.store.state.live
        if live.pinned:
            self.store.update_live(pinned=(), status="The baseline is gone.")
        elif live.measurements:
            self.store.update_live(pinned=tuple(live.measurements.values()), status="Pinned what is measured as the baseline.")
        else:
            self.store.update_live(status="There is nothing measured to pin yet: press F5.")
        self._actions["pin"].setChecked(bool(self.store.state.live.pinned))

    def on_edit_text(self) -> None:
        dialog = EditTextDialog(self.store.state, self)
        dialog.accepted.connect(lambda: self._show_text(dialog))
        dialog.open()

    def _show_text(self, dialog: EditTextDialog) -> None:
        self.store.update(source=dialog.source(), layer=-1, head=-1, row=-1, column=-1, view=None)

    def on_preferences(self) -> None:
        dialog = PreferencesDialog(self.preferences, self)
        dialog.accepted.connect(lambda: self._take_preferences(dialog.preferences()))
        dialog.open()

    def on_toggle_left(self) -> None:
        shown = any(dock.isVisible() for dock in self._docks)
        for dock in self._docks:
            dock.setVisible(not shown)
        self._actions["toggle_left"].setChecked(not shown)

    def on_full_screen(self) -> None:
        self.showNormal() if self.isFullScreen() else self.showFullScreen()

    def on_reset_layout(self) -> None:
        self.restoreState(self._default_state)
        for dock in self._docks:
            dock.setFloating(False)
            dock.show()
        self._size_left()

    def on_focus_n(self) -> None:
        self.workload.focus_seq_len()

    def on_halve_n(self) -> None:
        self.store.update(seq_len=self.store.state.settings.workload.seq_len // 2)

    def on_double_n(self) -> None:
        self.store.update(seq_len=self.store.state.settings.workload.seq_len * 2)

    def on_measure_all(self) -> None:
        keys = requests.measure_all_queue(self.store.state)
        self._measure(keys, "Nothing to measure: no checked variant fits at this n.")

    def on_sweep(self) -> None:
        keys = requests.sweep_queue(self.store.state)
        self._measure(keys, "Nothing to sweep: no checked variant fits in this range.")

    def _measure(self, keys: tuple[str, ...], otherwise: str) -> None:
        if self.store.state.live.device is None:
            self.store.update_live(status="Measure is off: the engine is starting.")
        elif not keys:
            self.store.update_live(status=otherwise)
        else:
            self.client.measure(keys)

    def on_page_action(self) -> None:
        page = self.store.state.settings.page
        if page == "map":
            self.page("map").next_bad_cell()  # type: ignore[attr-defined]
        elif page == "scaling":
            self.on_sweep()
        else:
            self.on_measure_all()

    def on_stop(self) -> None:
        """Esc: stop measuring; with nothing running it frees the fixed row."""
        if self.store.state.live.queue:
            self.client.cancel()
        elif self.store.state.settings.row >= 0:
            self.store.update(row=-1, column=-1)

    on_cancel = on_stop

    def on_calibrate(self) -> None:
        if self.store.state.live.device is None:
            self.store.update_live(status="Ceilings are measured once the engine runs.")
        else:
            self.client.calibrate()

    def on_restart_engine(self) -> None:
        self.client.restart()

    on_start_again = on_restart_engine

    def on_use_cpu(self) -> None:
        self.client.use_cpu()

    def on_try_again(self) -> None:
        self.client.try_again()

    def on_show_keys(self) -> None:
        keys_window(self).show()

    def on_tour(self) -> None:
        self.preferences = msgspec.structs.replace(self.preferences, tour_done=False)
        self.store.update_live(tour_done=False)
        self.store.update(page="map")

    def on_tour_done(self) -> None:
        self.preferences = msgspec.structs.replace(self.preferences, tour_done=True)
        self.store.update_live(tour_done=True)
        self._save_preferences()

    def on_diagnostics(self) -> None:
        diagnostics_window(self, self.store.state, self.client.log.text()).show()

    on_report = on_diagnostics

    def on_addons(self) -> None:
        self._addons.open()

    def _addons_changed(self, text: str) -> None:
        """Only an engine that starts looks at what is there."""
        self.store.update_live(status=text)
        self.client.restart()

    def on_show_log(self) -> None:
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
            self.on_diagnostics()

    def on_about(self) -> None:
        about_window(self).show()

    # ------------------------------------------------------------ figures

    def _figure_job(self) -> FigureJob | None:
        try:
            job = page_figure(self.store.state)
        except NothingToShowError as error:
            self.store.update_live(status=str(error))
            return None
        return msgspec.structs.replace(job, preset="screen")

    def _copy(self, job: FigureJob) -> None:
        self.store.update_live(status="Copying …")
        self._figures.start(job, self._copied, lambda text: self.documents.tell("danger", text), copies=True)

    def _copied(self, data: bytes) -> None:
        figure_clipboard.put(data)
        self.store.update_live(status="Copied: picture, SVG and table.")

    # ------------------------------------------------------------ preferences and layout

    def _set_theme(self, mode: str) -> None:
        self._take_preferences(msgspec.structs.replace(self.preferences, theme=mode))

    def _take_preferences(self, preferences: Preferences) -> None:
        before, self.preferences = self.preferences, preferences
        self.theme.set_mode(preferences.theme)
        self.store.update_live(measure_budget_s=preferences.measure_budget_s)
        if before.device != preferences.device:
            self.client.set_device(preferences.device)
        self._save_preferences()

    def _remember(self, path: str) -> None:
        self.preferences = with_recent(self.preferences, path)
        self._save_preferences()

    def _fill_recent(self) -> None:
        self._recent.clear()
        for path in self.preferences.recent:
            action = self._recent.addAction(path.replace("&", "&&"))
            action.triggered.connect(lambda _checked=False, path=path: self.documents.open(Path(path)))
        if not self.preferences.recent:
            self._recent.addAction("No recent files").setEnabled(False)

    def _restore(self) -> None:
        """Geometry and docks as they were."""
        window_place.restore(self, self.preferences.geometry)
        if self.preferences.docks:
            self.restoreState(QByteArray.fromBase64(self.preferences.docks.encode()))
        self._size_left()

    def _size_left(self) -> None:
        """The width that this size of window has by design; a person may then drag it."""
        self._sized_for = width = window_place.left_width(self.width())
        self.resizeDocks([self._docks[0]], [width], Qt.Orientation.Horizontal)
        self.resizeDocks(self._docks, [self.workload.sizeHint().height(), 10_000], Qt.Orientation.Vertical)

    def _save_preferences(self) -> None:
        """Everything that the next start wants back."""
        state = bytes(self.saveState().data())
        geometry = bytes(self.saveGeometry().data())
        self.preferences = msgspec.structs.replace(
            self.preferences,
            settings=self.store.state.settings,
            told_no_gpu=self.store.state.live.told_no_gpu,
            docks=base64.b64encode(state).decode(),
            geometry=base64.b64encode(geometry).decode(),
        )
        problem = save_preferences(self._preferences_path, self.preferences)
        if problem:
            self.documents.tell("warn", problem)

    # ------------------------------------------------------------ Qt events

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        for url in event.mimeData().urls()[:1]:
            if url.isLocalFile():
                self.documents.open(Path(url.toLocalFile()))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, self, self._size_left)  # docks take a width only once they are laid out

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if window_place.left_width(self.width()) != self._sized_for:
            self._size_left()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.WindowStateChange:
            self._actions["full_screen"].setChecked(self.isFullScreen())
        super().changeEvent(event)

    def closeEvent(self, event: QCloseEvent) -> None:
        self._save_preferences()
        self._figures.stop()
        self._addons.stop()
        self.client.stop()
        event.accept()

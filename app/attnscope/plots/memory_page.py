"""The Memory page: peaks of one call by variant, why one does not fit, and how long a sequence the whole model could take."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QStackedLayout, QVBoxLayout, QWidget

from attnscope.memory import fits, peaks
from attnscope.panels.controls import KeyButton, Segments
from attnscope.panels.hairline import hairline
from attnscope.plots.budget_row import BudgetRow
from attnscope.plots.fits_table import ROW_LEAST as FIT_LEAST
from attnscope.plots.fits_table import ROW_MOST as FIT_MOST
from attnscope.plots.fits_table import FitsTable
from attnscope.plots.page_toolbar import PageToolbar
from attnscope.plots.peak_layout import ROW_LEAST as PEAK_LEAST
from attnscope.plots.peak_layout import ROW_MOST as PEAK_MOST
from attnscope.plots.peak_layout import View
from attnscope.plots.peak_table import PeakTable
from attnscope.plots.refusal_strip import RefusalStrip
from attnscope.predictions import predict
from attnscope.quantities import count
from attnscope.state import State, effective_workload
from attnscope.store import Store
from attnscope.theme import Theme, font

NO_VARIANT = "Choose a variant on the left."
NO_BUDGET = "Not known yet: the engine has not said how much memory is free."


class MemoryPage(QWidget):
    """Everything is drawn again at a change: it is a dozen rows."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._open_menu)
        self._build_toolbar(store, theme)
        self._title = QLabel("Peak of one forward call")
        self._title.setFont(font("heading"))
        self._of = QLabel()
        self._of.setFont(font("label"))
        self._of.setProperty("role", "label")
        self._of.setMinimumWidth(0)
        self.peaks = PeakTable(theme)
        self.refusals = RefusalStrip(store, theme)
        self.budget = BudgetRow(store)
        self.fits = FitsTable(theme)
        self._lay_out()
        store.changed.connect(self._changed)
        self._refresh(store.state)

    def _build_toolbar(self, store: Store, theme: Theme) -> None:
        self.toolbar = PageToolbar("Memory: what is shown")
        self.toolbar.caption("bars")
        self.bars = Segments("Bars", (("log", "log total + parts"), ("card", "to card scale")))
        self.bars.chosen.connect(lambda value: store.update(memory_bars=value))
        self.toolbar.add(self.bars)
        self.toolbar.gap()
        self.predicted = self.toolbar.check("predicted", "Lines: the sum of the formula's terms")
        self.measured = self.toolbar.check(
            "measured", "Markers: peak of the bytes held during one call, as counted by the allocator"
        )
        self.predicted.clicked.connect(lambda on: store.update(show_predicted=on))
        self.measured.clicked.connect(lambda on: store.update(show_measured=on))
        self.toolbar.stretch()
        self.check = KeyButton(theme, "Allocate and check", "F6", "play")
        self.stop = KeyButton(theme, "Stop", "Esc", "stop")
        self.stop.setToolTip("Stop measuring; finished points are kept (Esc)")
        self.check.clicked.connect(lambda: self.action.emit("measure_all"))
        self.stop.clicked.connect(lambda: self.action.emit("cancel"))
        self.toolbar.add(self.check)
        self.toolbar.add(self.stop)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setContentsMargins(12, 10, 12, 4)
        head.setSpacing(12)
        head.addWidget(self._title)
        head.addWidget(self._of)
        head.addStretch(1)
        line = hairline(height=1)
        tables = QWidget()
        tables.setProperty("ground", "panel")
        tables.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._column = QVBoxLayout(tables)
        self._column.setContentsMargins(0, 0, 0, 8)
        self._column.setSpacing(0)
        self._column.addLayout(head)
        for widget in (self.peaks, self.refusals, line, self.budget, self.fits):
            self._column.addWidget(widget)
        self._column.addStretch(1)
        empty = QLabel(NO_VARIANT)
        empty.setFont(font("title"))
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        centre = QWidget()
        self._stack = QStackedLayout(centre)
        self._stack.addWidget(tables)
        self._stack.addWidget(empty)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(0)
        page.addWidget(self.toolbar)
        page.addWidget(centre, 1)

    # ------------------------------------------------------------ state to tables

    def _changed(self, old: State, new: State) -> None:  # noqa: ARG002
        if self.isVisible():
            self._refresh(new)

    def showEvent(self, event: QShowEvent) -> None:
        self._refresh(self._store.state)
        super().showEvent(event)

    def _refresh(self, state: State) -> None:
        settings, vitals = state.settings, state.live.vitals
        self._stack.setCurrentIndex(0 if settings.checked else 1)
        self._refresh_toolbar(state)
        self._of.setText(call_words(state))
        rows = peaks(state)
        view = View(
            free_bytes=vitals.free_bytes if vitals else None,
            total_bytes=vitals.total_bytes if vitals else None,
            to_scale=settings.memory_bars == "card",
            predicted=settings.show_predicted,
            measured=settings.show_measured,
        )
        self.peaks.show_rows(rows, view)
        found = predict(state)
        self.refusals.show_refusals(tuple(refusal for name in settings.checked if (refusal := found[name].refusal)))
        self.budget.refresh(state)
        self.fits.show_rows(fits(state), settings.workload.seq_len, NO_BUDGET)
        self._share_height()

    def _refresh_toolbar(self, state: State) -> None:
        self.bars.set_value(state.settings.memory_bars)
        self.predicted.setChecked(state.settings.show_predicted)
        self.measured.setChecked(state.settings.show_measured)
        running = bool(state.live.queue)
        self.check.setVisible(not running)
        self.stop.setVisible(running)
        why = why_off(state)
        self.check.setEnabled(not why)
        self.check.setToolTip(why or "Run each checked variant once at this n, and count what it holds (F6)")

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._share_height()

    def _share_height(self) -> None:
        """Rows as high as there is room for, the same share of their best in both tables."""
        strip = self.refusals.sizeHint().height() if not self.refusals.isHidden() else 0
        room = self.height() - self.toolbar.height() - 44 - strip - self.budget.height() - 12
        peak, fit = max(len(self.peaks.rows), 1), max(len(self.fits.rows), 1)
        fixed = self.peaks.needed(0) + self.fits.needed(0)
        share = (room - fixed) / (peak * PEAK_MOST + fit * FIT_MOST)
        share = min(max(share, PEAK_LEAST / PEAK_MOST), 1.0)
        self.peaks.setFixedHeight(round(self.peaks.needed(PEAK_MOST * share)))
        self.fits.setFixedHeight(round(self.fits.needed(max(FIT_MOST * share, FIT_LEAST))))

    # ------------------------------------------------------------ the hand

    def _open_menu(self, at: QPoint) -> None:
        self.menu().popup(self.mapToGlobal(at))

    def menu(self) -> QMenu:
        """Of the tables."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for text, id_ in (("Copy", "copy"), ("Copy Table", "copy_table"), ("Export…", "export")):
            menu.addAction(text).triggered.connect(lambda _=False, id_=id_: self.action.emit(id_))
        return menu


def call_words(state: State) -> str:
    """The call that the peaks are of."""
    w = effective_workload(state)
    causal = "causal" if w.causal else "full"
    heads = f"{w.num_heads} heads" if w.num_heads == w.num_kv_heads else f"{w.num_heads} heads, {w.num_kv_heads} KV"
    return f"n = {count(w.seq_len)} · batch {w.batch} · {heads} · head dim {w.head_dim} · {w.dtype} · {causal}"


def why_off(state: State) -> str:
    """Why nothing can be allocated now; empty when it can."""
    if not state.settings.checked:
        return "Allocate and check is off: no variant is checked."
    if state.live.phase == "starting" or state.live.device is None:
        return "Allocate and check is off: the engine is starting."
    if state.live.phase in ("restarting", "gave_up", "stopped"):
        return "Allocate and check is off: the engine does not run."
    return ""

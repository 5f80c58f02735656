"""The Scaling page: time over peak memory against n, predicted lines and measured markers, the cursor at the slider's n."""

from __future__ import annotations

import math
import time

from attnscope_engine.protocol import MAX_SEQ_LEN, MIN_SEQ_LEN
from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QStackedLayout, QVBoxLayout, QWidget

from attnscope import predictions
from attnscope.panels.at_n import AtNColumn
from attnscope.panels.slider_scale import SEQ_LENS as SLIDER
from attnscope.plots.curve_plot import CurvePlot
from attnscope.plots.edge_tab import EdgeTab
from attnscope.plots.scaling_notes import earlier_hint, memory_notes, time_notes
from attnscope.plots.scaling_toolbar import ScalingToolbar
from attnscope.plots.traces import Mark, Shown, Trace, bounds, memory_trace, time_trace
from attnscope.provenance import point_text
from attnscope.quantities import bytes_text, count, time_text
from attnscope.scaling import curves, shape_of
from attnscope.state import State, effective_workload
from attnscope.store import Store
from attnscope.theme import Theme, font
from attnscope.ticks import Ticks, bytes_ticks, rate_ticks, time_ticks

FOLD_WIDTH = 900
"""Pixels of the page below which the right column folds to a tab: a window of 1,200 less the left panel."""
COLUMN_WIDTHS = ((1500, 380), (1100, 338), (0, 296))
TITLES = {
    "time": "Time of one forward call",
    "tokens": "Tokens per second of one forward call",
    "flops": "FLOP/s of one forward call",
}
NAMES = {"time": "time of one call", "tokens": "tokens per second (SI)", "flops": "FLOP per second"}
NO_VARIANT = "Choose a variant on the left."
EMPTY_RANGE = {"time": (1e-6, 1.0), "tokens": (1e3, 1e8), "flops": (1e9, 1e13)}
"""Of the upper plot while it has no curve."""


def _tokens_ticks(low: float, high: float, length: float) -> Ticks:
    return rate_ticks(low, high, length, "/s")


def _flops_ticks(low: float, high: float, length: float) -> Ticks:
    return rate_ticks(low, high, length, "FLOP/s")


RULES = {"time": time_ticks, "tokens": _tokens_ticks, "flops": _flops_ticks}


class ScalingPage(QWidget):
    """A slider's tick moves cursor, flag and table; curves are drawn again only when they change."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme = store, theme
        self._drawn: tuple[object, ...] | None = None
        self._fitted: tuple[object, ...] | None = None
        self._free_view = {"n": False, "time": False, "memory": False}
        """Which axes the person has moved: those are left alone until a double click."""
        self._folded_open = False
        self.toolbar = ScalingToolbar(store, theme)
        self.toolbar.action.connect(self.action)
        self.time = CurvePlot(theme, TITLES["time"], time_ticks, NAMES["time"], with_flag=True, bare=True)
        self.memory = CurvePlot(theme, "Peak memory of one forward call", bytes_ticks, "bytes held", with_flag=False, bare=False)
        self.time.setAccessibleName("Scaling, time")
        self.memory.setAccessibleName("Scaling, memory")
        self.column = AtNColumn(store, theme)
        self.tab = EdgeTab(theme, "At n")
        self._lay_out()
        self._connect(store, theme)
        self._refresh(None, store.state)

    def _lay_out(self) -> None:
        plots = QWidget()
        plots.setProperty("ground", "window")
        plots.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        stacked = QVBoxLayout(plots)
        stacked.setContentsMargins(10, 6, 0, 8)
        stacked.setSpacing(2)
        stacked.addWidget(self.time, 62)
        stacked.addWidget(self.memory, 38)
        self._empty = QLabel(NO_VARIANT)
        self._empty.setFont(font("title"))
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setProperty("ground", "window")
        self._centre = QWidget()
        self._stack = QStackedLayout(self._centre)
        self._stack.addWidget(plots)
        self._stack.addWidget(self._empty)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self._centre, 1)
        row.addWidget(self.column)
        row.addWidget(self.tab)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.toolbar)
        column.addLayout(row, 1)

    def _connect(self, store: Store, theme: Theme) -> None:
        for plot, upright in ((self.time, "time"), (self.memory, "memory")):
            plot.zoomed.connect(lambda plot=plot, upright=upright: self._zoomed(plot, upright))
            plot.reset_wanted.connect(self.reset_view)
            plot.menu_wanted.connect(self._open_menu)
            plot.describe = self._describe
        self.time.n_dragged.connect(self._drag_to)
        self.tab.clicked.connect(self._toggle_column)
        store.changed.connect(self._refresh)
        theme.changed.connect(self._restyle)

    # ------------------------------------------------------------ state to plots

    def _refresh(self, old: State | None, new: State) -> None:
        if old is not None and not self.isVisible():
            return
        if old is None or _toolbar_inputs(old) != _toolbar_inputs(new):
            self.toolbar.refresh(new)
        inputs = _inputs(new)
        if inputs != self._drawn:
            self._drawn = inputs
            self._draw(new)
        elif old is None or old.settings.workload.seq_len != new.settings.workload.seq_len:
            self._move_cursor(new)

    def showEvent(self, event: QShowEvent) -> None:
        self._refresh(None, self._store.state)
        super().showEvent(event)

    def _draw(self, state: State) -> None:
        settings = state.settings
        self._stack.setCurrentIndex(0 if settings.checked else 1)
        self.memory.setVisible(settings.show_memory)
        self.time.bottom.set_bare(settings.show_memory)
        found = curves(state)
        beside = tuple(curve.variant for curve in found)
        shown = Shown(settings.time_quantity, settings.show_predicted, settings.show_measured, settings.show_fit, beside)
        walls = [predictions.wall(state, curve.variant) for curve in found]
        times = [time_trace(curve, wall, shown) for curve, wall in zip(found, walls, strict=True)]
        memories = [memory_trace(curve, wall, shown) for curve, wall in zip(found, walls, strict=True)]
        self.time.left.set_rule(RULES[settings.time_quantity], NAMES[settings.time_quantity])
        self.time.show_title(TITLES[settings.time_quantity])
        self.time.show_traces(times)
        self.memory.show_traces(memories)
        self.time.show_hint(earlier_hint(found) if settings.show_measured else "")
        free = state.live.vitals.free_bytes if state.live.vitals else None
        self.memory.wall.show_wall(free or None, f"free now {bytes_text(free)}" if free is not None else "")
        asked = _asked(state)
        self._fit_ranges(state, keep=self.time.n_range() if asked == self._fitted else None)
        self._fitted = asked
        self.time.show_notes(time_notes(state, found, times))
        self.memory.show_notes(memory_notes(memories))
        self._move_cursor(state)

    def _move_cursor(self, state: State) -> None:
        n = state.settings.workload.seq_len
        self._keep_in_view(n)
        for plot in (self.time, self.memory):
            plot.show_n(n)
        self._speak(n)

    def _keep_in_view(self, n: int) -> None:
        """Two octaves at once: a drag past the edge draws the curves anew a few times, not at every tick."""
        low, high = self.time.n_range()
        if n < low:
            self._set_n_range(max(n / 4, MIN_SEQ_LEN / 2), high)
        elif n > high:
            self._set_n_range(low, min(n * 4, MAX_SEQ_LEN * 2))
        else:
            return
        self._fit_values()

    def _speak(self, n: int) -> None:
        told = [f"{row.title} {time_text(row.time_s.number)}" for row in self.column.rows if row.time_s]
        self.time.setAccessibleDescription(f"At n = {count(n)}: {', '.join(told)}")

    # ------------------------------------------------------------ ranges

    def reset_view(self) -> None:
        """The whole range of the sweep and all that lies in it."""
        self._free_view = dict.fromkeys(self._free_view, False)
        state = self._store.state
        self._fit_ranges(state)
        self._move_cursor(state)

    def _fit_ranges(self, state: State, keep: tuple[float, float] | None = None) -> None:
        """`keep`: n that stay in view. A point that lands during a drag shall not take back what the drag has widened."""
        if not self._free_view["n"]:
            settings = state.settings
            measured = [mark.n for trace in self.time.traces for mark in trace.points]
            ns = [settings.sweep_low, settings.sweep_high, settings.workload.seq_len, *measured]
            low, high = max(min(ns) * 0.8, MIN_SEQ_LEN / 2), min(max(ns) * 1.5, MAX_SEQ_LEN * 2)
            self._set_n_range(min(low, keep[0]) if keep else low, max(high, keep[1]) if keep else high)
        self._fit_values()

    def _fit_values(self) -> None:
        low, high = self.time.n_range()
        if not self._free_view["time"]:
            found = bounds(self.time.traces, low, high)
            self.time.set_value_range(*_padded(found or EMPTY_RANGE[self._store.state.settings.time_quantity], 0.12))
        if not self._free_view["memory"]:
            found = bounds(self.memory.traces, low, high) or (1 << 20, 1 << 30)
            wall = self.memory.wall.free_bytes
            top = max(found[1], wall * 6) if wall else found[1]
            self.memory.set_value_range(*_padded((found[0], top), 0.06))

    def _set_n_range(self, low: float, high: float) -> None:
        for plot in (self.time, self.memory):
            plot.set_n_range(low, high)

    def _zoomed(self, plot: CurvePlot, upright: str) -> None:
        other = self.memory if plot is self.time else self.time
        if not _close(plot.n_range(), other.n_range()):
            self._free_view["n"] = True
            other.set_n_range(*plot.n_range())
            self._fit_values()
        else:
            self._free_view[upright] = True

    # ------------------------------------------------------------ the hand

    def _drag_to(self, n: int, free: bool) -> None:
        share = SLIDER.share(n)
        self._store.update(seq_len=SLIDER.value(share) if free else SLIDER.snapped(share))

    def _describe(self, trace: Trace, mark: Mark) -> str:
        now = time.time()
        head = f"{trace.title}, n = {count(mark.n)}"
        if any(mark.row is other.row for other in trace.earlier):
            head += ", measured with other settings"
        elif any(mark.row is other.row for other in trace.pinned):
            head += ", pinned"
        text = point_text(mark.row, now)
        return f"{head}\n{text}\npeak {bytes_text(mark.row.peak_bytes)}"

    def _open_menu(self, at: QPoint) -> None:
        self.menu().popup(at)

    def menu(self) -> QMenu:
        """Of the plots."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for text, id_ in (("Copy", "copy"), ("Copy Table", "copy_table"), ("Export…", "export")):
            menu.addAction(text).triggered.connect(lambda _=False, id_=id_: self.action.emit(id_))
        menu.addSeparator()
        menu.addAction("Reset View").triggered.connect(lambda _=False: self.reset_view())
        return menu

    # ------------------------------------------------------------ looks and size

    def _restyle(self) -> None:
        for plot in (self.time, self.memory):
            plot.restyle()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place_column()

    def _place_column(self) -> None:
        folds = self.width() < FOLD_WIDTH
        self.tab.setVisible(folds)
        self.column.setVisible(not folds or self._folded_open)
        self.tab.set_open(folds and self._folded_open)
        self.column.setFixedWidth(next(width for least, width in COLUMN_WIDTHS if self.width() >= least))

    def _toggle_column(self) -> None:
        self._folded_open = not self._folded_open
        self._place_column()


def _inputs(state: State) -> tuple[object, ...]:
    """All that the plots draw except n. Mappings stand for themselves: a new one is a change."""
    settings, live = state.settings, state.live
    return (
        shape_of(effective_workload(state)),
        settings.checked,
        settings.params,
        settings.time_quantity,
        (settings.show_predicted, settings.show_measured, settings.show_fit, settings.show_memory),
        (settings.sweep_low, settings.sweep_high),
        (live.device, live.ceilings, live.vitals),
        id(live.measurements),
        id(live.pinned),
    )


def _asked(state: State) -> tuple[object, ...]:
    """What a person asked to see: while it stays, the range of n only grows."""
    settings = state.settings
    shape = shape_of(effective_workload(state))
    return shape, settings.checked, settings.time_quantity, settings.sweep_low, settings.sweep_high


def _toolbar_inputs(state: State) -> tuple[object, ...]:
    """What the toolbar shows besides the plots' own settings."""
    settings, live = state.settings, state.live
    shown = (settings.show_predicted, settings.show_measured, settings.show_fit, settings.show_memory)
    ranges = (settings.time_quantity, settings.sweep_low, settings.sweep_high)
    return shown, ranges, settings.checked, live.phase, live.device, live.ceilings is None, bool(live.queue)


def _padded(span: tuple[float, float], share: float) -> tuple[float, float]:
    low, high = math.log10(span[0]), math.log10(span[1])
    pad = max((high - low) * share, 0.15)
    return 10 ** (low - pad), 10 ** (high + pad)


def _close(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(one, other, strict=True))

"""What one log-log plot of the Scaling page shows: axes, curves, end labels, cursor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from attnscope_engine.protocol import MIN_SEQ_LEN
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QRegion, QResizeEvent
from PySide6.QtWidgets import QLabel, QWidget

from attnscope.plots.annotations import Annotations, Notes
from attnscope.plots.cursor_flag import HEIGHT as FLAG_HEIGHT
from attnscope.plots.cursor_flag import CursorFlag
from attnscope.plots.curve_box import CurveBox
from attnscope.plots.curve_marks import CurveMarks
from attnscope.plots.end_labels import EndLabels, grouped, line_ends
from attnscope.plots.log_axes import LEFT_WIDTH, Grid, LogAxis, TickRule
from attnscope.plots.memory_wall import MemoryWall
from attnscope.plots.picture_view import PictureView
from attnscope.plots.traces import Mark, Trace, obstacles, on_axis
from attnscope.theme import MARKER_SIZE, Theme, draw_marker, font, icon
from attnscope.ticks import seq_len_ticks

LABEL_WIDTH = 112
HEAD = 26
"""Pixels of the title's row."""
SEQ_LEN_NAME = "sequence length n (tokens, 1k = 1,024)"


class CurveCanvas(PictureView):
    """Draws traces it is given.

    `with_flag` puts the draggable flag on the cursor; `bare` leaves the labels of n to the plot below.
    """

    def __init__(
        self, theme: Theme, title: str, rule: TickRule, name: str, *, with_flag: bool, bare: bool, parent: QWidget | None = None
    ) -> None:
        super().__init__(theme.tokens.window, parent)
        self._theme = theme
        self._marks: dict[str, CurveMarks] = {}
        self._n = MIN_SEQ_LEN
        self.box = CurveBox()
        self.left = LogAxis("left", theme, rule, name)
        self.bottom = LogAxis("bottom", theme, seq_len_ticks, SEQ_LEN_NAME)
        self.bottom.set_bare(bare)
        self._top = HEAD + (FLAG_HEIGHT + 2 if with_flag else 0)
        self._lay_out()
        self.grid = Grid(theme, self.box, self.bottom, self.left)
        self.wall = MemoryWall(theme, self.box, self.left)
        self.notes = Annotations(theme, self.box, self.bottom, self.left)
        self._cursor_x = -1.0
        self.title = QLabel(title, self)
        self.title.setFont(font("heading"))
        self.clock = QLabel(self)
        self.clock.hide()
        self.hint = QLabel("", self)
        self.hint.setFont(font("tick"))
        self.hint.setProperty("role", "hint")
        self.flag = CursorFlag(theme, self) if with_flag else None
        self.labels = EndLabels(theme, self)
        self.box.sigRangeChanged.connect(self._range_changed)
        self.box.sigResized.connect(self._range_changed)
        self.restyle()

    def _lay_out(self) -> None:
        layout = self.centralLayout
        layout.setContentsMargins(0, self._top, LABEL_WIDTH, 0)
        layout.setSpacing(0)
        for item, row, column in ((self.left, 0, 0), (self.box, 0, 1), (self.bottom, 1, 1)):
            layout.addItem(item, row, column)
        layout.setColumnStretchFactor(1, 1)
        layout.setRowStretchFactor(0, 1)
        self.left.linkToView(self.box)
        self.bottom.linkToView(self.box)

    # ------------------------------------------------------------ what is shown

    def show_traces(self, traces: Sequence[Trace]) -> None:
        """Draw these and no others."""
        wanted = [trace.variant for trace in traces]
        for variant in [variant for variant in self._marks if variant not in wanted]:
            self._marks.pop(variant).remove()
        for trace in traces:
            if trace.variant not in self._marks:
                self._marks[trace.variant] = CurveMarks(self._theme, self.box)
            self._marks[trace.variant].show(trace)
        self._marks = {variant: self._marks[variant] for variant in wanted}
        self._label_ends()
        self.moved()

    @property
    def traces(self) -> tuple[Trace, ...]:
        return tuple(marks.trace for marks in self._marks.values() if marks.trace)

    def marks_of(self, variant: str) -> CurveMarks:
        """Raises: KeyError."""
        return self._marks[variant]

    def show_n(self, n: int) -> None:
        """Put the cursor at n: nothing else moves."""
        self._n = n
        x = self.bottom.place(n)
        inside = -0.5 <= x <= self.box.width() + 0.5
        self._repaint_cursor()
        self._cursor_x = self.box.geometry().left() + x if inside else -1.0
        self._repaint_cursor()
        if self.flag:
            self.flag.setVisible(inside)
            self.flag.show_n(n, self.box.geometry().left() + x)

    @property
    def cursor_x(self) -> float:
        """Pixels of the cursor in this widget; negative while it is out of view."""
        return self._cursor_x

    def _repaint_cursor(self) -> None:
        if self._cursor_x >= 0:
            reach = math.ceil(MARKER_SIZE)
            self.viewport().update(round(self._cursor_x) - reach, 0, 2 * reach + 1, self.height())

    def show_hint(self, text: str) -> None:
        self.hint.setText(text)
        self.clock.setVisible(bool(text))
        self._place_labels()

    def show_title(self, title: str) -> None:
        self.title.setText(title)
        self._place_labels()

    def show_notes(self, notes: Notes) -> None:
        """Lay words and signs over the curves, where they cover least."""
        self.notes.show_notes(notes, obstacles(self.traces))

    def restyle(self) -> None:
        """Everything in the theme in force."""
        tokens = self._theme.tokens
        self.setBackground(tokens.window)
        self._scene_changed()
        self.box.setBackgroundColor(QColor(tokens.plot))
        self.box.setBorder(QPen(QColor(tokens.line), 1))
        self.clock.setPixmap(icon("clock", tokens.text3).pixmap(QSize(16, 16), self.devicePixelRatio()))
        for axis in (self.left, self.bottom):
            axis.restyle()
        for item in (self.grid, self.wall, self.notes):
            item.update()
        for marks in self._marks.values():
            marks.restyle()

    # ------------------------------------------------------------ painting

    def moved(self) -> None:
        """Called when a value may have another place."""

    def set_ratio(self, ratio: float) -> None:
        for marks in self._marks.values():
            marks.set_ratio(ratio)

    def draw_over(self, painter: QPainter) -> None:
        """The cursor, under the markers that stand at it."""
        if self._cursor_x < 0:
            return
        frame, tokens = self.box.geometry(), self._theme.tokens
        x = round(self._cursor_x)
        pieces = QRegion(x - 1, round(frame.top()), 2, round(frame.height()))
        for rect in self.notes.text_rects():
            pieces -= QRegion(rect.translated(frame.topLeft()).toAlignedRect())
        painter.save()
        painter.setClipRegion(pieces, Qt.ClipOperation.IntersectClip)
        painter.fillRect(QRectF(x - 1, frame.top(), 2, frame.height()), QColor(tokens.accent))
        painter.restore()
        for trace in self.traces:  # markers stand over the cursor, as they stand over lines
            for mark in on_axis(trace.points):
                at = self.position_of(mark)
                if abs(at.x() - x) < MARKER_SIZE and frame.contains(at):
                    draw_marker(painter, at, trace.look, tokens)

    # ------------------------------------------------------------ ranges

    def set_n_range(self, low: float, high: float) -> None:
        """Range of n in tokens."""
        wanted = (math.log2(low), math.log2(high))
        if not np.allclose(self.box.viewRange()[0], wanted, atol=1e-9):
            self.box.setXRange(*wanted, padding=0)

    def set_value_range(self, low: float, high: float) -> None:
        """Range of the upright axis, in its unit."""
        self.box.setYRange(math.log10(low), math.log10(high), padding=0)

    def n_range(self) -> tuple[float, float]:
        low, high = self.box.viewRange()[0]
        return 2.0**low, 2.0**high

    def value_range(self) -> tuple[float, float]:
        low, high = self.box.viewRange()[1]
        return 10.0**low, 10.0**high

    def _range_changed(self) -> None:
        if self.box.height() <= 1:
            return
        low, high = self.box.viewRange()[1]
        for marks in self._marks.values():
            marks.scale_changed(self.box.height() / (high - low))
        self.show_n(self._n)
        self._place_labels()
        self._label_ends()
        self.moved()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if event is not None and hasattr(self, "labels"):
            self._place_labels()

    def _place_labels(self) -> None:
        frame = self.box.geometry()
        self.title.adjustSize()
        self.title.move(LEFT_WIDTH, (HEAD - self.title.height()) // 2)
        self.hint.adjustSize()
        x = max(round(frame.right()) - self.hint.width(), LEFT_WIDTH + self.title.width() + 40)
        self.hint.move(x, (HEAD - self.hint.height()) // 2)
        self.clock.setGeometry(x - 20, (HEAD - 16) // 2, 16, 16)
        self.labels.setGeometry(round(frame.right()), 0, LABEL_WIDTH, self.height())
        if self.flag:
            self.flag.move(self.flag.x(), round(frame.top()) - FLAG_HEIGHT - 1)

    def _label_ends(self) -> None:
        frame = self.box.geometry()
        low, high = self.n_range()
        if frame.height() <= 1 or not high > low > 0:
            return
        ends = line_ends(self.traces, low, high, self.left.places)
        self.labels.show_labels(grouped(ends), frame.top(), frame.bottom())

    def position_of(self, mark: Mark) -> QPointF:
        """Pixels of a marker in this widget."""
        corner = self.box.geometry().topLeft()
        return QPointF(corner.x() + self.bottom.place(mark.n), corner.y() + self.left.place(mark.value))

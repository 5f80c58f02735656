"""A plot of the Scaling page under the hand: the flag is dragged, markers are pointed at, keys walk from point to point."""

from __future__ import annotations

import html
import math
from collections.abc import Callable

from attnscope_engine.protocol import MAX_SEQ_LEN, MIN_SEQ_LEN
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt, Signal
from PySide6.QtGui import QColor, QContextMenuEvent, QHelpEvent, QKeyEvent, QPen
from PySide6.QtWidgets import QGraphicsEllipseItem, QToolTip, QWidget

from attnscope.plots.curve_canvas import CurveCanvas
from attnscope.plots.log_axes import TickRule
from attnscope.plots.point_walk import PointWalk
from attnscope.plots.traces import Mark, Trace
from attnscope.theme import Theme

REACH = 9.0
"""Pixels from the pointer at which a marker answers."""


class CurvePlot(CurveCanvas):
    """Tells what the person did; changes nothing itself but the view."""

    n_dragged = Signal(int, bool)
    """n, and True where it must not snap."""
    zoomed = Signal()
    """The person moved or zoomed the view."""
    reset_wanted = Signal()
    menu_wanted = Signal(QPoint)

    def __init__(
        self, theme: Theme, title: str, rule: TickRule, name: str, *, with_flag: bool, bare: bool, parent: QWidget | None = None
    ) -> None:
        self._walk = PointWalk()
        self._ring: QGraphicsEllipseItem | None = None
        self.describe: Callable[[Trace, Mark], str] = lambda trace, mark: f"{trace.title}, n = {mark.n}"
        """Text of a marker's tool tip."""
        super().__init__(theme, title, rule, name, with_flag=with_flag, bare=bare, parent=parent)
        self._ring = QGraphicsEllipseItem(-7, -7, 14, 14, self.box)
        self._ring.setZValue(60)
        self._ring.hide()
        if self.flag:
            self.flag.dragged.connect(self._drag)
        self.box.zoomed.connect(self.zoomed)
        self.box.reset_wanted.connect(self.reset_wanted)
        self.restyle()

    def restyle(self) -> None:
        super().restyle()
        if self._ring:
            self._ring.setPen(QPen(QColor(self._theme.tokens.accent), 2))

    def moved(self) -> None:
        """Keep the ring on its point."""
        found = self.chosen
        if self._ring:
            self._ring.setVisible(found is not None)
            if found:
                mark = found[1]
                self._ring.setPos(self.bottom.place(mark.n), self.left.place(mark.value))

    def _drag(self, x: float, free: bool) -> None:
        low, high = self.box.viewRange()[0]
        frame = self.box.geometry()
        octave = low + (high - low) * (x - frame.left()) / frame.width()
        n = 2.0 ** min(max(octave, math.log2(MIN_SEQ_LEN)), math.log2(MAX_SEQ_LEN))
        self.n_dragged.emit(round(n), free)

    def mark_at(self, position: QPointF) -> tuple[Trace, Mark] | None:
        """The marker nearest to a position in this widget, within reach."""
        best, found = REACH, None
        for marks in self._marks.values():
            for mark in marks.marks():
                away = self.position_of(mark) - position
                distance = math.hypot(away.x(), away.y())
                if distance < best and marks.trace:
                    best, found = distance, (marks.trace, mark)
        return found

    def viewportEvent(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            found = self.mark_at(QPointF(event.pos()))
            if found:
                self._tell(found[0], found[1], event.globalPos())
            else:
                QToolTip.hideText()
            return True
        return bool(super().viewportEvent(event))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu_wanted.emit(event.globalPos())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match Qt.Key(event.key()):
            case Qt.Key.Key_Left:
                self._step(0, -1)
            case Qt.Key.Key_Right:
                self._step(0, 1)
            case Qt.Key.Key_Up:
                self._step(-1, 0)
            case Qt.Key.Key_Down:
                self._step(1, 0)
            case Qt.Key.Key_Return | Qt.Key.Key_Enter if self.chosen:
                trace, mark = self.chosen
                self._tell(trace, mark, self.mapToGlobal(self.position_of(mark).toPoint()))
            case Qt.Key.Key_Escape if self.chosen:
                self._walk.clear()
                self.moved()
            case _:
                event.ignore()

    @property
    def chosen(self) -> tuple[Trace, Mark] | None:
        """The point that the keys are at."""
        return self._walk.found(self.traces)

    def _step(self, variants: int, points: int) -> None:
        self._walk.step(self.traces, variants, points)
        self.moved()

    def _tell(self, trace: Trace, mark: Mark, at: QPoint) -> None:
        text = "<br>".join(html.escape(line) for line in self.describe(trace, mark).splitlines())
        QToolTip.showText(at, f"<qt>{text}</qt>", self)

"""The end of memory in a plot: a line at what is free, hatched beyond it, under the data."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from attnscope.plots.hatching import hatch
from attnscope.plots.log_axes import LogAxis
from attnscope.theme import Theme, font

ROW, PAD = 17.0, 3.0
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip


class MemoryWall(pg.GraphicsObject):  # type: ignore[misc]
    """Covers the view box; drawn only where it is in view."""

    def __init__(self, theme: Theme, view: Any, left: LogAxis) -> None:
        super().__init__()
        self._theme, self._left = theme, left
        self.free_bytes: float | None = None
        self.text = ""
        self.setParentItem(view)
        self.setZValue(-500)
        view.sigRangeChanged.connect(self._moved)
        view.sigResized.connect(self._resized)

    def show_wall(self, free_bytes: float | None, text: str) -> None:
        if (free_bytes, text) != (self.free_bytes, self.text):
            self.free_bytes, self.text = free_bytes, text
            self.update()

    def _moved(self) -> None:
        self.update()

    def _resized(self) -> None:
        self.prepareGeometryChange()
        self.update()

    def boundingRect(self) -> QRectF:
        view = self.parentItem()
        return QRectF(view.rect()) if view is not None else QRectF()

    def paint(self, p: QPainter, option: object, widget: object = None) -> None:  # noqa: ARG002
        frame = self.boundingRect()
        if not self.free_bytes:
            return
        y = self._left.place(self.free_bytes)
        if y <= frame.top() or y >= frame.bottom() + frame.height():
            return
        tokens = self._theme.tokens
        zone = QRectF(frame.left(), frame.top(), frame.width(), min(y, frame.bottom()) - frame.top())
        hatch(p, zone, tokens.danger)
        p.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        p.setPen(QPen(QColor(tokens.danger), 1))
        if y <= frame.bottom():
            p.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
        p.setFont(font("tick"))
        width = QFontMetricsF(font("tick")).horizontalAdvance(self.text)
        rect = QRectF(12, min(y, frame.bottom()) - ROW - 3, width + 2 * PAD, ROW)
        p.fillRect(rect, QColor(tokens.plot))
        p.drawText(rect.adjusted(PAD, 0, 0, 0), _LEFT, self.text)

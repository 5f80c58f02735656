"""Log axes: ticks and labels of `attnscope.ticks`, the axis' name painted by the axis, a grid at labels under everything.

A view's x is log2 of n and its y is log10 of the value: pyqtgraph transforms only some kinds of item in its own log mode, so
every item gets logarithms. The tick marks and labels of pyqtgraph collide on log axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen

from attnscope.theme import Theme, font
from attnscope.ticks import Tick, Ticks

TickRule = Callable[[float, float, float], Ticks]
"""(lowest value, highest value, pixels) → ticks."""

LEFT_WIDTH = 88
NAMED_HEIGHT = 48
BARE_HEIGHT = 8
MAJOR, MINOR = 5.0, 3.0
_OFFSET = 5.0
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip
_CENTRE = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextDontClip


class LogAxis(pg.AxisItem):  # type: ignore[misc]
    """One axis; `orientation` "left" (log10) or "bottom" (log2)."""

    def __init__(self, orientation: str, theme: Theme, rule: TickRule, name: str) -> None:
        self._theme, self._rule, self.name = theme, rule, name
        self._cached: tuple[object, Ticks] = ((), ())
        super().__init__(orientation, showValues=True)
        self.style["hideOverlappingLabels"] = False  # labels may stand past the ends of the axis
        self._base = 10.0 if orientation == "left" else 2.0
        self.bare = False
        self._fix_size()

    def set_rule(self, rule: TickRule, name: str) -> None:
        """Another quantity on the same axis."""
        self._rule, self.name = rule, name
        self._cached = ((), ())
        self.picture = None
        self.update()

    def set_bare(self, bare: bool) -> None:
        """Tick marks only, where the plot below has the labels."""
        if bare != self.bare:
            self.bare = bare
            self._fix_size()

    def _fix_size(self) -> None:
        if self.orientation == "left":
            self.setWidth(LEFT_WIDTH)
        else:
            self.setHeight(BARE_HEIGHT if self.bare else NAMED_HEIGHT)
        self.picture = None

    def length(self) -> float:
        size = self.geometry()
        return float(size.height() if self.orientation == "left" else size.width())

    def ticks(self) -> Ticks:
        """Those of the range in view."""
        low, high = (self._base**edge for edge in self.range)
        key = (low, high, self.length())
        if self._cached[0] != key:
            self._cached = (key, self._rule(low, high, self.length()) if high > low > 0 and self.length() > 1 else ())
        return self._cached[1]

    def place(self, value: float) -> float:
        """Pixels of a value from the left or the top of this item."""
        low, high = self.range
        share = (math.log(value, self._base) - low) / (high - low)
        return self.length() * float(1 - share if self.orientation == "left" else share)

    def places(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """`place` of each value."""
        low, high = self.range
        shares = (np.log(values) / math.log(self._base) - low) / (high - low)
        found: NDArray[np.float64] = self.length() * (1 - shares if self.orientation == "left" else shares)
        return found

    def coordinate(self, value: float) -> float:
        """A value in the coordinates of the view."""
        return math.log(value, self._base)

    def generateDrawSpecs(self, p: QPainter) -> tuple[Ticks]:  # noqa: ARG002
        return (self.ticks(),)

    def drawPicture(self, p: QPainter, ticks: Ticks) -> None:
        tokens = self._theme.tokens
        size = self.mapRectFromParent(self.geometry())
        p.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        p.setPen(QPen(QColor(tokens.edge), 1))
        for tick in ticks:
            self._draw_mark(p, size, tick)
        if self.bare:
            return
        p.setFont(font("tick"))
        p.setPen(QColor(tokens.text2))
        for tick in ticks:
            if tick.label:
                self._draw_label(p, size, tick)
        p.setPen(QColor(tokens.text3))
        self._draw_name(p, size)

    def _draw_mark(self, p: QPainter, size: QRectF, tick: Tick) -> None:
        at, length = self.place(tick.value), MAJOR if tick.label else MINOR
        if self.orientation == "left":
            y, right = size.top() + at, size.right()
            p.drawLine(QPointF(right - length, y), QPointF(right - 1, y))
        else:
            x, top = size.left() + at, size.top()
            p.drawLine(QPointF(x, top + 1), QPointF(x, top + length))

    def _draw_label(self, p: QPainter, size: QRectF, tick: Tick) -> None:
        at = self.place(tick.value)
        if self.orientation == "left":
            p.drawText(QRectF(size.left(), size.top() + at - 8, size.width() - MAJOR - _OFFSET, 16), _RIGHT, tick.label)
        else:
            p.drawText(QRectF(size.left() + at - 40, size.top() + MAJOR + 2, 80, 16), _CENTRE, tick.label)

    def _draw_name(self, p: QPainter, size: QRectF) -> None:
        if self.orientation == "bottom":
            p.drawText(QRectF(size.left(), size.top() + 26, size.width(), 16), _CENTRE, self.name)
            return
        p.save()
        p.translate(size.left() + 2, size.center().y())
        p.rotate(-90)
        p.drawText(QRectF(-size.height() / 2, 0, size.height(), 14), _CENTRE, self.name)
        p.restore()

    def restyle(self) -> None:
        """After the theme changed."""
        self.picture = None
        self.update()


class Grid(pg.GraphicsObject):  # type: ignore[misc]
    """Lines at the labels of both axes, in pixels of the view box, under the data."""

    def __init__(self, theme: Theme, view: Any, *axes: LogAxis) -> None:
        super().__init__()
        self._theme, self._axes = theme, axes
        self.setParentItem(view)
        self.setZValue(-1000)  # over the view's ground, under its data
        view.sigRangeChanged.connect(self._moved)
        view.sigResized.connect(self._resized)

    def _moved(self) -> None:
        self.update()

    def _resized(self) -> None:
        self.prepareGeometryChange()
        self.update()

    def boundingRect(self) -> QRectF:
        view = self.parentItem()
        return QRectF(view.rect()) if view is not None else QRectF()

    def paint(self, p: QPainter, option: object, widget: object = None) -> None:  # noqa: ARG002
        p.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        p.setPen(QPen(QColor(self._theme.tokens.grid), 1))
        size = self.boundingRect()
        for axis in self._axes:
            for tick in axis.ticks():
                if not tick.label:
                    continue
                at = axis.place(tick.value)
                if axis.orientation == "left":
                    p.drawLine(QPointF(size.left(), at), QPointF(size.right(), at))
                else:
                    p.drawLine(QPointF(at, size.top()), QPointF(at, size.bottom()))

"""The trace: one query's weights along the key axis, logarithmic, the largest of the keys that share a pixel.

Signed weights have no logarithm: their trace is linear about a line at 0, as far as the row's largest weight of either sign.
"""

from __future__ import annotations

import functools
import itertools
import math

from attnscope_engine.protocol import Array
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen

from attnscope.map_view import View
from attnscope.painted_number import paint_number
from attnscope.plots.map_layout import Box
from attnscope.quantities import weight
from attnscope.theme import Theme, font

LOW_EXPONENT, HIGH_EXPONENT = -5.0, 0.0
"""Range of the trace's axis, as powers of ten."""
LABELLED = ((0, "1", ""), (-2, "0.01", ""), (-4, "10", "\u22124"))


def reach_of(weights: Array) -> float:
    """The largest finite weight of a row, whatever its sign; 0 when there is none. `weights`: f4 `(keys,)`, masked keys NaN."""
    import numpy as np

    values = np.abs(np.frombuffer(weights.data, "<f4"))
    return float(values.max(initial=0.0, where=np.isfinite(values)))


def largest_by_pixel(weights: Array, low: int, high: int, pixels: int, *, signed: bool = False) -> list[float]:
    """The largest weight, or the one farthest from 0, of the keys of each pixel of [low, high); NaN where all are masked.

    Args:
        weights: f4 `(keys,)`, masked keys NaN.
        low: first key.
        high: one past the last key.
        pixels: how many pixels the keys are spread over; fewer keys than that give one value a key.
        signed: weights may be negative.
    """
    import numpy as np

    values = np.frombuffer(weights.data, "<f4")[low:high]
    if not len(values):
        return []
    count = min(pixels, len(values))
    starts = np.arange(count) * len(values) // count
    most = np.fmax.reduceat(values, starts)
    if signed:
        least = np.fmin.reduceat(values, starts)
        most = np.where(-least > most, least, most)
    return [float(value) for value in most]


def paint_trace(
    painter: QPainter, theme: Theme, box: Box, view: View, weights: Array | None, colour: str, reach: float = 0.0
) -> None:
    """Ground, grid and the line of one panel's row. `weights`: None while they are not known; `reach`: of a signed row."""
    tokens = theme.tokens
    painter.fillRect(_rect(box), QColor(tokens.plot))
    painter.setPen(QPen(QColor(tokens.grid), 1))
    for y in (_middle(box),) if reach else tuple(_height(box, float(exponent)) for exponent, _, _ in LABELLED[1:]):
        y = round(y) + 0.5
        painter.drawLine(QPointF(box.x, y), QPointF(box.right, y))
    if weights is not None:
        painter.save()
        painter.setClipRect(_rect(box))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        painter.setPen(QPen(QColor(colour), 1.25))
        painter.drawLines(_lines(weights, view[2], view[3], box, reach))
        painter.restore()
    painter.setPen(QPen(QColor(tokens.line), 1))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRect(QRectF(box.x - 0.5, box.y - 0.5, box.width + 1, box.height + 1))


@functools.lru_cache(maxsize=8)
def _lines(weights: Array, low: int, high: int, box: Box, reach: float) -> list[QLineF]:
    """Shared: the pointer moves along a row far more often than it changes.

    Lines, not a path: Qt strokes a jagged path of 350 points in 7 ms, and its lines one by one in 0.3 ms.
    """
    values = largest_by_pixel(weights, low, high, int(box.width), signed=reach > 0)
    points = [
        None if math.isnan(value) else QPointF(box.x + (index + 0.5) * box.width / len(values), _y(box, value, reach))
        for index, value in enumerate(values)
    ]
    lines = [QLineF(one, other) for one, other in itertools.pairwise(points) if one is not None and other is not None]
    for before, point, after in zip([None, *points], points, [*points[1:], None], strict=False):
        if point is not None and before is None and after is None:
            lines.append(QLineF(point, point + QPointF(1, 0)))  # a lone key is a dot, not nothing
    return lines


def _y(box: Box, value: float, reach: float) -> float:
    if not reach:
        return _height(box, _exponent(value))
    return _middle(box) - min(max(value / reach, -1.0), 1.0) * (box.height / 2 - 2)


def _middle(box: Box) -> float:
    """Where 0 of a signed row lies."""
    return box.y + box.height / 2


def _exponent(value: float) -> float:
    return math.log10(value) if value > 0 else LOW_EXPONENT


def paint_trace_axis(painter: QPainter, theme: Theme, box: Box, reach: float = 0.0) -> None:
    """Labels left of the first panel's trace: 1, 0.01, 10⁻⁴ with a raised exponent; of a signed row its reach, 0, its reach."""
    painter.setPen(QColor(theme.tokens.text2))
    if reach:
        painter.setFont(font("tick"))
        for value, y in ((reach, box.y + 5), (0.0, _middle(box)), (-reach, box.bottom - 5)):
            paint_number(painter, QRectF(box.x - 56, y - 7, 48, 14), weight(value), font("tick"), right=True)
        return
    raised = QFont(font("tick"))
    raised.setPixelSize(9)
    for exponent, label, power in LABELLED:
        painter.setFont(raised)
        power_width = QFontMetricsF(raised).horizontalAdvance(power) if power else 0.0
        y = min(max(_height(box, float(exponent)), box.y + 5), box.bottom - 5)
        painter.drawText(QRectF(box.x - 8 - power_width, y - 11, power_width + 1, 12), Qt.AlignmentFlag.AlignRight, power)
        painter.setFont(font("tick"))
        rect = QRectF(box.x - 56, y - 7, 48 - power_width, 14)
        painter.drawText(rect, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, label)


def _height(box: Box, exponent: float) -> float:
    share = (min(max(exponent, LOW_EXPONENT), HIGH_EXPONENT) - LOW_EXPONENT) / (HIGH_EXPONENT - LOW_EXPONENT)
    return box.bottom - 2 - share * (box.height - 4)


def _rect(box: Box) -> QRectF:
    return QRectF(box.x, box.y, box.width, box.height)

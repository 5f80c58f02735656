"""The trace: one query's weights along the key axis, logarithmic, the largest of the keys that share a pixel."""

from __future__ import annotations

import functools
import itertools
import math

from attnscope_engine.protocol import Array
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen

from attnscope.map_view import View
from attnscope.plots.map_layout import Box
from attnscope.theme import Theme, font

LOW_EXPONENT, HIGH_EXPONENT = -5.0, 0.0
"""Range of the trace's axis, as powers of ten."""
LABELLED = ((0, "1", ""), (-2, "0.01", ""), (-4, "10", "\u22124"))


def largest_by_pixel(weights: Array, low: int, high: int, pixels: int) -> list[float]:
    """The largest weight among the keys of each pixel of [low, high); NaN where all are masked.

    Args:
        weights: f4 `(keys,)`, masked keys NaN.
        low: first key.
        high: one past the last key.
        pixels: how many pixels the keys are spread over; fewer keys than that give one value a key.
    """
    import numpy as np

    values = np.frombuffer(weights.data, "<f4")[low:high]
    if not len(values):
        return []
    count = min(pixels, len(values))
    starts = np.arange(count) * len(values) // count
    return [float(value) for value in np.fmax.reduceat(values, starts)]


def paint_trace(painter: QPainter, theme: Theme, box: Box, view: View, weights: Array | None, colour: str) -> None:
    """Ground, grid and the line of one panel's row. `weights`: None while they are not known."""
    tokens = theme.tokens
    painter.fillRect(_rect(box), QColor(tokens.plot))
    painter.setPen(QPen(QColor(tokens.grid), 1))
    for exponent, _, _ in LABELLED[1:]:
        y = round(_height(box, float(exponent))) + 0.5
        painter.drawLine(QPointF(box.x, y), QPointF(box.right, y))
    if weights is not None:
        painter.save()
        painter.setClipRect(_rect(box))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        painter.setPen(QPen(QColor(colour), 1.25))
        painter.drawLines(_lines(weights, view[2], view[3], box))
        painter.restore()
    painter.setPen(QPen(QColor(tokens.line), 1))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRect(QRectF(box.x - 0.5, box.y - 0.5, box.width + 1, box.height + 1))


@functools.lru_cache(maxsize=8)
def _lines(weights: Array, low: int, high: int, box: Box) -> list[QLineF]:
    """Shared: the pointer moves along a row far more often than it changes.

    Lines, not a path: Qt strokes a jagged path of 350 points in 7 ms, and its lines one by one in 0.3 ms.
    """
    values = largest_by_pixel(weights, low, high, int(box.width))
    points = [
        None if math.isnan(value) else QPointF(box.x + (index + 0.5) * box.width / len(values), _height(box, _exponent(value)))
        for index, value in enumerate(values)
    ]
    lines = [QLineF(one, other) for one, other in itertools.pairwise(points) if one is not None and other is not None]
    for before, point, after in zip([None, *points], points, [*points[1:], None], strict=False):
        if point is not None and before is None and after is None:
            lines.append(QLineF(point, point + QPointF(1, 0)))  # a lone key is a dot, not nothing
    return lines


def _exponent(value: float) -> float:
    return math.log10(value) if value > 0 else LOW_EXPONENT


def paint_trace_axis(painter: QPainter, theme: Theme, box: Box) -> None:
    """Labels left of the first panel's trace: 1, 0.01, 10⁻⁴ with a raised exponent."""
    painter.setPen(QColor(theme.tokens.text2))
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

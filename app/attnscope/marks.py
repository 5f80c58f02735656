"""Markers and swatches as vector paths: the same shape in every list, plot and legend."""

from __future__ import annotations

import functools
import math

from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPen, QPolygonF

from attnscope.looks import Look, Marker, Tokens

LINE_WIDTH = 1.75
"""Pixels: a predicted line."""
MARKER_SIZE = 8.5
"""Pixels across: a measured marker."""
OUTLINE = 1.5
"""Pixels: the outline of a hollow marker."""

_Points = tuple[tuple[float, float], ...]


def _regular(corners: int, radius: float = 0.55, inner: float | None = None) -> _Points:
    """A regular polygon, one corner up; with `inner`, a star."""
    steps = corners if inner is None else 2 * corners
    points = []
    for step in range(steps):
        reach = radius if inner is None or step % 2 == 0 else inner
        angle = 2 * math.pi * step / steps
        points.append((reach * math.sin(angle), -reach * math.cos(angle)))
    return tuple(points)


def _turned(points: _Points, degrees: float) -> _Points:
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return tuple((x * cosine - y * sine, x * sine + y * cosine) for x, y in points)


_TRIANGLE: _Points = ((0, -0.52), (0.54, 0.44), (-0.54, 0.44))
_PLUS: _Points = (
    *((-0.19, -0.55), (0.19, -0.55), (0.19, -0.19), (0.55, -0.19), (0.55, 0.19), (0.19, 0.19)),
    *((0.19, 0.55), (-0.19, 0.55), (-0.19, 0.19), (-0.55, 0.19), (-0.55, -0.19), (-0.19, -0.19)),
)
_HOURGLASS: _Points = ((-0.46, -0.54), (0.46, -0.54), (0.1, 0), (0.46, 0.54), (-0.46, 0.54), (-0.1, 0))

# Outlines in a box one unit wide about the origin, y down.
_SHAPES: dict[Marker, _Points] = {
    "square": ((-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44)),
    "bar": ((-0.68, -0.31), (0.68, -0.31), (0.68, 0.31), (-0.68, 0.31)),
    "pentagon": _regular(5),
    "triangle_up": _TRIANGLE,
    "triangle_down": _turned(_TRIANGLE, 180),
    "triangle_right": _turned(_TRIANGLE, 90),
    "triangle_left": _turned(_TRIANGLE, -90),
    "diamond": ((0, -0.6), (0.5, 0), (0, 0.6), (-0.5, 0)),
    "plus": _PLUS,
    "cross": _turned(_PLUS, 45),
    "star": _regular(5, 0.6, 0.26),
    "hourglass": _HOURGLASS,
    "bow_tie": _turned(_HOURGLASS, 90),
}


@functools.cache
def marker_path(marker: Marker, size: float = 1.0) -> QPainterPath:
    """The marker's closed outline about the origin, about `size` across. Shared: copy before changing it."""
    path = QPainterPath()
    if marker == "circle":
        path.addEllipse(QPointF(0, 0), size / 2, size / 2)
        return path
    path.addPolygon(QPolygonF([QPointF(x * size, y * size) for x, y in _SHAPES[marker]]))
    path.closeSubpath()
    return path


def line_pen(look: Look, tokens: Tokens, width: float = LINE_WIDTH) -> QPen:
    """A variant's predicted line: its colour and its family's dash, the same in pixels at any zoom."""
    width = width / 2 if look.thin else width
    pen = QPen(QColor(look.colour(tokens)), width)
    pen.setCosmetic(True)
    pen.setCapStyle(Qt.PenCapStyle.FlatCap)
    if look.dash:
        pen.setDashPattern(look.dash_pattern(width))
    return pen


def draw_marker(
    painter: QPainter,
    centre: QPointF,
    look: Look,
    tokens: Tokens,
    size: float = MARKER_SIZE,
    hollow: bool = False,
    halo: str = "",
) -> None:
    """A marker with a halo one pixel wide in the colour of the ground (`halo`, else the plot's); an outline when hollow."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(centre)
    ground = QColor(halo or tokens.plot)
    painter.strokePath(marker_path(look.marker, size), QPen(ground, 2.0))
    fill_marker(painter, look, tokens, size, ground if hollow or look.hollow else None)
    painter.restore()


def fill_marker(painter: QPainter, look: Look, tokens: Tokens, size: float, ground: QColor | None) -> None:
    """The marker about the painter's origin: filled, or with a ground an outline on it, which reaches no further."""
    colour = QColor(look.colour(tokens))
    if ground is None:
        painter.fillPath(marker_path(look.marker, size), colour)
        return
    path = marker_path(look.marker, size - OUTLINE / 2)
    painter.fillPath(path, ground)
    painter.strokePath(path, QPen(colour, OUTLINE))


def draw_swatch(painter: QPainter, rect: QRectF, look: Look, tokens: Tokens, enabled: bool = True) -> None:
    """Line and marker of a variant, centred in `rect` (32 × 14 in lists); at half strength when it is off."""
    painter.save()
    painter.setOpacity(painter.opacity() * (1.0 if enabled else 0.5))
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    y = rect.center().y()
    middle = rect.center().x()
    painter.setPen(line_pen(look, tokens))
    # Both halves start at the marker, so that the dash is the same on its two sides.
    gap = MARKER_SIZE / 2 - 0.5
    painter.drawLine(QLineF(middle - gap, y, rect.left(), y))
    painter.drawLine(QLineF(middle + gap, y, rect.right(), y))
    painter.translate(middle, y)
    fill_marker(painter, look, tokens, MARKER_SIZE, QColor(tokens.panel) if look.hollow else None)
    painter.restore()

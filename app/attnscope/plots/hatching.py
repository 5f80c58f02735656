"""Hatching: what is behind it can not be had."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen


def hatch(p: QPainter, zone: QRectF, colour: str, gap: float = 9.0) -> None:
    """Thin diagonals over a rectangle, at less than full strength."""
    if zone.width() <= 0 or zone.height() <= 0:
        return
    p.save()
    p.setClipRect(zone, Qt.ClipOperation.IntersectClip)
    p.setRenderHint(QPainter.RenderHint.Antialiasing)
    ink = QColor(colour)
    ink.setAlphaF(0.55)
    p.setPen(QPen(ink, 1))
    x = zone.left() - zone.height()
    while x < zone.right():
        p.drawLine(QPointF(x, zone.bottom()), QPointF(x + zone.height(), zone.top()))
        x += gap
    p.restore()

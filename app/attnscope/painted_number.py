"""A number painted with its power of ten raised: the faces have no superscript minus."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QFont, QFontMetricsF, QPainter

RAISED = 9
"""Pixels of the exponent's face."""
LIFT = 4
"""Pixels by which the exponent is raised."""


def parts_of(text: str) -> tuple[str, str]:
    """("1.34·10", "−4") of "1.34e−4"; a number without a power has no second part."""
    mantissa, power, exponent = text.partition("e")
    if not power or not mantissa or mantissa[-1] not in "0123456789":
        return text, ""
    return f"{mantissa}·10", exponent


def number_width(text: str, face: QFont) -> float:
    """Pixels that the painted number takes."""
    body, exponent = parts_of(text)
    width = QFontMetricsF(face).horizontalAdvance(body)
    return width + QFontMetricsF(_raised(face)).horizontalAdvance(exponent) if exponent else width


def paint_number(painter: QPainter, rect: QRectF, text: str, face: QFont, *, right: bool = False) -> None:
    """In the painter's colour, at the left or the right of a rectangle, in its middle."""
    body, exponent = parts_of(text)
    width = number_width(text, face)
    left = rect.right() - width if right else rect.left()
    painter.setFont(face)
    painter.drawText(QRectF(left, rect.y(), width + 2, rect.height()), Qt.AlignmentFlag.AlignVCenter, body)
    if exponent:
        left += QFontMetricsF(face).horizontalAdvance(body)
        painter.setFont(_raised(face))
        painter.drawText(QRectF(left, rect.y() - LIFT, width, rect.height()), Qt.AlignmentFlag.AlignVCenter, exponent)


def _raised(face: QFont) -> QFont:
    small = QFont(face)
    small.setPixelSize(RAISED)
    return small

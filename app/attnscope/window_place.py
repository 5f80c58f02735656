"""Where the window stands, and how wide its left panel is."""

from __future__ import annotations

from PySide6.QtCore import QByteArray, QRect
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QWidget

FIRST_SIZE = (1440, 900)
LEFT_WIDTHS = ((1366, 288), (1680, 320))
"""Window width up to which the left panel has this width; above the last, `LEFT_WIDE`."""
LEFT_WIDE = 344


def left_width(width: int) -> int:
    """Of the left panel, in a window so wide."""
    return next((left for most, left in LEFT_WIDTHS if width < most), LEFT_WIDE)


def restore(window: QWidget, geometry: str) -> None:
    """As it was (base64 of `saveGeometry`), but on a screen that exists; as at a first start where that is not known."""
    if geometry and window.restoreGeometry(QByteArray.fromBase64(geometry.encode())):
        _onto_a_screen(window)
    else:
        available = window.screen().availableGeometry()
        window.resize(min(FIRST_SIZE[0], available.width()), min(FIRST_SIZE[1], available.height()))


def _onto_a_screen(window: QWidget) -> None:
    frame = window.geometry()
    if not any(screen.availableGeometry().intersects(frame) for screen in QGuiApplication.screens()):
        area = window.screen().availableGeometry()
        window.setGeometry(QRect(area.topLeft(), frame.size().boundedTo(area.size())))

"""The thin line between parts of the window; the style sheet gives it its colour."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QWidget


def hairline(parent: QWidget | None = None, *, width: int = 0, height: int = 0) -> QFrame:
    """So wide or high, in logical pixels; 0 leaves that to the layout."""
    line = QFrame(parent)
    line.setProperty("hairline", True)
    if width:
        line.setFixedWidth(width)
    if height:
        line.setFixedHeight(height)
    return line

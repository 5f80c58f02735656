"""A tab at the right edge that opens a folded column, its words standing upright."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from attnscope.theme import Theme, font

WIDTH = 28


class EdgeTab(QAbstractButton):
    """28 px wide; the accent marks it while its column is open."""

    def __init__(self, theme: Theme, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._open = False
        self.setText(text)
        self.setFixedWidth(WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.set_open(False)
        theme.changed.connect(self.update)

    def set_open(self, is_open: bool) -> None:
        self._open = is_open
        words = f"{'Hide' if is_open else 'Show'} the table “{self.text()}”"
        self.setToolTip(words)
        self.setAccessibleName(words)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        tokens = self._theme.tokens
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(tokens.hover if self.underMouse() else tokens.panel))
        painter.fillRect(QRectF(0, 0, 1, self.height()), QColor(tokens.line))
        if self._open:
            painter.fillRect(QRectF(0, 0, 2, 96), QColor(tokens.accent))
        painter.setFont(font("label_medium"))
        painter.setPen(QColor(tokens.text1 if self._open else tokens.text2))
        painter.translate(self.width(), 0)
        painter.rotate(90)
        painter.drawText(QRectF(0, 0, 96, self.width()), Qt.AlignmentFlag.AlignCenter, self.text())
        painter.end()

"""A button that shows its key after its words: "Measure all F5"."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPaintEvent
from PySide6.QtWidgets import QPushButton, QSizePolicy, QStyle, QStyleOptionButton, QStylePainter, QWidget

from attnscope.theme import Theme, font, icon

_SIDE, _GAP, _ICON = 10, 6, 16


class KeyButton(QPushButton):
    """Icon (optional), words, and the key in hint colour."""

    def __init__(self, theme: Theme, text: str, key: str, icon_name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self._theme, self._key, self._icon_name = theme, key, icon_name
        self.setFont(font("label"))
        self.setFixedHeight(26)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setAccessibleDescription(f"key {key}")
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        metrics = QFontMetricsF(self.font())
        width = metrics.horizontalAdvance(self.text()) + _GAP + metrics.horizontalAdvance(self._key) + 2 * _SIDE
        return QSize(round(width + (_ICON + _GAP if self._icon_name else 0)), 26)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QStylePainter(self)
        option = QStyleOptionButton()
        self.initStyleOption(option)
        option.text = ""
        painter.drawControl(QStyle.ControlElement.CE_PushButton, option)
        tokens = self._theme.tokens
        colour = tokens.text1 if self.isEnabled() else tokens.text3
        x, middle = float(_SIDE), Qt.AlignmentFlag.AlignVCenter
        if self._icon_name:
            top = (self.height() - _ICON) / 2
            icon(self._icon_name, colour).paint(painter, round(x), round(top), _ICON, _ICON)
            x += _ICON + _GAP
        painter.setFont(self.font())
        painter.setPen(QColor(colour))
        painter.drawText(QRectF(x, 0, self.width(), self.height()), middle, self.text())
        x += QFontMetricsF(self.font()).horizontalAdvance(self.text()) + _GAP
        painter.setPen(QColor(tokens.text3))
        painter.drawText(QRectF(x, 0, self.width(), self.height()), middle, self._key)
        painter.end()

"""Heads of the list of variants: the column heads, and the heads of the folded groups."""

from __future__ import annotations

from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from attnscope.panels.variant_row import column_pitch
from attnscope.theme import Theme, font, icon

GROUP_HEIGHT = 28


class ColumnHeads(QWidget):
    """A line beside "predicted" and a marker beside "measured": the two shapes mean the same in every plot."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._inset = 0
        self.setFixedHeight(20)
        self.setToolTip("A line is what a formula says, a marker what was measured here")
        theme.changed.connect(self.update)

    def set_inset(self, pixels: int) -> None:
        """How much narrower the rows are than this: as wide as their scroll bar is."""
        if pixels != self._inset:
            self._inset = pixels
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width = self.width() - self._inset
        tokens, right, pitch = self._theme.tokens, width - 12.0, column_pitch(width)
        painter.setFont(font("tick"))
        for words, edge in (("predicted", right - pitch), ("measured", right)):
            painter.setPen(QColor(tokens.text2))
            painter.drawText(
                QRectF(edge - 100, 0, 90, 16), int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), words
            )
            painter.setPen(QPen(QColor(tokens.text2), 1.2))
            if words == "predicted":
                painter.drawLine(QLineF(edge - 7, 8.5, edge, 8.5))
            else:
                painter.setBrush(QColor(tokens.text2))
                painter.drawEllipse(QPointF(edge - 3, 8.5), 2.5, 2.5)
        painter.fillRect(0, self.height() - 1, self.width(), 1, QColor(tokens.line))
        painter.end()


class GroupRow(QAbstractButton):
    """Folds and unfolds one group of variants."""

    def __init__(self, theme: Theme, title: str, size: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme, self._size = theme, size
        self.setText(title)
        self.setCheckable(True)
        self.setAccessibleName(f"{title}, {size} variants")
        self.setFixedHeight(GROUP_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        theme.changed.connect(self.update)

    def set_size(self, size: int) -> None:
        self._size = size
        self.setAccessibleName(f"{self.text()}, {size} variants")
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(288, GROUP_HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        tokens = self._theme.tokens
        if self.underMouse():
            painter.fillRect(self.rect(), QColor(tokens.hover))
        name = "chevron-down" if self.isChecked() else "chevron-right"
        icon(name, tokens.text2).paint(painter, 9, (GROUP_HEIGHT - 16) // 2, 16, 16)
        painter.setFont(font("label"))
        painter.setPen(QColor(tokens.text2))
        box = QRectF(30, 0, self.width() - 42, GROUP_HEIGHT - 1)
        painter.drawText(box, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), self.text())
        painter.setPen(QColor(tokens.text3))
        painter.drawText(box, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), str(self._size))
        painter.fillRect(0, self.height() - 1, self.width(), 1, QColor(tokens.line))
        painter.end()

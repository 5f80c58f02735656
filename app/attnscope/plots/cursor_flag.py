"""The flag "n = 16,384" on top of the cursor: the slider's n, to take hold of in the plot."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from attnscope.quantities import count
from attnscope.theme import Theme, font

HEIGHT = 20


class CursorFlag(QWidget):
    """Child of a plot; its plot puts it where the cursor is."""

    dragged = Signal(float, bool)
    """Pixels of the parent where the pointer holds the flag's middle; True with Alt, which frees it from powers of two."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._n = 0
        self._grip: float | None = None
        self.setCursor(Qt.CursorShape.SizeHorCursor)
        self.setToolTip("Sequence length n of the slider. Drag to change it; with Alt it does not snap to powers of two.")
        self.setAccessibleName("n in the plot")
        widest = QFontMetricsF(font("label_medium")).horizontalAdvance("n = 1,048,576")
        self.resize(round(widest) + 18, HEIGHT)
        theme.changed.connect(self.update)

    @property
    def n(self) -> int:
        return self._n

    def show_n(self, n: int, x: float) -> None:
        """Stand with the middle at `x` of the parent, saying n."""
        if n != self._n:
            self._n = n
            self.update()
        self.move(round(x - self.width() / 2), self.y())

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._grip = event.position().x() - self.width() / 2

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._grip is not None:
            at = self.mapToParent(QPointF(event.position().x() - self._grip, 0))
            self.dragged.emit(at.x(), bool(event.modifiers() & Qt.KeyboardModifier.AltModifier))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: ARG002
        self._grip = None

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        tokens = self._theme.tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tokens.accent))
        painter.drawRoundedRect(QRectF(self.rect()), 3, 3)
        painter.setPen(QColor(tokens.on_accent))
        painter.setFont(font("label_medium"))
        painter.drawText(QRectF(self.rect()), Qt.AlignmentFlag.AlignCenter, f"n = {count(self._n)}")
        painter.end()

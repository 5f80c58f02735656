"""The ring round whatever has the keyboard, drawn outside the widget by one overlay for the whole window."""

from __future__ import annotations

from PySide6.QtCore import QObject, QRectF, Qt
from PySide6.QtGui import QColor, QGuiApplication, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QApplication, QFocusFrame, QWidget
from shiboken6 import isValid


class _Frame(QFocusFrame):
    """Qt keeps this frame round its widget; only the drawing is ours."""

    def __init__(self, colour: QColor) -> None:
        super().__init__()
        self.colour = colour

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(self.colour, 2))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 5, 5)
        painter.end()


class FocusRing(QObject):
    """Shows the frame when focus came by the keyboard; a click shows by itself where it went."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._frame = _Frame(QColor())
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        app.focusChanged.connect(self._move)

    def set_colour(self, colour: str) -> None:
        self._living().colour = QColor(colour)
        self._living().update()

    def ringed(self) -> QWidget | None:
        """The widget that has the ring now."""
        frame = self._living()
        return frame.widget() if frame.isVisible() else None

    def _living(self) -> _Frame:
        """Qt moves the frame into the window that it is shown in: it dies with a dialog that is closed."""
        if not isValid(self._frame):
            self._frame = _Frame(self._frame.colour)
        return self._frame

    def _move(self, old: QWidget | None, new: QWidget | None) -> None:  # noqa: ARG002
        # Qt notes at the window that its focus is moved by keys; a click, or the window's becoming active, is not that.
        by_mouse = QGuiApplication.mouseButtons() != Qt.MouseButton.NoButton
        by_keys = new is not None and new.window().testAttribute(Qt.WidgetAttribute.WA_KeyboardFocusChange)
        self._living().setWidget(new if by_keys and not by_mouse else None)  # type: ignore[arg-type]

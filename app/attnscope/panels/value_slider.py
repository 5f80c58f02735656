"""A painted slider of whole numbers, logarithmic or linear. It knows numbers in and numbers out, and no state."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QSlider, QWidget

from attnscope.panels.slider_scale import Scale
from attnscope.theme import Theme

TRACK = 4
THUMB = QSize(10, 14)
_NOTCH = 120
"""What a wheel reports for one click."""


class ValueSlider(QSlider):
    """Drag, click, keys; the wheel acts only while it has the focus, so that a panel scrolls under the pointer."""

    chosen = Signal(int)
    """The number that the person moved to; not sent for `set_number`."""

    def __init__(self, theme: Theme, scale: Scale, default: int, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.theme = theme
        self.number_scale = scale
        self.default = default
        self._number = default
        self._grip = 0.0
        self._notches = 0
        self.setRange(0, scale.steps)
        self.setSingleStep(1)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        super().setValue(scale.step_of(default))
        theme.changed.connect(self.update)

    @property
    def number(self) -> int:
        """The exact number, which may lie between two steps."""
        return self._number

    def set_number(self, number: int) -> None:
        """Show a number that comes from the state."""
        if number == self._number:
            return
        self._number = number
        with QSignalBlocker(self):
            self.setValue(self.number_scale.step_of(number))
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(120, 24)

    def minimumSizeHint(self) -> QSize:
        return QSize(60, self.sizeHint().height())

    # ------------------------------------------------------------ the hand

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            event.ignore()
            return
        self.setSliderDown(True)
        offset = event.position().x() - self.thumb_x()
        self._grip = offset if abs(offset) <= THUMB.width() / 2 + 3 else 0.0
        if self._grip == 0.0:
            self._drag_to(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.isSliderDown():
            self._drag_to(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: ARG002
        self.setSliderDown(False)
        self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.choose(self.default)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if not self.hasFocus():
            event.ignore()
            return
        self._notches += event.angleDelta().y() or event.angleDelta().x()
        steps, self._notches = int(self._notches / _NOTCH), int(self._notches - int(self._notches / _NOTCH) * _NOTCH)
        self.choose(self.number_scale.stepped(self._number, steps))
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        number = self._number_after(Qt.Key(event.key()), bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier))
        if number is None:
            super().keyPressEvent(event)
            return
        self.choose(number)

    def choose(self, number: int) -> None:
        """Move as the person's hand does. The control itself waits for `set_number` of whoever decides."""
        number = min(max(number, self.number_scale.low), self.number_scale.high)
        if number != self._number:
            self.set_number(number)
            self.chosen.emit(number)

    def _number_after(self, key: Qt.Key, fine: bool) -> int | None:
        scale, keys = self.number_scale, Qt.Key
        if key in (keys.Key_Left, keys.Key_Down, keys.Key_Right, keys.Key_Up):
            sign = 1 if key in (keys.Key_Right, keys.Key_Up) else -1
            return self._number + sign if fine else scale.stepped(self._number, sign)
        if key in (keys.Key_PageUp, keys.Key_PageDown):
            up = key == keys.Key_PageUp
            if scale.logarithmic:
                return self._number * 2 if up else self._number // 2
            return scale.stepped(self._number, (1 if up else -1) * max(1, scale.steps // 10))
        return {keys.Key_Home: scale.low, keys.Key_End: scale.high}.get(key)

    def _drag_to(self, event: QMouseEvent) -> None:
        share = (event.position().x() - self._grip - self.left_end()) / self.track_length()
        free = bool(event.modifiers() & Qt.KeyboardModifier.AltModifier)
        self.choose(self.number_scale.value(share) if free else self.number_scale.snapped(share))

    # ------------------------------------------------------------ the picture

    def left_end(self) -> float:
        """Where the track begins, in pixels; the thumb's middle moves from here."""
        return THUMB.width() / 2 + 1

    def track_length(self) -> float:
        return max(1.0, self.width() - 2 * self.left_end())

    def place(self, number: float) -> float:
        """Where a number lies, in pixels."""
        return self.left_end() + self.number_scale.share(number) * self.track_length()

    def thumb_x(self) -> float:
        return self.place(self._number)

    def track_y(self) -> float:
        return self.height() / 2

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        self.paint_track(painter)
        painter.end()

    def paint_track(self, painter: QPainter) -> None:
        """Track, filled up to the thumb, and the thumb."""
        tokens, y, x = self.theme.tokens, self.track_y(), self.thumb_x()
        accent = QColor(tokens.accent if self.isEnabled() else tokens.edge)
        left = self.left_end()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tokens.groove))
        painter.drawRoundedRect(QRectF(left, y - TRACK / 2, self.track_length(), TRACK), TRACK / 2, TRACK / 2)
        painter.setBrush(accent)
        painter.drawRoundedRect(QRectF(left, y - TRACK / 2, x - left, TRACK), TRACK / 2, TRACK / 2)
        painter.setBrush(QColor(tokens.text1 if tokens.dark else tokens.raised))
        painter.setPen(QPen(accent, 2))
        width, height = THUMB.width() - 2, THUMB.height() - 2
        corner = QPointF(round(x * 2) / 2 - width / 2, y - height / 2)
        painter.drawRoundedRect(QRectF(corner.x(), corner.y(), width, height), 2.5, 2.5)

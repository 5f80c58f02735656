"""The status bar: what the engine does, on what, and how far it is. 28 px high."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QColor, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QStatusBar, QWidget

from attnscope.panels.controls import KeyButton
from attnscope.panels.status_words import clock_words, device_words, memory_words, phase_words, work
from attnscope.state import State
from attnscope.store import Store
from attnscope.theme import FontRole, Theme, font

HEIGHT = 28
PASSING_MS = 4000
_REFRESH_MS = 500
_NARROW = 1150
"""Below this width architecture, driver and clock go."""


class StatusBar(QStatusBar):
    """A state of the engine on the left; on the right the work in progress, or one passing line."""

    action = Signal(str)

    def __init__(
        self, store: Store, theme: Theme, clock: Callable[[], float] = time.monotonic, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._store, self._theme, self._clock = store, theme, clock
        self._queue_since = clock()
        self.setSizeGripEnabled(False)
        self.setFixedHeight(HEIGHT)
        self._build()
        self._passing = QTimer(self, singleShot=True, interval=PASSING_MS)
        self._passing.timeout.connect(lambda: self._store.update_live(status=""))
        self._refresh = QTimer(self, interval=_REFRESH_MS)
        self._refresh.timeout.connect(lambda: self._show_work(self._store.state))
        store.changed.connect(self._changed)
        theme.changed.connect(lambda: self._show_phase(self._store.state))
        self._show_all(store.state)

    # ------------------------------------------------------------ built once

    def _build(self) -> None:
        content = QWidget(self)
        row = QHBoxLayout(content)
        row.setContentsMargins(8, 0, 6, 0)
        row.setSpacing(8)
        self.dot = _Dot(self._theme)
        self.phase = _label("label")
        self.device = _label("label")
        self.arch = _label("label", "label")
        self.memory_bar = _Bar(self._theme, QSize(72, 6), "text3")
        self.memory = _label("number", "label")
        self.clock_speed = _label("label", "label")
        self.message = _label("label", "label")
        self.message.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.message.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.progress = _Bar(self._theme, QSize(120, 6), "accent")
        self.left = _label("number", "label")
        self.stop = KeyButton(self._theme, "Cancel", "Esc")
        self.stop.setProperty("kind", "small")
        self.stop.setFixedHeight(20)
        self.stop.setToolTip("Stop; finished points are kept (Esc)")
        self.stop.clicked.connect(lambda: self.action.emit("stop"))
        memory_word = _label("label", "label")
        memory_word.setText("memory")
        self._memory_group: tuple[QWidget, ...] = (_rule(), memory_word, self.memory_bar, self.memory)
        self._device_rule, self._clock_rule = _rule(), _rule()
        left: tuple[QWidget, ...] = (self.dot, self.phase, self._device_rule, self.device, self.arch)
        for widget in (*left, *self._memory_group, self._clock_rule, self.clock_speed):
            row.addWidget(widget)
        row.addWidget(self.message, 1)
        row.addWidget(self.progress)
        row.addWidget(self.left)
        row.addWidget(self.stop)
        self.addWidget(content, 1)
        self.setContentsMargins(0, 0, 0, 0)

    # ------------------------------------------------------------ what the state says

    def _changed(self, old: State, new: State) -> None:
        if old.live is new.live:
            return
        if new.live.queue and not old.live.queue:
            self._queue_since = self._clock()
        if old.live.phase != new.live.phase or old.live.device is not new.live.device:
            self._show_phase(new)
        if old.live.vitals is not new.live.vitals:
            self._show_vitals(new)
        if old.live.status != new.live.status:
            self._pass(new.live.status)
        self._show_work(new)

    def _show_all(self, state: State) -> None:
        self._show_phase(state)
        self._show_vitals(state)
        self._pass(state.live.status)
        self._show_work(state)

    def _show_phase(self, state: State) -> None:
        words, token = phase_words(state.live)
        if words != self.phase.text():
            self.phase.setText(words)
            self._announce(words)
        self.dot.set_token(token)
        name, arch = device_words(state.live.device)
        self.device.setText(name)
        self.arch.setText(arch)
        self._fold()

    def _show_vitals(self, state: State) -> None:
        words, share = memory_words(state.live)
        self.memory.setText(words)
        self.memory_bar.set_share(share)
        self.clock_speed.setText(clock_words(state.live))
        self._fold()

    def _show_work(self, state: State) -> None:
        live, now = state.live, self._clock()
        found = work(live, now, self._queue_since)
        running = bool(live.queue or live.busy)
        if running != self._refresh.isActive():
            self._refresh.start() if running else self._refresh.stop()
        right: tuple[QWidget, ...] = (self.progress, self.left, self.stop)
        for widget in right:
            widget.setVisible(found is not None)
        if found:
            self.progress.set_share(found.done)
            self.left.setText(found.left)
            if found.stop != self.stop.text():
                self.stop.setText(found.stop)
                self.stop.updateGeometry()
        words = live.status or (found.text if found else "")
        if words != self.message.text():
            self.message.setText(words)
            self.message.setToolTip(words if live.status else "")

    def _pass(self, words: str) -> None:
        """One line, for four seconds."""
        if words:
            self._passing.start()
            self._announce(words)
        else:
            self._passing.stop()

    def _announce(self, words: str) -> None:
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, words))

    # ------------------------------------------------------------ room

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fold()

    def _fold(self) -> None:
        """What is empty, or what there is no room for, takes none."""
        wide = self.width() >= _NARROW
        self._device_rule.setVisible(bool(self.device.text()))
        self.arch.setVisible(wide and bool(self.arch.text()))
        for widget in self._memory_group:
            widget.setVisible(bool(self.memory.text()))
        clock: tuple[QWidget, ...] = (self._clock_rule, self.clock_speed)
        for widget in clock:
            widget.setVisible(wide and bool(self.clock_speed.text()))


class _Dot(QWidget):
    """The engine's state as a colour; the words beside it say the same."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme, self._token = theme, "accent"
        self.setFixedSize(14, 14)

    def set_token(self, token: str) -> None:
        self._token = token
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(getattr(self._theme.tokens, self._token)))
        painter.drawEllipse(QPointF(7, 7), 4, 4)
        painter.end()


class _Bar(QWidget):
    """A share of a whole."""

    def __init__(self, theme: Theme, size: QSize, token: str) -> None:
        super().__init__()
        self._theme, self._token, self._share = theme, token, 0.0
        self.setFixedSize(size)

    @property
    def share(self) -> float:
        return self._share

    def set_share(self, share: float) -> None:
        if share != self._share:
            self._share = share
            self.setAccessibleName(f"{share:.0%}")
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(self._theme.tokens.hover))
        filled = QRectF(0, 0, self.width() * min(max(self._share, 0.0), 1.0), self.height())
        painter.fillRect(filled, QColor(getattr(self._theme.tokens, self._token)))
        painter.end()


def _label(role: FontRole, dress: str = "") -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setFont(font(role))
    label.setProperty("role", dress)
    return label


def _rule() -> QFrame:
    rule = QFrame()
    rule.setProperty("hairline", True)
    rule.setFixedSize(1, 14)
    return rule

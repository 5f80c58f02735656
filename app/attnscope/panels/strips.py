"""Strips above the page: what went wrong or changed, in one sentence with its ways out. Never a dialog."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from attnscope.state import Notice, State
from attnscope.store import Store
from attnscope.theme import Theme, font, icon

HEIGHT = 32
MAX_BUTTONS = 3
"""Two, by the design; a third only when the engine gave up."""
_LOOKS = {"info": ("eye", "accent"), "warn": ("warn", "warn"), "danger": ("refuse", "danger")}
"""Level → icon and token of its colour."""


class Strips(QWidget):
    """The newest notice; "2 more" opens the others below it."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme = store, theme
        self._open = False
        self._shown: tuple[Notice, ...] = ()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self.strips: list[Strip] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        store.changed.connect(self._changed)
        self._show(store.state.live.notices)

    def _changed(self, old: State, new: State) -> None:
        if old.live.notices != new.live.notices:
            self._show(new.live.notices)

    def _show(self, notices: tuple[Notice, ...]) -> None:
        newest_first = tuple(reversed(notices))
        if newest_first and newest_first[:1] != self._shown[:1]:
            QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, newest_first[0].text))
        self._shown = newest_first
        self._open = self._open and len(notices) > 1
        for strip in self.strips:
            self._column.removeWidget(strip)
            strip.hide()
            strip.deleteLater()
        self.strips = []
        for index, notice in enumerate(newest_first if self._open else newest_first[:1]):
            strip = Strip(notice, self._theme, 0 if index else len(notices) - 1, unfolded=self._open)
            strip.action.connect(self.action)
            strip.closed.connect(lambda notice=notice: self._drop(notice))
            strip.more.connect(self._fold)
            self._column.addWidget(strip)
            strip.show()  # in this frame: a layout shows what is added later only in the next
            self.strips.append(strip)
        self.setVisible(bool(self.strips))

    def _drop(self, notice: Notice) -> None:
        self._store.update_live(notices=tuple(other for other in self._store.state.live.notices if other is not notice))

    def _fold(self) -> None:
        self._open = not self._open
        self._show(self._store.state.live.notices)


class Strip(QWidget):
    """Edge in its colour, icon, sentence, buttons, ✕."""

    action = Signal(str)
    closed = Signal()
    more = Signal()

    def __init__(self, notice: Notice, theme: Theme, others: int, *, unfolded: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.notice = notice
        self._theme = theme
        self.setFixedHeight(HEIGHT)
        self.setAccessibleName(notice.text)
        row = QHBoxLayout(self)
        row.setContentsMargins(36, 0, 6, 1)
        row.setSpacing(8)
        self.sentence = QLabel(notice.text)
        self.sentence.setTextFormat(Qt.TextFormat.PlainText)
        self.sentence.setFont(font("label"))
        self.sentence.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.sentence.setToolTip(notice.text if "<" not in notice.text else "")
        row.addWidget(self.sentence, 1)
        self.more_button: QPushButton | None = None
        if others:
            self.more_button = _button("fewer" if unfolded else f"{others} more", "quiet")
            self.more_button.clicked.connect(self.more)
            row.addWidget(self.more_button)
        self.buttons: list[QPushButton] = []
        for words, action in notice.actions[:MAX_BUTTONS]:
            button = _button(words)
            button.clicked.connect(lambda _, action=action: self.action.emit(action))
            self.buttons.append(button)
            row.addWidget(button)
        self.close_button = QToolButton()
        self.close_button.setToolTip("Close")
        self.close_button.setAccessibleName(f"Close: {notice.text}")
        self.close_button.setProperty("kind", "icon")
        self.close_button.setFixedSize(24, 24)
        theme.dress(self.close_button, "close")
        self.close_button.clicked.connect(self.closed)
        row.addWidget(self.close_button)
        theme.changed.connect(self.update)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        tokens = self._theme.tokens
        name, token = _LOOKS[self.notice.level]
        colour = getattr(tokens, token)
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(tokens.panel))
        painter.fillRect(0, self.height() - 1, self.width(), 1, QColor(tokens.line))
        painter.fillRect(0, 0, 3, self.height(), QColor(colour))
        icon(name, colour).paint(painter, 12, 8, 16, 16)
        painter.end()


def _button(words: str, kind: str = "") -> QPushButton:
    button = QPushButton(words)
    button.setFont(font("label"))
    button.setProperty("kind", kind)
    button.setFixedHeight(24)
    return button

"""The row above a page: its tabs, and the commands that act on any page."""

from __future__ import annotations

from typing import get_args

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QTabBar, QWidget

from attnscope.actions import BY_ID
from attnscope.state import Page, State
from attnscope.store import Store
from attnscope.theme import Theme, font

PAGES: tuple[Page, ...] = get_args(Page)
HEIGHT = 40
NARROW = 760
"""Width below which the buttons keep their icons only."""


class PageBar(QWidget):
    """Tabs on the left; undo, redo, pin, copy and export on the right."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme) -> None:
        super().__init__()
        self._store = store
        self.setProperty("ground", "window")
        self.setFixedHeight(HEIGHT)
        self.tabs = QTabBar()
        self.tabs.setFont(font("body_medium"))
        self.tabs.setAccessibleName("Pages")
        for number, page in enumerate(PAGES):
            self.tabs.addTab(page.capitalize())
            self.tabs.setTabToolTip(number, f"{page.capitalize()} (Ctrl+{number + 1})")
        self.tabs.currentChanged.connect(self._chosen)
        self._buttons: dict[str, QPushButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 0, 12, 0)
        row.setSpacing(4)
        row.addWidget(self.tabs)
        row.addStretch(1)
        for id_ in ("undo", "redo", "", "pin", "copy", "export"):
            row.addWidget(self._button(id_, theme) if id_ else _rule())
        store.changed.connect(self._show)
        self._show(None, store.state)

    def _button(self, id_: str, theme: Theme) -> QPushButton:
        command = BY_ID[id_]
        button = QPushButton()
        button.setFont(font("label"))
        button.setProperty("kind", "plain" if id_ == "export" else "quiet")
        button.setToolTip(command.tip)
        button.setAccessibleName(command.label)
        button.setMinimumSize(28, 26)
        theme.dress(button, command.icon)
        button.clicked.connect(lambda: self.action.emit(id_))
        self._buttons[id_] = button
        return button

    def _chosen(self, index: int) -> None:
        self._store.update(page=PAGES[index])

    def _show(self, _old: State | None, new: State) -> None:
        with QSignalBlocker(self.tabs):
            self.tabs.setCurrentIndex(PAGES.index(new.settings.page))
        self._buttons["undo"].setEnabled(self._store.can_undo)
        self._buttons["redo"].setEnabled(self._store.can_redo)
        self._buttons["pin"].setProperty("on", bool(new.live.pinned))
        self._words(new)

    def _words(self, state: State) -> None:
        wide = self.width() >= NARROW
        words = {"pin": "Unpin" if state.live.pinned else "Pin", "copy": "Copy", "export": "Export"}
        for id_, word in words.items():
            self._buttons[id_].setText(f" {word}" if wide else "")

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._words(self._store.state)


def _rule() -> QFrame:
    rule = QFrame()
    rule.setProperty("hairline", "true")
    rule.setFixedSize(1, 20)
    return rule

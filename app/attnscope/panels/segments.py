"""A row of buttons for a choice of two to four."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from attnscope.theme import font


class Segments(QWidget):
    """Exactly one is chosen. Arrow keys move along the row."""

    chosen = Signal(str)
    """The value that the person chose; not sent for `set_value`."""

    def __init__(self, name: str, options: Sequence[tuple[str, str]], parent: QWidget | None = None) -> None:
        """`options`: (value, label)."""
        super().__init__(parent)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QToolButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        for index, (value, label) in enumerate(options):
            button = QToolButton(self)
            button.setText(label)
            button.setCheckable(True)
            button.setProperty("segment", _place(index, len(options)))
            button.setFixedHeight(26)
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            button.setAccessibleName(f"{name}: {label}")
            button.setFont(font("label_medium"))
            button.setMinimumWidth(button.sizeHint().width())  # Medium is the widest: choosing moves nothing
            button.toggled.connect(lambda on, button=button: button.setFont(font("label_medium" if on else "label")))
            button.setFont(font("label"))
            button.clicked.connect(lambda _, value=value: self.chosen.emit(value))
            self._group.addButton(button)
            self._buttons[value] = button
            row.addWidget(button)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        next(iter(self._buttons.values())).setChecked(True)

    @property
    def value(self) -> str:
        return next(value for value, button in self._buttons.items() if button.isChecked())

    def set_value(self, value: str) -> None:
        """Show a choice that comes from the state. Raises: KeyError."""
        button = self._buttons[value]
        if not button.isChecked():
            with QSignalBlocker(self):
                button.setChecked(True)

    def button(self, value: str) -> QToolButton:
        """The button of a value, to disable it or to give it a tool tip. Raises: KeyError."""
        return self._buttons[value]


def _place(index: int, size: int) -> str:
    if size == 1:
        return "only"
    return "first" if index == 0 else "last" if index == size - 1 else "middle"

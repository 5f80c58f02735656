"""A field for a whole number that takes 65536, 65,536, 64k, 2^16 and 1M, and says what is wrong with anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QSignalBlocker, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent
from PySide6.QtWidgets import QLineEdit, QWidget

from attnscope.quantities import count, parse_count
from attnscope.theme import font

Step = Callable[[int, int], int]
"""(number, +1 or −1) → the next number."""


@dataclass(frozen=True, slots=True)
class NumberText:
    """How the number is written and read: as itself, or as what it counts the steps of."""

    show: Callable[[int], str] = count
    read: Callable[[str], int | None] = parse_count


ITSELF = NumberText()


class NumberField(QLineEdit):
    """Applies on Enter or on leaving. Bad text stays to be mended, the old number stays in force; Esc brings it back."""

    chosen = Signal(int)
    """A number that the person typed or stepped to; not sent for `set_number`."""
    problem = Signal(str)
    """A sentence naming field, range and value; empty when it is mended."""

    def __init__(
        self,
        name: str,
        low: int,
        high: int,
        step: int | Step = 1,
        parent: QWidget | None = None,
        *,
        text: NumberText = ITSELF,
    ) -> None:
        super().__init__(parent)
        self._written = text
        self.name, self.low, self.high = name, low, high
        self._step: Step = step if callable(step) else lambda number, sign: number + sign * step
        self._number = low
        self._bad = False
        self.setFont(font("number"))
        self.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setAccessibleName(name)
        self.setAccessibleDescription(f"{self._written.show(low)} to {self._written.show(high)}")
        self.setText(self._written.show(low))
        self.editingFinished.connect(self.apply)

    @property
    def number(self) -> int:
        return self._number

    @property
    def is_bad(self) -> bool:
        """True while it shows text that could not be taken."""
        return self._bad

    def set_number(self, number: int) -> None:
        """Show a number that comes from the state. What is being typed is left alone while the number is the same."""
        if number == self._number and self.text() != "":
            return
        self._number = number
        self._restore()

    def apply(self) -> None:
        """Take the text, or say why not."""
        if self.text() == self._written.show(self._number):
            self._mark(False)
            return
        number = self._written.read(self.text())
        if number is None or not self.low <= number <= self.high:
            self._mark(True)
            was = self._written.show(number) if number is not None else self.text().strip() or "empty"
            self.problem.emit(
                f"{self.name} must be {self._written.show(self.low)} to {self._written.show(self.high)} (was {was})."
            )
            return
        self._choose(number)

    def event(self, event: QEvent) -> bool:
        # While there is something to restore, Esc belongs to the field and not to the window's Stop.
        asked = isinstance(event, QKeyEvent) and event.type() == QEvent.Type.ShortcutOverride and event.key() == Qt.Key.Key_Escape
        if asked and self.text() != self._written.show(self._number):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match Qt.Key(event.key()):
            case Qt.Key.Key_Up | Qt.Key.Key_Down as key:
                sign = 1 if key == Qt.Key.Key_Up else -1
                self._choose(min(max(self._step(self._number, sign), self.low), self.high))
            case Qt.Key.Key_Escape if self.text() != self._written.show(self._number):
                self._restore()
            case _:
                super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if event.reason() in (
            Qt.FocusReason.TabFocusReason,
            Qt.FocusReason.BacktabFocusReason,
            Qt.FocusReason.ShortcutFocusReason,
        ):
            self.selectAll()

    def _choose(self, number: int) -> None:
        changed = number != self._number
        self._number = number
        self._restore()
        if changed:
            self.chosen.emit(number)

    def _restore(self) -> None:
        with QSignalBlocker(self):
            self.setText(self._written.show(self._number))
        self._mark(False)

    def _mark(self, bad: bool) -> None:
        if bad == self._bad:
            return
        self._bad = bad
        self.setProperty("bad", bad)
        self.style().unpolish(self)
        self.style().polish(self)
        if not bad:
            self.problem.emit("")

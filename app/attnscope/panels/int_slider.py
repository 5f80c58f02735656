"""One parameter as a row: label, slider, field. 26 px high."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

from attnscope.panels.number_field import ITSELF, NumberField, NumberText
from attnscope.panels.slider_scale import Scale
from attnscope.panels.value_slider import ValueSlider
from attnscope.theme import Theme, font

FIELD_WIDTH = 72
LABEL_WIDTH = 70


class IntSlider(QWidget):
    """A whole number by slider or by field."""

    chosen = Signal(int)
    problem = Signal(str)

    def __init__(
        self,
        theme: Theme,
        label: str,
        low: int,
        high: int,
        default: int,
        *,
        logarithmic: bool = False,
        text: NumberText = ITSELF,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        scale = Scale(low, high, logarithmic=logarithmic and low >= 1)
        self.label = QLabel(label, self)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setFont(font("label"))
        self.label.setProperty("role", "label")
        self.label.setMinimumWidth(LABEL_WIDTH)
        self.slider = ValueSlider(theme, scale, default, self)
        self.slider.setAccessibleName(label)
        self.field = NumberField(label, low, high, parent=self, text=text)
        self.field.setFixedSize(FIELD_WIDTH, 24)
        self.label.setBuddy(self.field)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.label)
        row.addWidget(self.slider, 1)
        row.addWidget(self.field)
        self.setFixedHeight(26)
        self.field.set_number(default)
        self.slider.chosen.connect(self._move)
        self.field.chosen.connect(self._move)
        self.field.problem.connect(self.problem)

    @property
    def number(self) -> int:
        return self.slider.number

    def set_number(self, number: int) -> None:
        """Show a number that comes from the state."""
        self.slider.set_number(number)
        self.field.set_number(number)

    def _move(self, number: int) -> None:
        self.set_number(number)
        self.chosen.emit(number)

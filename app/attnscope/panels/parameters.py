"""The parameters of one variant, generated from their declaration: label, slider, field each."""

from __future__ import annotations

from attnscope_engine import catalogue
from attnscope_engine.parameters import WholeField
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from attnscope.panels.controls import IntSlider
from attnscope.panels.variant_tips import tip
from attnscope.quantities import count
from attnscope.state import State
from attnscope.store import Store
from attnscope.theme import Theme, font


class ParametersPanel(QWidget):
    """Knows no variant by name: whatever is declared gets a row."""

    problem = Signal(str)

    def __init__(self, store: Store, theme: Theme, variant: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._variant = store, variant
        self.setProperty("ground", "window")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        column = QVBoxLayout(self)
        column.setContentsMargins(52, 4, 12, 6)
        column.setSpacing(0)
        self.controls: dict[str, IntSlider] = {}
        for field in catalogue.find(variant).fields():
            if not isinstance(field, WholeField):
                continue
            control = self._control(theme, field)
            self.controls[field.name] = control
            column.addWidget(control)
        if not self.controls:
            column.addWidget(self._line("No parameters", "hint"))
        self._problem = self._line("", "danger")
        self._problem.setWordWrap(True)
        self._problem.hide()
        column.addWidget(self._problem)
        self.show_state(store.state)

    def show_state(self, state: State) -> None:
        values = state.settings.params.get(self._variant, {})
        defaults = {field.name: field.default for field in catalogue.find(self._variant).fields()}
        for name, control in self.controls.items():
            control.set_number(int(values.get(name, defaults[name])))

    def _control(self, theme: Theme, field: WholeField) -> IntSlider:
        control = IntSlider(
            theme, field.label, field.low, field.high, field.default, logarithmic=field.scale == "log2", parent=self
        )
        unit = f" {field.unit}" if field.unit else ""
        control.setToolTip(tip(field.help, f"{count(field.low)} to {count(field.high)}{unit}, at first {count(field.default)}"))
        control.chosen.connect(lambda number, name=field.name: self._store.set_param(self._variant, name, number))
        control.problem.connect(self._tell)
        return control

    def _tell(self, text: str) -> None:
        self._problem.setText(text)
        self._problem.setVisible(bool(text))

    def _line(self, text: str, role: str) -> QLabel:
        label = QLabel(text, self)
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setFont(font("tick"))
        label.setProperty("role", role)
        return label

"""The parameters of one variant, generated from their declaration: a row each."""

from __future__ import annotations

from attnscope_engine import catalogue
from attnscope_engine.parameters import FlagField, ParamField, WordField, shown
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from attnscope.panels.parameter_rows import ParameterRow, row_of
from attnscope.panels.variant_tips import tip
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
        self.controls: dict[str, ParameterRow] = {}
        for field in catalogue.find(variant).fields():
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
        for field in catalogue.find(self._variant).fields():
            self.controls[field.name].set_value(values.get(field.name, field.default))

    def _control(self, theme: Theme, field: ParamField) -> ParameterRow:
        control = row_of(theme, field, self)
        control.setToolTip(field_tip(field))
        control.chosen.connect(lambda value, name=field.name: self._store.set_param(self._variant, name, value))
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


def field_tip(field: ParamField) -> str:
    """What it is, what is allowed, and what it is at first."""
    unit = f" {field.unit}" if field.unit else ""
    if isinstance(field, FlagField):
        return tip(field.help, f"at first {'on' if field.default else 'off'}")
    first = field.default if isinstance(field, WordField) else shown(field.default)
    return tip(field.help, f"{field.allowed}{unit}, at first {first}")

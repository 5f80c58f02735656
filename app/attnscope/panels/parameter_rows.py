"""A row of 26 px for each kind of declared parameter. Values in and out, no state."""

from __future__ import annotations

from attnscope_engine.parameters import FlagField, ParamField, RealField, WholeField, WordField
from attnscope_engine.protocol import ParamValue
from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QSizePolicy, QWidget

from attnscope.panels.int_slider import LABEL_WIDTH, IntSlider
from attnscope.panels.number_field import NumberText
from attnscope.panels.segments import Segments
from attnscope.theme import Theme, font

HEIGHT = 26
MOST_SEGMENTS = 3
MOST_SEGMENTS_WIDTH = 150
"""Pixels that a row of buttons may take beside its label."""


class ParameterRow(QWidget):
    """Base of the rows. `set_value` shows what comes from the state and tells nobody."""

    chosen = Signal(object)
    problem = Signal(str)

    @property
    def value(self) -> ParamValue:
        raise NotImplementedError

    def set_value(self, value: ParamValue) -> None:
        raise NotImplementedError

    def _fill(self, *parts: QWidget) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        for part in parts:
            row.addWidget(part)
        self.setFixedHeight(HEIGHT)


class WholeRow(ParameterRow):
    """Label, slider, field of a whole number."""

    def __init__(self, theme: Theme, field: WholeField, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        log = field.scale == "log2"
        self.slider = IntSlider(theme, field.label, field.low, field.high, field.default, logarithmic=log, parent=self)
        self._fill(self.slider)
        self.slider.chosen.connect(lambda number: self.chosen.emit(number))
        self.slider.problem.connect(self.problem)

    @property
    def value(self) -> int:
        return self.slider.number

    def set_value(self, value: ParamValue) -> None:
        self.slider.set_number(int(value))


class RealRow(ParameterRow):
    """Label, slider, field of a real number, which all count its steps."""

    def __init__(self, theme: Theme, field: RealField, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._field = field
        text = NumberText(lambda index: real_text(field, field.at(index)), lambda text: parse_real(field, text))
        at = field.index(field.default)
        self.slider = IntSlider(theme, field.label, 0, field.steps, at, text=text, parent=self)
        self._fill(self.slider)
        self.slider.chosen.connect(lambda index: self.chosen.emit(field.at(index)))
        self.slider.problem.connect(self.problem)

    @property
    def value(self) -> float:
        return self._field.at(self.slider.number)

    def set_value(self, value: ParamValue) -> None:
        self.slider.set_number(self._field.index(float(value)))


class FlagRow(ParameterRow):
    """A check box whose label is the parameter's."""

    def __init__(self, field: FlagField, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = QCheckBox(field.label.replace("&", "&&"), self)
        self.box.setFont(font("label"))
        self.box.setFixedHeight(24)  # what a finger or a shaking hand can hit
        self.box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.box.setChecked(field.default)
        self.box.setAccessibleName(field.label)
        self.box.setAccessibleDescription(field.help)
        self._fill(self.box)
        self.box.clicked.connect(lambda on: self.chosen.emit(on))

    @property
    def value(self) -> bool:
        return self.box.isChecked()

    def set_value(self, value: ParamValue) -> None:
        if self.box.isChecked() != bool(value):
            with QSignalBlocker(self.box):
                self.box.setChecked(bool(value))


class WordRow(ParameterRow):
    """Label and a row of buttons, or a list where they are many or long."""

    def __init__(self, field: WordField, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        label = QLabel(field.label, self)
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setFont(font("label"))
        label.setProperty("role", "label")
        label.setMinimumWidth(LABEL_WIDTH)
        self.choice: Segments | WordList = Segments(field.label, [(word, word) for word in field.words], self)
        if len(field.words) > MOST_SEGMENTS or self.choice.sizeHint().width() > MOST_SEGMENTS_WIDTH:
            self.choice.setParent(None)
            self.choice.deleteLater()
            self.choice = WordList(field, self)
        label.setBuddy(self.choice)
        self.choice.set_value(field.default)
        self.choice.setAccessibleDescription(field.help)
        self._fill(label, self.choice)
        self.choice.chosen.connect(lambda word: self.chosen.emit(word))

    @property
    def value(self) -> str:
        return self.choice.value

    def set_value(self, value: ParamValue) -> None:
        self.choice.set_value(str(value))


class WordList(QComboBox):
    """A list that opens. The wheel acts only while it has the focus, so that a panel scrolls under the pointer."""

    chosen = Signal(str)

    def __init__(self, field: WordField, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("kind", "field")
        self.setFont(font("label"))
        self.setFixedHeight(24)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumContentsLength(6)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.addItems(field.words)
        self.setAccessibleName(field.label)
        self.textActivated.connect(self.chosen)

    @property
    def value(self) -> str:
        return self.currentText()

    def set_value(self, value: str) -> None:
        if self.currentText() != value:
            with QSignalBlocker(self):
                self.setCurrentText(value)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


def row_of(theme: Theme, field: ParamField, parent: QWidget | None = None) -> ParameterRow:
    """The row of a declaration."""
    match field:
        case WholeField():
            return WholeRow(theme, field, parent)
        case RealField():
            return RealRow(theme, field, parent)
        case FlagField():
            return FlagRow(field, parent)
        case WordField():
            return WordRow(field, parent)


def real_text(field: RealField, value: float) -> str:
    """With as many decimals as the grid has."""
    return f"{value:.{field.digits}f}".replace("-", "\u2212")


def parse_real(field: RealField, text: str) -> int | None:
    """The step of the nearest value of the grid; None when it is no number or out of bounds."""
    try:
        value = float(text.strip().replace("\u2212", "-"))
    except ValueError:
        return None
    return field.index(value) if field.low <= value <= field.high else None

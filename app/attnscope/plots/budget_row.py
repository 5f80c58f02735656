"""Head of "What fits": the model's shape, and the memory to plan with."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetricsF
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QSizePolicy, QWidget

from attnscope.memory import LEAST_BUDGET, MOST_BUDGET, parse_bytes
from attnscope.panels.controls import Segments
from attnscope.presets import CUSTOM, preset_of
from attnscope.quantities import bytes_text, count
from attnscope.state import State, effective_workload
from attnscope.store import Store
from attnscope.theme import font

CARDS = {"24": 24 << 30, "80": 80 << 30}
FREE, OWN = "free", "own"


class BudgetField(QLineEdit):
    """Takes "78.4 GiB", "512 MiB", "40"; applies on Enter or on leaving, Esc brings the old one back."""

    chosen = Signal(float)
    problem = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown = ""
        self.setFont(font("number"))
        self.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.setFixedSize(92, 26)
        self.setAccessibleName("Budget in GiB")
        self.setToolTip("Memory to plan with: 78.4 GiB, 512 MiB, or a number of GiB")
        self.editingFinished.connect(self.apply)

    def show_bytes(self, bytes_: int | None) -> None:
        text = "" if bytes_ is None else bytes_text(bytes_)
        if text != self._shown:
            self._shown = text
            self.setText(text)
            self._mark(False)

    def apply(self) -> None:
        """Take the text, or say why not."""
        if self.text() == self._shown:
            self._mark(False)
            return
        value = parse_bytes(self.text())
        if value is None:
            limits = f"{bytes_text(LEAST_BUDGET)} to {bytes_text(MOST_BUDGET)}"
            self.problem.emit(f"Budget must be {limits} (was {self.text().strip() or 'empty'}).")
            self._mark(True)
            return
        self._mark(False)
        self.chosen.emit(float(value))

    def keyPressEvent(self, event: object) -> None:
        if getattr(event, "key", lambda: None)() == Qt.Key.Key_Escape:
            self.setText(self._shown)
            self._mark(False)
            return
        super().keyPressEvent(event)  # type: ignore[arg-type]

    def _mark(self, bad: bool) -> None:
        if bad != bool(self.property("bad")):
            self.setProperty("bad", bad)
            self.style().unpolish(self)
            self.style().polish(self)
        if not bad:
            self.problem.emit("")


class BudgetRow(QWidget):
    """Changes `fits_budget`."""

    def __init__(self, store: Store, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self._words = ""
        self.setFixedHeight(42)
        self._title = QLabel("What fits")
        self._title.setFont(font("heading"))
        self._shape = QLabel()
        self._shape.setFont(font("label"))
        self._shape.setProperty("role", "label")
        self._shape.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.problem = QLabel()
        self.problem.setFont(font("tick"))
        self.problem.setProperty("role", "danger")
        self.problem.hide()
        caption = QLabel("budget")
        caption.setFont(font("label"))
        caption.setProperty("role", "label")
        self.choice = Segments("Budget", ((FREE, "free now"), ("24", "24 GB"), ("80", "80 GB"), (OWN, "typed")))
        for name, bytes_ in CARDS.items():
            self.choice.button(name).setToolTip(f"A card of {name} GB: {bytes_text(bytes_)}, 1 % kept in reserve")
        self.choice.button(FREE).setToolTip("What is free on this device now, less a reserve of 1 %")
        self.choice.chosen.connect(self._choose)
        self.field = BudgetField()
        self.field.chosen.connect(lambda value: store.update(fits_budget=value))
        self.field.problem.connect(self._tell)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 12, 6)
        row.setSpacing(8)
        row.addWidget(self._title)
        row.addWidget(self._shape, 1)
        row.addWidget(self.problem, 1)
        row.addWidget(caption)
        row.addWidget(self.choice)
        row.addWidget(self.field)

    def _choose(self, name: str) -> None:
        if name == OWN:
            self.field.setFocus()
            self.field.selectAll()
            state = self._store.state
            now = state.settings.fits_budget or (state.live.vitals.free_bytes if state.live.vitals else CARDS["80"])
            self._store.update(fits_budget=float(now))
        else:
            self._store.update(fits_budget=float(CARDS.get(name, 0)))

    def _tell(self, text: str) -> None:
        self.problem.setText(text)
        self.problem.setVisible(bool(text))
        self._shape.setVisible(not text)

    def refresh(self, state: State) -> None:
        chosen = state.settings.fits_budget
        name = next((name for name, bytes_ in CARDS.items() if bytes_ == chosen), OWN) if chosen else FREE
        self.choice.set_value(name)
        free = state.live.vitals.free_bytes if state.live.vitals else None
        self.field.show_bytes(int(chosen) if chosen else free)
        self._words = shape_words(state)
        self._write_shape()

    def resizeEvent(self, event: object) -> None:  # noqa: ARG002
        self._write_shape()

    def _write_shape(self) -> None:
        """Cut with an ellipsis where the row is narrow; the tool tip has it all."""
        room = self._shape.width()
        self._shape.setText(QFontMetricsF(self._shape.font()).elidedText(self._words, Qt.TextElideMode.ElideRight, room))
        self._shape.setToolTip(self._words)


def shape_words(state: State) -> str:
    """What the table is of."""
    w = effective_workload(state)
    name = preset_of(w)
    model = "" if name == CUSTOM else f"{name}: "
    layers = "1 layer" if w.layers == 1 else f"{count(w.layers)} layers"
    return f"{model}{layers} · {w.num_heads} heads · {w.num_kv_heads} KV heads · {w.dtype}; the model's weights are not counted"

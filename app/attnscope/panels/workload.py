"""The workload: n by slider and field, and the shape of the attention call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attnscope_engine import catalogue
from attnscope_engine.protocol import MAX_SEQ_LEN, MIN_SEQ_LEN, Dtype, Workload
from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from attnscope.looks import look
from attnscope.panels.controls import LogSlider, NumberField, Segments, Wall
from attnscope.panels.hairline import hairline
from attnscope.panels.workload_hint import Hint, hint, nearest_wall
from attnscope.predictions import predict
from attnscope.presets import CUSTOM, PRESETS, preset_of
from attnscope.quantities import count
from attnscope.state import State, effective_workload
from attnscope.store import Store
from attnscope.theme import FontRole, Theme, font

HEAD_DIMS = (32, 64, 96, 128, 192, 256)
DTYPES: tuple[Dtype, ...] = ("bf16", "fp16", "fp32")
_DEFAULT = Workload()
_FIELD_SIZE = (72, 26)


class WorkloadPanel(QWidget):
    """Head with the preset, the n block, the shape, the mask."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme = store, theme
        self._liked_preset = ""
        self._problems: dict[str, str] = {}
        self.setProperty("ground", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.fields: dict[str, NumberField] = {}
        self.combos: dict[str, QComboBox] = {}
        self._build()
        store.changed.connect(self._changed)
        self._show(store.state)

    def focus_seq_len(self) -> None:
        """Put the cursor into the field of n, ready to type over."""
        self.fields["seq_len"].setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.fields["seq_len"].selectAll()

    # ------------------------------------------------------------ built once

    def _build(self) -> None:
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        column = QVBoxLayout()
        column.setContentsMargins(12, 4, 12, 10)
        column.setSpacing(0)
        outer.addLayout(column)
        outer.addWidget(hairline(height=1))
        column.addLayout(self._head())
        column.addSpacing(6)
        column.addLayout(self._seq_len_row())
        column.addSpacing(9)
        self.slider = LogSlider(self._theme, _DEFAULT.seq_len)
        self.slider.setToolTip("Sequence length n<br>←/→ one step, Page Up/Down ×2, ÷2, Ctrl+←/→ one token")
        self.slider.chosen.connect(lambda number: self._store.update(seq_len=number))
        column.addWidget(self.slider)
        self.hint = _label("", "tick", "hint")
        self.hint.setFixedHeight(18)
        column.addWidget(self.hint)
        column.addSpacing(6)
        column.addLayout(self._shape())
        column.addSpacing(8)
        self.causal = Segments("Mask", (("causal", "causal"), ("full", "full")))
        self.causal.button("causal").setToolTip("Each query sees the keys up to its own")
        self.causal.button("full").setToolTip("Each query sees every key")
        self.causal.chosen.connect(lambda value: self._store.update(causal=value == "causal"))
        column.addWidget(self.causal, 0, Qt.AlignmentFlag.AlignLeft)

    def _head(self) -> QHBoxLayout:
        row = QHBoxLayout()
        title = _label("Workload", "heading")
        self.preset = QComboBox()
        self.preset.addItems([*PRESETS, CUSTOM])
        self.preset.setFont(font("label"))
        self.preset.setFixedHeight(24)
        self.preset.setAccessibleName("Preset")
        self.preset.setToolTip("Layers, heads and head dim of a known model")
        self.preset.textActivated.connect(self._choose_preset)
        row.addWidget(title, 1)
        row.addWidget(self.preset)
        return row

    def _seq_len_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        label = QLabel("Sequence length <span style='font-weight: 600'>n</span>")
        label.setFont(font("label"))
        label.setProperty("role", "label")
        field = self._field("seq_len", "n", MIN_SEQ_LEN, MAX_SEQ_LEN, 64)
        field.setProperty("kind", "hand")
        field.setFont(font("n_field"))
        field.setFixedSize(128, 32)
        field.setAccessibleName("Sequence length n")
        field.setToolTip("Takes 65536, 65,536, 64k, 2^16, 1M (Ctrl+L)")
        label.setBuddy(field)
        row.addWidget(label, 1)
        row.addWidget(field)
        return row

    def _shape(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(6)
        cells = (
            ("Batch", self._field("batch", "Batch", 1, 1024, 1)),
            ("Layers", self._field("layers", "Layers", 1, 1000, 1)),
            ("Heads", self._field("num_heads", "Heads", 1, 256, 1)),
            ("KV heads", self._field("num_kv_heads", "KV heads", 1, 256, self._next_divisor)),
            ("Head dim", self._combo("head_dim", "Head dim", [str(size) for size in HEAD_DIMS], int)),
            ("Dtype", self._combo("dtype", "Dtype", list(DTYPES), str)),
        )
        for index, (text, control) in enumerate(cells):
            label = _label(text, "label", "label")
            label.setBuddy(control)
            control.setFixedSize(*_FIELD_SIZE)
            row, side = divmod(index, 2)
            grid.addWidget(label, row, 3 * side)
            grid.addWidget(control, row, 3 * side + 1)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(3, 1)
        grid.setColumnMinimumWidth(2, 0)
        return grid

    def _field(self, name: str, title: str, low: int, high: int, step: int | Callable[[int, int], int]) -> NumberField:
        field = NumberField(title, low, high, step)
        field.chosen.connect(lambda number, name=name: self._store.update(**{name: number}))
        field.problem.connect(lambda text, name=name: self._tell(name, text))
        self.fields[name] = field
        return field

    def _combo(self, name: str, title: str, items: list[str], read: Callable[[str], int | str]) -> QComboBox:
        combo = QComboBox()
        combo.setProperty("kind", "field")
        combo.setFont(font("number"))
        combo.addItems(items)
        combo.setAccessibleName(title)
        combo.textActivated.connect(lambda text, name=name, read=read: self._store.update(**{name: read(text)}))
        self.combos[name] = combo
        return combo

    # ------------------------------------------------------------ the hand

    def _choose_preset(self, title: str) -> None:
        shape = PRESETS.get(title)
        self._liked_preset = title
        if shape is None:
            self._show_preset(self._store.state.settings.workload)
            return
        self._store.update(
            layers=shape.layers, num_heads=shape.num_heads, num_kv_heads=shape.num_kv_heads, head_dim=shape.head_dim
        )
        self._show_preset(self._store.state.settings.workload)  # two models may share one shape: then nothing changed

    def _next_divisor(self, number: int, sign: int) -> int:
        """KV heads step over what does not divide the heads."""
        heads = self._store.state.settings.workload.num_heads
        divisors = [d for d in range(1, heads + 1) if heads % d == 0 and (d - number) * sign > 0]
        return (min if sign > 0 else max)(divisors, default=number)

    def _tell(self, name: str, problem: str) -> None:
        """The newest thing that is wrong stands under the slider until it is mended."""
        self._problems.pop(name, None)
        if problem:
            self._problems[name] = problem
        self._show_hint(self._store.state)

    # ------------------------------------------------------------ what the state says

    def _changed(self, old: State, new: State) -> None:
        if old.settings.workload != new.settings.workload or old.live.device is not new.live.device:
            self._show(new)
            return
        self._show_walls(new)
        self._show_hint(new)

    def _show(self, state: State) -> None:
        workload = state.settings.workload
        self.slider.set_number(workload.seq_len)
        for name, field in self.fields.items():
            field.set_number(getattr(workload, name))
        _offer(self.combos["head_dim"], [str(size) for size in sorted({*HEAD_DIMS, workload.head_dim})], str(workload.head_dim))
        device = state.live.device
        dtypes = [dtype for dtype in DTYPES if device is None or dtype in device.dtypes]
        _offer(self.combos["dtype"], dtypes, effective_workload(state).dtype)
        self.causal.set_value("causal" if workload.causal else "full")
        self._show_preset(workload)
        self._show_walls(state)
        self._show_hint(state)

    def _show_preset(self, workload: Workload) -> None:
        title = preset_of(workload, self._liked_preset)
        if self.preset.currentText() != title:
            with QSignalBlocker(self.preset):
                self.preset.setCurrentText(title)

    def _show_walls(self, state: State) -> None:
        predictions, nearest = predict(state), nearest_wall(state)
        shown = [name for name in predictions if name in state.settings.checked or name == nearest]
        self.slider.set_walls(
            tuple(
                Wall(catalogue.find(name).title, predictions[name].fits_up_to, look(name))
                for name in shown
                if MIN_SEQ_LEN <= predictions[name].fits_up_to < MAX_SEQ_LEN
            )
        )

    def _show_hint(self, state: State) -> None:
        problems = list(self._problems.values())
        found = Hint(problems[-1], danger=True) if problems else hint(state)
        if found.text != self.hint.text():
            self.hint.setText(found.text)
            self.hint.setAccessibleName(found.text)
        _dress(self.hint, "danger" if found.danger else "hint")
        self.hint.setToolTip("" if problems or not state.live.vitals else self._walls_tip(state))

    def _walls_tip(self, state: State) -> str:
        predictions = predict(state)
        return "\n".join(
            f"{catalogue.find(name).title} fits up to {count(found.fits_up_to)}" for name, found in predictions.items()
        )


def _label(text: str, role: FontRole, dress: str = "") -> QLabel:
    label = QLabel(text)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setFont(font(role))
    label.setProperty("role", dress)
    return label


def _dress(label: QLabel, role: str) -> None:
    if label.property("role") != role:
        label.setProperty("role", role)
        label.style().unpolish(label)
        label.style().polish(label)


def _offer(combo: QComboBox, items: Sequence[str], chosen: str) -> None:
    """Show these items with this one chosen, telling nobody."""
    if combo.currentText() == chosen and combo.count() == len(items):
        return
    with QSignalBlocker(combo):
        if [combo.itemText(index) for index in range(combo.count())] != list(items):
            combo.clear()
            combo.addItems(items)
        combo.setCurrentText(chosen)

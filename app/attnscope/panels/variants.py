"""The variants: one row each with its costs at the present n, its parameters below, and "Measure all"."""

from __future__ import annotations

from attnscope_engine import catalogue
from attnscope_engine.variant import Family
from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QCheckBox, QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from attnscope.panels.controls import KeyButton
from attnscope.panels.hairline import hairline
from attnscope.panels.parameters import ParametersPanel
from attnscope.panels.variant_facts import Latest, facts
from attnscope.panels.variant_heads import ColumnHeads, GroupRow
from attnscope.panels.variant_order import GROUPS, grouped, main_list, moved, toggled
from attnscope.panels.variant_row import Part, VariantRow
from attnscope.panels.variant_tips import measured_tip, memory_tip, name_tip, refusal_tip, time_tip, tip
from attnscope.predictions import predict
from attnscope.requests import MAX_PANELS
from attnscope.state import State
from attnscope.store import Store
from attnscope.theme import Theme, font


class VariantsPanel(QWidget):
    """Head, column heads, rows (the only part that scrolls), footer."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme = store, theme
        self._latest = Latest()
        self.rows: dict[str, VariantRow] = {}
        self.parameters: dict[str, ParametersPanel] = {}
        self.groups: dict[Family, GroupRow] = {}
        self._listed: tuple[object, ...] = ()
        self.setProperty("ground", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._build()
        store.changed.connect(self._changed)
        self._show(store.state)

    # ------------------------------------------------------------ built once

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        head = QHBoxLayout()
        head.setContentsMargins(12, 6, 12, 4)
        title = QLabel("Variants")
        title.setFont(font("heading"))
        self.count = QLabel()
        self.count.setFont(font("label"))
        self.count.setProperty("role", "label")
        head.addWidget(title, 1)
        head.addWidget(self.count)
        column.addLayout(head)
        self.heads = ColumnHeads(self._theme)
        column.addWidget(self.heads)
        column.addWidget(self._scroll(), 1)
        column.addWidget(hairline(height=1))
        column.addLayout(self._footer())

    def _scroll(self) -> QScrollArea:
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setFrameShape(QFrame.Shape.NoFrame)
        self._list = QWidget()
        self._list.setProperty("ground", "panel")
        self._list_layout = QVBoxLayout(self._list)
        self._list_layout.setContentsMargins(0, 0, 0, 0)
        self._list_layout.setSpacing(0)
        self._drop_line = QFrame(self._list)
        self._drop_line.setProperty("dropline", True)
        self._drop_line.hide()
        area.setWidget(self._list)
        bar = area.verticalScrollBar()
        bar.rangeChanged.connect(lambda _, most: self.heads.set_inset(bar.sizeHint().width() if most else 0))
        for name in catalogue.variants():
            self.rows[name] = self._row(name)
        return area

    def _row(self, name: str) -> VariantRow:
        row = VariantRow(name, self._theme, self._list)
        row.clicked.connect(lambda: self._toggle(name))
        row.open_asked.connect(lambda: self._open(name))
        row.only_asked.connect(lambda: self._store.update(checked=(name,)))
        row.dragged.connect(self._show_drop)
        row.dropped.connect(lambda y: self._drop(name, y))
        row.moved.connect(lambda by: self._move_by(name, by))
        row.tip_asked.connect(lambda part, where: row.show_tip(self.tip_of(name, part), part, where))
        return row

    def _footer(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setContentsMargins(12, 6, 12, 7)
        self.measure_all = KeyButton(self._theme, "Measure all", "F5", "play")
        self.measure_all.clicked.connect(lambda: self.action.emit("measure_all"))
        self.measure_idle = QCheckBox("measure when idle")
        self.measure_idle.setFont(font("label"))
        self.measure_idle.setToolTip(tip("Checked variants are measured at this n while nothing else is asked for"))
        self.measure_idle.clicked.connect(lambda on: self._store.update(measure_idle=on))
        row.addWidget(self.measure_all)
        row.addStretch(1)
        row.addWidget(self.measure_idle)
        return row

    # ------------------------------------------------------------ the hand

    def _toggle(self, name: str) -> None:
        self._store.update(checked=toggled(catalogue.variants(), self._store.state.settings.checked, name))

    def _open(self, name: str) -> None:
        self._store.update(opened="" if self._store.state.settings.opened == name else name)

    def _fold(self, family: Family) -> None:
        """Folds a group or unfolds it."""
        open_ = self._store.state.settings.groups
        self._store.update(groups=tuple(other for other in open_ if other != family) if family in open_ else (*open_, family))

    def _move_by(self, name: str, by: int) -> None:
        checked = self._store.state.settings.checked
        if name in checked:
            self._store.update(checked=moved(checked, name, checked.index(name) + by))

    def _show_drop(self, y: int) -> None:
        place = self._place_at(y)
        checked = [self.rows[name] for name in self._store.state.settings.checked]
        edge = checked[place].y() if place < len(checked) else checked[-1].geometry().bottom() + 1
        self._drop_line.setGeometry(0, edge - 1, self._list.width(), 2)
        self._drop_line.raise_()
        self._drop_line.show()

    def _drop(self, name: str, y: int) -> None:
        self._drop_line.hide()
        checked = self._store.state.settings.checked
        place = self._place_at(y)
        if place > checked.index(name):
            place -= 1  # taking it out moves those after it up
        self._store.update(checked=moved(checked, name, place))

    def _place_at(self, y: int) -> int:
        """How many checked rows lie above y."""
        return sum(self.rows[name].geometry().center().y() < y for name in self._store.state.settings.checked)

    def tip_of(self, name: str, part: Part) -> str:
        """The tool tip of a part of a row."""
        state = self._store.state
        prediction = predict(state)[name]
        if part == "name":
            return name_tip(name)
        if prediction.refusal:
            return refusal_tip(prediction)
        if part == "time":
            return time_tip(name, state, prediction)
        if part == "memory":
            return memory_tip(name, prediction)
        measured = prediction.measured or self._latest.of(state.live, name)
        return measured_tip(measured) if measured else tip("Not measured at this n. F5 measures every checked variant.")

    # ------------------------------------------------------------ what the state says

    def _changed(self, old: State, new: State) -> None:
        if old.settings is not new.settings or _outside(old) != _outside(new):
            self._show(new)

    def _show(self, state: State) -> None:
        self._arrange(state)
        for name, found in facts(state, self._latest).items():
            self.rows[name].set_facts(found)
        opened = state.settings.opened
        if opened:
            self.parameters[opened].show_state(state)
        self._show_count(state)
        self._show_footer(state)

    def _arrange(self, state: State) -> None:
        """Rows, the open parameters and the groups in their order; nothing moves while the order is the same."""
        variants, checked, opened = catalogue.variants(), state.settings.checked, state.settings.opened
        main, groups = main_list(variants, checked), grouped(variants, checked)
        unfolded = tuple(family for family in groups if family in state.settings.groups)
        wanted = (tuple(main), opened, tuple((family, tuple(names)) for family, names in groups.items()), unfolded)
        if wanted == self._listed:
            return
        self._listed = wanted
        if opened and opened not in self.parameters:
            self.parameters[opened] = ParametersPanel(self._store, self._theme, opened, self._list)
        while self._list_layout.takeAt(0):
            pass
        for name in main:
            self._place(name, opened)
        for family, names in groups.items():
            self._list_layout.addWidget(self._group(family, len(names), unfolded=family in unfolded))
            for name in names:
                self._place(name, opened, shown=family in unfolded)
        for family, group in self.groups.items():
            group.setVisible(family in groups)
        for name, panel in self.parameters.items():
            panel.setVisible(name == opened and not self.rows[name].isHidden())
        self._list_layout.addStretch(1)

    def _place(self, name: str, opened: str, shown: bool = True) -> None:
        self._list_layout.addWidget(self.rows[name])
        self.rows[name].setVisible(shown)
        if name == opened:
            self._list_layout.addWidget(self.parameters[name])

    def _group(self, family: Family, size: int, *, unfolded: bool) -> GroupRow:
        if family not in self.groups:
            self.groups[family] = GroupRow(self._theme, GROUPS[family], size, self._list)
            self.groups[family].clicked.connect(lambda: self._fold(family))
        group = self.groups[family]
        group.set_size(size)
        group.setChecked(unfolded)
        return group

    def _show_count(self, state: State) -> None:
        known, checked = len(self.rows), len(state.settings.checked)
        on_map = state.settings.page == "map"
        text = f"{min(checked, MAX_PANELS)} on the map · {known} known" if on_map else f"{checked} of {known} shown"
        if self.count.text() != text:
            self.count.setText(text)

    def _show_footer(self, state: State) -> None:
        if self.measure_idle.isChecked() != state.settings.measure_idle:
            with QSignalBlocker(self.measure_idle):
                self.measure_idle.setChecked(state.settings.measure_idle)
        why = _why_not(state)
        self.measure_all.setEnabled(not why)
        self.measure_all.setToolTip(tip(why or "Measure every checked variant at this n", "" if why else "F5"))


def _outside(state: State) -> tuple[object, ...]:
    """What a row shows of `Live`, by identity: a hovering pointer changes none of it."""
    live = state.live
    return live.phase, live.queue, *map(id, (live.device, live.vitals, live.ceilings, live.measurements, live.set_aside))


def _why_not(state: State) -> str:
    """Why "Measure all" is off, empty when it is on."""
    if state.live.device is None:
        reasons = {"starting": "the engine is starting", "restarting": "the engine is starting again"}
        return f"Measure is off: {reasons.get(state.live.phase, 'the engine has stopped')}."
    return "" if state.settings.checked else "Measure is off: no variant is checked."

"""The list of variants: what a row says, what a click, a key and a drag do, and what a tool tip explains."""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec
import pytest
from app_states import READY, key_of, measured, ready_state
from attnscope.panels.controls import NumberField, Segments
from attnscope.panels.parameter_rows import FlagRow, ParameterRow, RealRow, WholeRow, WordList, WordRow
from attnscope.panels.variant_facts import Latest, facts
from attnscope.panels.variant_order import GROUPS, grouped, main_list, moved, toggled
from attnscope.panels.variant_row import VariantRow
from attnscope.panels.variant_tips import measured_tip, name_tip, tip
from attnscope.panels.variants import VariantsPanel
from attnscope.predictions import predict
from attnscope.quantities import bytes_parts, bytes_text, time_parts, time_text
from attnscope.state import Live
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope_engine import catalogue
from attnscope_engine.parameters import ParamField
from attnscope_engine.protocol import Measured, ParamValue
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

NAIVE, FLASH, WINDOW, CHUNKED = "softmax_naive", "softmax_tiled", "sliding_window", "chunked"
LEFT = Qt.MouseButton.LeftButton
BESIDE = QPoint(90, 12)
CHECK = QPoint(18, 22)


@pytest.fixture
def store(qtbot: QtBot) -> Store:
    return Store(live=READY)


@pytest.fixture
def panel(qtbot: QtBot, store: Store) -> VariantsPanel:
    panel = VariantsPanel(store, Theme("dark"))
    qtbot.addWidget(panel)
    panel.resize(320, 620)
    with qtbot.waitActive(panel):
        panel.show()
        panel.activateWindow()
    return panel


def live_with(*points: Measured, **changes: object) -> Live:
    return msgspec.structs.replace(READY, measurements={key_of(point): point for point in points}, **changes)


# ---------------------------------------------------------------- what a row says


def test_that_a_row_shows_what_the_formulas_say() -> None:
    state = ready_state()
    row, prediction = facts(state, Latest())[FLASH], predict(state)[FLASH]
    assert prediction.time_s is not None
    assert row.predicted == (time_parts(prediction.time_s), bytes_parts(prediction.held_bytes))
    assert (row.title, row.measured, row.word) == ("Flash", None, "not measured")


def test_that_no_time_is_predicted_before_the_device_is_known() -> None:
    row = facts(ready_state(Live()), Latest())[FLASH]
    assert row.predicted[0] == ("–", "")
    assert row.predicted[1] != ("–", "")


def test_that_a_refused_variant_says_what_it_needs() -> None:
    state = ready_state(seq_len=131_072)
    refusal = predict(state)[NAIVE].refusal
    assert refusal is not None
    assert facts(state, Latest())[NAIVE].refusal == f"needs {bytes_text(refusal.needed_bytes)}"


def test_that_a_measurement_of_this_setting_is_shown() -> None:
    row = facts(ready_state(live_with(measured(FLASH, 4096, 1.65e-3)), seq_len=4096), Latest())[FLASH]
    assert row.measured == (("1.65", "ms"), ("1000", "B"))
    assert not row.stale


def test_that_a_measurement_of_another_n_is_dimmed_and_says_of_which() -> None:
    points = measured(FLASH, 1024, 1e-3, taken_at=5), measured(FLASH, 2048, 2e-3, taken_at=9)
    row = facts(ready_state(live_with(*points), seq_len=4096), Latest())[FLASH]
    assert (row.stale, row.word) == (True, "n = 2,048")
    assert row.measured is not None
    assert row.measured[0] == ("2.00", "ms")


def test_that_a_measurement_of_other_settings_does_not_claim_to_be_of_another_n() -> None:
    row = facts(ready_state(live_with(measured(FLASH, 1024)), seq_len=4096, batch=2), Latest())[FLASH]
    assert (row.stale, row.word) == (True, "other settings")


def test_that_what_waits_and_what_is_measured_are_told_apart() -> None:
    keys = tuple(key_of(replace_workload(measured(name, 4096))) for name in (FLASH, WINDOW))
    live = msgspec.structs.replace(READY, phase="measuring", queue=keys, queue_total=2)
    rows = facts(ready_state(live, seq_len=4096, params={}), Latest())
    assert (rows[FLASH].word, rows[WINDOW].word, rows[NAIVE].word) == ("measuring", "queued", "not measured")


def replace_workload(point: Measured) -> Measured:
    return msgspec.structs.replace(point, workload=msgspec.structs.replace(point.workload, layers=1))


def test_that_the_newest_is_looked_up_again_only_for_new_measurements() -> None:
    latest, live = Latest(), live_with(measured(FLASH, 1024, taken_at=1))
    first = latest.of(live, FLASH)
    live.measurements["later"] = measured(FLASH, 2048, taken_at=2)  # type: ignore[index]
    assert latest.of(live, FLASH) is first
    assert latest.of(live_with(measured(FLASH, 2048, taken_at=2)), FLASH) is not first


# ---------------------------------------------------------------- order


def test_that_a_check_moves_no_row() -> None:
    variants, checked = catalogue.variants(), (CHUNKED, FLASH)
    before = main_list(variants, checked)
    for name in variants:
        assert main_list(variants, toggled(variants, checked, name)) in (
            before,
            main_list(variants, (FLASH,)),
            main_list(variants, (CHUNKED,)),
        )
    assert main_list(variants, toggled(variants, checked, NAIVE)) == before


def test_that_a_drag_changes_the_order_of_the_checked_ones_alone() -> None:
    assert moved((FLASH, WINDOW, CHUNKED), CHUNKED, 0) == (CHUNKED, FLASH, WINDOW)
    assert moved((FLASH, WINDOW, CHUNKED), FLASH, 99) == (WINDOW, CHUNKED, FLASH)
    assert moved((FLASH, WINDOW), WINDOW, -1) == (WINDOW, FLASH)


def test_that_variants_beyond_the_first_five_are_grouped_and_a_used_one_moves_up() -> None:
    base = dict(catalogue.variants())
    more = {
        name: replace(base[parent], name=name, order=50)
        for name, parent in (("pattern", WINDOW), ("gla", "linear"), ("mla", FLASH))
    }
    every = base | more
    assert {GROUPS[family]: names for family, names in grouped(every, ()).items()} == {
        "Softmax, restricted": ["pattern"],
        "Linear and recurrent": ["gla"],
        "Latent and gated softmax": ["mla"],
    }
    assert "gla" in main_list(every, ("gla",))
    assert "linear" not in grouped(every, ("gla",))
    assert len(main_list(every, ())) == 5


# ---------------------------------------------------------------- the hand


def test_that_the_check_turns_a_variant_on_and_off(store: Store, panel: VariantsPanel) -> None:
    QTest.mouseClick(panel.rows[NAIVE], LEFT, pos=CHECK)
    assert NAIVE in store.state.settings.checked
    assert panel.rows[NAIVE].isChecked()
    QTest.mouseClick(panel.rows[NAIVE], LEFT, pos=CHECK)
    assert NAIVE not in store.state.settings.checked
    assert not panel.rows[NAIVE].isChecked()


def test_that_space_toggles_enter_opens_and_arrows_walk(store: Store, panel: VariantsPanel) -> None:
    row = panel.rows[NAIVE]
    row.setFocus()
    QTest.keyClick(row, Qt.Key.Key_Space)
    assert NAIVE in store.state.settings.checked
    QTest.keyClick(row, Qt.Key.Key_Return)
    assert store.state.settings.opened == NAIVE
    QTest.keyClick(row, Qt.Key.Key_Down)
    assert panel.rows[FLASH].hasFocus()
    QTest.keyClick(panel.rows[FLASH], Qt.Key.Key_Up)
    assert row.hasFocus()


def test_that_a_click_beside_the_check_opens_the_parameters_and_another_closes_them(store: Store, panel: VariantsPanel) -> None:
    QTest.mouseClick(panel.rows[WINDOW], LEFT, pos=BESIDE)
    assert store.state.settings.opened == WINDOW
    assert WINDOW not in store.state.settings.checked
    assert panel.parameters[WINDOW].isVisible()
    QTest.mouseClick(panel.rows[WINDOW], LEFT, pos=BESIDE)
    assert store.state.settings.opened == ""
    assert not panel.parameters[WINDOW].isVisible()


def test_that_a_double_click_shows_only_this(store: Store, panel: VariantsPanel) -> None:
    QTest.mouseDClick(panel.rows[WINDOW], LEFT, pos=BESIDE)
    assert store.state.settings.checked == (WINDOW,)


def drag(row: VariantRow, by: int) -> None:
    QTest.mousePress(row, LEFT, pos=BESIDE)
    for y in (by // 2, by):
        QTest.mouseMove(row, BESIDE + QPoint(0, y))
    QTest.mouseRelease(row, LEFT, pos=BESIDE + QPoint(0, by))


def test_that_a_drag_reorders_the_panels_of_the_map(store: Store, panel: VariantsPanel) -> None:
    store.update(checked=(NAIVE, FLASH, WINDOW))
    drag(panel.rows[NAIVE], 44 * 2 + 20)
    assert store.state.settings.checked == (FLASH, WINDOW, NAIVE)
    assert store.state.settings.opened == ""
    QApplication.processEvents()
    assert panel.rows[NAIVE].y() > panel.rows[WINDOW].y()


def test_that_an_unchecked_row_can_not_be_dragged(store: Store, panel: VariantsPanel) -> None:
    before = store.state.settings.checked
    drag(panel.rows[NAIVE], 120)
    assert store.state.settings.checked == before


def test_that_control_and_arrows_reorder_as_well(store: Store, panel: VariantsPanel) -> None:
    store.update(checked=(NAIVE, FLASH))
    QTest.keyClick(panel.rows[NAIVE], Qt.Key.Key_Down, Qt.KeyboardModifier.ControlModifier)
    assert store.state.settings.checked == (FLASH, NAIVE)


# ---------------------------------------------------------------- parameters


def other_value(field: ParamField) -> ParamValue:
    """An allowed value that is not the default."""
    return next(value for value in field.samples() if value != field.default)


def set_by_hand(row: ParameterRow, field: ParamField, value: ParamValue) -> None:
    """Moves a row's control to a value with the keyboard."""
    if isinstance(row, WholeRow | RealRow):
        row.slider.field.setFocus()
        row.slider.field.selectAll()
        QTest.keyClicks(row.slider.field, str(value))
        QTest.keyClick(row.slider.field, Qt.Key.Key_Return)
    elif isinstance(row, FlagRow):
        QTest.keyClick(row.box, Qt.Key.Key_Space)
    elif isinstance(row, WordRow) and isinstance(row.choice, WordList):
        QTest.keyClicks(row.choice, str(value))
    elif isinstance(row, WordRow) and isinstance(row.choice, Segments):
        QTest.keyClick(row.choice.button(str(value)), Qt.Key.Key_Space)


@pytest.mark.parametrize("name", list(catalogue.variants()))
def test_that_every_declared_parameter_has_a_row_that_sets_it(store: Store, panel: VariantsPanel, name: str) -> None:
    store.update(opened=name, params={})
    controls = panel.parameters[name].controls
    fields = {field.name: field for field in catalogue.find(name).fields()}
    assert list(controls) == list(fields)
    for field_name, control in controls.items():
        field = fields[field_name]
        assert control.height() == 26
        set_by_hand(control, field, other_value(field))
        assert store.state.settings.params.get(name, {}) == {field_name: other_value(field)}
        assert control.value == other_value(field)
        store.undo()
        assert control.value == field.default


def test_that_a_bad_parameter_is_named_below_its_row(store: Store, panel: VariantsPanel) -> None:
    store.update(opened=WINDOW)
    field = panel.parameters[WINDOW].controls["sinks"].findChild(NumberField)
    assert field is not None
    field.selectAll()
    QTest.keyClicks(field, "999")
    QTest.keyClick(field, Qt.Key.Key_Return)
    texts = [label.text() for label in panel.parameters[WINDOW].findChildren(QLabel) if label.isVisible()]
    assert "sinks must be 0 to 256 (was 999)." in texts


# ---------------------------------------------------------------- head and foot


def test_that_the_head_counts_what_is_shown(store: Store, panel: VariantsPanel) -> None:
    known = len(catalogue.variants())
    assert panel.count.text() == f"2 on the map · {known} known"
    store.update(page="scaling")
    assert panel.count.text() == f"2 of {known} shown"


def test_that_measure_all_asks_and_says_why_it_is_off(qtbot: QtBot, store: Store, panel: VariantsPanel) -> None:
    with qtbot.waitSignal(panel.action) as signal:
        panel.measure_all.click()
    assert signal.args == ["measure_all"]
    store.update_live(device=None, phase="starting")
    assert not panel.measure_all.isEnabled()
    assert "Measure is off: the engine is starting." in panel.measure_all.toolTip()
    store.update_live(device=READY.device, phase="ready")
    store.update(checked=())
    assert "no variant is checked" in panel.measure_all.toolTip()


def test_that_measuring_when_idle_is_a_setting(store: Store, panel: VariantsPanel) -> None:
    panel.measure_idle.click()
    assert store.state.settings.measure_idle is False
    store.undo()
    assert panel.measure_idle.isChecked()


# ---------------------------------------------------------------- tool tips


def test_that_tool_tips_put_the_numbers_in(store: Store, panel: VariantsPanel) -> None:
    prediction = predict(store.state)[NAIVE]
    memory = panel.tip_of(NAIVE, "memory")
    for term in prediction.cost.held:
        assert term.formula in memory
        assert bytes_text(term.bytes_) in memory
    assert bytes_text(prediction.held_bytes) in memory
    assert prediction.time_s is not None
    assert time_text(prediction.time_s) in panel.tip_of(NAIVE, "time")
    assert catalogue.find(NAIVE).title in panel.tip_of(NAIVE, "name")
    store.update(seq_len=131_072)
    assert "The largest n that fits here is" in panel.tip_of(NAIVE, "memory")


def test_that_a_measurement_tells_its_provenance() -> None:
    now = time.mktime((2026, 11, 24, 18, 0, 0, 0, 0, -1))
    point = msgspec.structs.replace(
        measured(FLASH, 4096, 1.65e-3, taken_at=now - 3600), p20_s=1.64e-3, p80_s=1.66e-3, samples=31, clock_mhz=1755
    )
    assert "1.65\u202fms, p20–p80 1.64–1.66, 31 replays, 1,755 MHz, today 17:00" in measured_tip(point, now)
    noisy = msgspec.structs.replace(point, noise="clocks differ by <b>9 %</b>")
    assert "≈ clocks differ by &lt;b&gt;9 %&lt;/b&gt;" in measured_tip(noisy, now)


def test_that_tool_tips_show_markup_as_text() -> None:
    assert "&lt;img src=x&gt;" in tip("<img src=x>")
    assert "<sup>T</sup>" in name_tip(NAIVE)


# ---------------------------------------------------------------- speed

"""The workload panel: every field reaches the state, and the line under the slider tells what ends where."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from app_states import GIB, READY, ready_state, with_text
from attnscope.panels.workload import WorkloadPanel
from attnscope.panels.workload_hint import hint, nearest_wall
from attnscope.predictions import predict
from attnscope.presets import CUSTOM, PRESETS, preset_of
from attnscope.quantities import count
from attnscope.state import Settings, State
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope_engine.protocol import DeviceFacts, Workload
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

CARD = msgspec.structs.replace(READY, device=DeviceFacts("card", "cuda", "A made-up card", 80 * GIB))


@pytest.fixture
def store(qtbot: QtBot) -> Store:
    return Store(live=READY)


@pytest.fixture
def panel(qtbot: QtBot, store: Store) -> WorkloadPanel:
    panel = WorkloadPanel(store, Theme("dark"))
    qtbot.addWidget(panel)
    return panel


def type_into(panel: WorkloadPanel, name: str, text: str) -> None:
    field = panel.fields[name]
    field.selectAll()
    QTest.keyClicks(field, text)
    QTest.keyClick(field, Qt.Key.Key_Return)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("seq_len", "64k", 65536), ("batch", "7", 7), ("layers", "12", 12), ("num_heads", "32", 32), ("num_kv_heads", "1", 1)],
)
def test_that_a_field_reaches_the_state(store: Store, panel: WorkloadPanel, name: str, text: str, value: int) -> None:
    type_into(panel, name, text)
    assert getattr(store.state.settings.workload, name) == value


def test_that_slider_and_field_of_n_show_the_same(store: Store, panel: WorkloadPanel) -> None:
    QTest.keyClick(panel.slider, Qt.Key.Key_PageUp)
    assert store.state.settings.workload.seq_len == 8192
    assert panel.fields["seq_len"].text() == "8,192"
    store.undo()
    assert (panel.slider.number, panel.fields["seq_len"].text()) == (4096, "4,096")


def test_that_a_change_of_the_state_changes_it_only_once(store: Store, panel: WorkloadPanel) -> None:
    seen = []
    store.changed.connect(lambda old, new: seen.append(new))
    store.update(seq_len=5000, batch=2, num_heads=12, num_kv_heads=4, head_dim=128, dtype="fp32", causal=False)
    assert len(seen) == 1


def test_that_kv_heads_step_over_what_does_not_divide(store: Store, panel: WorkloadPanel) -> None:
    store.update(num_heads=12, num_kv_heads=4)
    field = panel.fields["num_kv_heads"]
    seen = []
    for _ in range(3):
        QTest.keyClick(field, Qt.Key.Key_Up)
        seen.append(store.state.settings.workload.num_kv_heads)
    assert seen == [6, 12, 12]
    QTest.keyClick(field, Qt.Key.Key_Down)
    assert store.state.settings.workload.num_kv_heads == 6


def test_that_a_typed_kv_head_count_that_does_not_divide_becomes_one_that_does(store: Store, panel: WorkloadPanel) -> None:
    store.update(num_heads=12, num_kv_heads=4)
    type_into(panel, "num_kv_heads", "5")
    kept = store.state.settings.workload.num_kv_heads
    assert 12 % kept == 0
    assert panel.fields["num_kv_heads"].text() == str(kept)


def test_that_a_preset_sets_the_shape_and_is_named(store: Store, panel: WorkloadPanel) -> None:
    assert panel.preset.currentText() == "SmolLM2-135M"
    for title, shape in PRESETS.items():
        panel.preset.setCurrentText(title)
        panel.preset.textActivated.emit(title)
        assert shape.matches(store.state.settings.workload)
        assert panel.preset.currentText() == title
    store.update(num_heads=24, num_kv_heads=24)
    assert panel.preset.currentText() == CUSTOM


def test_that_choosing_custom_changes_nothing(store: Store, panel: WorkloadPanel) -> None:
    before = store.state.settings
    panel.preset.setCurrentText(CUSTOM)
    panel.preset.textActivated.emit(CUSTOM)
    assert store.state.settings == before
    assert panel.preset.currentText() == "SmolLM2-135M"


def test_that_two_models_of_one_shape_are_told_apart_by_what_was_chosen() -> None:
    workload = Workload(layers=32, num_heads=32, num_kv_heads=8, head_dim=128)
    assert preset_of(workload) == "Llama-3-8B"
    assert preset_of(workload, liked="Mistral-7B") == "Mistral-7B"
    assert preset_of(workload, liked="GPT-2 small") == "Llama-3-8B"


def test_that_only_dtypes_of_the_device_are_offered(store: Store, panel: WorkloadPanel) -> None:
    combo = panel.combos["dtype"]
    assert [combo.itemText(i) for i in range(combo.count())] == ["bf16", "fp16", "fp32"]
    store.update_live(device=DeviceFacts("old", "cuda", "An older card", 8 * GIB, dtypes=("fp16", "fp32")))
    assert [combo.itemText(i) for i in range(combo.count())] == ["fp16", "fp32"]
    assert combo.currentText() == "fp16"
    assert store.state.settings.workload.dtype == "bf16"  # the wish is kept for the next device


def test_that_a_head_dim_without_a_place_in_the_list_gets_one(store: Store, panel: WorkloadPanel) -> None:
    store.update(head_dim=80)
    combo = panel.combos["head_dim"]
    assert combo.currentText() == "80"
    combo.setCurrentText("256")
    combo.textActivated.emit("256")
    assert store.state.settings.workload.head_dim == 256


def test_that_the_mask_follows_and_sets(store: Store, panel: WorkloadPanel) -> None:
    QTest.mouseClick(panel.causal.button("full"), Qt.MouseButton.LeftButton)
    assert store.state.settings.workload.causal is False
    store.undo()
    assert panel.causal.value == "causal"


def test_that_bad_text_is_said_under_the_slider_until_it_is_mended(store: Store, panel: WorkloadPanel) -> None:
    before = panel.hint.text()
    type_into(panel, "seq_len", "3000000")
    assert panel.hint.text() == "n must be 64 to 1,048,576 (was 3,000,000)."
    assert panel.hint.property("role") == "danger"
    store.update(batch=2)
    assert panel.hint.text() == "n must be 64 to 1,048,576 (was 3,000,000)."
    QTest.keyClick(panel.fields["seq_len"], Qt.Key.Key_Escape)
    store.update(batch=1)
    assert (panel.hint.text(), panel.hint.property("role")) == (before, "hint")


def test_that_going_to_n_selects_it(qtbot: QtBot, panel: WorkloadPanel) -> None:
    with qtbot.waitActive(panel):
        panel.show()
        panel.activateWindow()
    panel.focus_seq_len()
    assert panel.fields["seq_len"].hasFocus()
    assert panel.fields["seq_len"].selectedText() == "4,096"


def test_that_walls_of_checked_variants_and_the_nearest_one_are_marked(store: Store, panel: WorkloadPanel) -> None:
    titles = {wall.title: wall.seq_len for wall in panel.slider.walls}
    assert titles["Naive"] == predict(store.state)["softmax_naive"].fits_up_to
    store.update(checked=("softmax_naive",))
    assert {wall.title for wall in panel.slider.walls} == {"Naive"}


# ---------------------------------------------------------------- the hint


def test_that_a_text_on_the_map_is_said_to_set_its_length() -> None:
    state = with_text(ready_state(page="map"), tokens=17)
    assert hint(state).text == "The map shows the text: 17 tokens. n sets the costs."
    assert hint(with_text(ready_state(page="map"), tokens=1)).text.startswith("The map shows the text: 1 token.")


def test_that_the_nearest_wall_is_said_elsewhere() -> None:
    state = ready_state(page="scaling")
    limit = predict(state)["softmax_naive"].fits_up_to
    assert nearest_wall(state) == "softmax_naive"
    assert hint(state).text == f"Naive fits up to {count(limit)} in this memory"
    assert hint(ready_state(CARD, page="scaling")).text.endswith("on this card")


def test_that_a_refused_checked_variant_comes_first_and_in_danger() -> None:
    state = with_text(ready_state(page="map", checked=("softmax_naive", "softmax_tiled"), seq_len=131_072))
    limit = predict(state)["softmax_naive"].fits_up_to
    assert hint(state).text == f"Naive ends at {count(limit)}; the others fit here"
    assert hint(state).danger
    alone = ready_state(page="map", checked=("softmax_naive",), seq_len=131_072)
    assert hint(alone).text == f"Naive ends at {count(limit)}"


def test_that_an_unchecked_variant_beyond_its_wall_is_no_danger() -> None:
    assert not hint(ready_state(page="scaling", checked=("softmax_tiled",), seq_len=131_072)).danger


def test_that_nothing_is_claimed_before_the_engine_has_spoken() -> None:
    assert hint(State(Settings(page="scaling"))).text == ""


def test_that_the_hint_is_one_line_at_the_narrowest_panel(qtbot: QtBot, panel: WorkloadPanel) -> None:
    variants = ("softmax_naive", "softmax_tiled", "linear", "chunked", "sliding_window")
    for size, seq_len in itertools.product(range(1, 6), (64, 131_072, 1_048_576)):
        found = hint(ready_state(page="scaling", checked=variants[:size], seq_len=seq_len, batch=1024))
        assert panel.hint.fontMetrics().horizontalAdvance(found.text) <= 288 - 24, found.text

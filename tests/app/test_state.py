"""Of `state` and `resolve`: any wish becomes something that can be shown, and what a state shows follows from it alone."""

import msgspec
import pytest
from app_states import DEVICE, READY, ready_state, text_read, wild_settings, with_text
from attnscope.requests import wanted
from attnscope.resolve import nearest_divisor, resolve, with_changes
from attnscope.state import (
    Answer,
    Settings,
    State,
    choice_of,
    effective_workload,
    key_parts,
    map_seq_len,
    measurement_key,
    shown_cell,
    shown_head,
)
from attnscope_engine import catalogue
from attnscope_engine import protocol as p
from hypothesis import given
from hypothesis import strategies as st


@given(wild_settings)
def test_that_resolving_twice_changes_nothing_more(settings):
    once = resolve(settings)
    assert resolve(once) == once


@given(wild_settings)
def test_that_whatever_is_wished_the_jobs_wanted_pass_the_wire(settings):
    state = with_text_if_any(State(resolve(settings), READY))
    for job in wanted(state).values():
        data = p.frame(p.Run(1, "map", job))
        assert p.decode_request(data[p.HEADER.size :]).job == job


def with_text_if_any(state):
    return with_text(state) if isinstance(state.settings.source, p.TextSource) else state


@given(wild_settings)
def test_that_resolved_parameters_are_accepted_by_their_variant(settings):
    resolved = resolve(settings)
    assert set(resolved.params) <= set(catalogue.variants())
    assert set(resolved.checked) <= set(catalogue.variants())
    for name in catalogue.variants():
        choice_of(resolved, name)


@given(st.integers(-10, 300), st.integers(1, 256))
def test_that_kv_heads_become_the_nearest_divisor(wish, heads):
    divisors = [d for d in range(1, heads + 1) if heads % d == 0]
    found = nearest_divisor(wish, heads)
    assert found in divisors
    assert abs(found - wish) == min(abs(d - wish) for d in divisors)


def test_that_changing_heads_takes_the_kv_heads_along():
    settings = with_changes(Settings(), num_heads=8)
    assert (settings.workload.num_heads, settings.workload.num_kv_heads) == (8, 4)


def test_that_a_field_of_the_workload_and_one_of_the_settings_change_together():
    settings = with_changes(Settings(), seq_len=128, page="memory")
    assert (settings.workload.seq_len, settings.page) == (128, "memory")


def test_that_a_field_that_does_not_exist_is_a_type_error():
    with pytest.raises(TypeError):
        with_changes(Settings(), sequence=5)


def test_that_a_dtype_the_device_lacks_stays_a_wish():
    state = ready_state(
        dtype="bf16", live=msgspec.structs.replace(READY, device=msgspec.structs.replace(DEVICE, dtypes=("fp32",)))
    )
    assert effective_workload(state).dtype == "fp32"
    assert state.settings.workload.dtype == "bf16"
    assert effective_workload(State(state.settings, READY)).dtype == "bf16"


def test_that_half_a_surrogate_pair_from_a_clipboard_can_be_sent():
    settings = with_changes(Settings(), source=p.TextSource("a \ud83d b"))
    assert settings.source == p.TextSource("a ? b")


def test_that_the_head_is_the_one_with_the_strongest_link():
    assert shown_head(with_text(ready_state())) == (2, 3)


@pytest.mark.parametrize(("layer", "head", "shown"), [(1, -1, (1, 3)), (-1, 2, (2, 2)), (0, 0, (0, 0)), (99, 99, (2, 3))])
def test_that_a_chosen_layer_or_head_limits_the_choice(layer, head, shown):
    assert shown_head(with_text(ready_state(layer=layer, head=head))) == shown


def test_that_a_reading_of_another_text_decides_nothing():
    state = with_text(ready_state())
    moved_on = State(with_changes(state.settings, source=p.TextSource("other")), state.live)
    assert map_seq_len(moved_on) == 0
    assert shown_cell(moved_on) is None
    assert map_seq_len(state) == 12


def test_that_the_map_of_a_text_has_its_length_and_not_the_sliders():
    assert map_seq_len(with_text(ready_state(seq_len=65536), tokens=7)) == 7
    assert map_seq_len(ready_state(seq_len=65536, source=p.SyntheticSource())) == 65536


def test_that_the_length_of_a_file_is_what_the_engine_found():
    live = msgspec.structs.replace(READY, file_seq_len={"a.npz": 77})
    assert map_seq_len(ready_state(live, source=p.FileSource("a.npz"))) == 77
    assert map_seq_len(ready_state(live, source=p.FileSource("b.npz"))) == 0


def test_that_the_cell_is_the_fixed_row_or_the_pointer_or_the_link():
    state = with_text(ready_state())
    hover = msgspec.structs.replace(state.live, hover=(5, 4))
    assert shown_cell(state) == (9, 1)
    assert shown_cell(State(state.settings, hover)) == (5, 4)
    fixed = with_changes(state.settings, row=3, column=2)
    assert shown_cell(State(fixed, state.live)) == (3, 2)
    assert shown_cell(State(fixed, hover)) == (3, 4)
    assert shown_cell(State(with_changes(state.settings, row=999), state.live)) == (11, 11)


def test_that_a_choice_writes_out_every_parameter():
    assert choice_of(Settings(params={}), "sliding_window").params == {"window_size": 1024, "sinks": 0}


def test_that_a_measurement_key_is_taken_apart_again_and_ignores_the_layers():
    workload, choice = Settings().workload, choice_of(Settings(), "chunked")
    key = measurement_key("gpu", workload, choice)
    assert key == measurement_key("gpu", msgspec.structs.replace(workload, layers=7), choice)
    assert key_parts(key) == ("gpu", msgspec.structs.replace(workload, layers=1), choice)


def test_that_texts_read_by_different_models_sizes_are_followed():
    source = p.TextSource("x")
    live = msgspec.structs.replace(READY, answers={"text": Answer(p.ReadText(source), text_read(source, 5, layers=1, heads=1))})
    assert shown_head(ready_state(live, source=source)) == (0, 0)

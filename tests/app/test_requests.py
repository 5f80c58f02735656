"""Of `requests`: which jobs a state wants."""

import msgspec
import pytest
from app_states import READY, key_of, measured, ready_state, with_text
from attnscope.requests import MAX_PIXELS, map_rectangle, measure_all_queue, sweep_queue, wanted
from attnscope.state import Live, State, key_parts
from attnscope_engine import protocol as p
from hypothesis import given
from hypothesis import strategies as st

NEEDLE = p.SyntheticSource()


def test_that_nothing_is_wanted_before_there_is_an_engine():
    assert wanted(ready_state(Live())) == {}


def test_that_ceilings_are_measured_once():
    live = msgspec.structs.replace(READY, ceilings=None)
    assert "calibrate" in wanted(ready_state(live))
    assert "calibrate" not in wanted(ready_state())


def test_that_a_map_of_a_text_waits_for_its_tokens():
    state = ready_state()
    assert set(wanted(state)) >= {"text"}
    assert "map" not in wanted(state)
    drawn = wanted(with_text(state))["map"]
    assert (drawn.rows, drawn.columns, drawn.factor, drawn.scale) == ((0, 12), (0, 12), 1, "linear")
    assert (drawn.layer, drawn.head) == (2, 3)
    assert drawn.workload.num_heads == 4


def test_that_the_slider_does_not_make_the_map_of_a_text_stale():
    short, long = with_text(ready_state(seq_len=256)), with_text(ready_state(seq_len=65536))
    for slot in ("text", "map", "row", "heads"):
        assert wanted(short)[slot] == wanted(long)[slot]


def test_that_batch_and_layers_do_not_make_a_synthetic_map_stale():
    assert (
        wanted(ready_state(source=NEEDLE, batch=1, layers=2))["map"]
        == wanted(ready_state(source=NEEDLE, batch=8, layers=9))["map"]
    )
    assert wanted(ready_state(source=NEEDLE, causal=True))["map"] != wanted(ready_state(source=NEEDLE, causal=False))["map"]


@pytest.mark.parametrize("page", ["scaling", "memory"])
def test_that_no_map_is_drawn_for_another_page(page):
    assert not {"map", "row", "heads"} & set(wanted(with_text(ready_state(page=page))))


def test_that_a_difference_is_of_two_variants_and_linear():
    one = wanted(ready_state(source=NEEDLE, compare="difference", checked=("linear",)))["map"]
    assert not one.difference
    three = wanted(ready_state(source=NEEDLE, compare="difference", checked=("linear", "chunked", "softmax_tiled")))["map"]
    assert three.difference
    assert [choice.variant for choice in three.panels] == ["linear", "chunked"]
    assert three.scale == "linear"


def test_that_at_most_four_variants_are_drawn_and_none_is_no_job():
    names = ("softmax_naive", "softmax_tiled", "sliding_window", "linear", "chunked")
    assert len(wanted(ready_state(source=NEEDLE, checked=names))["map"].panels) == 4
    assert "map" not in wanted(ready_state(source=NEEDLE, checked=()))


def test_that_the_row_follows_the_pointer_until_one_is_fixed():
    live = msgspec.structs.replace(READY, hover=(40, 30))
    row = wanted(ready_state(live, source=NEEDLE))["row"]
    assert (row.row, row.column) == (40, 30)
    fixed = wanted(ready_state(live, source=NEEDLE, row=5, column=4))["row"]
    assert (fixed.row, fixed.column) == (5, 30)
    assert "row" not in wanted(ready_state(source=NEEDLE))


def test_that_all_heads_are_drawn_for_short_texts_or_on_request():
    assert wanted(with_text(ready_state(), tokens=12))["heads"].size == 12
    assert "heads" not in wanted(with_text(ready_state(), tokens=65))
    assert wanted(with_text(ready_state(compare="heads"), tokens=65))["heads"].size == 24


def test_that_a_file_of_unknown_length_is_asked_for_one_cell_first():
    source = p.FileSource("qk.npz")
    first = wanted(ready_state(source=source))["map"]
    assert (first.rows, first.columns) == ((0, 1), (0, 1))
    known = msgspec.structs.replace(READY, file_seq_len={"qk.npz": 300})
    assert wanted(ready_state(known, source=source))["map"].rows == (0, 300)


@given(st.integers(1, 1 << 20), st.lists(st.integers(0, 1 << 20), min_size=4, max_size=4), st.booleans())
def test_that_the_picture_covers_the_view_and_fits_a_screen(seq_len, edges, whole):
    row0, row1 = sorted(edges[:2])
    column0, column1 = sorted(edges[2:])
    view = None if whole else (row0, row1 + 1, column0, column1 + 1)
    rows, columns, factor = map_rectangle(view, seq_len)
    for (first, end), (from_, to) in ((rows, (row0, row1 + 1)), (columns, (column0, column1 + 1))):
        assert 0 <= first < end <= seq_len
        assert -(-(end - first) // factor) <= MAX_PIXELS
        if whole:
            assert (first, end) == (0, seq_len)
        else:
            assert first <= min(from_, seq_len - 1)
            assert end >= min(to, seq_len)


def test_that_panning_a_little_asks_for_no_new_picture():
    """Zoomed to 512 of 65,536: the picture of 2,048 around it holds the neighbourhood."""
    rectangles = {map_rectangle((row, row + 512, 9000, 9512), 65536) for row in range(30000, 30064)}
    assert len(rectangles) <= 2


def test_that_short_maps_are_drawn_whole_whatever_the_view():
    assert map_rectangle((3, 5, 3, 5), 2048) == ((0, 2048), (0, 2048), 1)


def test_that_the_head_of_the_queue_is_measured_first():
    live = msgspec.structs.replace(
        READY, queue=(key_of(measured("linear", 256)), key_of(measured("linear", 512))), measure_budget_s=2.0
    )
    job = wanted(ready_state(live))["measure"]
    assert (job.workload.seq_len, job.choice.variant, job.budget_s) == (256, "linear", 2.0)


def test_that_idle_measuring_takes_the_first_checked_variant_that_has_none():
    state = ready_state(checked=("softmax_tiled", "linear"), seq_len=1024)
    assert wanted(state)["measure"].choice.variant == "softmax_tiled"
    point = measured("softmax_tiled", 1024)
    live = msgspec.structs.replace(READY, measurements={key_of(point): point})
    assert wanted(State(state.settings, live))["measure"].choice.variant == "linear"


@pytest.mark.parametrize(
    "changes",
    [
        {"measure_idle": False},
        {"seq_len": 1 << 20, "checked": ("softmax_naive",)},  # does not fit
        {"seq_len": 1 << 20, "checked": ("softmax_tiled",)},  # predicted to take minutes
    ],
)
def test_that_idle_measuring_stays_off_what_was_not_asked_for(changes):
    assert "measure" not in wanted(ready_state(**changes))


def test_that_idle_measuring_needs_ceilings_to_know_what_it_takes():
    assert "measure" not in wanted(ready_state(msgspec.structs.replace(READY, ceilings=None)))


def test_that_what_was_set_aside_is_not_measured_unasked():
    live = msgspec.structs.replace(READY, set_aside=frozenset({key_of(measured("linear", 1024))}))
    assert "measure" not in wanted(ready_state(live, checked=("linear",), seq_len=1024))


def test_that_a_sweep_takes_powers_of_two_cheapest_first_and_leaves_out_what_does_not_fit():
    keys = sweep_queue(ready_state(checked=("softmax_naive", "linear"), sweep_low=1000, sweep_high=40000, params={}))
    parts = [key_parts(key) for key in keys]
    assert {device for device, _, _ in parts} == {"fake"}
    naive = [workload.seq_len for _, workload, choice in parts if choice.variant == "softmax_naive"]
    linear = [workload.seq_len for _, workload, choice in parts if choice.variant == "linear"]
    assert linear == [1024, 2048, 4096, 8192, 16384, 32768]
    assert naive == [1024, 2048, 4096, 8192]  # 9 heads of 16,384² scores alone are 9 GiB and more, free are 6
    assert keys[-1] in {key for key in keys if '"softmax_naive"' in key}


def test_that_measuring_all_takes_every_checked_variant_at_this_n_even_when_measured_before():
    point = measured("linear", 2048)
    live = msgspec.structs.replace(READY, measurements={key_of(point): point})
    keys = measure_all_queue(ready_state(live, checked=("softmax_tiled", "linear"), seq_len=2048, params={}))
    assert {key_parts(key)[2].variant for key in keys} == {"softmax_tiled", "linear"}
    assert all(key_parts(key)[1].seq_len == 2048 for key in keys)


def test_that_queues_are_empty_without_an_engine():
    assert sweep_queue(ready_state(Live())) == ()


def test_that_a_sweep_without_ceilings_is_ordered_by_operations():
    live = msgspec.structs.replace(READY, ceilings=None)
    keys = sweep_queue(ready_state(live, checked=("softmax_tiled",), sweep_low=256, sweep_high=4096))
    assert [key_parts(key)[1].seq_len for key in keys] == [256, 512, 1024, 2048, 4096]

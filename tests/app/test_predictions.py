"""Of `predictions`: the engine's own formulas, cached so that a slider can ask for them at every tick."""

import msgspec
import pytest
from app_states import CEILINGS, GIB, READY, VITALS, key_of, measured, ready_state
from attnscope import predictions
from attnscope.comparison import rows_at
from attnscope.memory import fits, peaks
from attnscope.panels.variant_facts import Latest, facts
from attnscope.panels.workload_hint import hint
from attnscope.predictions import CURVE_SEQ_LENS, curve, predict, predict_call, wall
from attnscope.resolve import with_changes
from attnscope.scaling import curves
from attnscope.state import Live, State, choice_of, effective_workload
from attnscope_engine import catalogue
from attnscope_engine import protocol as p
from attnscope_engine.cost import predict_time_s
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(64, 1 << 20), st.integers(1, 16), st.booleans())
def test_that_a_prediction_is_what_the_engine_decides_by(seq_len, heads, causal):
    state = ready_state(seq_len=seq_len, num_heads=heads, causal=causal)
    for name, prediction in predict(state).items():
        choice, workload = choice_of(state.settings, name), effective_workload(state)
        cost = catalogue.cost_of(choice, workload, "cpu")
        assert prediction.held_bytes == cost.held_bytes
        refusal = catalogue.admission(choice, workload, "cpu", VITALS.free_bytes, VITALS.total_bytes)
        assert prediction.refusal == refusal
        if refusal and refusal.reason == "unsupported":
            assert prediction.time_s is None
            assert curve(state, name) == ((), ())
            continue
        assert prediction.time_s == predict_time_s(cost, CEILINGS, "bf16")
        assert prediction.fits_up_to == (refusal.largest_seq_len if refusal else wall(state, name))


def test_that_without_an_engine_nothing_is_refused_and_no_time_is_made_up():
    for prediction in predict(ready_state(Live(), seq_len=1 << 20)).values():
        assert prediction.time_s is None
        assert prediction.refusal is None
        assert prediction.measured is None


def test_that_the_wall_is_where_it_stops_fitting():
    n = wall(ready_state(), "softmax_naive")
    assert n % 64 == 0
    assert predict(ready_state(seq_len=n))["softmax_naive"].refusal is None
    refusal = predict(ready_state(seq_len=n + 64))["softmax_naive"].refusal
    assert refusal is not None
    assert refusal.largest_seq_len == n


def test_that_less_free_memory_moves_the_wall():
    less = msgspec.structs.replace(READY, vitals=p.Vitals(1 * GIB, 8 * GIB))
    assert wall(ready_state(less), "softmax_naive") < wall(ready_state(), "softmax_naive")


def test_that_a_measurement_belongs_to_its_exact_workload():
    point = measured("softmax_tiled", 1024)
    live = msgspec.structs.replace(READY, measurements={key_of(point): point})
    assert predict(ready_state(live, seq_len=1024))["softmax_tiled"].measured == point
    assert predict(ready_state(live, seq_len=1040))["softmax_tiled"].measured is None
    assert predict(ready_state(live, seq_len=1024, layers=2))["softmax_tiled"].measured == point
    assert predict(ready_state(live, seq_len=1024, dtype="fp32"))["softmax_tiled"].measured is None


def test_that_every_view_of_one_change_gets_the_same_object():
    state = ready_state(seq_len=2048)
    again = State(state.settings, msgspec.structs.replace(state.live, hover=(1, 1)))
    assert predict(state) is predict(again)


def test_that_predicting_a_call_agrees_with_the_prediction_on_screen():
    state = ready_state(seq_len=8192)
    time_s, fits = predict_call(state, effective_workload(state), choice_of(state.settings, "softmax_naive"))
    assert time_s == predict(state)["softmax_naive"].time_s
    assert fits == (predict(state)["softmax_naive"].refusal is None)


def test_that_a_curve_passes_through_the_predictions():
    state = ready_state()
    times, held = curve(state, "sliding_window", (256, 4096, 1 << 20))
    for n, time_s, bytes_ in zip((256, 4096, 1 << 20), times, held, strict=True):
        there = predict(State(with_changes(state.settings, seq_len=n), state.live))["sliding_window"]
        assert (time_s, bytes_) == (there.time_s, there.held_bytes)


def test_that_a_curve_without_ceilings_has_bytes_and_no_times():
    times, held = curve(ready_state(Live()), "linear")
    assert times == ()
    assert len(held) == len(CURVE_SEQ_LENS)


def test_that_the_slider_recomputes_no_curve(monkeypatch):
    state = ready_state(seq_len=100)
    before = [curve(state, name) for name in catalogue.variants()]
    monkeypatch.setattr(predictions.catalogue, "cost_of", lambda *_: pytest.fail("computed a cost"))
    moved = State(with_changes(state.settings, seq_len=70000), state.live)
    assert all(curve(moved, name) is old for name, old in zip(catalogue.variants(), before, strict=True))


def test_that_what_has_no_full_form_has_no_line_no_place_in_the_tables_and_says_why():
    full = ready_state(causal=False, checked=("softmax_tiled", "retnet"))
    why = catalogue.find("retnet").causal_only
    prediction = predict(full)["retnet"]
    assert (prediction.time_s, prediction.refused) == (None, "no full form")
    assert prediction.refusal is not None
    assert prediction.refusal.text == why
    assert [row.variant for row in peaks(full)] == [row.variant for row in fits(full)] == ["softmax_tiled"]
    assert [(row.variant, row.refused) for row in rows_at(full, curves(full))] == [
        ("softmax_tiled", ""),
        ("retnet", "no full form"),
    ]
    assert hint(full).text == why
    row = facts(full, Latest())["retnet"]
    assert (row.refused, row.refusal) == ("no full form", "causal only")
    assert predict_call(full, effective_workload(full), choice_of(full.settings, "retnet"))[1] is False
    causal = ready_state(causal=True, checked=("softmax_tiled", "retnet"))
    assert [row.variant for row in peaks(causal)] == ["softmax_tiled", "retnet"]
    assert predict(causal)["retnet"].refused == ""

"""The curves of the Scaling page as values."""

from __future__ import annotations

import msgspec
import pytest
from attnscope import predictions
from attnscope.comparison import reference_words, rows_at
from attnscope.scaling import SEQ_LENS, crossovers, curves
from attnscope.state import choice_of
from attnscope_engine import catalogue
from curve_states import measured_store, put, ready_store, row


def test_that_predictions_cover_the_slider_with_every_power_of_two() -> None:
    assert SEQ_LENS[0] == 64
    assert SEQ_LENS[-1] == 1 << 20
    assert {1 << power for power in range(6, 21)} <= set(SEQ_LENS)


def test_that_moving_n_gives_the_same_objects() -> None:
    store = measured_store()
    before = curves(store.state)
    store.update(seq_len=5000)
    after = curves(store.state)
    assert all(one.points is other.points and one.times is other.times for one, other in zip(before, after, strict=True))


def test_that_a_row_of_other_settings_is_dimmed_until_its_n_is_measured_again() -> None:
    store = measured_store()
    store.update(num_heads=6)
    curve = curves(store.state)[0]
    assert curve.points == ()
    assert [point.workload.seq_len for point in curve.earlier] == [1 << power for power in range(8, 14)]
    assert curve.earlier_words == "9 heads"
    put(store, row(store, "softmax_tiled", 512))
    curve = curves(store.state)[0]
    assert [point.workload.seq_len for point in curve.points] == [512]
    assert 512 not in [point.workload.seq_len for point in curve.earlier]


def test_that_another_parameter_makes_earlier_points_and_says_which() -> None:
    store = measured_store()
    store.set_param("sliding_window", "window_size", 256)
    window = next(curve for curve in curves(store.state) if curve.variant == "sliding_window")
    assert window.points == ()
    assert window.earlier
    assert window.earlier_words == "w 1,024 · sinks 0"


def test_that_the_number_of_layers_changes_no_curve_of_one_call() -> None:
    store = measured_store()
    before = curves(store.state)
    store.update(layers=3)
    assert curves(store.state) == before


def test_that_rates_are_work_over_time() -> None:
    store = measured_store(batch=4)
    curve, n = curves(store.state)[0], 1024
    point = curve.point_at(n)
    assert point is not None
    assert curve.value("tokens", n, point.time_s) == pytest.approx(4 * n / point.time_s)
    work = catalogue.cost_of(point.choice, point.workload, "cpu").flops
    sample = curve.sample("flops", point)
    assert sample.value == pytest.approx(work / point.time_s)
    assert sample.low < sample.value < sample.high
    assert curve.predicted("flops")[0] == pytest.approx(
        catalogue.cost_of(point.choice, msgspec.structs.replace(point.workload, seq_len=64), "cpu").flops / curve.times[0]
    )


def test_that_a_crossover_is_where_the_measured_curves_change_places() -> None:
    store = ready_store(checked=("softmax_tiled", "linear"))
    points = [
        row(store, "softmax_tiled", n, time_s=1e-9 * n**2, p20_s=0.99e-9 * n**2, p80_s=1.01e-9 * n**2) for n in (512, 1024, 2048)
    ]
    points += [row(store, "linear", n, time_s=1e-6 * n, p20_s=0.99e-6 * n, p80_s=1.01e-6 * n) for n in (512, 1024, 2048)]
    put(store, *points)
    (found,) = crossovers(curves(store.state))
    assert found.measured
    assert found.text == "Linear overtakes Flash"
    assert found.n == pytest.approx(1000, rel=1e-6)


def test_that_two_variants_measured_together_have_no_predicted_crossover() -> None:
    store = measured_store()
    assert all(item.measured for item in crossovers(curves(store.state)))
    unmeasured = ready_store()
    assert all(not item.measured for item in crossovers(curves(unmeasured.state)))


def test_that_a_time_that_is_not_a_number_is_left_out_of_fits_and_crossovers() -> None:
    store = measured_store()
    put(store, row(store, "softmax_tiled", 16384, time_s=float("nan"), p20_s=0.0, p80_s=0.0))
    curve = curves(store.state)[0]
    fit = curve.fit()
    assert fit is not None
    assert fit.exponent == pytest.approx(2, abs=0.1)


def test_that_a_row_at_n_is_measured_where_it_was_measured_and_else_predicted() -> None:
    store = measured_store(seq_len=1024)
    found = curves(store.state)
    rows = {one.variant: one for one in rows_at(store.state, found)}
    flash = rows["softmax_tiled"]
    assert flash.time_s is not None
    assert flash.time_s.measured
    assert flash.spread == pytest.approx(0.02)
    assert flash.ratio is not None
    assert flash.ratio.number == 1
    assert reference_words(store.state, found) == "relative to Flash"
    store.update(seq_len=1000)
    flash = rows_at(store.state, curves(store.state))[0]
    assert flash.time_s is not None
    assert not flash.time_s.measured
    assert flash.spread is None
    assert flash.time_s.number == predictions.predict(store.state)["softmax_tiled"].time_s


def test_that_a_measured_time_is_never_divided_by_a_predicted_one() -> None:
    store = ready_store(seq_len=1024)
    put(store, row(store, "linear", 1024, slower=50))
    rows = {one.variant: one for one in rows_at(store.state, curves(store.state))}
    ratio = rows["linear"].ratio
    assert ratio is not None
    assert not ratio.measured
    times = predictions.predict(store.state)
    assert ratio.number == pytest.approx(times["linear"].time_s / times["softmax_tiled"].time_s)  # type: ignore[operator]


def test_that_ratios_are_to_the_pinned_rows_once_some_are_pinned() -> None:
    store = measured_store(seq_len=1024)
    pinned = msgspec.structs.replace(row(store, "linear", 1024), time_s=row(store, "linear", 1024).time_s / 2)
    store.update_live(pinned=(pinned,))
    rows = {one.variant: one for one in rows_at(store.state, curves(store.state))}
    assert reference_words(store.state, curves(store.state)) == "relative to the pinned"
    assert rows["linear"].ratio is not None
    assert rows["linear"].ratio.number == pytest.approx(2)
    assert rows["softmax_tiled"].ratio is None


def test_that_a_choice_with_its_defaults_left_out_is_the_same_setting() -> None:
    store = ready_store()
    full = row(store, "sliding_window", 1024)
    put(store, msgspec.structs.replace(full, choice=msgspec.structs.replace(full.choice, params={})))
    window = next(curve for curve in curves(store.state) if curve.variant == "sliding_window")
    assert len(window.points) == 1
    assert choice_of(store.state.settings, "sliding_window").params

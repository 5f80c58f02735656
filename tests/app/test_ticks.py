"""Ticks of every axis at given ranges."""

from __future__ import annotations

import itertools
import math

import pytest
from attnscope.quantities import NARROW_SPACE
from attnscope.ticks import Tick, bytes_ticks, linear_bytes_ticks, log_positions, rate_ticks, seq_len_ticks, time_ticks
from hypothesis import example, given
from hypothesis import strategies as st


def labels(ticks: tuple[Tick, ...]) -> list[str]:
    return [tick.label.replace(NARROW_SPACE, " ") for tick in ticks if tick.label]


def test_that_n_has_a_tick_at_each_power_of_two_and_a_label_at_every_second() -> None:
    ticks = seq_len_ticks(200, 190_000, 600)
    assert [tick.value for tick in ticks] == [2.0**power for power in range(8, 18)]
    assert labels(ticks) == ["256", "1k", "4k", "16k", "64k"]


def test_that_n_is_labelled_at_every_fourth_power_when_labels_would_stand_closer_than_44_px() -> None:
    assert labels(seq_len_ticks(64, 1 << 20, 200)) == ["256", "4k", "64k", "1M"]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(900, 5000, ["1k", "2k", "4k"]), (1100, 1900, ["1,200", "1,400", "1,600", "1,800"])]
)
def test_that_a_narrow_view_of_n_still_has_labels(low: float, high: float, expected: list[str]) -> None:
    assert labels(seq_len_ticks(low, high, 400)) == expected


def test_that_times_are_labelled_at_each_decade() -> None:
    assert labels(time_ticks(3e-6, 3, 370)) == ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]
    assert len(time_ticks(3e-6, 3, 370)) == 6, "no minor ticks above three decades"


def test_that_minor_ticks_at_2_and_5_show_up_to_three_decades() -> None:
    ticks = time_ticks(1e-3, 1, 370)
    assert [round(tick.value * 1e3) for tick in ticks] == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert labels(ticks) == ["1 ms", "10 ms", "100 ms", "1 s"]


def test_that_a_view_inside_one_decade_labels_what_it_has() -> None:
    assert labels(time_ticks(1.5e-3, 7e-3, 300)) == ["2 ms", "5 ms"]
    assert len(labels(time_ticks(2.1e-3, 2.9e-3, 300))) >= 2


def test_that_bytes_are_labelled_at_powers_of_eight_from_16_mib() -> None:
    assert labels(bytes_ticks(3 << 20, 600 << 30, 220)) == ["16 MiB", "128 MiB", "1 GiB", "8 GiB", "64 GiB", "512 GiB"]
    assert labels(bytes_ticks(1 << 16, 1 << 26, 220)) == ["256 KiB", "2 MiB", "16 MiB"]
    assert labels(bytes_ticks(20 << 20, 100 << 20, 220)) == ["32 MiB", "64 MiB"]


def test_that_rates_are_si_and_bytes_binary() -> None:
    assert labels(rate_ticks(5e10, 2e15, 300, "FLOP/s")) == ["100 GFLOP/s", "1 TFLOP/s", "10 TFLOP/s", "100 TFLOP/s", "1 PFLOP/s"]


def test_that_a_linear_axis_of_bytes_begins_at_zero_and_has_round_steps() -> None:
    ticks = linear_bytes_ticks(80 * 2**30, 320)
    assert labels(ticks) == ["0", "32 GiB", "64 GiB"]


@given(st.floats(1, 2e5), st.floats(1.05, 1e5), st.integers(80, 1500))
@example(76758.0, 13757.0, 150)
def test_that_labels_of_n_never_touch(low: float, span: float, length: int) -> None:
    ticks = [tick for tick in seq_len_ticks(low, low * span, length) if tick.label]
    places = log_positions(ticks, low, low * span, length)
    assert all(b - a >= 36 for a, b in itertools.pairwise(places)), ticks


@given(st.floats(-9, 3), st.floats(0.02, 9), st.integers(60, 900))
@example(1.25, 1.5, 60)
def test_that_labels_of_time_never_touch_and_lie_in_the_view(low: float, decades: float, length: int) -> None:
    bottom, top = 10.0**low, 10.0 ** (low + decades)
    ticks = time_ticks(bottom, top, length)
    assert all(bottom * (1 - 1e-6) <= tick.value <= top * (1 + 1e-6) for tick in ticks)
    places = log_positions([tick for tick in ticks if tick.label], bottom, top, length)
    assert all(b - a >= 14 for a, b in itertools.pairwise(places)), (ticks, places)


def test_that_positions_are_linear_in_the_logarithm() -> None:
    assert log_positions([Tick(1), Tick(10), Tick(100)], 1, 100, 200) == pytest.approx([0, 100, 200])
    assert math.isclose(log_positions([Tick(8)], 2, 32, 400)[0], 200)

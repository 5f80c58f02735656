"""Exponents, power laws and crossovers of curves."""

from __future__ import annotations

import pytest
from attnscope.loglog import Sample, crossing, local_slope, power_law
from hypothesis import given
from hypothesis import strategies as st

NS = [2.0**power for power in range(8, 17)]


def samples(values: list[float], spread: float = 0.01) -> list[Sample]:
    return [Sample(n, value, value * (1 - spread), value * (1 + spread)) for n, value in zip(NS, values, strict=True)]


@given(st.floats(0.5, 2.5), st.floats(1e-12, 1e-6), st.floats(256, 65536))
def test_that_the_slope_of_a_power_law_is_its_exponent_everywhere(exponent: float, factor: float, at: float) -> None:
    values = [factor * n**exponent for n in NS]
    assert local_slope(NS, values, at) == pytest.approx(exponent, rel=1e-6)
    law = power_law(NS, values)
    assert law is not None
    assert law.exponent == pytest.approx(exponent, rel=1e-6)
    assert law.at(1000.0) == pytest.approx(factor * 1000**exponent, rel=1e-6)


def test_that_there_is_no_slope_outside_the_curve_or_of_one_point() -> None:
    assert local_slope(NS, NS, 100) is None
    assert local_slope(NS, NS, 1e6) is None
    assert local_slope([256.0], [1.0], 256) is None
    assert power_law(NS[:2], NS[:2]) is None


def test_that_a_fit_leaves_out_the_lower_half_where_launches_weigh() -> None:
    law = power_law(NS, [max(1e-3, 1e-9 * n**2) for n in NS])
    assert law is not None
    assert law.exponent == pytest.approx(2, abs=0.01)


def test_that_a_crossing_is_found_where_the_power_laws_meet() -> None:
    found = crossing(samples([3e-7 * n for n in NS]), samples([1e-10 * n**2 for n in NS]))
    assert found is not None
    assert found.n == pytest.approx(3000, rel=1e-6)
    assert found.value == pytest.approx(9e-4, rel=1e-6)
    assert found.falls_below


def test_that_the_direction_of_a_crossing_is_told() -> None:
    found = crossing(samples([1e-10 * n**2 for n in NS]), samples([3e-7 * n for n in NS]))
    assert found is not None
    assert not found.falls_below


def test_that_curves_within_each_others_spread_do_not_cross() -> None:
    flat = [1.0] * len(NS)
    wobbling = [1 + 0.005 * (-1) ** i for i in range(len(NS))]
    assert crossing(samples(wobbling), samples(flat)) is None


def test_that_only_n_which_both_curves_have_are_compared() -> None:
    one = samples([3e-7 * n for n in NS])
    assert crossing(one, []) is None
    assert crossing(one, [Sample(300.0, 1e-9, 1e-9, 1e-9), Sample(5000.0, 1.0, 1.0, 1.0)]) is None

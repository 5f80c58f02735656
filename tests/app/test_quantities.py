"""Numbers read as the interface's rules say, and typed numbers mean what they say."""

from __future__ import annotations

import math
from datetime import datetime

import pytest
from attnscope import quantities as q
from hypothesis import example, given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [
        (0.0252, ("25.2", "ms")),
        (831e-6, ("831", "µs")),
        (1e-6, ("1.00", "µs")),
        (999.6e-9, ("1.00", "µs")),
        (0.9996, ("1.00", "s")),
        (9.999e-3, ("10.0", "ms")),
        (600.0, ("600", "s")),
        (660.0, ("11.0", "min")),
        (math.nan, ("–", "")),
        (math.inf, ("–", "")),
    ],
)
def test_that_times_have_three_digits_and_the_right_unit(seconds: float, parts: tuple[str, str]) -> None:
    assert q.time_parts(seconds) == parts


@given(st.floats(1e-9, 1e6))
def test_that_a_time_reads_back_within_its_three_digits(seconds: float) -> None:
    number, unit = q.time_parts(seconds)
    size = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}[unit]
    assert float(number) * size == pytest.approx(seconds, rel=0.0051)


@given(st.floats(1e-9, 599.0))
@example(0.0009995)
@example(0.9995)
def test_that_a_time_is_never_wider_than_its_column(seconds: float) -> None:
    number, _ = q.time_parts(seconds)
    assert len(number) <= 4
    assert len(number.replace(".", "")) == 3


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (0, ("0", "B")),
        (1023, ("1023", "B")),
        (1024, ("1.00", "KiB")),
        (1010 * 2**20, ("1010", "MiB")),
        (24.2 * 2**30, ("24.2", "GiB")),
        (385 * 2**30, ("385", "GiB")),
        (1.5 * 2**40, ("1.50", "TiB")),
    ],
)
def test_that_bytes_are_binary(count: float, parts: tuple[str, str]) -> None:
    assert q.bytes_parts(count) == parts


@given(st.integers(0, 2**55))
def test_that_bytes_read_back_and_fit_their_column(count: int) -> None:
    number, unit = q.bytes_parts(count)
    size = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].index(unit)
    assert float(number) * size == pytest.approx(count, rel=0.0051)
    assert len(number) <= 4


def test_that_rates_are_decimal() -> None:
    assert q.rate_parts(702e12) == ("702", "TFLOP/s")
    assert q.rate_parts(2.98e12, "B/s") == ("2.98", "TB/s")
    assert q.rate_parts(999.7e9) == ("1.00", "TFLOP/s")
    assert q.rate_parts(0.5, "B/s") == ("0.500", "B/s")


def test_that_a_narrow_space_joins_number_and_unit() -> None:
    assert q.time_text(0.0252) == "25.2\u202fms"
    assert q.bytes_text(2**30) == "1.00\u202fGiB"
    assert q.time_text(math.nan) == "–"


def test_that_counts_have_commas_and_ticks_have_k() -> None:
    assert q.count(1_048_576) == "1,048,576"
    assert [q.short_count(n) for n in (64, 1024, 65536, 1_048_576)] == ["64", "1k", "64k", "1M"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0412, "0.0412"),
        (0.427, "0.427"),
        (1.0, "1.00"),
        (0.0, "0"),
        (0.001, "0.00100"),
        (4.123e-5, "4.12e−5"),
        (-0.02, "−0.0200"),
        (math.nan, "NaN"),
        (-math.inf, "−Inf"),
    ],
)
def test_that_weights_have_three_digits(value: float, text: str) -> None:
    assert q.weight(value) == text


def test_that_a_small_weight_has_a_raised_power_in_rich_text() -> None:
    assert q.weight_html(4.123e-5) == "4.12·10<sup>−5</sup>"
    assert q.weight_html(0.5) == "0.500"


def test_that_ratios_and_percents_have_their_decimals() -> None:
    assert [q.ratio(value) for value in (13.271, 1.0, 0.504, 0.9996)] == ["13.27", "1.00", "0.504", "1.00"]
    assert q.percent(0.004) == "0.4\u202f%"
    assert q.percent(-0.012) == "−1.2\u202f%"
    assert q.percent(-1e-9) == "0.0\u202f%"


@pytest.mark.parametrize("text", ["65536", "65,536", "64k", "64 K", "2^16", " 65 536 "])
def test_that_a_number_may_be_typed_in_many_ways(text: str) -> None:
    assert q.parse_count(text) == 65536


@pytest.mark.parametrize("text", ["", "n", "-4", "1.5", "2^", "^3", "1e5", "64kb", "0x40", "99999999^999", "٣"[:0], "½"])
def test_that_anything_else_is_no_number(text: str) -> None:
    assert q.parse_count(text) is None


@given(st.integers(0, 10**12))
def test_that_what_is_shown_can_be_typed(number: int) -> None:
    assert q.parse_count(q.count(number)) == number


@given(st.text(max_size=12))
def test_that_no_text_breaks_the_parser(text: str) -> None:
    found = q.parse_count(text)
    assert found is None or found >= 0


def test_that_a_moment_is_named_by_how_far_it_is() -> None:
    now = datetime(2026, 11, 24, 18, 0).timestamp()
    assert q.moment_text(datetime(2026, 11, 24, 14, 2).timestamp(), now) == "today 14:02"
    assert q.moment_text(datetime(2026, 11, 23, 9, 30).timestamp(), now) == "yesterday 09:30"
    assert q.moment_text(datetime(2026, 3, 1, 9, 30).timestamp(), now) == "1 Mar 09:30"
    assert q.moment_text(datetime(2024, 3, 1, 9, 30).timestamp(), now) == "1 Mar 2024"

"""Zoom, pan and ticks of a map are arithmetic on whole cells that never leaves the map."""

from __future__ import annotations

import pytest
from attnscope.map_view import MIN_SPAN, clamped, framed, panned, positions, showing, snapped_side, step_of, whole, zoomed
from hypothesis import given
from hypothesis import strategies as st

LENGTHS = st.integers(1, 1 << 20)


@given(LENGTHS, st.integers(-10, 1 << 20), st.integers(-10, 1 << 20), st.integers(1, 1 << 20))
def test_that_a_view_is_a_square_inside_the_map(n: int, row: int, column: int, span: int) -> None:
    row0, row1, column0, column1 = clamped((row, row + span, column, column + span), n)
    assert 0 <= row0 < row1 <= n
    assert 0 <= column0 < column1 <= n
    assert row1 - row0 == column1 - column0 <= max(span, 1) or (row0, row1) == (0, n)


@given(st.integers(64, 1 << 20), st.floats(0, 0.999), st.floats(0, 0.999))
def test_that_zooming_keeps_the_point_under_the_pointer(n: int, down: float, across: float) -> None:
    view = (n // 4, n // 4 + n // 2, n // 8, n // 8 + n // 2)
    row, column = view[0] + down * (n // 2), view[2] + across * (n // 2)
    near = zoomed(view, n, 2.0, row, column)
    assert near is not None
    span = near[1] - near[0]
    assert abs(near[0] + down * span - row) <= 1
    assert abs(near[2] + across * span - column) <= 1


def test_that_zooming_out_far_enough_shows_all() -> None:
    assert zoomed((0, 600, 0, 600), 1000, 0.5, 100, 100) is None


def test_that_zooming_in_stops_at_a_few_cells() -> None:
    near = zoomed((0, 10, 0, 10), 1000, 64, 5, 5)
    assert near is not None
    assert near[1] - near[0] == MIN_SPAN


def test_that_a_short_map_can_not_be_zoomed_below_its_own_cells() -> None:
    assert zoomed(whole(5), 5, 4, 2, 2) is None


def test_that_panning_stops_at_the_edge() -> None:
    assert panned((10, 20, 10, 20), 100, -50, 500) == (0, 10, 90, 100)


def test_that_a_frame_holds_both_corners_and_is_square() -> None:
    view = framed((900, 100), (700, 130), 4096)
    assert view is not None
    assert view[0] <= 700
    assert view[1] > 900
    assert view[2] <= 100
    assert view[3] > 130
    assert view[1] - view[0] == view[3] - view[2]


def test_that_a_cell_outside_the_view_is_brought_in_by_as_little_as_it_takes() -> None:
    assert showing((100, 200, 100, 200), 1000, 205, 150) == (106, 206, 100, 200)
    assert showing((100, 200, 100, 200), 1000, 150, 150) == (100, 200, 100, 200)


@pytest.mark.parametrize(
    ("side", "cells", "snapped"), [(512, 512, 512), (355, 17, 340), (512, 456, 456), (512, 300, 512), (100, 400, 100)]
)
def test_that_fit_snaps_to_whole_pixels_when_at_most_15_percent_is_left_over(side: int, cells: int, snapped: int) -> None:
    assert snapped_side(side, cells) == snapped


@given(st.integers(0, 1 << 20), st.integers(1, 1 << 20), st.integers(2, 8))
def test_that_ticks_lie_in_the_view_and_are_not_too_many(low: int, span: int, steps: int) -> None:
    found = positions(low, low + span, steps)
    assert all(low <= each.value <= low + span for each in found)
    assert len(found) <= steps + 1


def test_that_long_axes_count_in_k_and_short_ones_exactly() -> None:
    assert [each.label for each in positions(0, 65536)][:3] == ["0", "8k", "16k"]
    assert [each.label for each in positions(0, 4096)][-1] == "4,096"
    assert step_of(0, 65536) % 1024 == 0
    assert next(each.label for each in positions(20_000, 20_100)) == "20,000"

"""Where the panels lie: as large as the page lets them, side by side, pixel on pixel."""

from __future__ import annotations

import pytest
from attnscope.plots.map_layout import Needs, lay_out


@pytest.mark.parametrize(("width", "height", "side"), [(1120, 653, 512), (992, 580, 448)])
def test_that_two_long_maps_have_the_size_of_the_design(width: int, height: int, side: int) -> None:
    trace = 52 if width > 1000 else 40
    places = lay_out(width, height, Needs((False, False), trace=trace, seq_len=side * 128, factor=32))
    assert [place.map.width for place in places] == [side, side]
    assert places[1].map.x - places[0].map.right == 20
    assert all(place.trace is not None and place.trace.height == trace for place in places)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(("width", "height"), [(1120, 653), (736, 480), (600, 900)])
def test_that_panels_never_overlap_and_stay_on_the_page(count: int, width: int, height: int) -> None:
    places = lay_out(width, height, Needs((True,) * count, trace=40, seq_len=1000))
    assert len(places) == count
    for index, one in enumerate(places):
        assert one.map.x >= 60
        assert one.map.right <= width
        assert one.header.y >= 0
        for other in places[index + 1 :]:
            apart = one.map.right <= other.header.x or one.map.bottom <= other.header.y
            assert apart


def test_that_each_panel_has_an_axis_left_of_its_line_and_under_its_column() -> None:
    places = lay_out(600, 900, Needs((False,) * 4, seq_len=1000))
    assert [place.first for place in places] == [True, False, True, False]
    assert [place.last for place in places] == [False, False, True, True]


def test_that_three_panels_stand_in_one_line_where_that_makes_them_larger() -> None:
    places = lay_out(1120, 653, Needs((False,) * 3, trace=52, seq_len=4096, factor=2))
    assert len({place.map.y for place in places}) == 1


def test_that_a_gutter_stands_between_its_map_and_the_next() -> None:
    first, second = lay_out(900, 456, Needs((True, False), seq_len=17))
    assert first.gutter is not None
    assert first.map.right < first.gutter.x
    assert first.gutter.right < second.map.x


def test_that_cells_of_a_fitted_map_are_whole_device_pixels() -> None:
    (place,) = lay_out(500, 456, Needs((False,), seq_len=17, ratio=2.0))
    assert place.map.width * 2 % 17 == 0

"""Names at the ends of curves: they never overlap, and curves on top of each other share one."""

from __future__ import annotations

import pytest
from attnscope.looks import look
from attnscope.plots.end_labels import LINE_HEIGHT, End, EndLabel, EndLabels, grouped, pushed_apart
from attnscope.theme import Theme
from hypothesis import given
from hypothesis import strategies as st
from pytestqt.qtbot import QtBot

HEIGHTS = st.lists(st.tuples(st.floats(0, 400), st.sampled_from([15.0, 30.0])), min_size=1, max_size=12)


@given(HEIGHTS)
def test_that_labels_never_overlap_and_keep_their_order(items: list[tuple[float, float]]) -> None:
    items.sort()
    wanted, heights = [y for y, _ in items], [height for _, height in items]
    centres = pushed_apart(wanted, heights, 0, 400)
    for i in range(len(centres) - 1):
        assert centres[i + 1] - centres[i] >= (heights[i] + heights[i + 1]) / 2 - 1e-6
    if sum(heights) <= 400:
        assert centres[0] - heights[0] / 2 >= -1e-6
        assert centres[-1] + heights[-1] / 2 <= 400 + 1e-6


def test_that_labels_with_room_stay_where_their_curves_end() -> None:
    assert pushed_apart([20, 100, 300], [15, 15, 15], 0, 400) == [20, 100, 300]


def test_that_neighbours_share_the_shift() -> None:
    assert pushed_apart([100, 100], [15, 15], 0, 400) == pytest.approx([92.5, 107.5])
    assert pushed_apart([2, 2], [15, 15], 0, 400) == pytest.approx([7.5, 22.5])


def test_that_coincident_curves_share_one_label() -> None:
    flash, window, linear = (look(name) for name in ("softmax_tiled", "sliding_window", "linear"))
    ends = [
        End("Flash", flash, (300.0, 200.0, 100.0)),
        End("Window", window, (300.5, 200.2, 100.4)),
        End("Linear", linear, (300.0, 180.0, 100.0)),
    ]
    labels = grouped(ends)
    assert [label.titles for label in labels] == [("Flash", "Window"), ("Linear",)]
    assert labels[0].text == "Flash and Window equal"
    assert EndLabel(("Flash", "Window", "Chunked"), flash, 0).text == "Flash and 2 equal"


def test_that_a_long_label_breaks_before_its_second_name_and_a_detail_stands_below(qtbot: QtBot) -> None:
    column = EndLabels(Theme("dark"))
    qtbot.addWidget(column)
    column.resize(100, 400)
    long = EndLabel(("Flash", "Window", "Chunked"), look("softmax_tiled"), 50)
    detailed = EndLabel(("Linear",), look("linear"), 60, "slope 1.02")
    column.show_labels((long, detailed), 40, 360)
    (_, first_lines, first), (_, second_lines, second) = column.places()
    assert first_lines == ["Flash and", "2 equal"]
    assert second_lines == ["Linear", "slope 1.02"]
    assert first.height() == 2 * LINE_HEIGHT
    assert second.top() >= first.bottom() - 1e-6

"""Axes of the plots: places of values, ticks that follow the range, nothing written over something else."""

from __future__ import annotations

import itertools

import pytest
from attnscope.plots.curve_plot import CurvePlot
from attnscope.theme import Theme, font
from attnscope.ticks import time_ticks
from PySide6.QtGui import QFontMetricsF
from pytestqt.qtbot import QtBot


@pytest.fixture
def plot(qtbot: QtBot) -> CurvePlot:
    plot = CurvePlot(Theme("dark"), "Time", time_ticks, "time", with_flag=True, bare=False)
    qtbot.addWidget(plot)
    plot.resize(700, 420)
    plot.show()
    plot.set_n_range(200, 190_000)
    plot.set_value_range(3e-6, 3.0)
    qtbot.waitUntil(lambda: plot.box.height() > 100)
    return plot


def test_that_the_ends_of_the_range_are_the_ends_of_the_axis(plot: CurvePlot) -> None:
    assert plot.bottom.place(200) == pytest.approx(0, abs=1e-6)
    assert plot.bottom.place(190_000) == pytest.approx(plot.box.width(), abs=1.5)
    assert plot.left.place(3.0) == pytest.approx(0, abs=1e-6)
    assert plot.left.place(3e-6) == pytest.approx(plot.box.height(), abs=1.5)


def test_that_ticks_follow_the_range(plot: CurvePlot) -> None:
    assert [tick.label for tick in plot.bottom.ticks() if tick.label] == ["256", "1k", "4k", "16k", "64k"]
    plot.set_n_range(900, 5000)
    assert [tick.label for tick in plot.bottom.ticks() if tick.label] == ["1k", "2k", "4k"]
    plot.set_value_range(1e-3, 1.0)
    assert len(plot.left.ticks()) == 10


def test_that_labels_of_an_axis_do_not_collide_at_any_size(plot: CurvePlot, qtbot: QtBot) -> None:
    metrics = QFontMetricsF(font("tick"))
    for width, height in ((420, 260), (700, 420), (1200, 800)):
        plot.resize(width, height)
        qtbot.wait(1)
        for span in ((64, 1 << 20), (256, 8192), (1000, 1900)):
            plot.set_n_range(*span)
            shown = [
                (plot.bottom.place(tick.value), metrics.horizontalAdvance(tick.label))
                for tick in plot.bottom.ticks()
                if tick.label
            ]
            assert len(shown) >= 2
            for (x0, w0), (x1, w1) in itertools.pairwise(shown):
                assert x1 - w1 / 2 > x0 + w0 / 2 + 3, (width, span)


def test_that_a_bare_axis_keeps_its_marks_and_gives_its_height(plot: CurvePlot) -> None:
    before = plot.bottom.height()
    plot.bottom.set_bare(True)
    assert plot.bottom.maximumHeight() < before
    assert plot.bottom.ticks()

"""The table beside the curves."""

from __future__ import annotations

import itertools

import pytest
from attnscope.panels.at_n import AtNColumn
from attnscope.theme import Theme, font
from curve_states import measured_store, put, ready_store, row
from PySide6.QtGui import QFontMetricsF
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot


@pytest.fixture
def theme(qapp: QApplication) -> Theme:
    return Theme("light")


def test_that_the_table_follows_n_and_speaks_it(qtbot: QtBot, theme: Theme) -> None:
    store = measured_store(seq_len=1024)
    column = AtNColumn(store, theme)
    qtbot.addWidget(column)
    column.resize(338, 700)
    column.show()
    assert [one.title for one in column.rows] == ["Flash", "Naive", "Window", "Linear"]
    assert "measured" in column.accessibleDescription()
    store.update(seq_len=1000)
    assert column.accessibleDescription().startswith("At n = 1,000: Flash")
    assert "predicted" in column.accessibleDescription()


def test_that_crossovers_and_method_follow_the_points(qtbot: QtBot, theme: Theme) -> None:
    store = ready_store()
    column = AtNColumn(store, theme)
    qtbot.addWidget(column)
    column.show()
    assert len(column.method) == 1, "the formula only"
    assert all(not item.measured for item in column.crossings)
    put(store, *(row(store, name, n) for name in ("softmax_tiled", "linear") for n in (256, 1024)))
    assert len(column.method) == 2
    assert "4 points" in column.method[0]


@pytest.mark.parametrize("width", [296, 338, 380])
def test_that_no_column_of_numbers_runs_into_the_next(qtbot: QtBot, theme: Theme, width: int) -> None:
    store = measured_store(seq_len=1024)
    column = AtNColumn(store, theme)
    qtbot.addWidget(column)
    column.resize(width, 700)
    edges = column.columns()
    digit = QFontMetricsF(font("number_medium")).horizontalAdvance("0")
    widest = {"time": 4, "spread": 4 if width < 330 else 5.3, "ratio": 5, "slope": 4}
    order = ["time", "unit", "spread", "ratio", "slope"]
    for before, after in itertools.pairwise(order):
        if after in widest:
            assert edges[after] - widest[after] * digit >= edges[before], (before, after)
    assert edges["slope"] <= width


def test_that_the_column_paints_in_both_themes_and_every_state(qtbot: QtBot, theme: Theme) -> None:
    store = measured_store(seq_len=1 << 20)
    column = AtNColumn(store, theme)
    qtbot.addWidget(column)
    column.resize(338, 700)
    column.show()
    light = column.grab().toImage()
    assert any(one.refused for one in column.rows)
    theme.set_mode("dark")
    dark = column.grab().toImage()
    assert light.pixelColor(5, 5) != dark.pixelColor(5, 5)
    assert dark.pixelColor(5, 5).name().upper() == theme.tokens.panel
    store.update(checked=())
    assert column.rows == ()
    column.grab()

"""All heads at a glance: each thumbnail is where its name says, sorted by what the heads do, opened by a click."""

from __future__ import annotations

import pytest
from attnscope.looks import DARK, colour_table
from attnscope.plots.heads_grid import HeadsGrid, numbered
from attnscope.plots.heads_layout import LEAST_PITCH, best_grid
from attnscope.store import Store
from attnscope.theme import Theme
from hypothesis import given
from hypothesis import strategies as st
from map_states import HEADS, LAYERS, answer, store_of
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot


@pytest.fixture
def store(qtbot: QtBot) -> Store:
    store = store_of()
    answer(store)
    return store


def grid_of(qtbot: QtBot, store: Store, *, full: bool = False) -> HeadsGrid:
    grid = HeadsGrid(store, Theme("dark"), full=full)
    qtbot.addWidget(grid)
    grid.resize(700, 240)
    grid.show()
    return grid


def point(grid: HeadsGrid, layer: int, head: int) -> QPoint:
    return grid.place(grid._order.index((layer, head))).center().toPoint()


def test_that_each_thumbnail_is_that_of_its_layer_and_head(qtbot: QtBot, store: Store) -> None:
    grid = grid_of(qtbot, store)
    shot, table = grid.grab().toImage(), colour_table("inferno", DARK)
    for layer in range(LAYERS):
        for head in range(HEADS):
            at = point(grid, layer, head)
            assert shot.pixelColor(at) == QColor(table[layer * 10 + head])  # the made-up codes of the thumbnails


def test_that_layers_run_across_and_heads_down(qtbot: QtBot, store: Store) -> None:
    grid = grid_of(qtbot, store)
    assert point(grid, 2, 0).x() > point(grid, 0, 0).x()
    assert point(grid, 2, 0).y() == point(grid, 0, 0).y()
    assert point(grid, 0, 3).y() > point(grid, 0, 0).y()


def test_that_a_click_opens_the_head(qtbot: QtBot, store: Store) -> None:
    grid = grid_of(qtbot, store)
    QTest.mouseClick(grid, Qt.MouseButton.LeftButton, pos=point(grid, 1, 2))
    assert (store.state.settings.layer, store.state.settings.head) == (1, 2)


def test_that_opening_from_the_page_of_heads_returns_to_the_maps(qtbot: QtBot, store: Store) -> None:
    store.update(compare="heads")
    answer(store)
    grid = grid_of(qtbot, store, full=True)
    QTest.mouseClick(grid, Qt.MouseButton.LeftButton, pos=point(grid, 0, 1))
    assert store.state.settings.compare == "side"
    store.undo()
    assert store.state.settings.compare == "heads"


@pytest.mark.parametrize(
    ("sort", "first"), [("order", (0, 0)), ("entropy", (0, 0)), ("sink", (0, 0)), ("induction", (2, 0)), ("locality", (0, 0))]
)
def test_that_heads_are_sorted_by_what_they_do(qtbot: QtBot, store: Store, sort: str, first: tuple[int, int]) -> None:
    grid = grid_of(qtbot, store)
    grid.set_sort(sort)  # type: ignore[arg-type]
    assert grid._order[0] == first
    assert len(set(grid._order)) == LAYERS * HEADS


def test_that_keys_move_and_enter_opens(qtbot: QtBot, store: Store) -> None:
    grid = grid_of(qtbot, store)
    store.update(layer=0, head=0)
    QTest.keyClick(grid, Qt.Key.Key_Right)
    QTest.keyClick(grid, Qt.Key.Key_Down)
    QTest.keyClick(grid, Qt.Key.Key_Return)
    assert (store.state.settings.layer, store.state.settings.head) == (1, 1)


def test_that_a_head_is_told_in_numbers(qtbot: QtBot, store: Store) -> None:
    facts = dict(grid_of(qtbot, store).facts_of(1, 2))
    assert facts["mass on token 0"] == "0.480"
    assert facts["entropy, bits"] == "2.00"


def test_that_thumbnails_of_another_text_are_not_shown(qtbot: QtBot, store: Store) -> None:
    from attnscope_engine.protocol import TextSource

    grid = grid_of(qtbot, store)
    store.update(source=TextSource("Another sentence."))
    assert grid.drawn() is None
    grid.grab()


@given(st.integers(240, 2000), st.integers(120, 1200), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.booleans())
def test_that_a_thumbnail_is_found_where_it_was_put(
    width: int, height: int, layers: int, heads: int, bands: int, by: bool
) -> None:
    grid = best_grid((width, height), layers * heads, layers if by else 0, heads, bands)
    assert grid.pitch >= LEAST_PITCH
    for index in range(layers * heads):
        line, column = grid.cell_of(index)
        x, y = column * grid.pitch + grid.pitch / 2, grid.top_of(line) + grid.pitch / 2
        assert grid.index_at(x, y) == index


def test_that_thirty_layers_of_nine_heads_fold_into_bands_on_a_whole_page() -> None:
    one, more = best_grid((866, 660), 270, 30, 9), best_grid((866, 660), 270, 30, 9, most_bands=4)
    assert one.across == 30
    assert more.across < 30
    assert more.pitch > one.pitch


def test_that_the_last_layer_has_its_number_and_none_collides() -> None:
    assert numbered(0, 29, 5) == [0, 5, 10, 15, 20, 25, 29]
    assert numbered(0, 31, 5)[-2:] == [25, 31]

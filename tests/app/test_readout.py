"""The numbers under a long map are those of the cell and row that are read, and never those of another."""

from __future__ import annotations

import math

import numpy as np
import pytest
from attnscope.map_codes import bar_ticks, codes_of, place_of
from attnscope.map_feed import MapFeed
from attnscope.painted_number import number_width, parts_of
from attnscope.panels.colour_bar import ColourBar
from attnscope.panels.readout import Readout, rank_of
from attnscope.panels.row_table import QUANTITIES, SHORT_NAMES, RowTable
from attnscope.store import Store
from attnscope.theme import Theme, font
from attnscope_engine.protocol import MASKED, MAX_CODE, Array, Picture
from map_states import answer, replace_picture, synthetic
from pytestqt.qtbot import QtBot


def readout_of(qtbot: QtBot, store: Store) -> Readout:
    readout = Readout(store, Theme("dark"), MapFeed(store))
    qtbot.addWidget(readout)
    readout.resize(1120, 112)
    readout.show()
    return readout


def lines(readout: Readout) -> dict[str, tuple[str, str]]:
    return {name: (value, after) for name, value, after in readout.cell.lines()}


def test_that_the_cell_is_told_with_weight_and_rank(qtbot: QtBot) -> None:
    store = synthetic(128, row=100, column=40)
    readout = readout_of(qtbot, store)
    panel = readout.cell._feed.scene.rows[0]
    assert panel.row is not None
    weights = np.frombuffer(panel.row.weights.data, "<f4")
    told = lines(readout)
    assert told["query"][0] == "100"
    assert told["key"][0] == "40"
    rank = 1 + sum(weights[: 100 + 1] > weights[40])
    assert told["rank"] == (str(rank), "of 101")


def test_that_a_masked_key_is_called_so_and_has_no_rank(qtbot: QtBot) -> None:
    told = lines(readout_of(qtbot, synthetic(128, row=50, column=90)))
    assert told["weight"][0] == "masked"
    assert told["rank"] == ("–", "")


def test_that_an_exact_zero_is_called_underflow(qtbot: QtBot) -> None:
    store = synthetic(128, row=50, column=10)
    payload = store.state.live.answers["row"].payload
    row = payload.rows[0]  # type: ignore[union-attr]
    weights = np.frombuffer(row.weights.data, "<f4").copy()
    weights[10] = 0.0
    import msgspec
    from attnscope.state import Answer

    changed = msgspec.structs.replace(row, weights=Array("f4", row.weights.shape, weights.tobytes()))
    read = msgspec.structs.replace(payload, rows=(changed, *payload.rows[1:]))  # type: ignore[union-attr, arg-type]
    job = store.state.live.answers["row"].job
    store.update_live(answers={**store.state.live.answers, "row": Answer(job, read)})  # type: ignore[arg-type]
    assert lines(readout_of(qtbot, store))["weight"] == ("0", "(underflow)")


def test_that_no_number_stands_while_the_row_is_not_known(qtbot: QtBot) -> None:
    store = synthetic(128, row=50, column=10)
    readout = readout_of(qtbot, store)
    store.update(row=60)
    assert lines(readout)["weight"][0] == "–"
    assert readout.table.words() == ""
    answer(store)
    assert lines(readout)["weight"][0] != "–"
    assert readout.table.words().startswith("Flash: entropy of the row ")


def test_that_the_table_has_a_column_for_each_variant(qtbot: QtBot) -> None:
    store = synthetic(128, row=100, column=40, checked=("softmax_tiled", "sliding_window", "linear"))
    words = RowTable(Theme("dark"), MapFeed(store), full=True).words()
    assert [part.partition(":")[0] for part in words.split("; ")] == ["Flash", "Window", "Linear"]
    assert all(quantity.name in words for quantity in QUANTITIES)


def test_that_a_low_page_keeps_three_lines(qtbot: QtBot) -> None:
    readout = readout_of(qtbot, synthetic(128, row=100, column=40))
    readout.set_low(True)
    readout.grab()
    assert readout.height() == 84
    assert len(readout.table._lines()) == 3


def test_that_a_narrow_page_loses_the_third_column(qtbot: QtBot) -> None:
    readout = readout_of(qtbot, synthetic(128))
    assert readout.colours.isVisible()
    readout.resize(700, 112)
    assert not readout.colours.isVisible()


def test_that_bad_cells_are_counted_with_a_button_to_the_next(qtbot: QtBot) -> None:
    store = synthetic(128)
    feed = MapFeed(store)
    bar = ColourBar(store, Theme("dark"), feed, full=True)
    qtbot.addWidget(bar)
    bar.resize(400, 88)
    bar.show()
    assert not bar.next.isVisible()
    replace_picture(store, 0, nan_count=3, inf_count=1, bad_cells=((4, 2),))
    assert bar._bad() == (3, 1)
    assert bar.next.isVisible()
    with qtbot.waitSignal(bar.next_bad):
        bar.next.click()


LOG = Picture(Array("u1", (0, 0), b""), 1e-5, 1.0, "log")
LINEAR = Picture(Array("u1", (0, 0), b""), -0.5, 0.5, "linear", True)


@pytest.mark.parametrize(("value", "place"), [(1.0, 1.0), (1e-5, 0.0), (0.0, 0.0), (10**-2.5, 0.5), (2.0, 1.0)])
def test_that_a_weight_lies_on_the_log_bar_where_the_engine_puts_it(value: float, place: float) -> None:
    assert place_of(value, LOG) == pytest.approx(place)


def test_that_signed_zero_lies_in_the_middle_and_nan_is_masked() -> None:
    assert list(codes_of([-0.5, 0.0, 0.5, math.nan], LINEAR)) == [0, round(MAX_CODE / 2), MAX_CODE, MASKED]


def test_that_the_bar_labels_decades_with_raised_powers() -> None:
    labels = [(label, exponent) for _, label, exponent in bar_ticks(LOG)]
    assert labels == [("10", "−5"), ("10", "−4"), ("10", "−3"), ("0.01", ""), ("0.1", ""), ("1", "")]
    assert [label for _, label, _ in bar_ticks(LINEAR)] == ["−0.5", "0", "0.5"]


def test_that_a_power_of_ten_is_raised_and_words_are_not(qtbot: QtBot) -> None:
    assert parts_of("1.34e−4") == ("1.34·10", "−4")
    assert parts_of("masked") == ("masked", "")
    assert parts_of("attends to nothing") == ("attends to nothing", "")
    assert number_width("1.34e−4", font("number")) < number_width("1.34·10−4", font("number"))


def test_that_rank_counts_the_keys_that_get_more(qtbot: QtBot) -> None:
    store = synthetic(64, row=63, column=0)
    panel = MapFeed(store).scene.rows[0]
    ranks = sorted(rank_of(panel, key)[0] for key in range(64))
    assert ranks[0] == 1
    assert ranks[-1] == 64


def test_that_a_row_table_shows_as_many_panels_as_have_room_for_their_numbers(qtbot: QtBot) -> None:
    feed = MapFeed(synthetic(128, row=100, column=40, checked=("softmax_tiled", "sliding_window", "linear")))
    table = RowTable(Theme("dark"), feed, full=True)
    qtbot.addWidget(table)
    table.resize(900, 160)
    every = table.shown()
    assert [panel.title for panel in every] == ["Flash", "Window", "Linear"]
    table.resize(SHORT_NAMES + 12 + 60, 160)
    assert table.shown() == every[:1]
    table.grab()
    assert all(panel.title in table.toolTip() for panel in every)
    table.resize(900, 160)
    table.grab()
    assert table.toolTip() == ""

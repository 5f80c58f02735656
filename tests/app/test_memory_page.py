"""The Memory page: rows, refusals with their way out, budgets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attnscope.plots.memory_page import MemoryPage
from attnscope.plots.peak_table import tip
from attnscope.quantities import NARROW_SPACE
from attnscope.state import Live
from attnscope.store import Store
from attnscope.theme import Theme
from curve_states import measured_store, ready_store
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

GIB = 1 << 30
Open = Callable[..., MemoryPage]


@pytest.fixture
def theme(qapp: QApplication) -> Theme:
    return Theme("dark")


@pytest.fixture
def open_page(qtbot: QtBot, theme: Theme) -> Open:
    def build(store: Store, width: int = 1120, height: int = 800) -> MemoryPage:
        page = MemoryPage(store, theme)
        qtbot.addWidget(page)
        page.resize(width, height)
        page.show()
        QApplication.processEvents()
        return page

    return build


def plain(text: str) -> str:
    return text.replace(NARROW_SPACE, " ")


def test_that_there_is_a_row_for_each_checked_variant_in_both_tables(open_page: Open) -> None:
    store = measured_store(seq_len=1024)
    page = open_page(store)
    assert [row.variant for row in page.peaks.rows] == list(store.state.settings.checked)
    assert [row.variant for row in page.fits.rows] == list(store.state.settings.checked)
    assert "measured" in page.peaks.accessibleDescription()
    store.update(checked=("linear",))
    assert [row.title for row in page.peaks.rows] == ["Linear"]


def test_that_the_place_on_the_axis_is_the_logarithm_and_to_card_scale_the_bytes(open_page: Open) -> None:
    store = measured_store(seq_len=1024)
    page = open_page(store)
    table = page.peaks.layout_
    steps = [table.place(4 * size) - table.place(size) for size in (16 << 20, 64 << 20, 256 << 20)]
    assert steps == pytest.approx([steps[0]] * 3)
    assert steps[0] > 0
    store.update(memory_bars="card")
    table = page.peaks.layout_
    start = table.place(0)
    assert table.place(4 * GIB) - start == pytest.approx(2 * (table.place(2 * GIB) - start))
    assert table.place(64 * GIB) == table.columns()["axis_end"], "what is larger than the card ends at the card"


def test_that_a_refusal_names_terms_bytes_free_and_largest_n_and_one_click_uses_it(open_page: Open, qtbot: QtBot) -> None:
    store = ready_store(seq_len=1 << 17)
    page = open_page(store)
    text = plain(page.refusals.text)
    assert text.startswith("Naive does not fit at n = 131,072. The largest n that fits here is ")
    for part in ("scores", "weights", "q k v out", "free now 6.00 GiB", "kept in reserve"):
        assert part in text
    largest = page.refusals.use.text().removeprefix("Use n = ").replace(",", "")
    qtbot.mouseClick(page.refusals.use, Qt.MouseButton.LeftButton)
    assert store.state.settings.workload.seq_len == int(largest)
    assert page.refusals.isHidden()


def test_that_a_refused_variant_can_be_hidden(open_page: Open, qtbot: QtBot) -> None:
    store = ready_store(seq_len=1 << 17)
    page = open_page(store)
    assert page.refusals.hide_variant.text() == "Hide Naive"
    qtbot.mouseClick(page.refusals.hide_variant, Qt.MouseButton.LeftButton)
    assert "softmax_naive" not in store.state.settings.checked


def test_that_several_refusals_are_counted(open_page: Open) -> None:
    store = ready_store(seq_len=1 << 20, batch=64)
    page = open_page(store)
    assert "(3 more)" in page.refusals.text


def test_that_budgets_are_chosen_typed_and_refused(open_page: Open, qtbot: QtBot) -> None:
    store = ready_store()
    page = open_page(store)
    free = page.fits.rows[0].largest
    page.budget.choice.button("24").click()
    assert store.state.settings.fits_budget == 24 * GIB
    assert page.fits.rows[0].largest > free
    page.budget.field.setText("2 GiB")
    page.budget.field.apply()
    assert store.state.settings.fits_budget == 2 * GIB
    assert page.budget.choice.value == "own"
    assert page.fits.rows[0].largest < free
    page.budget.field.setText("plenty")
    page.budget.field.apply()
    assert plain(page.budget.problem.text()) == "Budget must be 1.00 MiB to 64.0 TiB (was plenty)."
    assert store.state.settings.fits_budget == 2 * GIB
    page.budget.choice.button("free").click()
    assert store.state.settings.fits_budget == 0
    assert plain(page.budget.field.text()) == "6.00 GiB"


def test_that_every_empty_state_says_what_is_missing(open_page: Open) -> None:
    store = ready_store(Live())
    page = open_page(store)
    assert page.fits.rows == ()
    assert not page.check.isEnabled()
    assert page.check.toolTip() == "Allocate and check is off: the engine is starting."
    page.grab()
    store.update(checked=())
    assert page._stack.currentIndex() == 1


def test_that_the_button_asks_the_window_to_measure_and_becomes_stop(open_page: Open, qtbot: QtBot) -> None:
    store = ready_store()
    page = open_page(store)
    with qtbot.waitSignal(page.action) as asked:
        page.check.click()
    assert asked.args == ["measure_all"]
    store.update_live(queue=("key",))
    assert page.stop.isVisible()
    with qtbot.waitSignal(page.action) as asked:
        page.stop.click()
    assert asked.args == ["cancel"]


@pytest.mark.parametrize(("width", "height"), [(1120, 804), (992, 704), (812, 584)])
def test_that_everything_has_its_place_at_every_size(open_page: Open, width: int, height: int) -> None:
    page = open_page(measured_store(seq_len=1 << 16), width, height)
    assert page.width() == width, "nothing in it asks for more room"
    columns = page.peaks.layout_.columns()
    assert (
        columns["name"]
        < columns["predicted"]
        < columns["measured"]
        < columns["difference"]
        < columns["axis"]
        < columns["axis_end"]
    )
    assert columns["axis_end"] < columns["parts"] < columns["parts_end"] <= width
    columns = page.fits.columns()
    assert columns["binding"] < columns["grows"] < columns["largest"] < columns["axis"] < columns["axis_end"] < columns["checked"]
    assert page.fits.geometry().bottom() <= page.fits.parentWidget().height()


def test_that_a_theme_switch_repaints_both_tables(open_page: Open, theme: Theme) -> None:
    page = open_page(measured_store(seq_len=1024))
    x = round(page.peaks.layout_.columns()["axis"]) + 3
    shown = []
    for mode in ("dark", "light"):
        theme.set_mode(mode)  # type: ignore[arg-type]
        shown.append(page.peaks.grab().toImage().pixelColor(x, 40).name().upper())
        assert shown[-1] == theme.tokens.plot
    assert shown[0] != shown[1]


def test_that_a_tool_tip_gives_formula_and_numbers(open_page: Open) -> None:
    page = open_page(measured_store(seq_len=1024))
    naive = page.peaks.rows[1]
    text = plain(tip(naive))
    assert text.startswith("<qt>Memory held by Naive<br>B·H·n²·4 + ")
    assert "measured" in text
    assert page.peaks.row_at(-5) is None
    assert page.peaks.row_at(26 + page.peaks.layout_.row_height() * 1.5) is naive

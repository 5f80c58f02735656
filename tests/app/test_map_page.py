"""The Map page as a whole: which parts stand when, and that a refusal and the toolbar change the state."""

from __future__ import annotations

import pytest
from attnscope.plots.map_page import MapPage
from attnscope.plots.refusal_card import RefusalCard, sentence
from attnscope.state import Answer
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope_engine import protocol as p
from map_states import answer, store_of, synthetic
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

GIB = 1 << 30


def page_of(qtbot: QtBot, store: Store, width: int = 1120, height: int = 804) -> MapPage:
    page = MapPage(store, Theme("dark"))
    qtbot.addWidget(page)
    page.resize(width, height)
    page.show()
    QApplication.processEvents()  # layouts settle with the events
    return page


def parts(page: MapPage) -> dict[str, bool]:
    widgets: dict[str, QWidget] = {
        "strip": page.strip,
        "canvas": page.canvas,
        "heads": page.heads,
        "readout": page.readout,
        "all": page.all_heads,
        "tour": page.tour,
    }
    return {name: widget.isVisible() for name, widget in widgets.items()}


def test_that_a_sentence_has_strip_and_heads_and_no_readout(qtbot: QtBot) -> None:
    store = store_of()
    store.update_live(tour_done=False)
    page = page_of(qtbot, store)
    expected = {"strip": True, "canvas": True, "heads": True, "readout": False, "all": False, "tour": True}
    assert parts(page) == expected
    before = page.canvas.geometry()
    answer(store)
    assert parts(page) == expected
    assert page.canvas.geometry() == before  # nothing jumps when the text has been read


def test_that_a_long_map_has_a_readout_and_no_strip(qtbot: QtBot) -> None:
    shown = parts(page_of(qtbot, synthetic(128)))
    assert shown == {"strip": False, "canvas": True, "heads": False, "readout": True, "all": False, "tour": False}


def test_that_all_heads_fill_the_page(qtbot: QtBot) -> None:
    store = store_of()
    page = page_of(qtbot, store)
    store.update(compare="heads")
    answer(store)
    QApplication.processEvents()
    shown = parts(page)
    assert shown["all"]
    assert not shown["canvas"]
    assert page.all_heads.height() > 700


@pytest.mark.parametrize(("width", "height"), [(1120, 804), (992, 704), (736, 584), (1576, 984)])
def test_that_the_page_fits_every_window(qtbot: QtBot, width: int, height: int) -> None:
    store = store_of()
    store.update_live(tour_done=False)
    answer(store)
    page = page_of(qtbot, store, width, height)
    assert (page.width(), page.height()) == (width, height)
    for child in (page.toolbar.fit_button, page.toolbar.colours, page.toolbar.compare, page.canvas, page.heads):
        corner = child.mapTo(page, child.rect().bottomRight())
        assert corner.x() <= width
        assert corner.y() <= height
    compare = page.toolbar.compare
    assert compare.width() >= compare.sizeHint().width()


def test_that_the_toolbar_sets_the_source_and_takes_the_text_back(qtbot: QtBot) -> None:
    store = store_of()
    answer(store)
    store.update(view=(0, 10, 0, 10), row=3, column=2)
    page = page_of(qtbot, store)
    text, toolbar = store.state.settings.source, page.toolbar
    toolbar.source.setCurrentIndex(toolbar.source.findData("local"))
    toolbar.source.activated.emit(toolbar.source.currentIndex())
    assert store.state.settings.source == p.SyntheticSource("local", 3)
    assert (store.state.settings.view, store.state.settings.row) == (None, -1)
    toolbar.seed.chosen.emit(7)
    assert store.state.settings.source == p.SyntheticSource("local", 7)
    toolbar.source.activated.emit(toolbar.source.findData("text"))
    assert store.state.settings.source == text


def test_that_a_file_is_asked_for_by_the_window(qtbot: QtBot) -> None:
    store = store_of()
    page = page_of(qtbot, store)
    with qtbot.waitSignal(page.action, check_params_cb=lambda action: action == "open_session"):
        page.toolbar.source.activated.emit(page.toolbar.source.findData("file"))
    assert isinstance(store.state.settings.source, p.TextSource)
    assert page.toolbar.source.currentData() == "text"


def test_that_scale_and_colours_are_one_choice(qtbot: QtBot) -> None:
    store = store_of()
    answer(store)
    page = page_of(qtbot, store)
    combo = page.toolbar.colours
    assert combo.currentText() == "linear · Inferno"
    combo.activated.emit(combo.findText("log · Cividis"))
    assert (store.state.settings.scale, store.state.settings.colours) == ("log", "cividis")
    assert combo.currentText() == "log · Cividis"
    combo.activated.emit(combo.findText("scale by length"))
    assert combo.currentText() == "linear · Cividis"


def test_that_a_disabled_button_says_why(qtbot: QtBot) -> None:
    store = store_of(checked=("softmax_tiled",))
    page = page_of(qtbot, store)
    difference = page.toolbar.compare.button("difference")
    assert not difference.isEnabled()
    assert difference.toolTip() == "A − B is off: it needs two variants."
    assert not page.toolbar.fit_button.isEnabled()
    assert page.toolbar.fit_button.toolTip() == "Fit is off: all of the map is shown."


def test_that_a_head_typed_into_the_toolbar_is_shown(qtbot: QtBot) -> None:
    store = store_of()
    answer(store)
    page = page_of(qtbot, store)
    assert (page.toolbar.layer.number, page.toolbar.head.number) == (2, 3)  # what the program picked
    page.toolbar.layer.field.setText("1")
    page.toolbar.layer.field.apply()
    assert (store.state.settings.layer, store.state.settings.head) == (1, 3)
    page.toolbar.layer.field.setText("9")
    page.toolbar.layer.field.apply()
    assert store.state.settings.layer == 1
    assert page.toolbar.layer.field.toolTip() == "Layer must be 0 to 2 (was 9)."


def test_that_a_text_that_is_too_long_is_cut_by_a_button(qtbot: QtBot) -> None:
    source = p.TextSource("long")
    store = store_of(source=source)
    page = page_of(qtbot, store)
    refusal = p.Refusal("too_long", "9,412 tokens; this model reads 8,192.", seq_len=9412, largest_seq_len=8192)
    store.update_live(answers={"text": Answer(p.ReadText(source), refusal=refusal)})
    assert [button.text() for button in page.ways_out.buttons] == ["Use the first 8,192", "Use the last 8,192"]
    page.ways_out.buttons[1].click()
    assert store.state.settings.source == p.TextSource("long", "last")


# ---------------------------------------------------------------- the refusal


def refusal(seq_len: int = 131072) -> p.Refusal:
    terms = (p.Term("scores", "B·H·n²·4", 1024 * GIB, "n2"), p.Term("weights", "B·H·n²·2", 512 * GIB, "n2"))
    text = f"Naive does not fit at n = {seq_len:,}"
    return p.Refusal("memory", text, "softmax_naive", seq_len, terms, 1536 * GIB, 78 * GIB, GIB, 29376)


def card_of(qtbot: QtBot, store: Store, width: int = 512, height: int = 572) -> RefusalCard:
    card = RefusalCard(store, Theme("dark"))
    qtbot.addWidget(card)
    card.resize(width, height)
    card.show_refusal(refusal())
    card.show()
    return card


def test_that_a_refusal_names_size_ratio_and_that_nothing_ran() -> None:
    words = sentence(refusal())
    assert words == (
        "It stores every score and every weight, 131,072 × 131,072 a head. "
        "That is 19.7 times the memory that is free. Nothing was launched."
    )


def test_that_one_click_uses_the_largest_n_that_fits(qtbot: QtBot) -> None:
    store = store_of(checked=("softmax_naive", "softmax_tiled"))
    card = card_of(qtbot, store)
    assert card.use.text() == "Use n = 29,376"
    card.use.click()
    assert store.state.settings.workload.seq_len == 29376


def test_that_the_variant_can_be_hidden_or_flash_be_shown_in_its_place(qtbot: QtBot) -> None:
    store = store_of(checked=("softmax_naive", "softmax_tiled"))
    card = card_of(qtbot, store)
    assert card.other.text() == "Hide Naive"
    card.other.click()
    assert store.state.settings.checked == ("softmax_tiled",)
    store.update(checked=("linear", "softmax_naive"))
    card.show_refusal(refusal())
    assert card.other.text().startswith("Show with Flash: same map, ")
    card.other.click()
    assert store.state.settings.checked == ("linear", "softmax_tiled")


@pytest.mark.parametrize(("height", "terms", "bar"), [(572, True, True), (400, True, False), (240, False, False)])
def test_that_a_low_card_leaves_parts_out_and_keeps_the_way_out(qtbot: QtBot, height: int, terms: bool, bar: bool) -> None:
    card = card_of(qtbot, store_of(checked=("softmax_naive", "softmax_tiled")), 448, height)
    assert (card.terms.isVisible(), card.bar.isVisible()) == (terms, bar)
    assert card.use.isVisible()
    assert card.use.geometry().bottom() <= height

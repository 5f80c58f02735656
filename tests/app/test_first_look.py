"""First look tells numbers that were found, and ends for good when it is done or skipped."""

from __future__ import annotations

import pytest
from attnscope.map_feed import MapFeed
from attnscope.panels.first_look import STEPS, FirstLook
from attnscope.panels.strongest_heads import StrongestHeads, strongest
from attnscope.quantities import weight
from attnscope.state import text_read
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope_engine.protocol import TextSource
from map_states import answer, read_of, store_of
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot


@pytest.fixture
def store(qtbot: QtBot) -> Store:
    store = store_of()
    answer(store)
    return store


@pytest.fixture
def card(qtbot: QtBot, store: Store) -> FirstLook:
    card = FirstLook(store, Theme("dark"), MapFeed(store))
    qtbot.addWidget(card)
    card.show()
    return card


def test_that_the_first_step_tells_the_links_weight_and_what_the_chunk_cuts(card: FirstLook) -> None:
    scene = card._feed.scene
    exact, cut = scene.rows
    assert cut.row is not None
    assert weight(exact.weight(1) or 0) in card.first.text()
    assert "she" in card.first.text()
    assert "CEO" in card.first.text()
    assert weight(cut.row.mass_cut) in card.second.text()


def test_that_no_number_is_told_before_it_is_known(qtbot: QtBot) -> None:
    store = store_of()
    card = FirstLook(store, Theme("dark"), MapFeed(store))
    qtbot.addWidget(card)
    assert "gives" not in card.first.text()
    assert "gone" not in card.second.text()


def test_that_the_slider_sets_the_chunk_and_the_words_follow(card: FirstLook, store: Store) -> None:
    card.chunk_slider.chosen.emit(16)
    assert store.state.settings.params["chunked"]["chunk_size"] == 16
    answer(store)
    assert "chunks of 16 tokens nothing of that row is lost" in card.second.text()


def test_that_next_goes_through_all_steps_and_then_is_done(qtbot: QtBot, card: FirstLook) -> None:
    for step in range(1, STEPS):
        card.next.click()
        assert card.place.text() == f"{step + 1} of {STEPS}"
    with qtbot.waitSignal(card.action, check_params_cb=lambda action: action == "tour_done"):
        card.next.click()


def test_that_skip_is_done_at_once(qtbot: QtBot, card: FirstLook) -> None:
    with qtbot.waitSignal(card.action, check_params_cb=lambda action: action == "tour_done"):
        card.skip.click()


def test_that_the_last_step_opens_the_text(qtbot: QtBot, card: FirstLook) -> None:
    for _ in range(STEPS - 1):
        card.next.click()
    assert card.act.isVisible()
    with qtbot.waitSignal(card.action, check_params_cb=lambda action: action == "edit_text"):
        card.act.click()


def test_that_markup_in_tokens_is_escaped(qtbot: QtBot, store: Store) -> None:
    store.update(source=TextSource("x"))
    words = ("The", " <i>CEO", *(f" w{index}" for index in range(9)), " <she>")
    answer(store, words)
    card = FirstLook(store, Theme("dark"), MapFeed(store))
    qtbot.addWidget(card)
    assert "&lt;she&gt;" in card.first.text()
    assert "&lt;i&gt;CEO" in card.first.text()


def test_that_the_strongest_heads_share_one_pair_and_fall_in_weight() -> None:
    heads = strongest(read_of(TextSource("x")))
    assert [fact.link for fact in heads] == sorted((fact.link for fact in heads), reverse=True)
    assert len({(fact.link_query, fact.link_key) for fact in heads}) == 1


def test_that_a_click_on_a_head_opens_it(qtbot: QtBot, store: Store) -> None:
    panel = StrongestHeads(store, Theme("dark"))
    qtbot.addWidget(panel)
    panel.resize(240, 230)
    panel.show()
    assert panel.title() == "she → CEO, strongest heads"
    second = panel.listed()[1]
    QTest.mouseClick(panel, Qt.MouseButton.LeftButton, pos=QPoint(60, 30 + 24 + 10))
    assert (store.state.settings.layer, store.state.settings.head) == (second.layer, second.head)
    assert text_read(store.state) is not None

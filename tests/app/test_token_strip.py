"""The sentence: where its tokens stand, what a click and the pointer choose, and that nothing overlaps."""

from __future__ import annotations

import itertools

import pytest
from attnscope.looks import DARK, look
from attnscope.map_feed import MapFeed
from attnscope.panels.token_strip import BAR, LEAST_PITCH, NUMBER_FROM, SIDE, TokenStrip, placed
from attnscope.store import Store
from attnscope.theme import Theme
from hypothesis import given
from hypothesis import strategies as st
from map_states import WORDS, answer, store_of
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot


@pytest.fixture
def store(qtbot: QtBot) -> Store:
    store = store_of()
    answer(store)
    return store


@pytest.fixture
def strip(qtbot: QtBot, store: Store) -> TokenStrip:
    strip = TokenStrip(store, Theme("dark"), MapFeed(store))
    qtbot.addWidget(strip)
    strip.resize(1120, 80)
    strip.show()
    return strip


def point(strip: TokenStrip, index: int) -> QPoint:
    word = strip._words[index]
    return QPoint(round(SIDE + word.x + word.width / 2), 20)


@given(st.lists(st.tuples(st.floats(1, 120), st.booleans()), max_size=64), st.floats(130, 1500))
def test_that_tokens_never_overlap_nor_leave_their_line(tokens: list[tuple[float, bool]], room: float) -> None:
    words = placed([width for width, _ in tokens], [start for _, start in tokens], room)
    for one, other in itertools.pairwise(words):
        assert (one.line, one.x) < (other.line, other.x)
        if one.line == other.line:
            assert other.x >= one.x + max(one.width, LEAST_PITCH)
    assert all(word.x + word.width <= room for word in words)


def test_that_a_click_chooses_the_row_and_a_second_frees_it(strip: TokenStrip, store: Store) -> None:
    QTest.mouseClick(strip, Qt.MouseButton.LeftButton, pos=point(strip, 5))
    assert store.state.settings.row == 5
    QTest.mouseClick(strip, Qt.MouseButton.LeftButton, pos=point(strip, 5))
    assert store.state.settings.row == -1


def test_that_the_pointer_shows_a_token_as_key_of_the_same_row(strip: TokenStrip, store: Store) -> None:
    store.update(row=11, column=1)
    QTest.mouseMove(strip, point(strip, 4))
    assert store.state.live.hover == (11, 4)
    assert strip._feed.scene.cell == (11, 4)
    QTest.mouseMove(strip, QPoint(1110, 70))
    assert store.state.live.hover is None


def test_that_left_and_right_move_the_row_and_keep_the_key_before_it(strip: TokenStrip, store: Store) -> None:
    store.update(row=2, column=2)
    QTest.keyClick(strip, Qt.Key.Key_Left)
    assert (store.state.settings.row, store.state.settings.column) == (1, 1)
    QTest.keyClick(strip, Qt.Key.Key_Right)
    assert store.state.settings.row == 2


def test_that_each_bar_is_as_long_as_its_weight(strip: TokenStrip, store: Store) -> None:
    scene = strip._feed.scene
    shot = strip.grab().toImage()
    for line, panel in enumerate(scene.rows):
        colour = look(panel.variant).colour(DARK)
        for index in range(12):
            weight = panel.weight(index)
            if weight is None or not weight >= 0.02:
                continue
            x, y = SIDE + strip._words[index].x, 6 + 33 + 6 * line + 2
            pixels = [shot.pixelColor(int(x) + step, y).name().upper() for step in range(BAR + 1)]
            assert abs(pixels.count(colour) - weight * BAR) <= 1.5


def test_that_weights_from_five_hundredths_on_are_said_in_words(strip: TokenStrip, store: Store) -> None:
    store.update(row=11, column=1)
    answer(store)
    words = strip.words()
    assert words.startswith("row she; Flash ")
    exact = strip._feed.scene.rows[0]
    named = [index for index in range(len(WORDS)) if (exact.weight(index) or 0) >= NUMBER_FROM]
    assert named
    assert all(f"{WORDS[index].strip()} 0." in words for index in named)


def test_that_markup_in_a_text_is_shown_and_not_obeyed(qtbot: QtBot, store: Store) -> None:
    from attnscope_engine.protocol import TextSource

    store.update(source=TextSource("a <b>bold</b> claim"))
    answer(store, ("a", " <b>", "bold", "</b>", " claim"))
    strip = TokenStrip(store, Theme("dark"), MapFeed(store))
    qtbot.addWidget(strip)
    strip.resize(900, 80)
    strip.grab()
    assert len(strip._words) == 5
    assert strip._words[1].width > strip._words[0].width


def test_that_a_text_before_it_is_read_has_the_same_height(qtbot: QtBot) -> None:
    store = store_of()
    strip = TokenStrip(store, Theme("dark"), MapFeed(store))
    qtbot.addWidget(strip)
    strip.resize(1120, 80)
    before = strip.height()
    strip.grab()
    answer(store)
    assert strip.height() == before


def test_that_words_move_together_rather_than_wrap(strip: TokenStrip) -> None:
    strip.resize(1120, 80)
    wide = strip._words[-1]
    strip.resize(int(wide.x + wide.width) + 2 * SIDE + 150 - 20, 80)  # 20 pixels short of one line at the wide spacing
    assert strip._words[-1].line == 0
    assert strip._words[-1].x < wide.x

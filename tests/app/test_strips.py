"""Strips: the newest notice, its ways out, and the others on demand."""

from __future__ import annotations

import pytest
from attnscope.panels.strips import Strip, Strips
from attnscope.state import Live, Notice
from attnscope.store import Store
from attnscope.theme import Theme
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from pytestqt.qtbot import QtBot

NO_GPU = Notice("info", "No NVIDIA driver found: everything runs on the CPU.", (("Why?", "diagnostics"),), key="no_gpu")
STOPPED = Notice("warn", "The engine stopped (Window, n = 65,536) and restarted in 0.9 s.", (("Show log", "show_log"),))
FAULT = Notice("danger", "GPU fault in Flash (code 700).", (("Try again", "try_again"), ("Report", "report")))


@pytest.fixture
def store(qtbot: QtBot) -> Store:
    return Store()


@pytest.fixture
def strips(qtbot: QtBot, store: Store) -> Strips:
    strips = Strips(store, Theme("dark"))
    qtbot.addWidget(strips)
    strips.resize(1000, 32)
    return strips


def shown(strips: Strips) -> list[str]:
    return [strip.sentence.text() for strip in strips.strips]


def test_that_nothing_to_say_takes_no_room(store: Store, strips: Strips) -> None:
    assert strips.isHidden()
    store.update_live(notices=(NO_GPU,))
    assert not strips.isHidden()
    store.update_live(notices=())
    assert strips.isHidden()


def test_that_only_the_newest_is_shown_until_the_others_are_asked_for(store: Store, strips: Strips) -> None:
    store.update_live(notices=(NO_GPU, STOPPED, FAULT))
    assert shown(strips) == [FAULT.text]
    more = strips.strips[0].more_button
    assert more is not None
    assert more.text() == "2 more"
    more.click()
    assert shown(strips) == [FAULT.text, STOPPED.text, NO_GPU.text]
    again = strips.strips[0].more_button
    assert again is not None
    again.click()
    assert shown(strips) == [FAULT.text]


def test_that_closing_removes_that_one_alone(store: Store, strips: Strips) -> None:
    store.update_live(notices=(NO_GPU, STOPPED))
    strips.strips[0].close_button.click()
    assert store.state.live.notices == (NO_GPU,)
    assert shown(strips) == [NO_GPU.text]
    assert strips.strips[0].more_button is None


def test_that_one_of_two_equal_notices_is_closed(store: Store, strips: Strips) -> None:
    twin = Notice("warn", STOPPED.text, STOPPED.actions)
    store.update_live(notices=(STOPPED, twin))
    strips.strips[0].close_button.click()
    assert len(store.state.live.notices) == 1


def test_that_buttons_say_what_to_do(qtbot: QtBot, store: Store, strips: Strips) -> None:
    store.update_live(notices=(FAULT,))
    buttons = strips.strips[0].buttons
    assert [button.text() for button in buttons] == ["Try again", "Report"]
    with qtbot.waitSignal(strips.action) as signal:
        buttons[1].click()
    assert signal.args == ["report"]


@pytest.mark.parametrize("notice", [NO_GPU, STOPPED, FAULT], ids=lambda notice: notice.level)
def test_that_the_edge_has_the_colour_of_the_level(qtbot: QtBot, notice: Notice) -> None:
    theme = Theme("light")
    strip = Strip(notice, theme, 0, unfolded=False)
    qtbot.addWidget(strip)
    strip.resize(800, 32)
    token = {"info": "accent", "warn": "warn", "danger": "danger"}[notice.level]
    assert strip.grab().toImage().pixelColor(1, 16) == QColor(getattr(theme.tokens, token))


def test_that_markup_is_shown_as_text(qtbot: QtBot) -> None:
    store = Store(live=Live(notices=(Notice("warn", "Could not open <img src=x>"),)))
    strips = Strips(store, Theme("dark"))
    qtbot.addWidget(strips)
    sentence = strips.strips[0].sentence
    assert sentence.text() == "Could not open <img src=x>"
    assert sentence.textFormat() == Qt.TextFormat.PlainText
    assert not sentence.toolTip()


def test_that_a_strip_is_as_high_as_the_layout_says(qtbot: QtBot, store: Store, strips: Strips) -> None:
    store.update_live(notices=(NO_GPU, FAULT))
    assert strips.sizeHint().height() == 32
    more = strips.strips[0].more_button
    assert more is not None
    more.click()
    assert strips.sizeHint().height() == 64

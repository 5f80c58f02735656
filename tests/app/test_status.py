"""The status bar: exact words, how far the work is, and what goes when there is no room."""

from __future__ import annotations

import msgspec
import pytest
from app_states import GIB, READY, key_of, measured
from attnscope.panels.status import PASSING_MS, StatusBar
from attnscope.panels.status_words import memory_words, minutes, phase_words, work
from attnscope.state import Busy, Live
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope_engine.protocol import DeviceFacts, Vitals
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

QUEUE = tuple(key_of(measured("softmax_tiled", n)) for n in (16384, 32768, 65536))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(qtbot: QtBot) -> Store:
    return Store(live=READY)


@pytest.fixture
def bar(qtbot: QtBot, store: Store, clock: Clock) -> StatusBar:
    bar = StatusBar(store, Theme("dark"), clock)
    qtbot.addWidget(bar)
    bar.resize(1440, 28)
    bar.show()
    return bar


@pytest.mark.parametrize(
    ("live", "words", "token"),
    [
        (Live(), "starting · predictions are ready", "accent"),
        (msgspec.structs.replace(READY, phase="measuring"), "measuring", "accent"),
        (
            msgspec.structs.replace(READY, device=DeviceFacts("c", "cpu", "A made-up processor", GIB, threads=16)),
            "ready on the CPU (16 threads)",
            "ok",
        ),
        (msgspec.structs.replace(READY, device=DeviceFacts("g", "cuda", "A made-up card", GIB)), "ready", "ok"),
    ],
)
def test_that_the_engines_state_is_in_the_designs_words(live: Live, words: str, token: str) -> None:
    assert phase_words(live) == (words, token)


def test_that_every_phase_has_words() -> None:
    phases = ("starting", "ready", "measuring", "restarting", "gave_up", "stopped")
    assert len({phase_words(msgspec.structs.replace(Live(), phase=phase))[0] for phase in phases}) == len(phases)


def test_that_memory_is_what_is_in_use() -> None:
    live = msgspec.structs.replace(READY, vitals=Vitals(int(78.2 * GIB), int(79.6 * GIB)))
    words, share = memory_words(live)
    assert words == "1.4 of 79.6 GiB"
    assert share == pytest.approx(1.4 / 79.6, abs=1e-3)


def test_that_work_shows_after_three_tenths_of_a_second() -> None:
    live = msgspec.structs.replace(READY, busy=Busy("map of Flash", 0.2, since=10.0))
    assert work(live, 10.2, 0.0) is None
    shown = work(live, 10.4, 0.0)
    assert shown is not None
    assert (shown.text, shown.done, shown.stop) == ("map of Flash", 0.2, "Cancel")


def test_that_slow_work_says_how_long_it_takes() -> None:
    live = msgspec.structs.replace(READY, busy=Busy("map of Flash", 0.12, since=10.0))
    shown = work(live, 13.12, 0.0)
    assert shown is not None
    assert (shown.text, shown.stop, shown.left) == ("working, 12 % of about 26 s", "Stop", "0:23")


def test_that_a_queue_counts_its_points_and_its_time() -> None:
    live = msgspec.structs.replace(READY, queue=QUEUE, queue_total=4)
    shown = work(live, 30.0, 20.0)
    assert shown is not None
    assert (shown.text, shown.done, shown.left) == ("Flash, n = 16,384 · 2 of 4", 0.25, "0:30")


def test_that_a_queue_does_not_vanish_between_two_points() -> None:
    live = msgspec.structs.replace(READY, queue=QUEUE, queue_total=4, busy=None)
    assert work(live, 30.0, 20.0) is not None


def test_that_minutes_are_read_like_a_clock() -> None:
    assert [minutes(seconds) for seconds in (0.4, 61, 3600, -5)] == ["0:00", "1:01", "60:00", "0:00"]


def test_that_the_bar_shows_progress_and_stops(qtbot: QtBot, store: Store, bar: StatusBar, clock: Clock) -> None:
    assert not bar.progress.isVisible()
    store.update_live(queue=QUEUE, queue_total=4)
    assert not bar.stop.isVisible()
    clock.now += 1.0
    bar._refresh.timeout.emit()
    assert bar.progress.isVisible()
    assert bar.message.text() == "Flash, n = 16,384 · 2 of 4"
    assert bar.progress.share == 0.25
    with qtbot.waitSignal(bar.action) as signal:
        bar.stop.click()
    assert signal.args == ["stop"]
    store.update_live(queue=(), queue_total=0)
    assert not bar.progress.isVisible()
    assert not bar._refresh.isActive()


def test_that_a_passing_line_passes(store: Store, bar: StatusBar) -> None:
    store.update_live(status="Stopped. 23 of 40 points kept.")
    assert bar.message.text() == "Stopped. 23 of 40 points kept."
    assert bar._passing.isActive()
    assert bar._passing.interval() == PASSING_MS == 4000
    bar._passing.timeout.emit()
    assert bar.message.text() == ""
    assert store.state.live.status == ""


def test_that_a_passing_line_goes_before_the_progress_and_gives_it_back(store: Store, bar: StatusBar, clock: Clock) -> None:
    store.update_live(queue=QUEUE, queue_total=4)
    clock.now += 1.0
    store.update_live(status="Saved fig.pdf")
    assert bar.message.text() == "Saved fig.pdf"
    assert bar.progress.isVisible()
    bar._passing.timeout.emit()
    assert bar.message.text() == "Flash, n = 16,384 · 2 of 4"


def test_that_markup_is_shown_as_text(store: Store, bar: StatusBar) -> None:
    store.update_live(
        device=DeviceFacts("d", "cuda", "<img src=x>", GIB, arch="sm_90", driver="580.1"), status="<b>Saved</b> <img src=x>"
    )
    for label in (bar.device, bar.arch, bar.message, bar.phase):
        assert label.textFormat() == Qt.TextFormat.PlainText
    assert bar.device.text() == "<img src=x>"
    assert bar.arch.text() == "sm_90 · driver 580"


def test_that_what_is_not_known_takes_no_room(store: Store, bar: StatusBar) -> None:
    assert bar.memory_bar.isVisible()
    store.update_live(device=None, vitals=None, phase="starting")
    assert not bar.memory_bar.isVisible()
    assert not bar.clock_speed.isVisible()


def test_that_a_narrow_window_keeps_the_words_that_matter(store: Store, bar: StatusBar, clock: Clock) -> None:
    card = DeviceFacts("d", "cuda", "NVIDIA H100 80GB HBM3", 80 * GIB, arch="sm_90", driver="580.1")
    store.update_live(device=card, vitals=Vitals(GIB, 80 * GIB, 1980), queue=QUEUE, queue_total=4)
    clock.now += 1.0
    bar._refresh.timeout.emit()
    assert bar.arch.isVisible()
    bar.resize(1024, 28)
    QApplication.processEvents()
    assert not bar.arch.isVisible()
    assert not bar.clock_speed.isVisible()
    for label in (bar.phase, bar.device, bar.memory, bar.message):
        assert label.isVisible()
        assert label.fontMetrics().horizontalAdvance(label.text()) <= label.width() + 1

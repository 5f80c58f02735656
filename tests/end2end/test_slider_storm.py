"""With the real engine on the processor: a slider that never rests does not hold up the event loop, and its last value is shown.

`ATTNSCOPE_STORM` sets the number of movements (1,500), at a thousand a second; `ATTNSCOPE_STRICT=1` holds the times to the
targets of a quiet machine, otherwise to ten times as much.
"""

import os
import random
import sys
import time

import psutil
import pytest
from attnscope.engine_client import EngineClient
from attnscope.predictions import curve, predict
from attnscope.requests import wanted
from attnscope.results import Results
from attnscope.state import Settings
from attnscope.store import Store
from attnscope_engine import catalogue
from attnscope_engine import protocol as p
from PySide6.QtCore import QTimer

EVENTS = int(os.environ.get("ATTNSCOPE_STORM", "1500"))
SLACK = 1 if os.environ.get("ATTNSCOPE_STRICT") else 10
ON_CPU = (sys.executable, "-m", "attnscope_engine", "--device", "cpu")


class Storm:
    """Movements of the slider, a thousand a second, and how late the event loop is with each beat."""

    def __init__(self, store: Store) -> None:
        self.store, self.random = store, random.Random(7)
        self.sent, self.began = 0, time.perf_counter()
        self.beats: list[float] = []
        self.last_beat = self.began
        self.timer = QTimer(interval=1)
        self.timer.timeout.connect(self.beat)
        self.timer.start()

    def beat(self) -> None:
        now = time.perf_counter()
        self.beats.append(now - self.last_beat)
        self.last_beat = now
        due = min(EVENTS, (now - self.began) * 1000)
        if self.sent < due:  # one a turn, as a window gets them; when late, the next turn comes at once
            self.sent += 1
            self.store.update(seq_len=64 + self.random.randrange(64) * 16 if self.sent < EVENTS else 1024)
        self.timer.setInterval(0 if self.sent + 1 < due else 1)
        if self.sent == EVENTS:
            self.timer.stop()

    @property
    def over(self) -> bool:
        return self.sent == EVENTS


@pytest.mark.timeout(120 + EVENTS // 100)
def test_that_a_storm_of_movements_leaves_the_window_quick_and_the_last_value_shown(qtbot):
    store = Store(Settings(source=p.SyntheticSource(), checked=("softmax_tiled", "chunked"), measure_idle=True))
    client = EngineClient(store, Results(None), ON_CPU)
    drawn = []

    def draw(_old, new):
        """What the panels do at every change, but for the painting."""
        drawn.append(sum(prediction.held_bytes for prediction in predict(new).values()))
        for name in catalogue.variants():
            curve(new, name)

    store.changed.connect(draw)
    client.start()
    try:
        qtbot.waitUntil(lambda: store.state.live.ceilings is not None and fresh(store), timeout=90_000)
        process = psutil.Process()
        before = process.memory_info().rss
        storm = Storm(store)
        qtbot.waitUntil(lambda: storm.over, timeout=EVENTS * 20)
        begin = time.perf_counter()
        qtbot.waitUntil(lambda: fresh(store), timeout=30_000)
        settled = time.perf_counter() - begin
        grown = process.memory_info().rss - before
    finally:
        client.stop()
    beats = sorted(storm.beats)
    p99, longest = beats[int(0.99 * len(beats))], beats[-1]
    print(
        f"{EVENTS} movements in {storm.last_beat - storm.began:.1f} s: event loop held up p99 {p99 * 1e3:.1f} ms, "
        f"at most {longest * 1e3:.0f} ms; the last value was shown after {settled * 1e3:.0f} ms; memory {grown / 2**20:+.1f} MiB"
    )
    assert store.state.live.answers["map"].payload.seq_len == 1024
    assert store.state.live.restarts == 0
    assert p99 < 0.016 * SLACK
    assert longest < 0.1 * SLACK
    assert settled < 0.3 * SLACK
    assert grown < 32 << 20


def fresh(store: Store) -> bool:
    answer = store.state.live.answers.get("map")
    return answer is not None and answer.job == wanted(store.state).get("map")

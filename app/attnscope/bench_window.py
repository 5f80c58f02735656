"""How fast the window is here: `attnscope bench window`. Absolute times of this machine, with the load that it had.

- start: from the start of the process until the first page is painted and the event loop is idle, as at a first start;
- storm: ten thousand slider events in ten seconds with the engine running, everything painted;
- tick: from a value of the slider until every prediction on the screen is repainted, on each page.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from attnscope import programs

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from attnscope.window import Window

STARTS = 7
TICKS = 600
STORM = 10_000
STORM_S = 10
BEAT_MS = 2
CHILD = "ATTNSCOPE_BENCH_STARTED"


def main() -> int:
    if CHILD in os.environ:
        return child(float(os.environ[CHILD]))
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors" if hasattr(os, "getloadavg") else "")
    starts = [start_once("start") for _ in range(STARTS + 1)][1:]
    print(f"start to interactive, {STARTS} warm starts: {spread(starts)}")
    for page in ("map", "scaling", "memory"):
        times = sorted(float(word) for word in run_child(f"ticks {page}").split())
        p99 = times[int(0.99 * (len(times) - 1))]
        print(f"slider tick to repainted, {page}: p50 {times[len(times) // 2]:.2f} ms, p99 {p99:.2f} ms, max {times[-1]:.2f} ms")
    for page in ("map", "scaling"):
        print(f"{STORM} slider events in {STORM_S} s, {page}: {run_child(f'storm {page}').strip()}")
    return 0


def spread(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, min {min(seconds):.2f}, max {max(seconds):.2f}"


def start_once(task: str) -> float:
    return float(run_child(task))


def run_child(task: str) -> str:
    """What a window of its own printed, in folders of its own."""
    with tempfile.TemporaryDirectory() as home:
        folders = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"), home)
        environment = {**os.environ, **folders, CHILD: repr(time.time())}
        environment.setdefault("QT_QPA_PLATFORM", "offscreen")
        command = programs.command("bench-window", *task.split())
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def child(started: float) -> int:
    from PySide6.QtWidgets import QApplication

    from attnscope.application import build

    app = QApplication([])
    window = build()
    window.resize(1440, 900)
    window.show()
    app.processEvents()
    app.processEvents()
    if sys.argv[1] == "start":
        print(time.time() - started)
        window.close()
        return 0
    window.client.start()
    wait(app.processEvents, lambda: window.store.state.live.ceilings is not None)
    window.store.update(
        page=sys.argv[2], measure_idle=False, checked=("softmax_naive", "softmax_tiled", "sliding_window", "linear", "chunked")
    )
    wait(app.processEvents, lambda: window.store.state.live.phase == "ready", settle=1.5)
    if sys.argv[1] == "storm":
        print(storm(app, window))
    else:
        print(*ticks(app, window, int(sys.argv[3]) if len(sys.argv) > 3 else TICKS))
    window.close()
    return 0


def ticks(app: QApplication, window: Window, count: int) -> list[float]:
    """Milliseconds of each tick."""
    times = []
    for tick in range(count):
        began = time.perf_counter()
        window.workload.slider.chosen.emit(seq_len_at(tick))
        app.processEvents()
        times.append((time.perf_counter() - began) * 1000)
    return times


def storm(app: QApplication, window: Window) -> str:
    """Events at the pace of a hand while the engine measures; how late the event loop's beat came.

    What comes while the loop is busy is compressed to the newest, as Qt does with the moves of a mouse.
    """
    from PySide6.QtCore import QTimer

    window.store.update(measure_idle=True)
    late: list[float] = []
    last = [time.perf_counter()]

    def beat() -> None:
        now = time.perf_counter()
        late.append(max(0.0, (now - last[0]) * 1000 - BEAT_MS))
        last[0] = now

    timer = QTimer(interval=BEAT_MS)
    timer.timeout.connect(beat)
    timer.start()
    memory = psutil.Process()
    before, began, sent, delivered = memory.memory_info().rss, time.perf_counter(), 0, 0
    while sent < STORM:
        due = int((time.perf_counter() - began) / STORM_S * STORM)
        if sent < due:
            window.workload.slider.chosen.emit(seq_len_at(due - 1))
            sent, delivered = due, delivered + 1
        app.processEvents()
    ended = time.perf_counter()
    wanted = window.store.state.settings.workload.seq_len
    while window.workload.fields["seq_len"].text().replace(",", "") != str(wanted) or late[-1] > BEAT_MS:
        app.processEvents()
    settled = (time.perf_counter() - ended) * 1000
    grown = (memory.memory_info().rss - before) / 2**20
    late.sort()
    p99 = late[int(0.99 * (len(late) - 1))]
    stall = f"stall p99 {p99:.1f} ms, max {late[-1]:.1f} ms"
    return f"{stall}; last value shown after {settled:.1f} ms; +{grown:.1f} MiB; {delivered} delivered"


def seq_len_at(tick: int) -> int:
    """What a drag emits: ten octaves up and again."""
    return round(2 ** (8 + tick % 140 / 14))


def wait(turn: Callable[[], None], done: Callable[[], bool], settle: float = 0.2, limit: float = 60) -> None:
    until = time.monotonic() + limit
    while not done() and time.monotonic() < until:
        turn()
        time.sleep(0.005)
    until = time.monotonic() + settle
    while time.monotonic() < until:
        turn()
        time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main())

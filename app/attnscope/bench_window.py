"""How fast the window is here: `attnscope bench window`. Absolute times of this machine, with the load that it had.

- start: from the start of the process until the first page is painted and the event loop is idle, as at a first start;
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

STARTS = 7
TICKS = 600
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
        command = [sys.executable, "-m", "attnscope.bench_window", *task.split()]
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
    slider = window.workload.slider
    times = []
    for tick in range(int(sys.argv[3]) if len(sys.argv) > 3 else TICKS):
        began = time.perf_counter()
        slider.chosen.emit(round(2 ** (8 + tick % 140 / 14)))  # what a drag emits
        app.processEvents()
        times.append((time.perf_counter() - began) * 1000)
    print(*times)
    window.close()
    return 0


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

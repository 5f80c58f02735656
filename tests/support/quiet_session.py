"""A whole session in the real window: it opens, measures, looks at a page of each kind, draws a figure, saves, opens, closes.

python quiet_session.py FOLDER        prints `closed` at its end; needs no display
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from attnscope.application import build
from attnscope.figure_process import FigureProcess
from attnscope.page_figure import page_figure
from attnscope_engine.protocol import SyntheticSource
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

LIMIT_S = 90
PAGES = ("scaling", "memory", "map")


def main(folder: Path) -> None:
    app = QApplication([])
    window = build(command=[sys.executable, "-m", "attnscope_engine", "--device", "cpu"])
    store = window.store

    def wait(done: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + LIMIT_S
        while not done():
            app.processEvents()
            time.sleep(0.005)
            if time.monotonic() > until:
                sys.exit(f"waited {LIMIT_S} s for {what}")

    store.update(source=SyntheticSource(), seq_len=128, num_heads=2, num_kv_heads=2, checked=("softmax_tiled", "linear"))
    window.show()
    QTimer.singleShot(0, window.client.start)
    wait(lambda: store.state.live.ceilings is not None, "the engine")
    for page in PAGES:
        store.update(page=page)
        app.processEvents()
    window.on_measure_all()
    wait(lambda: len(store.state.live.measurements) >= 2, "measurements")
    store.update(page="memory")
    app.processEvents()
    drawn: list[bytes] = []
    job = page_figure(store.state)
    figures = FigureProcess()
    figures.start(job, drawn.append, sys.exit)
    wait(lambda: bool(drawn), "a figure")
    window.on_about()
    window.on_diagnostics()
    app.processEvents()
    assert window.documents.save(folder / "quiet.attnscope")
    assert window.documents.open(folder / "quiet.attnscope")
    window.close()
    wait(lambda: not window.isVisible(), "the end")
    network = [name for name in sys.modules if name.startswith(("PySide6.QtNetwork", "PySide6.QtWebSockets"))]
    print(f"imported {', '.join(network)}" if network else "closed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Takes the README's screenshots: the real window with the real engine on this machine, no display needed.

python packaging/screenshots.py --out packaging/screens --size 1440x900 --theme dark
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

VARIANTS = ("softmax_naive", "softmax_tiled", "sliding_window", "linear", "chunked")
PAGES = ("map", "scaling", "memory")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("packaging/screens"))
    parser.add_argument("--size", default="1440x900", help="logical pixels of the window")
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels a logical one")
    parser.add_argument("--theme", choices=("dark", "light"), nargs="+", default=["dark"])
    parser.add_argument("--pages", choices=PAGES, nargs="+", default=list(PAGES))
    parser.add_argument("--seq-len", type=int, default=4096, help="n of the costs")
    parser.add_argument("--sweep", default="256:16384", help="range of the sweep")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument("--limit", type=float, default=240, help="seconds to wait for the sweep")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["QT_SCALE_FACTOR"] = str(options.scale)
    home = tempfile.TemporaryDirectory()
    os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_STATE_HOME"] = home.name  # the pictures are of a first start

    from attnscope.application import build
    from attnscope.engine_wire import default_command
    from PySide6.QtWidgets import QApplication

    app = QApplication([])
    window = build(command=list(default_command(options.device)))
    width, height = (int(side) for side in options.size.split("x"))
    window.resize(width, height)
    window.show()
    window.client.start()

    def wait(done: Callable[[], bool], seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not done():
            app.processEvents()
            time.sleep(0.005)
            if time.monotonic() > until:
                print(f"gave up waiting for {what}", file=sys.stderr)
                return

    store = window.store
    answers = lambda: store.state.live.answers  # noqa: E731
    low, high = (int(word) for word in options.sweep.split(":"))
    store.update(seq_len=options.seq_len, sweep_low=low, sweep_high=high)
    wait(lambda: store.state.live.ceilings is not None, 60, "the ceilings")
    for page in options.pages:
        if page != "map":
            store.update(checked=VARIANTS, page=page)
        if page == "scaling":
            window.do("sweep")
            wait(lambda: not store.state.live.queue, options.limit, "the sweep")
        if page == "memory":
            window.do("measure_all")
            wait(lambda: not store.state.live.queue, options.limit, "the measurements")
        if page == "map":
            store.update(page="map")
            wait(lambda: {"map", "row", "heads", "text"} <= set(answers()), 60, "the maps")
            wait(lambda: store.state.live.phase == "ready", 30, "the measurements")
        for theme in options.theme:
            window.theme.set_mode(theme)
            settle = time.monotonic() + 0.6
            wait(lambda settle=settle: time.monotonic() > settle, 2, "the picture")
            options.out.mkdir(parents=True, exist_ok=True)
            suffix = "" if options.scale == 1 else f"-{options.scale:g}x"
            path = options.out / f"{page}-{theme}-{options.size}{suffix}.png"
            window.grab().save(str(path))
            print(path)
    window.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

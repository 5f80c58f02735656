"""Draws figures in a process of its own, so that the window never waits for matplotlib.

Reads one msgpack `FigureJob` from stdin; writes the file's bytes to stdout, or with `--copies` a msgpack `Copies`.
"""

from __future__ import annotations

import sys

import msgspec

from attnscope.figures.job import FigureJob
from attnscope.figures.render import copies, render


def main() -> int:
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=FigureJob)
    answer = msgspec.msgpack.encode(copies(job)) if "--copies" in sys.argv else render(job)
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

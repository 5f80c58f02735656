"""Add-ons in a process of their own, for the window.

`python -m attnscope_engine.addons list | add NAME [--from FOLDER] | remove NAME`.

Each line of its output is one `Said` as JSON. `add` stops, keeping what it has fetched, when its input ends: also when the
window that started it is gone.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from attnscope_engine.addons import AddonCancelled, AddonError
from attnscope_engine.addons.changing import Progress, add, remove, tidy
from attnscope_engine.addons.fitting import read_machine
from attnscope_engine.addons.rows import Row, rows

USAGE = "usage: python -m attnscope_engine.addons list | add NAME [--from FOLDER] | remove NAME\n"
SHOW_EVERY_S = 0.1


class Said(Struct, frozen=True, omit_defaults=True):
    """One line: rows, progress, or how it ended."""

    rows: tuple[Row, ...] = ()
    progress: Progress | None = None
    ended: str = ""
    """"done", "failed" or "cancelled"; the last line has it."""
    text: str = ""


def say(said: Said) -> None:
    sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
    sys.stdout.flush()


def cancelled_by_end_of_input() -> threading.Event:
    """Set once nobody holds the other end of our input any more."""
    event = threading.Event()

    def wait() -> None:
        with suppress(OSError):  # not through sys.stdin, whose lock a waiting thread would keep beyond the end
            while os.read(0, 1):
                pass
        event.set()

    threading.Thread(target=wait, daemon=True).start()
    return event


class Shower:
    """Progress, not more often than a person can read."""

    def __init__(self) -> None:
        self._at = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._at >= SHOW_EVERY_S or progress.done == progress.total:
            self._at = now
            say(Said(progress=progress))


def ending(work: Callable[[threading.Event], object]) -> int:
    """Does it, and says how it ended."""
    try:
        work(cancelled_by_end_of_input())
    except AddonError as error:
        say(Said(ended="failed", text=str(error)))
        return 1
    except AddonCancelled:
        say(Said(ended="cancelled"))
        return 130
    say(Said(ended="done"))
    return 0


def main(words: list[str]) -> int:
    """Exit codes: 0 done, 1 failed, 2 wrong words, 130 cancelled."""
    match words:
        case ["list"]:
            tidy()
            say(Said(rows=rows(read_machine()), ended="done"))
            return 0
        case ["add", name]:
            return ending(lambda stop: add(name, Shower(), stop.is_set))
        case ["add", name, "--from", folder]:
            return ending(lambda stop: add(name, Shower(), stop.is_set, source=Path(folder)))
        case ["remove", name]:
            return ending(lambda _: remove(name))
    sys.stderr.write(USAGE)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Calls that do not touch each other, several at a time: NumPy gives its lock back while it computes, but uses one core."""

from __future__ import annotations

import contextvars
import functools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from attnscope_engine.variant import Tick

AHEAD = 2
"""Calls that a thread has in hand: the one at work, and the next."""


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="block")


def run(calls: Iterable[Callable[[], None]], tick: Tick, workers: int) -> None:
    """Each call once, begun in their order, `workers` at a time; `tick` is called here before each.

    Raises: what a call or `tick` raises, when no call is at work any more.
    """
    if workers < 2:
        for call in calls:
            tick()
            call()
        return
    pending: deque[Future[None]] = deque()
    try:
        for call in calls:
            tick()
            if len(pending) == AHEAD * workers:
                pending.popleft().result()
            # in the caller's context: what NumPy says of infinities is set there
            pending.append(_pool(workers).submit(contextvars.copy_context().run, call))
        while pending:
            pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        wait(pending)

"""What is asked of the engine: the newest request of each slot. Filled by the reader thread, emptied by the main thread."""

from __future__ import annotations

import threading

from attnscope_engine.protocol import Run

SLOTS_BY_PRIORITY = ("row", "map", "text", "heads", "calibrate", "measure")
"""What the hand is on comes first: a row under the pointer before a measurement that may take seconds."""


def rank(slot: str) -> int:
    """Place of a slot, 0 first. A slot that is not in the list comes last."""
    return SLOTS_BY_PRIORITY.index(slot) if slot in SLOTS_BY_PRIORITY else len(SLOTS_BY_PRIORITY)


class Mailbox:
    """At most one waiting request a slot, and the one that is running.

    Each request that was put leaves in one of two ways, so that each is answered exactly once: `take` hands it out to be
    worked on, or `withdrawn` lists its id, because a newer one of its slot or a `Cancel` came first.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[str, Run] = {}
        self._running: Run | None = None
        self._running_withdrawn = False
        self._withdrawn: list[int] = []
        self.changes = 0
        """Grows with every `put` and `cancel`: lets a tick see without the lock that nothing happened."""

    def put(self, run: Run) -> None:
        """A new request. What waits or runs in its slot is withdrawn."""
        with self._condition:
            older = self._waiting.get(run.slot)
            if older is not None:
                self._withdrawn.append(older.id)
            if self._running is not None and self._running.slot == run.slot:
                self._running_withdrawn = True
            self._waiting[run.slot] = run
            self.changes += 1
            self._condition.notify()

    def cancel(self, id_: int) -> None:
        """Withdraw one request. An id that was answered already is nothing to do."""
        with self._condition:
            if self._running is not None and self._running.id == id_:
                self._running_withdrawn = True
            for slot, run in self._waiting.items():
                if run.id == id_:
                    del self._waiting[slot]
                    self._withdrawn.append(id_)
                    break
            self.changes += 1
            self._condition.notify()

    def take(self, timeout_s: float, first: str | None = None) -> Run | None:
        """The request of slot `first`, else of the first slot by priority, from now the running one; None after `timeout_s`."""
        with self._condition:
            if not self._waiting and not self._withdrawn:
                self._condition.wait(timeout_s)
            if not self._waiting:
                return None
            slot = first if first in self._waiting else min(self._waiting, key=rank)
            self._running = self._waiting.pop(slot)
            self._running_withdrawn = False
            return self._running

    def done(self) -> None:
        """The running request was answered."""
        with self._condition:
            self._running = None

    def put_back(self) -> None:
        """The running request made way for one of a higher priority: it waits again, unless it was withdrawn meanwhile."""
        with self._condition:
            run, self._running = self._running, None
            if run is None:
                return
            if self._running_withdrawn:
                self._withdrawn.append(run.id)
            else:
                self._waiting[run.slot] = run

    def withdrawn(self) -> list[int]:
        """Ids to answer with `Cancelled`, each once."""
        with self._condition:
            ids, self._withdrawn = self._withdrawn, []
            return ids

    @property
    def running_withdrawn(self) -> bool:
        """True once the running request was cancelled or replaced."""
        with self._condition:
            return self._running is not None and self._running_withdrawn

    def waiting(self) -> tuple[Run, ...]:
        """What waits now, first to be served first."""
        with self._condition:
            return tuple(sorted(self._waiting.values(), key=lambda run: rank(run.slot)))

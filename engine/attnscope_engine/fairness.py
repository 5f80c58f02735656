"""How long a request may be held off by those of a higher priority. Pure: times are arguments.

A request that was held off for `OWED_AFTER` times its grant is owed that grant: it starts next, and for so long nothing
but its own cancellation or replacement stops it. The grant is 1 s at first and doubles each time it was too short. So
under a hand that never rests the rest of the work still gets a sixth of the time, and what needs T seconds of it is
finished after at most three times T.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnscope_engine.protocol import Run

FIRST_GRANT_S = 1.0
OWED_AFTER = 5.0


@dataclass(slots=True)
class HeldOff:
    """The unfinished request of one slot."""

    id: int
    since: float
    """When it began to wait, or when its last grant ended."""
    grant_s: float = FIRST_GRANT_S
    granted: bool = False
    """True while it runs on a grant."""

    def owed(self, now: float) -> bool:
        return now - self.since >= OWED_AFTER * self.grant_s


class Fairness:
    """What is owed to each unfinished request, by slot."""

    def __init__(self) -> None:
        self._held: dict[str, HeldOff] = {}

    def note(self, waiting: Iterable[Run], now: float) -> None:
        """Start the clock of requests that are new; forget those that no longer wait."""
        noted = {run.slot: self._of(run, now) for run in waiting}
        self._held = noted

    def first(self, now: float) -> str | None:
        """The slot that is owed its grant for longest; None: the priority decides."""
        owed = [(held.since, slot) for slot, held in self._held.items() if held.owed(now)]
        return min(owed)[1] if owed else None

    def start(self, run: Run, now: float) -> float:
        """`run` begins; until the time returned it runs undisturbed."""
        held = self._of(run, now)
        self._held[run.slot] = held
        held.granted = held.owed(now)
        return now + held.grant_s if held.granted else now

    def displaced(self, run: Run, now: float) -> None:
        """`run` made way and waits again."""
        held = self._of(run, now)
        if held.granted:
            held.grant_s *= 2
            held.since = now
        held.granted = False

    def _of(self, run: Run, now: float) -> HeldOff:
        held = self._held.get(run.slot)
        return held if held is not None and held.id == run.id else HeldOff(run.id, now)

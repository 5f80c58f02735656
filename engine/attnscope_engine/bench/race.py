"""Contenders in turns until each median is certain. Knows neither torch nor CUDA."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from attnscope_engine.bench.results import Timing
from attnscope_engine.measure import certain, percentiles

LEAST_ROUNDS, MOST_ROUNDS = 3, 200
WARM_ROUNDS = 2


class Runner(Protocol):
    """One contender, ready to be replayed."""

    name: str
    calls: int
    extra_bytes: int

    def replay(self) -> tuple[float, int]:
        """Seconds of one call, and the clock in MHz meanwhile, 0 when unknown."""
        ...


@dataclass
class _Samples:
    runner: Runner
    times: list[float] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)

    def take(self) -> None:
        seconds, clock = self.runner.replay()
        self.times.append(seconds)
        self.clocks.append(clock)

    def timing(self) -> Timing:
        low, middle, high = percentiles(self.times)
        known = [clock for clock in self.clocks if clock]
        clock = round(statistics.median(known)) if known else 0
        runner = self.runner
        return Timing(runner.name, middle, low, high, len(self.times), runner.calls, clock, runner.extra_bytes)


def race(runners: Sequence[Runner], budget_s: float, now: Callable[[], float] = time.monotonic) -> list[Timing]:
    """One replay of each a round, so that a clock that drifts drifts for all, until all are certain or the budget is spent.

    At least 3 rounds are timed, after 2 that warm up. The first of a round changes from round to round: who follows a long
    contender finds a hotter card.
    """
    samples = [_Samples(runner) for runner in runners]
    for _ in range(WARM_ROUNDS):
        for runner in runners:
            runner.replay()
    end = now() + budget_s
    for turn in range(MOST_ROUNDS):
        if turn >= LEAST_ROUNDS and (now() >= end or all(certain(sample.times) for sample in samples)):
            break
        first = turn % len(samples) if samples else 0
        for sample in (*samples[first:], *samples[:first]):
            sample.take()
    return [sample.timing() for sample in samples]

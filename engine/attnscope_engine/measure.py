"""How often a call is timed and what the numbers are worth. Knows neither torch nor CUDA: a device prepares and times.

A measurement is a median with its 20th and 80th percentile. When it is less certain than promised it says why.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from attnscope_engine import __version__
from attnscope_engine.devices import Device, Prepared
from attnscope_engine.protocol import Measure, Measured
from attnscope_engine.variant import Tick

LEAST_SAMPLES = 3
CERTAIN_SAMPLES = 7
"""Samples from which the interval of the median is believed."""
CERTAIN_HALF_WIDTH = 0.01
"""Of the median: where a measurement may end before its budget."""
MOST_SAMPLES = 1000
FEW_SAMPLES = 5
NOISY_SPREAD = 0.05
NOISY_CLOCK = 0.03
NORMAL_95 = 1.96
MOST_SLEEPS = 3


class Report(Protocol):
    """How far the measurement is, 0 to 1."""

    def __call__(self, done: float, text: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from."""

    now: Callable[[], float] = time.monotonic
    """Seconds that do not jump."""
    suspended: Callable[[], float] = lambda: suspended_s()
    """Seconds that this machine has slept since it started."""
    date: Callable[[], float] = time.time
    """Unix seconds."""


def suspended_s() -> float:
    """A jump between two readings means that the machine slept. 0 where the system does not tell."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def measure(device: Device, job: Measure, tick: Tick, progress: Report, clocks: Clocks | None = None) -> Measured:
    """One point: warm up (which counts the memory), then repeat until the median is certain or the budget is spent.

    Raises: Interrupted (from `tick`; nothing of the point is kept), Unsupported, DeviceFault, ValueError.
    """
    clocks = clocks or Clocks()
    prepared = device.prepare(job, tick)
    try:
        peak = prepared.peak_bytes(tick)
        samples = _Samples(device, prepared, clocks)
        _repeat(samples, job.budget_s, tick, progress)
        low, middle, high = percentiles(samples.times)
        return Measured(
            workload=job.workload,
            choice=job.choice,
            device=device.facts.key,
            time_s=middle,
            p20_s=low,
            p80_s=high,
            samples=len(samples.times),
            peak_bytes=peak,
            taken_at=clocks.date(),
            noise=noise(samples.times, samples.clocks_mhz, job.budget_s),
            clock_mhz=round(statistics.median(samples.clocks_mhz)),
            provenance={**prepared.provenance(), "engine": __version__, "seed": str(job.seed)},
        )
    finally:
        prepared.close()


class _Samples:
    """The repeats so far."""

    def __init__(self, device: Device, prepared: Prepared, clocks: Clocks) -> None:
        self._device, self._prepared, self._clocks = device, prepared, clocks
        self.times: list[float] = []
        self.clocks_mhz: list[int] = []

    def take(self, tick: Tick) -> None:
        """One more; one during which the machine slept is thrown away and taken again."""
        for _ in range(MOST_SLEEPS):
            before = self._clocks.suspended()
            elapsed = self._prepared.time_once(tick)
            if self._clocks.suspended() - before < 1e-3:
                break
        self.times.append(elapsed)
        self.clocks_mhz.append(self._device.clock_mhz())


def _repeat(samples: _Samples, budget_s: float, tick: Tick, progress: Report) -> None:
    start = now = samples._clocks.now()
    while len(samples.times) < MOST_SAMPLES:
        count = len(samples.times)
        if count >= LEAST_SAMPLES and (now - start >= budget_s or certain(samples.times)):
            return
        tick()
        samples.take(tick)
        now = samples._clocks.now()
        progress(min(1.0, max((now - start) / budget_s, 0.0) if count >= LEAST_SAMPLES else count / LEAST_SAMPLES))


def certain(times: list[float]) -> bool:
    """True when enough samples place the median within 1 %."""
    return len(times) >= CERTAIN_SAMPLES and half_width(times) < CERTAIN_HALF_WIDTH * statistics.median(times)


def half_width(times: list[float]) -> float:
    """Half of the 95 % interval of the median, in seconds, from the order of the samples: no distribution is assumed."""
    ordered = sorted(times)
    n = len(ordered)
    low = max(0, math.floor(n / 2 - NORMAL_95 * math.sqrt(n) / 2))
    high = min(n - 1, math.ceil(n / 2 + NORMAL_95 * math.sqrt(n) / 2))
    return (ordered[high] - ordered[low]) / 2


def percentiles(times: list[float]) -> tuple[float, float, float]:
    """20th, 50th and 80th, between samples by a straight line."""
    ordered = sorted(times)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (place - below)

    return at(0.2), at(0.5), at(0.8)


def noise(times: list[float], clocks_mhz: list[int], budget_s: float) -> str:
    """Why the number is uncertain; empty when it is not."""
    low, middle, high = percentiles(times)
    reasons = []
    if len(times) < FEW_SAMPLES:
        reasons.append(f"only {len(times)} samples in {budget_s:g} s")
    if middle > 0 and (high - low) / middle > NOISY_SPREAD:
        reasons.append(f"spread {100 * (high - low) / middle:.0f} % > {100 * NOISY_SPREAD:.0f} %")
    known = [clock for clock in clocks_mhz if clock > 0]
    if known and (max(known) - min(known)) / max(known) > NOISY_CLOCK:
        reasons.append(f"clock between {min(known):,} and {max(known):,} MHz")
    return ", ".join(reasons)

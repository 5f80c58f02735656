"""How often a prepared call is repeated, and what the numbers are worth. Knows no device."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

from attnscope_engine.devices import Device, Prepared
from attnscope_engine.protocol import Measure, Measured
from attnscope_engine.variant import Tick

Progress = Callable[[float, str], None]
MIN_SAMPLES = 3
ENOUGH_SAMPLES = 7
MAX_SAMPLES = 200
HALF_WIDTH = 0.01
"""The median is known well enough once its 95 % interval is within this share of it, and `ENOUGH_SAMPLES` were taken."""
SPREAD_LIMIT = 0.05
CLOCK_LIMIT = 0.03


def measure(device: Device, job: Measure, tick: Tick, progress: Progress) -> Measured:
    """One measured point: warm up once, repeat until the median is known or the budget is spent, then the peak of memory.

    Raises:
        Interrupted: from `tick`. DeviceFault, Unsupported: from the device.
    """
    prepared = device.prepare(job)
    try:
        tick()
        prepared.time_once(tick)
        samples, clocks = repeat(device, prepared, job.budget_s, tick, progress)
        peak = prepared.peak_bytes(tick)
        provenance = prepared.provenance()
    finally:
        prepared.close()
    p20, p80 = quantile(samples, 0.2), quantile(samples, 0.8)
    return Measured(
        workload=job.workload,
        choice=job.choice,
        device=device.facts.key,
        time_s=statistics.median(samples),
        p20_s=p20,
        p80_s=p80,
        samples=len(samples),
        peak_bytes=peak,
        taken_at=time.time(),
        noise=noise_of(samples, clocks),
        clock_mhz=round(statistics.median(clocks)) if clocks else 0,
        provenance={**provenance, "seed": str(job.seed)},
    )


def repeat(device: Device, prepared: Prepared, budget_s: float, tick: Tick, progress: Progress) -> tuple[list[float], list[int]]:
    """Samples in seconds, and the clock beside each. A sample during which the machine slept is taken again."""
    samples: list[float] = []
    clocks: list[int] = []
    began = time.monotonic()
    while len(samples) < MAX_SAMPLES:
        tick()
        asleep = slept_s()
        sample = prepared.time_once(tick)
        if slept_s() - asleep > 0.1:
            continue
        samples.append(sample)
        if clock := device.clock_mhz():
            clocks.append(clock)
        spent = time.monotonic() - began
        progress(min(1.0, max(spent / budget_s, len(samples) / MAX_SAMPLES)), f"{len(samples)} repeats")
        if len(samples) >= ENOUGH_SAMPLES and half_width(samples) < HALF_WIDTH:
            break
        if len(samples) >= MIN_SAMPLES and spent >= budget_s:
            break
    return samples, clocks


def quantile(samples: list[float], share: float) -> float:
    """Linear between the order statistics."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def half_width(samples: list[float]) -> float:
    """Half the 95 % interval of the median (order statistics, normal approximation), as a share of the median."""
    ordered, count = sorted(samples), len(samples)
    reach = 0.98 * math.sqrt(count)
    low, high = max(0, math.floor(count / 2 - reach)), min(count - 1, math.ceil(count / 2 + reach))
    return (ordered[high] - ordered[low]) / 2 / statistics.median(ordered)


def noise_of(samples: list[float], clocks: list[int]) -> str:
    """Why the number is uncertain, empty when it is not."""
    middle = statistics.median(samples)
    spread = (quantile(samples, 0.8) - quantile(samples, 0.2)) / middle
    reasons = []
    if spread > SPREAD_LIMIT:
        reasons.append(f"spread {spread * 100:.1f} % > {SPREAD_LIMIT * 100:.0f} %")
    if len(samples) < 5:
        reasons.append(f"only {len(samples)} repeats")
    if clocks and (max(clocks) - min(clocks)) / max(clocks) > CLOCK_LIMIT:
        reasons.append(f"clock {min(clocks):,} to {max(clocks):,} MHz")
    return ", ".join(reasons)


def slept_s() -> float:
    """Seconds that the machine was suspended since it started; 0 where the system does not tell."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)

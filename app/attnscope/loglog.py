"""Arithmetic on curves in log-log coordinates: local exponents, power laws, crossovers. No Qt, no state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

FIT_LEAST = 3
"""Points that a fitted power law needs."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a curve with its likely range: the p20 and p80 of a measurement, or a tolerance round a prediction."""

    n: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where one curve passes another."""

    n: float
    value: float
    falls_below: bool
    """True when the first curve is the lower one beyond this n."""


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """value = factor · n ** exponent."""

    factor: float
    exponent: float
    from_n: float = 0.0
    """Where the points begin that it was fitted to."""

    def at(self, n: float) -> float:
        return self.factor * math.pow(n, self.exponent)


def local_slope(ns: Sequence[float], values: Sequence[float], at: float) -> float | None:
    """Exponent b of value ∝ nᵇ between the nearest points on both sides of `at`.

    At an end of the curve the end point takes the place of the missing side. None outside the curve, or with fewer than
    two points. `ns` ascends; values are positive.
    """
    if len(ns) < 2 or not ns[0] <= at <= ns[-1]:
        return None
    below = max((i for i, n in enumerate(ns) if n < at), default=0)
    above = min((i for i, n in enumerate(ns) if n > at), default=len(ns) - 1)
    return math.log(values[above] / values[below]) / math.log(ns[above] / ns[below])


def power_law(ns: Sequence[float], values: Sequence[float]) -> PowerLaw | None:
    """Least squares of log value on log n over the upper half of the range, above the cost of launches; None below 3 points."""
    if len(ns) < FIT_LEAST:
        return None
    middle = math.sqrt(ns[0] * ns[-1])
    start = min(next(i for i, n in enumerate(ns) if n >= middle * (1 - 1e-9)), len(ns) - FIT_LEAST)
    xs, ys = [math.log(n) for n in ns[start:]], [math.log(value) for value in values[start:]]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    exponent = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
    return PowerLaw(math.exp(mean_y - exponent * mean_x), exponent, ns[start])


def crossing(one: Sequence[Sample], other: Sequence[Sample]) -> Crossing | None:
    """The last n at which curve `one` passes curve `other`, from the n that both have; None where they never do.

    Points whose ranges overlap say nothing about the order, so two curves that run together do not cross at every second
    point; the place is interpolated between the clear points on both sides.
    """
    others = {sample.n: sample for sample in other}
    clear = [(sample, others[sample.n]) for sample in one if sample.n in others and _apart(sample, others[sample.n])]
    found = None
    for (a0, b0), (a1, b1) in itertools.pairwise(clear):
        before, after = math.log(a0.value / b0.value), math.log(a1.value / b1.value)
        if before * after < 0:
            share = before / (before - after)
            n = a0.n * (a1.n / a0.n) ** share
            found = Crossing(n, a0.value * (a1.value / a0.value) ** share, after < 0)
    return found


def _apart(one: Sample, other: Sample) -> bool:
    return one.high < other.low or other.high < one.low


def rounded_n(n: float) -> int:
    """To three digits: a crossover between measured points is not known better."""
    digits: int = 10 ** max(0, len(str(int(n))) - 3)
    return round(n / digits) * digits

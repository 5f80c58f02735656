"""What one plot draws of one variant, as plain arrays: its line, its points, its fit. No Qt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from attnscope_engine.protocol import MAX_SEQ_LEN, Measured
from numpy.typing import NDArray

from attnscope.looks import Look, look
from attnscope.scaling import SEQ_LENS, Curve, Quantity

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mark:
    """A measured point in the units of its plot."""

    n: int
    value: float
    low: float
    high: float
    """p20 and p80; both equal to `value` where there is no spread."""
    row: Measured

    @property
    def plottable(self) -> bool:
        """True when it has a place on a log axis."""
        return all(math.isfinite(value) and value > 0 for value in (self.value, self.low, self.high))


@dataclass(frozen=True, slots=True)
class Trace:
    """One variant in one plot."""

    variant: str
    title: str
    look: Look
    ns: Floats
    values: Floats
    """The prediction; empty where there is none or it is switched off."""
    wall: int
    """Largest n that fits; MAX_SEQ_LEN when all do."""
    points: tuple[Mark, ...]
    earlier: tuple[Mark, ...]
    """Of other settings, dimmed."""
    pinned: tuple[Mark, ...]
    fit_ns: Floats
    fit: Floats
    """The fitted power law over the points it was fitted to; empty where there is none."""
    slope: float | None

    @property
    def refused(self) -> bool:
        return self.wall < MAX_SEQ_LEN

    @property
    def left_out(self) -> int:
        """Points with no place on a log axis."""
        return sum(not mark.plottable for marks in (self.points, self.earlier) for mark in marks)

    def at(self, n: float) -> float | None:
        """The line's value at n, interpolated between logarithms; None where there is no line."""
        if not len(self.ns):
            return None
        return float(self.along(np.array([n]))[0])

    def along(self, ns: Floats) -> Floats:
        """The line's values at these n, interpolated between logarithms. Needs a line."""
        values: Floats = np.exp(np.interp(np.log(ns), np.log(self.ns), np.log(self.values)))
        return values


@dataclass(frozen=True, slots=True)
class Shown:
    """What the toolbar lets through."""

    quantity: Quantity = "time"
    predicted: bool = True
    measured: bool = True
    fit: bool = False
    beside: tuple[str, ...] = ()
    """Variants whose lines share the plot."""


NOTHING: Floats = np.empty(0)
_NS: Floats = np.array(SEQ_LENS, dtype=np.float64)


def time_trace(curve: Curve, wall: int, shown: Shown) -> Trace:
    """Of the upper plot: time, or the rate that it makes."""
    quantity = shown.quantity

    def marks(rows: Sequence[Measured]) -> tuple[Mark, ...]:
        return tuple(_timed(curve, quantity, row) for row in rows)

    law = curve.fit() if shown.fit and shown.measured and quantity == "time" else None
    points = marks(curve.points) if shown.measured else ()
    fitted = [float(mark.n) for mark in points if law and mark.n >= law.from_n]
    return Trace(
        variant=curve.variant,
        title=curve.title,
        look=look(curve.variant, shown.beside),
        ns=_NS if shown.predicted and curve.times else NOTHING,
        values=np.array(curve.predicted(quantity)) if shown.predicted and curve.times else NOTHING,
        wall=wall,
        points=points,
        earlier=marks(curve.earlier) if shown.measured else (),
        pinned=marks(curve.pinned),
        fit_ns=np.array(fitted),
        fit=np.array([law.at(n) for n in fitted]) if law else NOTHING,
        slope=law.exponent if law else None,
    )


def memory_trace(curve: Curve, wall: int, shown: Shown) -> Trace:
    """Of the lower plot: bytes held at the peak."""

    def marks(rows: Iterable[Measured]) -> tuple[Mark, ...]:
        return tuple(Mark(row.workload.seq_len, row.peak_bytes, row.peak_bytes, row.peak_bytes, row) for row in rows)

    return Trace(
        variant=curve.variant,
        title=curve.title,
        look=look(curve.variant, shown.beside),
        ns=_NS if shown.predicted and curve.held else NOTHING,
        values=np.array(curve.held, dtype=np.float64) if shown.predicted else NOTHING,
        wall=wall,
        points=marks(curve.points) if shown.measured else (),
        earlier=marks(curve.earlier) if shown.measured else (),
        pinned=marks(curve.pinned),
        fit_ns=NOTHING,
        fit=NOTHING,
        slope=None,
    )


def on_axis(marks: Iterable[Mark]) -> list[Mark]:
    """Those with a place on a log axis."""
    return [mark for mark in marks if mark.plottable]


def bounds(traces: Sequence[Trace], low_n: float, high_n: float) -> tuple[float, float] | None:
    """Lowest and highest value that a plot from `low_n` to `high_n` shows: points, and lines as far as they fit in memory."""
    values: list[float] = []
    for trace in traces:
        inside = (trace.ns >= low_n) & (trace.ns <= min(high_n, max(trace.wall, low_n)))
        values += trace.values[inside].tolist()
        for marks in (trace.points, trace.earlier, trace.pinned):
            for mark in on_axis(marks):
                if low_n <= mark.n <= high_n:
                    values += (mark.low, mark.high)
    return (min(values), max(values)) if values else None


def _timed(curve: Curve, quantity: Quantity, row: Measured) -> Mark:
    times = (row.time_s, row.p20_s, row.p80_s)
    if not all(math.isfinite(time) and time > 0 for time in times):
        return Mark(row.workload.seq_len, math.nan, math.nan, math.nan, row)
    sample = curve.sample(quantity, row)
    return Mark(row.workload.seq_len, sample.value, sample.low, sample.high, row)


def obstacles(traces: Sequence[Trace]) -> tuple[tuple[float, float], ...]:
    """(n, value) where curves and markers are: labels had better stand elsewhere."""
    lines = [spot for trace in traces for spot in zip(trace.ns[::2].tolist(), trace.values[::2].tolist(), strict=True)]
    return (*lines, *((float(mark.n), mark.value) for trace in traces for mark in on_axis(trace.points)))

"""Where an axis has its ticks and what they say: powers of two for n, decades for times and rates, powers of eight for bytes.

No Qt: pages on the screen and exported figures put the same ticks on the same axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from attnscope.quantities import bytes_parts, count, joined, rate_parts, short_count, time_parts

SEQ_LEN_ROOM = 44
"""Pixels between labels of n below which every fourth power is labelled instead of every second."""
ROW_ROOM = 24
"""Least pixels between labels of an upright axis."""
MINOR_DECADES = 3
"""Ticks at 2 and 5 show up to this many decades."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick. A grid line stands at those with a label."""

    value: float
    """In the quantity's own unit (tokens, seconds, bytes), not its logarithm."""
    label: str = ""


Ticks = tuple[Tick, ...]


def seq_len_ticks(low: float, high: float, length: float) -> Ticks:
    """A tick at each power of two in [low, high] tokens; labels at every second, at every fourth where those are < 44 px apart.

    A view narrower than that gets a label at each power, and one within a single octave round numbers of tokens.
    """
    first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
    powers = range(first, last + 1)
    octave = length / max(math.log2(high / low), 1e-9)
    step = 2 if 2 * octave >= SEQ_LEN_ROOM else 4
    while step < 16 and step * octave < SEQ_LEN_ROOM:
        step *= 2
    if octave >= SEQ_LEN_ROOM and len(powers) <= 3:
        step = 1
    if sum(power % step == 0 for power in powers) < 2:
        even = _even_ticks(low, high, length / 70, lambda value: count(round(value)), whole=True)
        return _thinned(even, low, high, length, SEQ_LEN_ROOM)
    return tuple(Tick(2.0**power, short_count(1 << power) if power % step == 0 and power >= 0 else "") for power in powers)


def time_ticks(low: float, high: float, length: float) -> Ticks:
    """Decades of seconds: "10 µs", "1 ms"."""
    return _decade_ticks(low, high, length, lambda value: _plain(time_parts(value)))


def rate_ticks(low: float, high: float, length: float, unit: str) -> Ticks:
    """Decades of a rate in SI: "10 GFLOP/s"."""
    return _decade_ticks(low, high, length, lambda value: _plain(rate_parts(value, unit)))


def bytes_ticks(low: float, high: float, length: float, room: float = ROW_ROOM) -> Ticks:
    """Powers of eight in line with 16 MiB: "128 MiB", "1 GiB"; of two where a view is too narrow for two of those.

    `room` is the least number of pixels between two labels of an axis of `length` pixels.
    """
    octave = length / max(math.log2(high / low), 1e-9)
    for step in (3, 1):
        first, last = math.ceil((math.log2(low) - 24) / step - 1e-9), math.floor((math.log2(high) - 24) / step + 1e-9)
        if last > first:
            every = max(1, math.ceil(room / (step * octave)))
            values = [2.0 ** (24 + step * index) for index in range(first, last + 1) if index % every == 0]
            if len(values) > 1 or step == 1:
                return tuple(Tick(value, _plain(bytes_parts(value))) for value in values)
    return _even_ticks(low, high, length / 70, lambda value: joined(bytes_parts(value)), whole=True)


def linear_bytes_ticks(high: float, length: float) -> Ticks:
    """From 0 to `high` in steps of 1, 2, 4, … units, labels at least 70 px apart."""
    if high <= 0:
        return (Tick(0.0, "0"),)
    step = 2.0 ** math.ceil(math.log2(high * 70 / max(length, 70)))
    return tuple(Tick(index * step, _plain(bytes_parts(index * step)) if index else "0") for index in range(int(high / step) + 1))


def _decade_ticks(low: float, high: float, length: float, label: Callable[[float], str]) -> Ticks:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    decades = math.log10(high / low)
    every = max(1, math.ceil(ROW_ROOM * decades / max(length, 1)))
    majors = [exponent for exponent in range(first, last + 1) if exponent % every == 0]
    if decades > MINOR_DECADES:
        return tuple(Tick(_power_of_ten(exponent), label(_power_of_ten(exponent))) for exponent in majors)
    inner = [m * _power_of_ten(e) for e in range(first - 1, last + 1) for m in (1, 2, 5)]
    inner = [value for value in inner if low <= value * (1 + 1e-9) and value <= high * (1 + 1e-9)]
    if len(majors) >= 2:
        return tuple(Tick(value, label(value) if _is_power_of_ten(value) else "") for value in inner)
    if len(inner) >= 2:
        labelled = _apart(majors, inner, length / max(decades, 1e-9))
        return tuple(Tick(value, label(value) if value in labelled else "") for value in inner)
    return _even_ticks(low, high, length / (2 * ROW_ROOM), label)


def _apart(majors: Sequence[int], values: Sequence[float], decade: float) -> list[float]:
    """The power of ten among `values`, then each that has room beside those before; `decade` is in pixels."""
    chosen: list[float] = []
    for value in [*(_power_of_ten(exponent) for exponent in majors), *values]:
        if all(abs(math.log10(value / other)) * decade >= ROW_ROOM for other in chosen):
            chosen.append(value)
    return chosen


def _even_ticks(low: float, high: float, most: float, label: Callable[[float], str], *, whole: bool = False) -> Ticks:
    """Evenly spaced round values, at most about `most`: for a view so narrow that no power lies in it."""
    raw = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    return tuple(Tick(i * step, label(i * step)) for i in range(math.ceil(low / step), math.floor(high / step) + 1))


def _thinned(ticks: Ticks, low: float, high: float, length: float, room: float) -> Ticks:
    """Without labels that would stand nearer than `room` pixels to the one before: even steps crowd at the top of a log axis."""
    kept: list[Tick] = []
    end = -math.inf
    for tick, place in zip(ticks, log_positions(ticks, low, high, length), strict=True):
        fits = place - end >= room
        kept.append(tick if fits else Tick(tick.value))
        end = place if fits else end
    return tuple(kept)


def _plain(parts: tuple[str, str]) -> str:
    """Not "10.0 µs" but "10 µs": a tick stands at an exact value."""
    number, unit = parts
    return joined((number.rstrip("0").rstrip(".") if "." in number else number, unit))


def _power_of_ten(exponent: int) -> float:
    return float(f"1e{exponent}")


def _is_power_of_ten(value: float) -> bool:
    exponent = math.log10(value)
    return abs(exponent - round(exponent)) < 1e-9


def log_positions(ticks: Iterable[Tick], low: float, high: float, length: float) -> Sequence[float]:
    """Pixels from the low end of a log axis of `length` pixels."""
    scale = length / math.log(high / low)
    return [math.log(tick.value / low) * scale for tick in ticks]

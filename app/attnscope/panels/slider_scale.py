"""Where a whole number lies on a slider: by its logarithm or by itself. No Qt.

A slider counts steps, since n itself can pass what a slider counts to, and 16 steps an octave feel the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from attnscope_engine.protocol import MAX_SEQ_LEN, MIN_SEQ_LEN

SNAP_OCTAVES = 0.06
"""A drag that comes this near to a power of two lands on it."""


def rounded_seq_len(wish: float) -> int:
    """The nearest n that a slider gives: whole below 1,024, a multiple of 16 below 16,384, of 64 above."""
    grain = 1 if wish < 1024 else 16 if wish < 16384 else 64
    return round(wish / grain) * grain


@dataclass(frozen=True, slots=True)
class Scale:
    """Whole numbers from `low` to `high` on a line."""

    low: int
    high: int
    logarithmic: bool
    rounding: Callable[[float], int] = round
    per_octave: int = 16

    def __post_init__(self) -> None:
        if not (self.low < self.high and (self.low >= 1 or not self.logarithmic)):
            raise ValueError(f"no scale from {self.low} to {self.high}")

    @property
    def steps(self) -> int:
        """Steps from one end to the other."""
        if self.logarithmic:
            return math.ceil(math.log2(self.high / self.low) * self.per_octave)
        return min(self.high - self.low, 1000)

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log2(value / self.low) / math.log2(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def value(self, share: float) -> int:
        """The number at a share of the line."""
        share = min(max(share, 0.0), 1.0)
        wish = self.low * (self.high / self.low) ** share if self.logarithmic else self.low + share * (self.high - self.low)
        return min(max(self.rounding(wish), self.low), self.high)

    def step_of(self, value: float) -> int:
        return round(self.share(value) * self.steps)

    def value_at(self, step: int) -> int:
        return self.value(step / self.steps)

    def snapped(self, share: float) -> int:
        """The number at a share of the line, a power of two when one is within `SNAP_OCTAVES`."""
        if not self.logarithmic:
            return self.value(share)
        octaves = math.log2(self.low) + min(max(share, 0.0), 1.0) * math.log2(self.high / self.low)
        power = round(octaves)
        near = abs(octaves - power) <= SNAP_OCTAVES and self.low <= 2**power <= self.high
        return 2**power if near else self.value(share)

    def stepped(self, value: int, steps: int) -> int:
        """`steps` further along, at least one whole number."""
        if steps == 0:
            return value
        moved = self.value_at(min(max(self.step_of(value) + steps, 0), self.steps))
        if (moved - value) * steps <= 0:  # low on a fine scale several steps are the same number
            moved = value + (1 if steps > 0 else -1)
        return min(max(moved, self.low), self.high)


SEQ_LENS = Scale(MIN_SEQ_LEN, MAX_SEQ_LEN, logarithmic=True, rounding=rounded_seq_len)
"""The slider of n: 224 steps, 16 an octave."""

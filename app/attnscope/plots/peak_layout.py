"""Where the parts of the Memory page's upper table stand. No widget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PySide6.QtCore import QRectF

from attnscope.memory import Peak, term_groups
from attnscope.ticks import Ticks, bytes_ticks, linear_bytes_ticks

PAD = 12.0
HEADS = 26.0
AXIS = 24.0
KEY_ROW = 18.0
ROW_MOST, ROW_LEAST = 44.0, 24.0


@dataclass(frozen=True, slots=True)
class View:
    """What the table is told besides its rows."""

    free_bytes: int | None = None
    total_bytes: int | None = None
    to_scale: bool = False
    """One linear stack to the size of the card instead of a log total beside its parts."""
    predicted: bool = True
    measured: bool = True


@dataclass(frozen=True, slots=True)
class PeakLayout:
    """Of a table of that size in pixels, with those rows."""

    width: float
    height: float
    rows: tuple[Peak, ...]
    view: View

    def needed(self, row: float) -> float:
        """Height in pixels with rows of that height."""
        return HEADS + row * len(self.rows) + AXIS + KEY_ROW * self._key_rows() + 4

    def _key_rows(self) -> int:
        return len(term_groups(self.rows))

    def row_height(self) -> float:
        spare = self.height - self.needed(0)
        return min(max(spare / max(len(self.rows), 1), ROW_LEAST), ROW_MOST)

    def columns(self) -> dict[str, float]:
        """Edges in pixels: right ends of the numbers, both ends of axis and bars."""
        width = self.width
        name = PAD + 34
        step = 84.0 if width >= 900 else 74.0
        predicted = name + (86 if width >= 900 else 72) + 44
        measured = predicted + step
        difference = measured + step
        axis = difference + 24
        bars = axis + (width - PAD - axis) * (1.0 if self.view.to_scale else 0.46)
        parts = bars if self.view.to_scale else bars + 30
        return {
            "name": name,
            "predicted": predicted,
            "measured": measured,
            "difference": difference,
            "axis": axis,
            "axis_end": width - PAD if self.view.to_scale else bars,
            "parts": parts,
            "parts_end": width - PAD,
        }

    def rows_rect(self) -> QRectF:
        return QRectF(0, HEADS, self.width, self.row_height() * len(self.rows))

    def span(self) -> tuple[float, float]:
        """Bytes at both ends of the axis."""
        values = [row.predicted for row in self.rows] + [row.measured.peak_bytes for row in self.rows if row.measured]
        free, total = self.view.free_bytes, self.view.total_bytes
        if self.view.to_scale:
            return 0.0, float(total or free or max(values, default=1 << 30)) * 1.05
        low, high = min(values, default=1 << 20), free or max(values, default=1 << 30)
        return low / 6, max(high * 3, low * 16)

    def place(self, bytes_: float) -> float:
        """Pixels from the left of a number of bytes, at the axis' end when beyond."""
        columns, (low, high) = self.columns(), self.span()
        start, length = columns["axis"], columns["axis_end"] - columns["axis"]
        if self.view.to_scale:
            return start + length * min(bytes_ / high, 1.0)
        return start + length * min(max(math.log(max(bytes_, 1) / low) / math.log(high / low), 0.0), 1.0)

    def ticks(self) -> Ticks:
        low, high = self.span()
        length = self.columns()["axis_end"] - self.columns()["axis"]
        return linear_bytes_ticks(high, length) if self.view.to_scale else bytes_ticks(low, high, length, 54)

"""Where the parts of the map's canvas lie, in logical pixels. Pure arithmetic: no Qt, no state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from attnscope.map_view import snapped_side

HEADER = 36
GAP = 20
TOKEN_GAP = 28
TRACE_ABOVE = 8
LONG_LEFT = 60.0
LONG_BELOW = 44.0
GUTTER_BAR = 48
GUTTER_AHEAD = 10
GUTTER_NUMBER = 40
LEAST_SIDE = 48
SMALL = 64
"""Tokens up to which a row is high enough for a bar of its own."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in logical pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def contains(self, x: float, y: float) -> bool:
        return self.x <= x < self.right and self.y <= y < self.bottom


@dataclass(frozen=True, slots=True)
class Place:
    """Where one panel lies."""

    header: Box
    map: Box
    trace: Box | None
    gutter: Box | None
    """Bars of the mass that each row loses, level with the rows."""
    first: bool
    """Leftmost of its line: has the query axis."""
    last: bool
    """Lowest of its column: has the key axis."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the panels ask of the page."""

    gutters: tuple[bool, ...]
    """One a panel: whether bars of the cut mass stand at its right."""
    left: float = LONG_LEFT
    """Pixels for the query axis."""
    right: float = 16
    """Pixels right of the last panel."""
    below: float = LONG_BELOW
    """Pixels for the key axis."""
    trace: float = 0.0
    """Height of the trace, 0 for none."""
    seq_len: int = 0
    """Weights on a side of the map, 0 while not known."""
    factor: int = 1
    """Weights that a pixel of the picture of all of the map pools along one side."""
    gap: float = GAP
    ratio: float = 1.0
    """Device pixels a logical pixel."""


def lay_out(width: float, height: float, needs: Needs) -> tuple[Place, ...]:
    """Places of one to four panels: in one line, or three and four in two lines when the maps are larger so."""
    count = len(needs.gutters)
    if not count:
        return ()
    sides = {across: _side(width, height, needs, across) for across in ({count, 2} if count > 2 else {count})}
    across = max(sides, key=lambda each: (sides[each], -each))
    device_side = int(max(sides[across], LEAST_SIDE) * needs.ratio)
    side = snapped_side(device_side, _cells(needs, device_side)) / needs.ratio
    gutters = [_gutter_width(needs, column, across) for column in range(across)]
    used = needs.left + needs.right + needs.gap * (across - 1) + sum(gutters) + side * across
    start = max(0, int((width - used) / 2)) + needs.left
    lefts = [start + column * (side + needs.gap) + sum(gutters[:column]) for column in range(across)]
    return tuple(_place(index, count, across, lefts, side, needs) for index in range(count))


def _side(width: float, height: float, needs: Needs, across: int) -> float:
    """Largest map with so many panels in a line."""
    down = -(-len(needs.gutters) // across)
    gutters = sum(_gutter_width(needs, column, across) for column in range(across))
    trace = needs.trace + TRACE_ABOVE if needs.trace else 0.0
    side_across = (width - needs.left - needs.right - needs.gap * (across - 1) - gutters) / across
    return min(side_across, (height - down * HEADER - trace - needs.below) / down)


def _cells(needs: Needs, device_side: int) -> int:
    """Cells across when all of the map is shown, none smaller than a device pixel."""
    pixels = math.ceil(needs.seq_len / needs.factor)
    return math.ceil(pixels / max(1, math.ceil(pixels / device_side)))


def _gutter_width(needs: Needs, column: int, across: int) -> float:
    wanted = any(needs.gutters[index] for index in range(column, len(needs.gutters), across))
    return GUTTER_AHEAD + GUTTER_BAR + GUTTER_NUMBER if wanted else 0.0


def _place(index: int, count: int, across: int, lefts: list[float], side: float, needs: Needs) -> Place:
    column, line = index % across, index // across
    x, y = lefts[column], line * (HEADER + side) + HEADER
    last = index + across >= count
    trace = Box(x, y + side + TRACE_ABOVE, side, needs.trace) if needs.trace and last else None
    gutter = Box(x + side + GUTTER_AHEAD, y, GUTTER_BAR, side) if needs.gutters[index] else None
    return Place(Box(x, y - HEADER, side, HEADER), Box(x, y, side, side), trace, gutter, column == 0, last)

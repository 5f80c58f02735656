"""Which part of a map is on screen: zoom, pan and ticks as arithmetic on whole queries and keys. No Qt, no state.

A view is always a square of cells, because one pixel pools as many queries as keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from attnscope.quantities import count, short_count

View = tuple[int, int, int, int]
"""First and one past last query, first and one past last key."""

MIN_SPAN = 8
"""Fewest cells across: nearer than that there is nothing more to see."""
MAX_STEPS = 8
"""Most steps between the ticks of a linear axis."""


def whole(seq_len: int) -> View:
    """All of a map of `seq_len` queries and keys."""
    return 0, seq_len, 0, seq_len


def clamped(view: View | None, seq_len: int) -> View:
    """A view that lies inside the map; None, or one that no longer fits, is all of it."""
    if view is None:
        return whole(seq_len)
    row0, row1, column0, column1 = view
    span = max(row1 - row0, column1 - column0)
    if span >= seq_len or span < 1:
        return whole(seq_len)
    return _square(row0, column0, span, seq_len)


def zoomed(view: View, seq_len: int, magnify: float, row: float, column: float) -> View | None:
    """The view magnified about a point, which stays where it is on screen; None once it holds everything."""
    row0, row1, column0, _ = view
    span = row1 - row0
    wanted = max(min(MIN_SPAN, seq_len), round(span / magnify))
    if wanted >= seq_len:
        return None
    share_down, share_across = (row - row0) / span, (column - column0) / span
    return _square(round(row - share_down * wanted), round(column - share_across * wanted), wanted, seq_len)


def panned(view: View, seq_len: int, rows: int, columns: int) -> View:
    """The view moved by whole cells, stopped at the edges of the map."""
    row0, row1, column0, _ = view
    return _square(row0 + rows, column0 + columns, row1 - row0, seq_len)


def framed(one: tuple[int, int], other: tuple[int, int], seq_len: int) -> View | None:
    """The smallest square view that shows both cells (query, key); None when that is all of the map."""
    rows, columns = sorted((one[0], other[0])), sorted((one[1], other[1]))
    span = max(rows[1] - rows[0] + 1, columns[1] - columns[0] + 1, min(MIN_SPAN, seq_len))
    if span >= seq_len:
        return None
    middle_row, middle_column = (rows[0] + rows[1] + 1) / 2, (columns[0] + columns[1] + 1) / 2
    return _square(round(middle_row - span / 2), round(middle_column - span / 2), span, seq_len)


def showing(view: View, seq_len: int, row: int, column: int) -> View:
    """The view moved by as little as brings the cell into it."""
    row0, row1, column0, column1 = view
    down = min(row - row0, 0) + max(row - row1 + 1, 0)
    across = min(column - column0, 0) + max(column - column1 + 1, 0)
    return panned(view, seq_len, down, across) if down or across else view


def _square(row0: int, column0: int, span: int, seq_len: int) -> View:
    row0 = min(max(row0, 0), seq_len - span)
    column0 = min(max(column0, 0), seq_len - span)
    return row0, row0 + span, column0, column0 + span


def snapped_side(side: int, cells: int) -> int:
    """Device pixels of a square map at Fit: a whole number to each cell when at most 15 % is left over."""
    if cells < 1 or side < cells:
        return side
    snapped = side // cells * cells
    return snapped if side - snapped <= 0.15 * side else side


@dataclass(frozen=True, slots=True)
class Position:
    """One label of a linear axis."""

    value: int
    label: str


def positions(low: int, high: int, steps: int = MAX_STEPS) -> tuple[Position, ...]:
    """Ticks of positions low ≤ p ≤ high at multiples of a power of two, at most `steps` steps.

    Labels say "8k" only where every one of them is a multiple of 1,024.
    """
    step = step_of(low, high, steps)
    values = range(-(-low // step) * step, high + 1, step)
    say = short_count if step % 1024 == 0 else count
    return tuple(Position(value, say(value)) for value in values)


def step_of(low: int, high: int, steps: int = MAX_STEPS) -> int:
    """The power of two between two ticks: labels say "8k" where it is a multiple of 1,024."""
    return 1 << max(0, math.ceil(math.log2(max(1, high - low) / max(1, min(steps, MAX_STEPS)))))

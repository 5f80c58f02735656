"""The keys that each query sees, cut into rectangles and triangles: pure integer arithmetic.

Every visible set of the softmax variants is a union of bands `low(p) ≤ key < high(p)` whose edges stand still or move one
key a query. Cut at the bends, a band is made of full rectangles and triangles, and a fast attention call exists for both.
So no mask is ever stored, and the work done is the work counted.

A position p counts queries along the keys: query i of N stands at p = i + M − N.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Shape = Literal["full", "lower", "upper"]
"""`lower`: row r of a square sees columns 0 … r. `upper`: row r of b rows sees columns r … b−2, the last row none."""


FEW_ROWS = 32


@dataclass(frozen=True, slots=True)
class Edge:
    """One side of a band: key `p + shift`, never outside `low … high`."""

    shift: int
    low: int
    high: int

    def at(self, position: int) -> int:
        return min(max(position + self.shift, self.low), self.high)

    def moves(self, position: int) -> bool:
        """Whether the edge is one key further at the next position."""
        return self.at(position + 1) > self.at(position)


def still(key: int) -> Edge:
    """An edge that every query has in common."""
    return Edge(0, key, key)


@dataclass(frozen=True, slots=True)
class Band:
    """Keys `low(p) ≤ key < high(p)`."""

    low: Edge
    high: Edge


@dataclass(frozen=True, slots=True)
class Part:
    """Keys `first … first + size − 1` of a block of rows, all of them or a triangle."""

    first: int
    size: int
    shape: Shape
    moves: bool
    """True when the next block of the strip sees the keys one block further on."""


@dataclass(frozen=True, slots=True)
class Strip:
    """`repeat` blocks of `rows` positions, one after the other. The parts do not overlap; the first reaches every row."""

    first: int
    rows: int
    repeat: int
    parts: tuple[Part, ...]

    @property
    def pairs(self) -> int:
        """Pairs in the parts' rectangles: what bounds a call's time. A block of few rows takes as long as one of `FEW_ROWS`."""
        return self.repeat * max(self.rows, FEW_ROWS) * sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one call may do, so that newer work can interrupt between calls and workspaces stay small."""

    pairs: int
    queries: int
    rows: int
    """Rows that a block keeps whatever its pairs: a matrix product of fewer is slow."""


def strips(bands: tuple[Band, ...], first: int, end: int, limits: Limits) -> Iterator[Strip]:
    """The rows `first … end − 1` of the disjoint `bands`, in order, every pair exactly once."""
    bends = sorted({first, end, *(p for band in bands for p in _bends(band) if first < p < end)})
    for start, stop in itertools.pairwise(bends):
        seen = tuple(band for band in bands if band.low.at(start) < band.high.at(start))
        yield from _segment(seen, start, stop, limits)


def _bends(band: Band) -> tuple[int, ...]:
    """Positions where an edge begins or ends to move; the high one counted from the first key that it lets in."""
    edges = ((band.low, 0), (band.high, 1))
    return tuple(key - edge.shift + late for edge, late in edges if edge.low < edge.high for key in (edge.low, edge.high))


def _segment(bands: tuple[Band, ...], start: int, stop: int, limits: Limits) -> Iterator[Strip]:
    """Strips between two bends, where each edge only moves or only stands."""
    while start < stop:
        rows = _rows(bands, start, stop, limits)
        parts = tuple(part for band in bands for part in _parts(band, start, rows))
        strip = Strip(start, rows, 1, tuple(sorted(parts, key=lambda part: part.shape == "upper")))
        if all(_steady(band, start, stop) for band in bands):
            most = max(1, min(limits.queries // rows, limits.pairs // max(1, strip.pairs)))
            strip = Strip(start, rows, min(most, (stop - start) // rows), strip.parts)
        yield strip
        start += strip.rows * strip.repeat


def _rows(bands: tuple[Band, ...], start: int, stop: int, limits: Limits) -> int:
    """Rows of one block: its triangles must not overlap, its pairs and rows stay within the limits."""
    rows = min(stop - start, limits.queries)
    for band in bands:
        width = band.high.at(start) - band.low.at(start)
        if _moving(band.low, start, stop) and _moving(band.high, start, stop):
            rows = min(rows, width)
    keys = sum(band.high.at(start + rows - 1) - band.low.at(start) for band in bands)
    return max(1, min(rows, max(limits.rows, limits.pairs // max(1, keys))))


def _moving(edge: Edge, start: int, stop: int) -> bool:
    return stop - start > 1 and edge.moves(start)


def _steady(band: Band, start: int, stop: int) -> bool:
    """Whether the next block is this one, moved or in place."""
    return _moving(band.low, start, stop) == _moving(band.high, start, stop)


def _parts(band: Band, start: int, rows: int) -> Iterator[Part]:
    """One band over one block of rows: keys that all rows see, then those of the last rows, then those of the first."""
    low, low_end = band.low.at(start), band.low.at(start + rows - 1)
    high, high_end = band.high.at(start), band.high.at(start + rows - 1)
    triangle = high_end > high
    shared_end = high - 1 if triangle else high
    moves = band.low.moves(start) and band.high.moves(start)
    if low_end < shared_end:
        yield Part(low_end, shared_end - low_end, "full", moves)
    if triangle:
        yield Part(high - 1, rows, "lower", moves)
    if low_end > low:
        yield Part(low, rows - 1, "upper", moves)


def chunk_strips(first: int, kv_len: int, size: int, causal: bool, allowed: Limits) -> Iterator[Strip]:
    """The positions `first … kv_len − 1`; whole chunks that fit one call are repeated blocks of one strip."""
    start = min(first, 0)
    if start < 0:
        yield Strip(start, -start, 1, ())
    start = max(first, 0)
    together = min(allowed.queries // size, allowed.pairs // size**2)
    while start < kv_len:
        whole = (kv_len - start) // size if start % size == 0 else 0
        if repeat := min(together, whole):
            yield Strip(start, size, repeat, (Part(start, size, "lower" if causal else "full", moves=True),))
            start += repeat * size
            continue
        low = start // size * size
        end = min(low + size, kv_len)
        yield from strips((Band(still(low), Edge(1, low, end) if causal else still(end)),), start, end, allowed)
        start = end

"""The whole map of one head, up to 4,096 × 4,096 weights in float32, and the ones that were drawn last.

float64, as `Variant.weights` gives it, would take seconds at that length; a picture has 250 shades. Rows and patches that
are read out as numbers come from `Variant.weights` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnscope_engine.protocol import Workload
from attnscope_engine.scores import UNCHANGED, ScoreChange, slopes
from attnscope_engine.sources import Heads
from attnscope_engine.variant import Params, Tick, Variant

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Visible = Callable[[NDArray[np.int64], NDArray[np.int64]], Mask]
"""`(rows, columns)` → which pairs are seen."""

MAX_MAP_LEN = 4096
BLOCK_ROWS = 256
MAX_BAD_CELLS = 64
SAMPLE = 1 << 17
"""Weights looked at for the lower limit of a log scale."""
LOWEST_OF_HIGHEST, NARROWEST = 1e-6, 1e-2
"""A log scale spans at most six decades and at least two."""
CACHE_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class HeadMap:
    """All weights of one head under one rule."""

    weights: Floats
    """`(N, M)`; unseen pairs 0."""
    visible: Mask
    """`(N, M)`."""
    signed: bool
    high: float
    """Largest finite absolute weight."""
    low: float
    """Where a log scale begins: below it weights are as good as nothing."""
    nan_count: int
    inf_count: int
    bad_cells: tuple[tuple[int, int], ...]
    """First (query, key) of non-finite weights."""

    @property
    def bytes_(self) -> int:
        return self.weights.nbytes + self.visible.nbytes


class MapCache:
    """The maps used last, within `CACHE_BYTES`."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit = limit_bytes
        self._maps: dict[Hashable, HeadMap] = {}

    @property
    def held_bytes(self) -> int:
        return sum(held.bytes_ for held in self._maps.values())

    def get(self, key: Hashable, make: Callable[[], HeadMap]) -> HeadMap:
        """The map of `key`, made when it is not here."""
        found = self._maps.pop(key, None)
        if found is None:
            found = make()
        self._maps[key] = found
        while len(self._maps) > 1 and self.held_bytes > self._limit:
            del self._maps[next(iter(self._maps))]
        return found


def softmax_map(heads: Heads, layer: int, head: int, causal: bool, cache: MapCache, tick: Tick) -> HeadMap:
    """Full softmax of a head: what every restricted variant cuts from."""

    def visible(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Mask:
        return columns[None, :] <= rows[:, None] if causal else np.ones((len(rows), len(columns)), bool)

    def make() -> HeadMap:
        return finished(*softmax_weights(*heads.head(layer, head), visible, causal, tick), signed=False)

    return cache.get((heads.key, layer, head, causal, "softmax"), make)


def variant_map(
    variant: Variant, params: Params, heads: Heads, layer: int, head: int, workload: Workload, cache: MapCache, tick: Tick
) -> HeadMap:
    """The map of a head under a variant. All variants of plain softmax over every key share one, unless they change scores."""
    if variant.plain_softmax and variant.family == "softmax" and not variant.change(params):
        return softmax_map(heads, layer, head, workload.causal, cache, tick)

    def make() -> HeadMap:
        q, k = inputs_of(variant, heads, layer, head)
        return finished(*variant_weights(variant, params, q, k, workload, head, tick), signed=variant.is_signed(params))

    return cache.get((heads.key, layer, head, workload.causal, variant.choice(params).variant, repr(params)), make)


def inputs_of(variant: Variant, heads: Heads, layer: int, head: int) -> tuple[Floats, Floats]:
    """What a head's map is made of: q `(N, D)` and k `(M, D)`; k `(G, M, D)` where the variant mixes heads."""
    q, k = heads.head(layer, head)
    if not variant.mixes_heads:
        return q, k
    group = heads.num_heads // heads.num_kv_heads
    return q, np.stack([heads.head(layer, first)[1] for first in range(0, heads.num_heads, group)])


def difference_map(first: HeadMap, second: HeadMap) -> HeadMap:
    """First minus second, seen where either is; the pairs that only one of them sees count 0 in the other."""
    with np.errstate(invalid="ignore"):
        return finished(first.weights - second.weights, first.visible | second.visible, signed=True)


def mass_cut(full: HeadMap, restricted: HeadMap, rows: slice) -> Floats:
    """`(len(rows),)`: the share of each row of full softmax that falls on keys which the restricted variant does not see."""
    cut = np.empty(rows.stop - rows.start, np.float32)
    for first in range(rows.start, rows.stop, BLOCK_ROWS):
        block = slice(first, min(first + BLOCK_ROWS, rows.stop))
        unseen = full.weights[block] * ~restricted.visible[block]
        unseen.sum(axis=1, out=cut[block.start - rows.start : block.stop - rows.start])
    return cut


def variant_weights(
    variant: Variant, params: Params, q: Floats, k: Floats, workload: Workload, head: int, tick: Tick
) -> tuple[Floats, Mask]:
    """`(N, M)` weights of query head `head`, and which are seen: plain softmax in float32, others by the variant itself."""

    def visible(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Mask:
        return variant.visible(workload, params, rows, columns)

    cut = workload.causal and not variant.sees_ahead
    if variant.plain_softmax:
        slope = float(slopes(workload.num_heads)[head])
        return softmax_weights(q, k, visible, cut, tick, variant.change(params), slope)
    n, m = len(q), k.shape[-2]
    weights, seen = np.zeros((n, m), np.float32), np.zeros((n, m), bool)
    for rows, columns in blocks(n, m, cut):
        tick()
        indices = np.arange(rows.start, rows.stop)
        # Only the queries' own rows and the keys up to the last of them matter to a causal map: keys and queries are cut alike.
        queries = q[: rows.stop] if cut else q
        with np.errstate(all="ignore"):
            exact, seen[rows, columns] = variant.rows_of_map(queries, k[..., columns, :], workload, params, indices, head)
            weights[rows, columns] = np.where(seen[rows, columns], exact, 0)
    return weights, seen


def blocks(n: int, m: int, causal: bool) -> list[tuple[slice, slice]]:
    """Rows in blocks, with the columns that any of them may see."""
    return [
        (slice(first, min(first + BLOCK_ROWS, n)), slice(0, min(first + BLOCK_ROWS, m) if causal else m))
        for first in range(0, n, BLOCK_ROWS)
    ]


def softmax_weights(
    q: Floats,
    k: Floats,
    visible: Visible,
    causal: bool,
    tick: Tick,
    change: ScoreChange = UNCHANGED,
    slope: float = 0.0,
) -> tuple[Floats, Mask]:
    """Softmax of QKᵀ·D^-½ over what is seen, float32; a row that sees nothing is 0. `slope`: the head's, for ALiBi."""
    n, m = len(q), len(k)
    weights, seen = np.zeros((n, m), np.float32), np.zeros((n, m), bool)
    scaled = (q * q.shape[1] ** -0.5).astype(np.float32)
    for rows, columns in blocks(n, m, causal):
        tick()
        seen[rows, columns] = visible(np.arange(rows.start, rows.stop), np.arange(columns.stop))
        with np.errstate(all="ignore"):
            scores: Floats = scaled[rows] @ k[columns].T
            if change:
                away = np.arange(rows.start, rows.stop)[:, None] - np.arange(columns.stop)
                change.apply(scores, np.abs(away).astype(np.float32), np.float32(slope), np)
            softmax_in_place(scores, seen[rows, columns])
        weights[rows, columns] = scores
    return weights, seen


def softmax_in_place(scores: Floats, seen: Mask) -> None:
    """Scores to weights, last axis. NaN and infinity go where arithmetic takes them."""
    np.copyto(scores, np.float32(-np.inf), where=~seen)
    top = scores.max(axis=-1, keepdims=True)
    np.copyto(top, np.float32(0), where=top == -np.inf)
    scores -= top
    np.exp(scores, out=scores)
    total = scores.sum(axis=-1, keepdims=True)
    np.copyto(total, np.float32(1), where=total == 0)
    scores /= total
    if not np.isfinite(total).all():
        np.copyto(scores, np.float32(0), where=~seen)  # 0 / NaN is NaN, but what is not seen is not wrong


def finished(weights: Floats, visible: Mask, *, signed: bool) -> HeadMap:
    """The map with its limits and with what is wrong in it."""
    high = float(max(weights.max(initial=0), -weights.min(initial=0))) if signed else float(weights.max(initial=0))
    nan_count = inf_count = 0
    bad_cells: tuple[tuple[int, int], ...] = ()
    if not np.isfinite(high):
        bad = ~np.isfinite(weights)
        nan_count = int(np.isnan(weights).sum())
        inf_count = int(bad.sum()) - nan_count
        bad_cells = first_cells(bad)
        high = float(np.abs(weights).max(initial=0, where=~bad))
    return HeadMap(weights, visible, signed, high, log_low(weights, high), nan_count, inf_count, bad_cells)


def first_cells(bad: Mask) -> tuple[tuple[int, int], ...]:
    """(query, key) of the first cells that are set, row by row."""
    rows = np.flatnonzero(bad.any(axis=1))[:MAX_BAD_CELLS]
    cells = [(int(row), int(column)) for row in rows for column in np.flatnonzero(bad[row])[:MAX_BAD_CELLS]]
    return tuple(cells[:MAX_BAD_CELLS])


def log_low(weights: Floats, high: float) -> float:
    """Lower limit of a log scale: one in a hundred positive weights lies below it, within six and two decades of the highest.

    A fixed number of decades would give a flat map three shades, or show nothing of a long one's tail.
    """
    flat = weights.reshape(-1)
    if flat.size > SAMPLE:
        flat = flat[np.random.default_rng(0).integers(0, flat.size, SAMPLE)]
    positive = flat[(flat > 0) & np.isfinite(flat)]
    lowest = float(np.quantile(positive, 0.01)) if positive.size else 0.0
    return min(max(lowest, LOWEST_OF_HIGHEST * high), NARROWEST * high)

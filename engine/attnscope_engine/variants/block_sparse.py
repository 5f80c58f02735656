"""Softmax attention over blocks of tokens: those near the query's own, the first ones, and a few random ones.

Zaheer et al. 2020, "Big Bird", section 2, arXiv 2007.14062, in blocks of 128 tokens. Which blocks a block of queries sees is
a list, so that memory grows with n. Random blocks are drawn one from each of equal parts of what is left, seeded.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, draws, numerics
from attnscope_engine.attend import attend, strip_workspace
from attnscope_engine.cost import Cost, lse_term, softmax_step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Part, Strip
from attnscope_engine.variant import Params, Tick, Variant, param

BLOCK = 128
"""Tokens of a block, of queries and of keys; as in `block_sparse.cu`."""

Blocks = NDArray[np.int64]


class SparseParams(Params, frozen=True):
    """Which blocks of 128 keys a block of 128 queries sees."""

    window_blocks: Annotated[
        int,
        param(
            1, 64, unit="blocks", help="Blocks of 128 tokens that are seen to each side, the query's own included", label="window"
        ),
    ] = 2
    global_blocks: Annotated[
        int, param(0, 16, unit="blocks", help="First blocks, which see everything and are seen by everything", label="global")
    ] = 1
    random_blocks: Annotated[
        int, param(0, 64, unit="blocks", help="Blocks drawn from all the others for each block of queries", label="random")
    ] = 3
    seed: Annotated[int, param(0, 999, unit="number", help="Other random blocks")] = 0


def resolve(workload: Workload, params: SparseParams) -> SparseParams:
    """What is more than the sequence has is all of it: every setting is possible."""
    return params


# ---------------------------------------------------------------- which blocks


def _left_over(params: SparseParams, blocks: Blocks, last: Blocks | int) -> tuple[Blocks, Blocks]:
    """For each block of queries, how many blocks of keys but global ones lie before its window, and behind it up to `last`."""
    before = np.maximum(blocks - params.window_blocks + 1 - params.global_blocks, 0)
    return before, np.maximum(last - np.maximum(blocks + params.window_blocks, params.global_blocks) + 1, 0)


def _drawn(params: SparseParams, blocks: Blocks, count: Blocks, turn: NDArray[np.int64]) -> Blocks:
    """Which of `count` blocks that are left is drawn from part number `turn` of them, −1 where that part is empty."""
    low, high = turn * count // params.random_blocks, (turn + 1) * count // params.random_blocks
    chance = draws.uniforms(params.seed, blocks * 64 + turn)
    return np.where(high > low, low + (chance * (high - low)).astype(np.int64), -1)


def blocks_seen(workload: Workload, params: SparseParams, blocks: Blocks) -> NDArray[np.int64]:
    """`(len(blocks), most)`: the blocks of keys that each block of queries sees, ascending, −1 behind them where one has fewer.

    Blocks of queries from 0 on. A global block sees all of them.
    """
    blocks = np.asarray(blocks, dtype=np.int64)[:, None]
    end = -(-workload.seq_len // BLOCK)
    last = blocks if workload.causal else np.maximum(blocks, end - 1)
    window = blocks + np.arange(1 - params.window_blocks, 1 if workload.causal else params.window_blocks)
    window = np.where((window >= params.global_blocks) & (window <= last), window, -1)
    first = np.arange(params.global_blocks)[None, :]
    first = np.where(first <= last, first, -1)
    parts = [first, window]
    if params.random_blocks:
        before, behind = _left_over(params, blocks, last)
        found = _drawn(params, blocks, before + behind, np.arange(params.random_blocks)[None, :])
        later = np.maximum(blocks + params.window_blocks, params.global_blocks) + found - before
        parts.append(np.where(found < 0, -1, np.where(found < before, params.global_blocks + found, later)))
    seen = np.concatenate([part for part in parts if part.shape[1]], axis=1)
    dense = (blocks < params.global_blocks)[:, 0]
    if not workload.causal and dense.any():
        seen = np.pad(seen, ((0, 0), (0, max(0, end - seen.shape[1]))), constant_values=-1)
        seen[dense] = -1
        seen[dense, :end] = np.arange(end)
    seen = np.sort(np.where(seen < 0, np.iinfo(np.int64).max, seen), axis=1)
    return np.where(seen == np.iinfo(np.int64).max, -1, seen)


def counts(workload: Workload, params: SparseParams) -> tuple[Blocks, NDArray[np.bool_]]:
    """How many blocks of keys each block of queries sees, and whether the last one, which may be short, is among them."""
    end = -(-workload.seq_len // BLOCK)
    blocks = np.arange(end)
    last = blocks if workload.causal else np.full(end, end - 1)
    first = np.minimum(params.global_blocks, last + 1)
    near_from = np.maximum(blocks - params.window_blocks + 1, first)
    near_end = np.minimum(blocks + (0 if workload.causal else params.window_blocks - 1), last) + 1
    before, behind = _left_over(params, blocks, last)
    found = first + np.maximum(near_end - near_from, 0) + np.minimum(params.random_blocks, before + behind)
    if workload.causal:
        return found, blocks == end - 1
    ends = (near_end == end) | (params.global_blocks >= end)
    if params.random_blocks:
        final = _drawn(params, blocks, before + behind, np.full(end, params.random_blocks - 1))
        ends |= (behind > 0) & (final == before + behind - 1)
    dense = blocks < params.global_blocks
    return np.where(dense, end, found), ends | dense


# ---------------------------------------------------------------- what it costs


def cost(workload: Workload, params: SparseParams, on: DeviceKind) -> Cost:
    """Attention inside the pairs of blocks that are seen."""
    w = workload
    steps = (softmax_step(w, pairs_of_head(w, params)),)
    if on == "cpu":
        return Cost(steps, (tensor_term(w), workspace(w, params)))
    listed = int(counts(w, params)[0].sum())
    list_bytes = 4 * (-(-w.seq_len // BLOCK) + 1 + listed)
    return Cost(steps, (tensor_term(w), lse_term(w), Term("block list", f"4·(⌈n/{BLOCK}⌉ + 1 + {listed:,})", list_bytes, "n")))


def pairs_of_head(workload: Workload, params: SparseParams) -> int:
    """Pairs that one head sees, counted exactly: whole blocks, the causal halves of each block's own, and the short last one."""
    n, (found, last_seen) = workload.seq_len, counts(workload, params)
    rows = np.full(len(found), BLOCK)
    short = BLOCK - (rows.size * BLOCK - n)
    rows[-1] = short
    if workload.causal:
        return int((rows * BLOCK * (found - 1) + rows * (rows + 1) // 2).sum())
    return int((rows * (BLOCK * found - (BLOCK - short) * last_seen)).sum())


def workspace(workload: Workload, params: SparseParams) -> Term:
    """What a run holds for its calls: blocks differ in how many runs of keys they see, and the largest run counts."""
    end = -(-workload.seq_len // BLOCK)
    chosen = np.unique(np.clip([0, 1, params.global_blocks, end // 2, end - 2, end - 1], 0, end - 1))
    return strip_workspace(workload, *_strips_of(workload, params, chosen, 0, workload.seq_len))


# ---------------------------------------------------------------- what it computes


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: SparseParams, xp: Any, tick: Tick) -> Any:
    """Each block of queries against the runs of keys that its list makes."""
    n, m = q.shape[2], k.shape[2]
    return attend(q, k, v, block_strips(workload, params, m - n, m), xp, tick)


TOGETHER = 256
"""Blocks of queries whose lists are made at a time."""


def block_strips(workload: Workload, params: SparseParams, first: int, kv_len: int) -> Iterator[Strip]:
    """The positions `first … kv_len − 1`, block by block."""
    if first < 0:
        yield Strip(first, -first, 1, ())
    begin, end = max(first, 0) // BLOCK, -(-kv_len // BLOCK)
    for start in range(begin, end, TOGETHER):
        chosen = np.arange(start, min(start + TOGETHER, end))
        yield from _strips_of(workload, params, chosen, max(first, 0), kv_len)


def _strips_of(workload: Workload, params: SparseParams, chosen: Blocks, first: int, kv_len: int) -> Iterator[Strip]:
    """The rows of each chosen block from `first` on: its runs of whole blocks, and causal its own block as a triangle."""
    for block, listed in zip(chosen.tolist(), blocks_seen(workload, params, chosen).tolist(), strict=True):
        low, end = max(block * BLOCK, first), min((block + 1) * BLOCK, kv_len)
        keys = [number for number in listed if 0 <= number * BLOCK < kv_len and not (workload.causal and number == block)]
        parts = [Part(run, stop - run, "full", moves=False) for run, stop in _runs(keys, kv_len)]
        if workload.causal:
            own = low - block * BLOCK  # keys of the block before the first row
            parts += [Part(block * BLOCK, own, "full", moves=False)] if own else []
            parts.append(Part(low, end - low, "lower", moves=False))
        yield Strip(low, end - low, 1, tuple(parts))


def _runs(blocks: list[int], kv_len: int) -> Iterator[tuple[int, int]]:
    """First key, and first behind the last, of each run of blocks that follow one another."""
    for _, run in itertools.groupby(enumerate(blocks), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        yield numbers[0] * BLOCK, min((numbers[-1] + 1) * BLOCK, kv_len)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: SparseParams) -> None:
    """One kernel that walks over the list of each block of queries."""
    n, m = q.shape[2], k.shape[2]
    lists = device.constant(lists_of(workload, params, m))
    front = (m - n) % BLOCK  # rows before the first query, so that blocks of rows are blocks of positions
    extra = (lists, -(-m // BLOCK), front, params.global_blocks)
    cuda.attend_in_tiles(device, "block_sparse", "Block-sparse", (q, k, v, out), workload, extra, apart=front, block_size=BLOCK)


@functools.lru_cache(maxsize=4)
def lists_of(workload: Workload, params: SparseParams, kv_len: int) -> NDArray[np.int32]:
    """Where the list of each block of queries begins, and the last one ends; then the lists, in blocks of keys that exist."""
    end = -(-kv_len // BLOCK)
    begins, lists = [np.zeros(1, np.int64)], []
    for start in range(0, end, TOGETHER):
        seen = blocks_seen(workload, params, np.arange(start, min(start + TOGETHER, end)))
        listed = (seen >= 0) & (seen < end)
        begins.append(begins[-1][-1] + np.cumsum(listed.sum(axis=1)))
        lists.append(seen[listed])
    found = np.concatenate([np.concatenate(begins) + end + 1, *lists]).astype(np.int32)
    found.flags.writeable = False
    return found


def visible(workload: Workload, params: SparseParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Keys of the blocks that the query's own block sees (causal: not after the query)."""
    rows, columns = np.asarray(rows), np.asarray(columns)
    blocks, place = np.unique(rows // BLOCK, return_inverse=True)
    width = int(columns.max(initial=0)) // BLOCK + 1
    sees = np.zeros((len(blocks), width), bool)
    own = np.nonzero(blocks >= 0)[0]
    lists = blocks_seen(workload, params, blocks[own])
    listed = (lists >= 0) & (lists < width)
    sees[np.broadcast_to(own[:, None], lists.shape)[listed], lists[listed]] = True
    seen: NDArray[np.bool_] = sees[place][:, columns // BLOCK]
    return seen & numerics.causal_visible(rows, columns, 0) if workload.causal else seen


def summary(params: SparseParams) -> str:
    """Such as "window 2 · global 1 · random 3 · seed 0"."""
    return f"window {params.window_blocks} · global {params.global_blocks} · random {params.random_blocks} · seed {params.seed}"


VARIANT = Variant(
    name="block_sparse",
    title="Block-sparse",
    family="restricted",
    order=14,
    source="Zaheer et al. 2020, section 2, arXiv 2007.14062",
    formula="out = softmax(Q Kᵀ · D^-½ where block of j is listed for block of i) V",
    params=SparseParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=numerics.reference_over(visible),
    run_cpu=run_cpu,
    launch=launch,
    weights=numerics.weights_over(visible),
    visible=visible,
    like="pattern",
    plain_softmax=True,
    outside="in a block that is not listed",
)

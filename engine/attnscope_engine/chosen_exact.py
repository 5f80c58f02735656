"""What queries see that choose whole blocks of past keys by their means: the truth in float64, and counts that need no data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def means_of(k: NDArray[Any], block_size: int) -> NDArray[np.float64]:
    """`(M, D)` → `(M // block_size, D)`: the mean key of each whole block."""
    count = len(k) // block_size
    means: NDArray[np.float64] = k[: count * block_size].astype(np.float64).reshape(count, block_size, k.shape[1]).mean(axis=1)
    return means


def seen_by(q: NDArray[Any], k: NDArray[Any], positions: NDArray[Any], block_size: int, top_k: int) -> NDArray[np.bool_]:
    """Q `(rows, D)` at these positions, k `(M, D)` → bool `(rows, M)`: own block up to the query, and what it chooses."""
    columns = np.arange(len(k))
    own, means = positions // block_size, means_of(k, block_size)
    past = np.arange(len(means)) < own[:, None]
    scores = np.where(past, q.astype(np.float64) @ means.T, -np.inf)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    chosen = np.zeros((len(q), -(-len(k) // block_size)), bool)
    np.put_along_axis(chosen, best, np.take_along_axis(past, best, axis=1), axis=1)
    inside = (columns // block_size == own[:, None]) & (columns <= positions[:, None])
    seen: NDArray[np.bool_] = inside | chosen[:, columns // block_size]
    return seen


def choices_of(positions: int, block_size: int, top_k: int) -> int:
    """Blocks that the queries at positions 0 … `positions` − 1 choose, all together."""
    whole, tail = divmod(positions, block_size)
    fewer = min(whole, top_k)  # blocks in which a query has fewer to choose from than it may choose
    return block_size * (fewer * (fewer - 1) // 2 + (whole - fewer) * top_k) + tail * min(whole, top_k)


def pairs_of_head(seq_len: int, block_size: int, top_k: int) -> int:
    """Pairs that one head sees: each query's own block up to itself, and the blocks that it chooses."""
    whole, tail = divmod(seq_len, block_size)
    return (whole * block_size * (block_size + 1) + tail * (tail + 1)) // 2 + block_size * choices_of(seq_len, block_size, top_k)


def scores_of_blocks(seq_len: int, block_size: int) -> int:
    """Of one head: how many blocks lie before a query's own, summed over the queries."""
    whole, tail = divmod(seq_len, block_size)
    return block_size * whole * (whole - 1) // 2 + tail * whole


def past_blocks(kv_len: int, block_size: int) -> int:
    """Blocks of keys that lie before the own block of some query."""
    return (kv_len - 1) // block_size

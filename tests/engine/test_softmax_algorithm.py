"""What the softmax kernels do, in numpy and float32, against float64: tiles, optimistic exponentials, masks, splits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from attnscope_engine import cuda, numerics

MOST = 1024.0
"""As in `softmax_pipeline.cuh`, there for the part of a row that one lane has; here for all of it."""


@dataclass
class RunningRows:
    """Rows of queries while keys pass by."""

    q: np.ndarray
    base: np.ndarray = field(init=False)
    total: np.ndarray = field(init=False)
    sums: np.ndarray = field(init=False)
    settled: int = 0

    def __post_init__(self) -> None:
        self.base = np.full(len(self.q), -np.inf, np.float32)
        self.total = np.zeros(len(self.q), np.float32)
        self.sums = np.zeros(self.q.shape, np.float32)

    def absorb(self, k: np.ndarray, v: np.ndarray, seen: np.ndarray) -> None:
        scores = np.where(seen, self.q @ k.T * np.float32(cuda.LOG2_E * self.q.shape[1] ** -0.5), np.float32(-np.inf))
        with np.errstate(invalid="ignore", over="ignore"):
            parts = np.exp2(scores - self.base[:, None])
        if not (parts.sum(1) <= MOST).all():
            top = np.maximum(self.base, scores.max(1))
            shift = np.where(np.isneginf(top), np.float32(0), top)
            correction = np.exp2(self.base - shift)
            self.total *= correction
            self.sums *= correction[:, None]
            self.base, self.settled = top, self.settled + 1
            parts = np.exp2(scores - shift[:, None])
        self.total += parts.sum(1)
        self.sums += parts @ v

    def finished(self) -> tuple[np.ndarray, np.ndarray]:
        """Out and log-sum-exp: 0 and −inf for a row that has seen nothing."""
        nothing = self.total == 0
        out = np.where(nothing[:, None], 0, self.sums / np.where(nothing, 1, self.total)[:, None])
        with np.errstate(divide="ignore"):
            return out, np.where(nothing, -np.inf, np.log(2) * (self.base + np.log2(self.total)))


def merged(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """As `merge_splits`."""
    outs, logs = np.stack([out for out, _ in parts]), np.stack([log for _, log in parts])
    top = logs.max(0)
    shift = np.where(np.isneginf(top), 0, top)
    weights = np.exp(logs - shift)
    total = weights.sum(0)
    out = (weights[..., None] * outs).sum(0) / np.where(total == 0, 1, total)[:, None]
    with np.errstate(divide="ignore"):
        return out, np.where(total == 0, -np.inf, shift + np.log(total))


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, block: int, splits: int) -> tuple[np.ndarray, ...]:
    """Out, log-sum-exp, and how often a maximum was taken."""
    tiles = cuda.blocks(len(k), block)
    parts, settled = [], 0
    for split in range(splits):
        rows = RunningRows(q)
        for tile in range(tiles * split // splits, tiles * (split + 1) // splits):
            keys = slice(tile * block, tile * block + block)
            rows.absorb(k[keys], v[keys], seen[:, keys])
        parts.append(rows.finished())
        settled += rows.settled
    return *(parts[0] if splits == 1 else merged(parts)), np.array(settled)


@pytest.mark.parametrize("splits", [1, 2, 7])
@pytest.mark.parametrize("block", [16, 48])
@pytest.mark.parametrize("rise", [0.0, 300.0, -300.0])
@pytest.mark.parametrize("causal", [True, False])
def test_that_tiles_and_splits_give_what_the_formula_gives(causal: bool, rise: float, block: int, splits: int) -> None:
    rng = np.random.default_rng(7)
    n, m = 90, 70
    q, k, v = (rng.standard_normal((rows, 16), np.float32) for rows in (n, m, m))
    q[:, 0] = 1
    k[:, 0] += np.linspace(0, rise, m)
    seen = numerics.causal_visible(np.arange(n) + m - n, np.arange(m), 0) if causal else np.ones((n, m), bool)
    out, log_sums, _ = attended(q, k, v, seen, block, splits)
    scores = np.where(seen, q.astype(np.float64) @ k.T.astype(np.float64) / 4, -np.inf)
    top = np.maximum(scores.max(1), -1e30)
    truth = numerics.masked_attention(q, k, v, seen)
    assert np.abs(out - truth).max() < 2e-5
    with np.errstate(divide="ignore"):
        true_logs = np.where(seen.any(1), top + np.log(np.exp(scores - top[:, None]).sum(1)), -np.inf)
    assert np.array_equal(np.isneginf(log_sums), ~seen.any(1))
    assert np.abs(np.where(seen.any(1), log_sums - np.where(seen.any(1), true_logs, 0), 0)).max() < 1e-3


def test_that_random_scores_need_one_maximum_and_rising_ones_several() -> None:
    rng = np.random.default_rng(8)
    q, k, v = (rng.standard_normal((512, 64), np.float32) for _ in range(3))
    seen = np.ones((512, 512), bool)
    assert attended(q, k, v, seen, 32, 1)[2] == 1
    rising = k + np.linspace(0, 40, 512, dtype=np.float32)[:, None] * np.sign(q).mean(0)
    assert attended(q, rising.astype(np.float32), v, seen, 32, 1)[2] > 1


def test_that_keys_are_split_only_where_blocks_are_few_and_keys_many() -> None:
    assert cuda.splits_of(blocks=128, tiles=1024, multiprocessors=132) == 4
    assert cuda.splits_of(blocks=1000, tiles=1024, multiprocessors=132) == 1
    assert cuda.splits_of(blocks=8, tiles=15, multiprocessors=132) == 1
    assert cuda.splits_of(blocks=1, tiles=1, multiprocessors=1) == 1
    for blocks in (1, 3, 50, 600):
        for tiles in (1, 16, 100, 5000):
            splits = cuda.splits_of(blocks, tiles, 132)
            assert splits == 1 or (tiles // splits >= cuda.LEAST_SPLIT_TILES and splits * blocks <= 4 * 132)

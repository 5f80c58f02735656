"""Seeded q, k and v that show what attention does: noise, a decaying band, a head like those of real models, induction.

Each token's part is drawn from streams of its own, so that the first tokens stay what they were when n grows: a map does
not change under the hand that moves the slider.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnscope_engine.protocol import SyntheticSource, Workload

Floats = NDArray[np.float32]
Part = Literal["q", "k", "v", "wave", "marks", "needles", "choice"]
PARTS: tuple[Part, ...] = ("q", "k", "v", "wave", "marks", "needles", "choice")
KINDS = ("gaussian", "local", "needle", "induction")

SINK_SCORE = 5.0
BAND_SCORE = 4.0
STRIPE_SCORE = 3.0
NEEDLE_SCORE = 11.0
INDUCTION_SCORE = 12.0
LOCAL_SCORE = 9.0
"""Scores (QKᵀ·D^-½) of each feature at its peak, over noise of a standard deviation below 1."""
NEEDLE_EVERY = 48
"""On average one query in so many looks at one far key."""


@dataclass(frozen=True, slots=True)
class HeadSeed:
    """Which head of which call: everything that its numbers depend on besides n and D."""

    kind: Literal["gaussian", "local", "needle", "induction"]
    seed: int
    batch: int
    layer: int
    head: int
    """The key head: k and v, and what its query heads have in common."""
    query_head: int

    def stream(self, part: Part) -> np.random.Generator:
        own = self.query_head if part in ("q", "choice") else self.head
        numbers = (self.seed, KINDS.index(self.kind), self.batch, self.layer, own, PARTS.index(part))
        return np.random.default_rng(np.random.SeedSequence(numbers))


def synthetic(source: SyntheticSource, workload: Workload, layer: int = 0) -> tuple[Floats, Floats, Floats]:
    """Make q `(B, H, N, D)`, k and v `(B, G, N, D)` of one layer, float32, all of it from `source.seed`."""
    w = workload
    q = np.empty((w.batch, w.num_heads, w.seq_len, w.head_dim), np.float32)
    k = np.empty((w.batch, w.num_kv_heads, w.seq_len, w.head_dim), np.float32)
    v = np.empty_like(k)
    for batch in range(w.batch):
        for head in range(w.num_heads):
            seed = _seed_of(source, workload, layer, head, batch)
            q[batch, head], k[batch, seed.head] = _query_and_key(seed, w.seq_len, w.head_dim)
            v[batch, seed.head] = _noise(seed, "v", w.seq_len, w.head_dim)
    return q, k, v


def synthetic_head(source: SyntheticSource, workload: Workload, layer: int, head: int) -> tuple[Floats, Floats]:
    """Make q and k `(N, D)` of one query head of the first sequence: the same numbers as in `synthetic`, without the rest."""
    return _kept_head(_seed_of(source, workload, layer, head, 0), workload.seq_len, workload.head_dim)


def _seed_of(source: SyntheticSource, workload: Workload, layer: int, head: int, batch: int) -> HeadSeed:
    group = workload.num_heads // workload.num_kv_heads
    return HeadSeed(source.kind, source.seed, batch, layer, head // group, head)


@functools.lru_cache(maxsize=4)
def _kept_head(seed: HeadSeed, seq_len: int, head_dim: int) -> tuple[Floats, Floats]:
    q, k = _query_and_key(seed, seq_len, head_dim)
    q.flags.writeable = k.flags.writeable = False
    return q, k


def _query_and_key(seed: HeadSeed, n: int, d: int) -> tuple[Floats, Floats]:
    match seed.kind:
        case "gaussian":
            return _noise(seed, "q", n, d), _noise(seed, "k", n, d)
        case "local":
            wave = _wave(seed, n, d, LOCAL_SCORE)
            return wave + _noise(seed, "q", n, d, 0.3), wave + _noise(seed, "k", n, d, 0.3)
        case "needle":
            return _needle(seed, n, d)
        case "induction":
            return _induction(seed, n, d)


def _noise(seed: HeadSeed, part: Part, n: int, d: int, deviation: float = 1.0) -> Floats:
    numbers = seed.stream(part).standard_normal((n, d), dtype=np.float32)
    return numbers if deviation == 1.0 else numbers * np.float32(deviation)


def _amplitude(score: float, d: int, squared_norm: float) -> np.float32:
    """Factor on two equal vectors of `squared_norm` whose product, times D^-½, is to be `score`."""
    return np.float32(np.sqrt(score * np.sqrt(d) / squared_norm))


def _wave(seed: HeadSeed, n: int, d: int, score: float) -> Floats:
    """`(n, d)`: positions as angles of random speeds. Two positions' product falls with their distance, from `score` at none.

    Speeds from a Cauchy distribution of scale 1/w make the mean product exp(−distance / w).
    """
    rng = seed.stream("wave")
    pairs = d // 2
    width = float(np.exp(rng.uniform(np.log(6), np.log(96))))
    speeds = np.clip(rng.standard_cauchy(pairs), -50, 50) / width
    angles = np.arange(n)[:, None] * speeds
    wave = np.zeros((n, d), np.float32)
    wave[:, :pairs] = np.cos(angles)
    wave[:, pairs : 2 * pairs] = np.sin(angles)
    return wave * _amplitude(score, d, pairs)


def _needle(seed: HeadSeed, n: int, d: int) -> tuple[Floats, Floats]:
    """As real heads look: a sink at key 0, a band, stripes at some keys, and single far keys that one query looks at."""
    marks = seed.stream("marks")
    sink, stripe = marks.standard_normal((2, d), dtype=np.float32)
    wave = _wave(seed, n, d, BAND_SCORE)
    q = wave + _noise(seed, "q", n, d, 0.5)
    k = wave + _noise(seed, "k", n, d, 0.5)
    q += (sink + stripe) * _amplitude(1.0, d, d)
    k[0] += sink * _amplitude(1.0, d, d) * np.float32(SINK_SCORE)
    striped = marks.random(n) < 1 / 24
    k[striped] += stripe * _amplitude(1.0, d, d) * np.float32(STRIPE_SCORE)
    chosen = seed.stream("choice").random(n) < 0.5
    for query, key, direction in _needles(seed, n, d):
        needle = direction * _amplitude(NEEDLE_SCORE, d, float(direction @ direction))
        k[key] += needle
        if chosen[query]:
            q[query] += needle
    return q, k


def _needles(seed: HeadSeed, n: int, d: int) -> list[tuple[int, int, Floats]]:
    """(query, key, direction) of the far pairs, the same for every n that reaches them. The query heads that share a key head
    share its needles, and each looks for about half of them.
    """
    rng = seed.stream("needles")
    directions = np.random.default_rng(rng.integers(2**63))
    draws = rng.random((n, 2))
    found = []
    for query in np.flatnonzero(draws[:, 0] < 1 / NEEDLE_EVERY):
        direction = directions.standard_normal(d, dtype=np.float32)
        if query > 1:
            found.append((int(query), int(draws[query, 1] * (query - 1)), direction))
    return found


def _induction(seed: HeadSeed, n: int, d: int) -> tuple[Floats, Floats]:
    """A sequence that repeats itself: a query looks for its own token, a key stands for the token before it."""
    rng = seed.stream("marks")
    period = int(rng.integers(16, 48))
    names = rng.standard_normal((period + 1, d), dtype=np.float32)
    names *= _amplitude(INDUCTION_SCORE, d, 1.0) / np.linalg.norm(names, axis=1, keepdims=True)
    tokens = np.arange(n) % period
    before = np.concatenate(([period], tokens[:-1]))
    return names[tokens] + _noise(seed, "q", n, d, 0.3), names[before] + _noise(seed, "k", n, d, 0.3)

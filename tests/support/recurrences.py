"""Float64 truths of methods that keep a state, token by token, and inputs for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from attnscope_engine import numerics
from attnscope_engine.protocol import Dtype
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """Of one call."""

    queries: int
    keys: int
    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 64
    batch: int = 1

    @property
    def q(self) -> tuple[int, int, int, int]:
        return self.batch, self.heads, self.queries, self.head_dim

    @property
    def k(self) -> tuple[int, int, int, int]:
        return self.batch, self.kv_heads, self.keys, self.head_dim


def tensors(sizes: Sizes, dtype: Dtype, seed: int) -> list[NDArray[np.float32]]:
    """q, k and v, normal numbers rounded to the dtype."""
    rng = np.random.default_rng(seed)
    return [numerics.rounded(rng.standard_normal(shape, np.float32), dtype) for shape in (sizes.q, sizes.k, sizes.k)]


def gates_of(strength: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Natural logarithms: `weak`, about −0.05 each; `strong`, −50; `mixed`, from 0 to −50 beside each other, some −∞."""
    rng = np.random.default_rng(seed)
    weak = -np.log1p(np.exp(-rng.standard_normal(shape))) / 16
    if strength == "mixed":
        weak = np.where(rng.random(shape) < 0.2, -rng.uniform(0, 50, shape), weak)
        weak = np.where(rng.random(shape) < 0.01, -np.inf, weak)
    return np.full(shape, -50.0, np.float32) if strength == "strong" else weak.astype(np.float32)


def delta(q: Any, k: Any, v: Any, beta: Any, gates: Any | None, scale: float, xp: Any = np) -> Any:
    """S_t = e^(g_t)·(I − β_t·k_t·k_tᵀ)·S_(t−1) + β_t·k_t·v_tᵀ, out_t = scale·S_tᵀ·q_t. q `(B, H, N, D)`, k v `(B, G, M, D)`.

    Gates of tokens `(B, G, M)`, or of channels `(B, G, M, D)`, which fade before the key takes out what it answers. `xp` is numpy
    or cupy, whose arrays are given and returned.
    """
    q, k, v, beta, *of_gates = _per_query_head(xp, q, k, v, beta, *(() if gates is None else (gates,)))
    decay = xp.exp(of_gates[0]) if of_gates else xp.ones(beta.shape)
    decay = decay[..., None] if len(decay.shape) == 3 else decay
    state, out = xp.zeros((*k.shape[:2], k.shape[3], v.shape[3])), xp.zeros(q.shape)
    for t in range(k.shape[2]):
        key = k[:, :, t]
        state *= decay[:, :, t, :, None]
        lacks = v[:, :, t] - (key[..., None, :] @ state)[..., 0, :]
        state += (beta[:, :, t, None] * key)[..., :, None] * lacks[..., None, :]
        _answer(out, q, state, t, k.shape[2], scale)
    return out


def delta_rounded(q: Any, k: Any, v: Any, beta: Any, gates: Any | None, scale: float, dtype: Dtype) -> Floats:
    """As `delta` with gates of tokens, in chunks of 64, in float64, what 16-bit products are made of rounded to `dtype`.

    What a kernel with such products can at best be: the fewer channels keys have, the less they are orthogonal, and the more the
    solution of a chunk's system makes of the same rounding.
    """

    def rounded(x: Any) -> Floats:
        return numerics.rounded(x.astype(np.float32), dtype).astype(np.float64)

    def cut(x: Any, first: int) -> Floats:
        chunk = np.zeros((*x.shape[:2], 64, *x.shape[3:]))
        low, high = max(first, 0), min(first + 64, x.shape[2])
        chunk[:, :, low - first : max(low, high) - first] = x[:, :, low : max(low, high)]
        return chunk

    decay = np.zeros(beta.shape) if gates is None else np.maximum(gates, -127 * np.log(2))
    q, k, v, beta, decay = _per_query_head(np, q, k, v, beta, decay)
    before = k.shape[2] - q.shape[2]
    state, out = np.zeros((*k.shape[:2], k.shape[3], v.shape[3])), np.zeros(q.shape)
    for first in range(before if before < 0 else -(-before % 64), k.shape[2], 64):
        keys, values, write, queries = cut(k, first), cut(v, first), cut(beta, first), cut(q, first - before)
        until = np.cumsum(cut(decay, first), -1)
        fade = np.exp(np.minimum(until[..., :, None] - until[..., None, :], 0))
        kept, late = np.exp(until)[..., None], np.exp(until[..., -1:] - until)[..., None]
        lower = np.tril(write[..., :, None] * fade * (keys @ keys.swapaxes(-1, -2)), -1)
        solved = rounded(np.linalg.inv(np.eye(64) + lower) * write[..., None, :])
        written = rounded(solved @ rounded(values - kept * (keys @ rounded(state))))
        scores = rounded(np.tril(scale * fade * (queries @ keys.swapaxes(-1, -2))))
        answers = rounded(scale * kept * (queries @ rounded(state)) + scores @ written)
        state = kept[..., -1:, :] * state + keys.swapaxes(-1, -2) @ (written if gates is None else rounded(late * written))
        low, high = max(first - before, 0), min(first - before + 64, q.shape[2])
        out[:, :, low : max(low, high)] = answers[:, :, low - first + before : max(low, high) - first + before]
    return out


def gla(q: Any, k: Any, v: Any, gates: Any, scale: float, xp: Any = np) -> Any:
    """S_t = diag(e^(g_t))·S_(t−1) + k_t·v_tᵀ, out_t = scale·S_tᵀ·q_t; gates as k. `xp` as of `delta`."""
    q, k, v, gates = _per_query_head(xp, q, k, v, gates)
    decay = xp.exp(gates)
    state, out = xp.zeros((*k.shape[:2], k.shape[3], v.shape[3])), xp.zeros(q.shape)
    for t in range(k.shape[2]):
        state *= decay[:, :, t, :, None]
        state += k[:, :, t, :, None] * v[:, :, t, None, :]
        _answer(out, q, state, t, k.shape[2], scale)
    return out


def error(got: Any, truth: Floats) -> float:
    """Root mean square of the difference over that of the truth."""
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


def _answer(out: Any, q: Any, state: Any, key: int, keys: int, scale: float) -> None:
    """A query stands at its own key, the last at the last."""
    row = key + q.shape[2] - keys
    if row >= 0:
        out[:, :, row] = scale * (q[:, :, row, None, :] @ state)[..., 0, :]


def _per_query_head(xp: Any, q: Any, *of_keys: Any) -> list[Any]:
    return [q.astype(np.float64), *(xp.repeat(x.astype(np.float64), q.shape[1] // x.shape[1], 1) for x in of_keys)]

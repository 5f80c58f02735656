"""Linear and recurrent methods in float64: the recurrence token by token, and rows of the map that it amounts to.

Every output is linear in V, so a map A exists with out = A V, though no method computes it. Where G = Σ log α up to a token, it
is A_ij = q_i·k_j exp(G_i − G_j) for j ≤ i. Nothing here makes more of it than the rows asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import numerics
from attnscope_engine.numerics import Floats


def scaled(q: NDArray[Any]) -> Floats:
    """Queries times D^-½."""
    found: Floats = q.astype(np.float64) * q.shape[-1] ** -0.5
    return found


def recurrence(
    q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], log_decay: Floats | None = None, write: Floats | None = None
) -> Floats:
    """S_t = diag(α_t) S_{t−1} + k_t v_tᵀ, out_t = S_tᵀ q_t; with β: S_t = (I − β_t k_t k_tᵀ) diag(α_t) S_{t−1} + β_t k_t v_tᵀ.

    q `(B, H, N, F)`, k `(B, G, M, F)`, v `(B, G, M, V)`, log α `(B, G, M)` or of each channel `(B, G, M, F)`, β `(B, G, M)` →
    `(B, H, N, V)`. A query stands at key t + M − N; one that comes before all keys gives 0.
    """
    n, m, heads = q.shape[2], k.shape[2], q.shape[1]
    wide = [x.astype(np.float64) for x in (q, k, v)]
    decay = None if log_decay is None else np.exp(log_decay.reshape(*k.shape[:3], -1))[..., None]
    state = np.zeros((*k.shape[:2], k.shape[3], v.shape[3]))
    out = np.zeros((*q.shape[:3], v.shape[3]))
    for t in range(m):
        key, value = wide[1][:, :, t], wide[2][:, :, t]
        if decay is not None:
            state = state * decay[:, :, t]
        if write is not None:
            value = write[:, :, t, None] * (value - (key[..., None, :] @ state)[..., 0, :])
        state = state + key[..., None] * value[..., None, :]
        if t + n >= m:
            query = wide[0][:, :, t + n - m]
            out[:, :, t + n - m] = (query[..., None, :] @ numerics.expand_heads(state, heads))[..., 0, :]
    return out


def map_of_tokens(q: NDArray[Any], k: NDArray[Any], log_decay: Floats | None, rows: NDArray[Any]) -> Floats:
    """q_i·k_j exp(G_i − G_j), one gate a token. q `(N, F)`, k `(M, F)`, log α `(M,)` → `(len(rows), M)`."""
    positions = rows + len(k) - len(q)
    products: Floats = q[rows].astype(np.float64) @ k.astype(np.float64).T
    products[~numerics.causal_visible(positions, np.arange(len(k)), 0)] = 0
    if log_decay is not None:
        until = np.cumsum(log_decay)
        products *= np.exp(np.minimum(until[np.maximum(positions, 0)][:, None] - until, 0))
    return products


def map_of_channels(q: NDArray[Any], k: NDArray[Any], log_decay: Floats, rows: NDArray[Any]) -> Floats:
    """Σ_c q_ic k_jc exp(G_ic − G_jc), one gate a token and channel. Q `(N, F)`, k and log α `(M, F)` → `(len(rows), M)`.

    Rows that see the same keys share a matrix product: the decay from a key to the first of them, and from there to each row, are
    two factors of at most 1.
    """
    positions = rows + len(k) - len(q)
    queries, keys, until = q[rows].astype(np.float64), k.astype(np.float64), np.cumsum(log_decay, axis=0)
    found = np.zeros((len(rows), len(k)))
    order = np.argsort(positions, kind="stable")
    parts = [(order[positions[order] >= 0], 0)]
    while parts:
        some, first = parts.pop()
        if not len(some):
            continue
        middle = some[len(some) // 2 :]
        border = int(positions[middle[0]])
        to_border = keys[first : border + 1] * np.exp(until[border] - until[first : border + 1])
        since = queries[middle] * np.exp(until[positions[middle]] - until[border])
        found[middle, first : border + 1] = since @ to_border.T
        parts.append((some[: len(some) // 2], first))
        parts.append((middle[positions[middle] > border], border + 1))
    return found


def map_by_transport(q: NDArray[Any], k: NDArray[Any], write: Floats, log_decay: Floats | None, rows: NDArray[Any]) -> Floats:
    """Rows of the delta rule's map: each query is carried back through the transitions, p ← diag(α_j) (I − β_j k_j k_jᵀ) p.

    A_ij = β_j p·k_j when it arrives at key j. q `(N, F)`, k `(M, F)`, β `(M,)`, log α `(M,)` or `(M, F)` → `(len(rows), M)`.
    Nothing is solved and nothing grows: with keys of length 1 and β below 2 no transition makes p longer.
    """
    positions = rows + len(k) - len(q)
    order = np.argsort(-positions, kind="stable")
    starts = -positions[order]
    carried, keys = q[rows[order]].astype(np.float64), k.astype(np.float64)
    decay = None if log_decay is None else np.exp(log_decay)
    found = np.zeros((len(k), len(rows)))
    for key in range(int(positions.max(initial=-1)), -1, -1):
        some = carried[: np.searchsorted(starts, -key, side="right")]
        weights = write[key] * (some @ keys[key])
        found[key, : len(some)] = weights
        some -= weights[:, None] * keys[key]
        if decay is not None:
            some *= decay[key]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return found[:, back].T

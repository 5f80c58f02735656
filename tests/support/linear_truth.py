"""The recurrence of linear attention in float64, token by token, straight from its definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FEATURES: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "elu": lambda x: np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "exp": np.exp,
}


def decay_of(decay: Array | None, b: int, h: int, shape: tuple[int, int], keys: int) -> Array:
    """Natural logarithms of one head's tokens; `shape`: query heads and key heads."""
    if decay is None:
        return np.zeros(keys)
    if decay.ndim == 1:
        return np.full(keys, float(decay[h]))
    return decay[b, h // (shape[0] // decay.shape[1])].astype(np.float64)


def linear_truth(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool,
    feature: str = "identity",
    normalised: bool = False,
    decay: Array | None = None,
    scale: float = 1.0,
) -> Array:
    """q `(B, H, N, D)`, k v `(B, G, M, D)` → `(B, H, N, D)`; a query stands at key t + M − N when causal."""
    phi = FEATURES[feature]
    (batch, heads, n, d), (kv_heads, m) = q.shape, k.shape[1:3]
    out = np.zeros(q.shape)
    for b in range(batch):
        for h in range(heads):
            g = h // (heads // kv_heads)
            queries, keys, values = phi(q[b, h].astype(float)), phi(k[b, g].astype(float)), v[b, g].astype(float)
            forget = np.exp(decay_of(decay, b, h, (heads, kv_heads), m))
            state, z = np.zeros((d, d)), np.zeros(d)
            if not causal:
                state, z = keys.T @ values, keys.sum(0)
            seen = 0
            for t in range(n):
                while causal and seen < min(t + m - n + 1, m):
                    state, z = forget[seen] * state + np.outer(keys[seen], values[seen]), forget[seen] * z + keys[seen]
                    seen += 1
                divisor = queries[t] @ z if normalised else 1 / scale
                out[b, h, t] = queries[t] @ state / divisor if divisor else 0
    return out

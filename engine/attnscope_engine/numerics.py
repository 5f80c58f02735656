"""Arithmetic that references, maps and the tests share: numpy only, float64 unless said otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine.protocol import Dtype, Workload

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[Any]


def expand_heads(x: NDArray[Any], num_heads: int) -> NDArray[Any]:
    """`(B, G, M, D)` → `(B, H, M, D)`: each key head once for every query head that reads it."""
    return np.repeat(x, num_heads // x.shape[1], axis=1)


def distance_back(rows: Indices, columns: Indices, offset: int) -> NDArray[np.int64]:
    """`(len(rows), len(columns))`: how many keys the column lies before the row's own key; negative is the future.

    `offset` is M − N: the last query stands at the last key (bottom-right alignment).
    """
    here = np.asarray(rows, dtype=np.int64)[:, None] + offset
    away: NDArray[np.int64] = here - np.asarray(columns, dtype=np.int64)[None, :]
    return away


def causal_visible(rows: Indices, columns: Indices, offset: int) -> Mask:
    """`(len(rows), len(columns))`: keys not after the query's own, with `offset` M − N."""
    return distance_back(rows, columns, offset) >= 0


def keys_not_after(workload: Workload, params: Any, rows: Indices, columns: Indices) -> Mask:  # noqa: ARG001
    """`Variant.visible` of variants that are causal only, in positions of keys."""
    return causal_visible(rows, columns, 0)


def all_visible(rows: Indices, columns: Indices) -> Mask:
    """`(len(rows), len(columns))`, all true."""
    return np.ones((len(rows), len(columns)), dtype=bool)


def softmax_rows(scores: Floats, visible: Mask) -> Floats:
    """Softmax over the last axis of the visible scores; a row that sees nothing is 0. Non-finite scores stay visible as NaN."""
    masked = np.where(visible, scores, -np.inf)
    top = np.max(masked, axis=-1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        parts = np.exp(masked - np.where(top == -np.inf, 0.0, top))
    total = np.sum(parts, axis=-1, keepdims=True)
    weights: Floats = np.divide(parts, np.where(total == 0.0, 1.0, total))
    return weights


def scores_of(q: NDArray[Any], k: NDArray[Any]) -> Floats:
    """`(…, N, D)`, `(…, M, D)` → `(…, N, M)`: QKᵀ·D^-½ in float64."""
    wide_q, wide_k = q.astype(np.float64), k.astype(np.float64)
    scores: Floats = wide_q @ np.swapaxes(wide_k, -1, -2) * q.shape[-1] ** -0.5
    return scores


def masked_attention(
    q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], visible: Mask, change: Callable[[Floats], None] | None = None
) -> Floats:
    """softmax(QKᵀ·D^-½ over `visible`) V in float64. q `(B, H, N, D)`, k v `(B, G, M, D)`, visible `(N, M)` → `(B, H, N, D)`.

    `change` alters the scores `(B, H, N, M)` in place before their softmax.
    """
    num_heads = q.shape[1]
    scores = scores_of(q, expand_heads(k, num_heads))
    if change is not None:
        change(scores)
    weights = softmax_rows(scores, visible)
    out: Floats = weights @ expand_heads(v, num_heads).astype(np.float64)
    return out


def reference_over(visible: Callable[..., Mask]) -> Callable[..., Floats]:
    """`Variant.reference` of a softmax over what `Variant.visible` says: a query that sees no key gives 0."""

    def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: Any) -> Floats:
        n, m = q.shape[-2], k.shape[-2]
        return masked_attention(q, k, v, visible(workload, params, np.arange(n) + m - n, np.arange(m)))

    return reference


def weights_over(visible: Callable[..., Mask]) -> Callable[..., Floats]:
    """`Variant.weights` of a softmax over what `Variant.visible` says."""

    def weights(q: NDArray[Any], k: NDArray[Any], workload: Workload, params: Any, rows: Indices, head: int) -> Floats:  # noqa: ARG001
        n, m = q.shape[0], k.shape[0]
        return softmax_rows(scores_of(q[rows], k), visible(workload, params, rows + m - n, np.arange(m)))

    return weights


def rounded(x: NDArray[Any], dtype: Dtype) -> NDArray[np.float32]:
    """The nearest values that `dtype` can store (ties to even), as float32. NaN and infinities stay."""
    single = np.asarray(x, dtype=np.float32)
    if dtype == "fp32":
        return single
    if dtype == "fp16":
        with np.errstate(over="ignore"):
            return single.astype(np.float16).astype(np.float32)
    bits = single.view(np.uint32)
    kept_lsb = (bits >> np.uint32(16)) & np.uint32(1)
    upper = (bits + np.uint32(0x7FFF) + kept_lsb) & np.uint32(0xFFFF0000)
    near = upper.view(np.float32)
    return np.where(np.isfinite(single), near, single).astype(np.float32)

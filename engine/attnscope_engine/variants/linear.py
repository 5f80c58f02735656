"""Linear attention: the softmax replaced by a product of positive features, so that a running state of fixed size is enough.

Katharopoulos et al. 2020, "Transformers are RNNs", sections 3.2 to 3.4, arXiv 2006.16236.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import threads
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.variant import Params, Tick, Variant

CHUNK = 64
"""Tokens between two updates of the causal state: pairs inside a chunk are computed, older ones are in the state."""

BLOCK_QUERIES = 2048 * threads()
"""That one step on the processor works on: some for every thread, few enough for its caches."""


def resolve(workload: Workload, params: Params) -> Params:
    """There is nothing to choose."""
    return params


def cost(workload: Workload, params: Params, on: DeviceKind) -> Cost:
    """Features, then the state (its normaliser is one more value column) written and read once a token."""
    w = workload
    if on == "cuda":
        return Cost(cuda.linear.steps(w, normalised=True, feature="elu"), (tensor_term(w), *cuda.linear.held(w)))
    n, d = w.seq_len, w.head_dim
    heads, kv_heads = w.batch * w.num_heads, w.batch * w.num_kv_heads
    query, keys = heads * n * d, kv_heads * n * d
    flops = 2 * (heads + kv_heads) * n * d * (d + 1)
    if w.causal:
        flops += 2 * heads * pairs_inside_chunks(n) * (d + d + 1)
    steps = (Step("state", flops, query + keys, 2 * (query + keys) * w.item_bytes),)
    at_once = groups_at_once(w.num_heads // w.num_kv_heads)
    held = Term("state", f"min(B·G, {at_once})·D·(D+1)·4", min(kv_heads, at_once) * d * (d + 1) * 4, "constant")
    return Cost(steps, (tensor_term(w), held, workspace(w, held.bytes_)))


def workspace(workload: Workload, state_bytes: int) -> Term:
    """Arrays of one step on the processor: features, products inside chunks, sums, states of chunks; and what a state gains."""
    w, d = workload, workload.head_dim
    rows = min(w.batch * w.num_heads * w.seq_len, BLOCK_QUERIES)
    row, heads = d * (8 if w.item_bytes == 4 else 12) + 4, w.num_heads // w.num_kv_heads
    states_more = 1 if w.causal else heads + 1
    if w.causal:
        chunk = min(CHUNK, w.seq_len)
        row += d * w.item_bytes if heads > 1 else 0
        states = d * (d + 1) // chunk
        row = max(row, 4 * (2 * d + 1 + max(states // heads, chunk + d + 1) + (2 * d + 1 + states) // heads))
    formula = f"min(B·H·n, {rows:,})·{row:,} + {states_more}·state"
    return Term("workspace", formula, rows * row + states_more * state_bytes, "constant")


def groups_at_once(heads: int) -> int:
    """Key heads that are scanned together, each read by `heads` query heads."""
    return max(1, BLOCK_QUERIES // (heads * CHUNK))


def pairs_inside_chunks(n: int) -> int:
    """Causal pairs of one head whose query and key share a chunk."""
    chunks, tail = divmod(n, CHUNK)
    return (chunks * CHUNK * (CHUNK + 1) + tail * (tail + 1)) // 2


def phi(x: NDArray[Any]) -> NDArray[np.float64]:
    """elu(x) + 1 in float64: always positive."""
    wide = x.astype(np.float64)
    return np.where(wide > 0, wide + 1, np.exp(np.minimum(wide, 0)))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: Params) -> NDArray[Any]:
    """φ(Q) φ(K)ᵀ V over what is seen, each row divided by its sum; a query that sees no key gives 0."""
    n, m = q.shape[-2], k.shape[-2]
    seen = visible(workload, params, np.arange(n) + m - n, np.arange(m))
    products = np.where(seen, phi(q) @ phi(numerics.expand_heads(k, q.shape[1])).swapaxes(-1, -2), 0.0)
    total = products.sum(axis=-1, keepdims=True)
    mapped: NDArray[np.float64] = products / np.where(total == 0, 1.0, total)
    return mapped @ numerics.expand_heads(v, q.shape[1]).astype(np.float64)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: Params, xp: Any, tick: Tick) -> Any:
    """One state for each key head, older keys inside it; the pairs of a chunk directly. Everything in fp32."""
    n, m, d = q.shape[2], k.shape[2], q.shape[3]
    groups = q.shape[0] * k.shape[1]
    queries = q.reshape(groups, -1, n, d)
    keys, values = k.reshape(groups, m, d), v.reshape(groups, m, d)
    out = xp.zeros_like(queries)
    at_once = groups_at_once(queries.shape[1])
    for first in range(0, groups, at_once):
        some = slice(first, first + at_once)
        scan = _causal if workload.causal else _bidirectional
        scan(queries[some], keys[some], values[some], out[some], xp, tick)
    return out.reshape(q.shape)


def _bidirectional(q: Any, k: Any, v: Any, out: Any, xp: Any, tick: Tick) -> None:
    """All keys into the state, then every query out of it. q out `(A, R, N, D)`, k v `(A, M, D)`."""
    state = _absorbed(k, v, xp, tick)[:, None]
    step = max(1, BLOCK_QUERIES // (q.shape[0] * q.shape[1]))
    for first in range(0, q.shape[2], step):
        tick()
        rows = slice(first, first + step)
        out[:, :, rows] = _divided(xp.matmul(_features(q[:, :, rows], xp), state))


def _causal(q: Any, k: Any, v: Any, out: Any, xp: Any, tick: Tick) -> None:
    """Chunk by chunk along the keys; keys before the first query go into the state at once."""
    n, m = q.shape[2], k.shape[1]
    before = max(0, m - n)
    state = _absorbed(k[:, :before], v[:, :before], xp, tick)
    shift, first = m - n, max(0, n - m)
    block = max(1, BLOCK_QUERIES // (q.shape[0] * q.shape[1] * CHUNK)) * CHUNK
    while first < n:
        tick()
        size = min(block, (n - first) // CHUNK * CHUNK) or n - first
        rows, columns = slice(first, first + size), slice(first + shift, first + shift + size)
        out[:, :, rows] = _chunks(q[:, :, rows], k[:, columns], v[:, columns], state, xp)
        first += size


def _absorbed(k: Any, v: Any, xp: Any, tick: Tick) -> Any:
    """Σ φ(k) [v 1]ᵀ over all keys, fp32 `(A, D, D+1)`."""
    state = xp.zeros((k.shape[0], k.shape[2], v.shape[2] + 1), dtype=xp.float32)
    step = max(1, BLOCK_QUERIES // k.shape[0])
    for first in range(0, k.shape[1], step):
        tick()
        keys = slice(first, first + step)
        state += xp.matmul(_features(k[:, keys], xp).swapaxes(-1, -2), _with_ones(v[:, keys], xp))
    return state


def _chunks(q: Any, k: Any, v: Any, state: Any, xp: Any) -> Any:
    """Outputs of some whole chunks (or of one short one); moves `state` past them. q `(A, R, T, D)`, k v `(A, T, D)`."""
    groups, heads, tokens, d = q.shape
    size = min(CHUNK, tokens)
    apart = (groups, tokens // size, size, d)
    by_chunk = q.reshape(groups, heads, *apart[1:]).swapaxes(1, 2).reshape(groups, apart[1], heads * size, d)
    queries = _features(by_chunk, xp)  # [A, C, R·size, D]
    del by_chunk
    keys, values = _features(k.reshape(apart), xp), _with_ones(v.reshape(apart), xp)
    after = xp.cumsum(xp.matmul(keys.swapaxes(-1, -2), values), 1)
    after += state[:, None]
    total = xp.matmul(queries, xp.concatenate((state[:, None], after[:, :-1]), 1))
    inside = xp.matmul(queries, keys.swapaxes(-1, -2))
    _hide_future(inside.reshape(groups, apart[1], heads, size, size), xp)
    total += xp.matmul(inside, values)
    del queries, inside  # before the heads are put in front again, which copies
    out = _divided(total).reshape(groups, apart[1], heads, size, d).swapaxes(1, 2)
    state[...] = after[:, -1]
    return out.reshape(groups, heads, tokens, d)


def _hide_future(products: Any, xp: Any) -> None:
    """Sets what lies right of the diagonal to 0, in place."""
    if xp.__name__ == "torch":
        products.tril_()
    else:
        xp.copyto(products, 0, where=~xp.tri(products.shape[-1], dtype=bool))


def _features(x: Any, xp: Any) -> Any:
    """elu(x) + 1 in fp32."""
    wide = _fp32(x, xp)
    features = xp.clip(wide, None, 0)
    xp.exp(features, out=features)
    features += xp.clip(wide, 0, None)
    return features


def _with_ones(v: Any, xp: Any) -> Any:
    """V in fp32 and a column of ones, whose sums are the normaliser."""
    wide = xp.ones((*v.shape[:-1], v.shape[-1] + 1), dtype=xp.float32)
    wide[..., :-1] = v
    return wide


def _divided(total: Any) -> Any:
    return total[..., :-1] / total[..., -1:]


def _fp32(x: Any, xp: Any) -> Any:
    return x.to(xp.float32) if xp.__name__ == "torch" else x.astype(xp.float32, copy=False)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: Params) -> None:
    """One kernel, or three: states of segments, their running sums, outputs."""
    cuda.linear.attend(device, "linear", "Linear", (q, k, v, out), workload, feature="elu", normalised=True)


def weights(q: NDArray[Any], k: NDArray[Any], workload: Workload, params: Params, rows: NDArray[Any], head: int) -> NDArray[Any]:
    """A_ij = φ(q_i)·φ(k_j) / Σ_l φ(q_i)·φ(k_l): the map that the state implies. It is never computed by the method itself."""
    seen = visible(workload, params, rows + k.shape[0] - q.shape[0], np.arange(k.shape[0]))
    products = np.where(seen, phi(q[rows]) @ phi(k).T, 0.0)
    total = products.sum(axis=-1, keepdims=True)
    mapped: NDArray[np.float64] = products / np.where(total == 0, 1.0, total)
    return mapped


def visible(workload: Workload, params: Params, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """All keys, or those not after the query."""
    return numerics.causal_visible(rows, columns, 0) if workload.causal else numerics.all_visible(rows, columns)


def state_bytes(workload: Workload, params: Params) -> int:
    """Σ φ(k) [v 1]ᵀ of every key head, fp32."""
    w = workload
    return w.batch * w.num_kv_heads * w.head_dim * (w.head_dim + 1) * 4


VARIANT = Variant(
    name="linear",
    title="Linear",
    family="linear",
    order=3,
    source="Katharopoulos et al. 2020, sections 3.2 to 3.4, arXiv 2006.16236",
    formula="out = φ(Q) (φ(K)ᵀ V) / φ(Q) (φ(K)ᵀ 1), φ(x) = elu(x) + 1",
    params=Params,
    summary=lambda params: "φ = elu + 1",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    state_bytes=state_bytes,
)

"""Attention as it is written down: every score, then every weight, each an n×n array in memory.

Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1, arXiv 1706.03762.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.variant import Params, Tick, Variant

BLOCK_ROWS = 128
"""Query rows of one step on the processor: few enough to stop between, enough for a full matrix product."""

Blocks = list[tuple[slice, int]]


def resolve(workload: Workload, params: Params) -> Params:
    """There is nothing to choose."""
    return params


def cost(workload: Workload, params: Params, on: DeviceKind) -> Cost:
    """Three passes over n×n arrays that live in memory: scores in fp32, weights in the dtype."""
    w = workload
    heads, n, item = w.batch * w.num_heads, w.seq_len, w.item_bytes
    pairs = heads * w.pairs
    query, keys = heads * n * w.head_dim, w.batch * w.num_kv_heads * n * w.head_dim
    steps = (
        Step("scores", 2 * pairs * w.head_dim, 0, (query + keys) * item + pairs * 4),
        Step("softmax", 0, pairs, pairs * (4 + item)),
        Step("weights × v", 2 * pairs * w.head_dim, 0, (query + keys) * item + pairs * item),
    )
    row = cuda.aligned(n) if on == "cuda" else n  # a GPU reads rows 16 bytes at a time
    held = [
        tensor_term(w),
        Term("scores", "B·H·n²·4", heads * n * row * 4, "n2"),
        Term("weights", f"B·H·n²·{item}", heads * n * row * item, "n2"),
    ]
    if on == "cpu":
        rows = min(n, BLOCK_ROWS)
        block = max(2 * rows, rows + w.head_dim) * n + rows * w.head_dim
        held.append(Term("workspace", f"max(2·{rows}, {rows} + D)·n·4 + {rows}·D·4", 4 * block, "n"))
    return Cost(steps, tuple(held))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: Params) -> NDArray[Any]:
    """softmax(QKᵀ·D^-½ over what is seen) V; a query that sees no key gives 0."""
    rows = np.arange(q.shape[-2]) + k.shape[-2] - q.shape[-2]
    return numerics.masked_attention(q, k, v, visible(workload, params, rows, np.arange(k.shape[-2])))


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: Params, xp: Any, tick: Tick) -> Any:
    """Three passes over all heads, each over blocks of rows: scores, weights, product. Keys after a block are not computed."""
    heads, m = q.shape[:3], k.shape[2]
    scores = xp.empty((*heads, m), dtype=xp.float32)
    mapped = xp.zeros((*heads, m), dtype=q.dtype)
    out = xp.zeros_like(q)
    blocks = list(row_blocks(q.shape[2], m, workload.causal))
    for b, h in np.ndindex(*q.shape[:2]):
        _score(q[b, h], k[b, h * k.shape[1] // q.shape[1]], scores[b, h], blocks, xp, tick)
    for b, h in np.ndindex(*q.shape[:2]):
        for rows, reach in blocks:
            tick()
            if workload.causal:
                hide_future(scores[b, h, rows, :reach], xp)
            mapped[b, h, rows, :reach] = _softmax(scores[b, h, rows, :reach], xp)
    for b, h in np.ndindex(*q.shape[:2]):
        _gather(mapped[b, h], v[b, h * k.shape[1] // q.shape[1]], out[b, h], blocks, xp, tick)
    return out


def _score(q: Any, k: Any, scores: Any, blocks: Blocks, xp: Any, tick: Tick) -> None:
    """One head's QKᵀ·D^-½ into `scores` `(N, M)`."""
    keys = _fp32(k, xp)
    for rows, reach in blocks:
        tick()
        xp.matmul(_fp32(q[rows], xp) * q.shape[1] ** -0.5, keys[:reach].T, out=scores[rows, :reach])


def _gather(mapped: Any, v: Any, out: Any, blocks: Blocks, xp: Any, tick: Tick) -> None:
    """One head's weights times v into `out` `(N, D)`."""
    values = _fp32(v, xp)
    for rows, reach in blocks:
        tick()
        out[rows] = xp.matmul(_fp32(mapped[rows, :reach], xp), values[:reach])


def row_blocks(n: int, m: int, causal: bool) -> Iterator[tuple[slice, int]]:
    """Rows of a block and how many keys its last row sees; rows that see none are left out."""
    for first in range(max(0, n - m) if causal else 0, n, BLOCK_ROWS):
        end = min(first + BLOCK_ROWS, n)
        yield slice(first, end), end + m - n if causal else m


def hide_future(scores: Any, xp: Any) -> None:
    """Sets the keys after each row's own to −∞, in place; the last row sees all."""
    rows, reach = scores.shape
    future = xp.triu(xp.ones((rows, rows), dtype=xp.bool), 1)
    scores[:, reach - rows :][future] = -xp.inf


def _softmax(scores: Any, xp: Any) -> Any:
    if xp.__name__ == "torch":
        return xp.softmax(scores, -1)
    scores -= scores.max(axis=-1, keepdims=True)
    xp.exp(scores, out=scores)
    return scores / scores.sum(axis=-1, keepdims=True)


def _fp32(x: Any, xp: Any) -> Any:
    return x.to(xp.float32) if xp.__name__ == "torch" else x.astype(xp.float32, copy=False)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: Params) -> None:
    """Three kernels with the n×n arrays between them, rows padded to 16 bytes."""
    batch, heads, queries, head_dim = q.shape
    kv_heads, keys = k.shape[1:3]
    tiles = cuda.tiling("Naive", head_dim, workload.dtype, least_block_k=32)
    stride = cuda.aligned(keys)
    scores = device.empty((batch, heads, queries, stride), "float32")
    mapped = device.empty((batch, heads, queries, stride), cuda.STORED[workload.dtype])
    scale = np.float32(head_dim**-0.5)
    n, m, d, group, row = (np.int32(size) for size in (queries, keys, head_dim, heads // kv_heads, stride))

    def run(entry: str, count: int, threads: int, arguments: tuple[Any, ...], shared_bytes: int) -> None:
        kernel = device.kernel("softmax_naive", entry, tiles.defines(workload.causal))
        kernel((count, heads, batch), threads, arguments, shared_bytes)

    row_blocks = cuda.blocks(queries, tiles.block_q)
    shared = tiles.shared_bytes(tiles.block_q + tiles.block_k)
    run(
        "softmax_naive_scores",
        row_blocks * cuda.blocks(keys, tiles.block_k),
        tiles.threads,
        (q, k, scores, n, m, d, group, row, scale),
        shared,
    )
    run("softmax_naive_weights", cuda.blocks(queries, 8), 256, (scores, mapped, n, m, row), 0)
    shared = tiles.shared_bytes(tiles.block_q, tiles.block_k) + tiles.shared_bytes(tiles.block_k)
    run("softmax_naive_out", row_blocks, tiles.threads, (mapped, v, out, n, m, d, group, row), shared)


def weights(q: NDArray[Any], k: NDArray[Any], workload: Workload, params: Params, rows: NDArray[Any]) -> NDArray[Any]:
    """Softmax of the rows' scores over what is seen."""
    seen = visible(workload, params, rows + k.shape[0] - q.shape[0], np.arange(k.shape[0]))
    return numerics.softmax_rows(numerics.scores_of(q[rows], k), seen)


def visible(workload: Workload, params: Params, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """All keys, or those not after the query."""
    return numerics.causal_visible(rows, columns, 0) if workload.causal else numerics.all_visible(rows, columns)


VARIANT = Variant(
    name="softmax_naive",
    title="Naive",
    family="softmax",
    order=0,
    source="Vaswani et al. 2017, section 3.2.1, arXiv 1706.03762",
    formula="out = softmax(Q Kᵀ · D^-½) V",
    params=Params,
    summary=lambda params: "n×n stored",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
)

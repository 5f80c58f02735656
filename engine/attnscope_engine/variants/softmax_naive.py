"""Attention as it is written down: every score, then every weight, each an n×n array in memory.

Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1, arXiv 1706.03762.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics, side_by_side
from attnscope_engine.attend import threads
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.variant import Params, Tick, Variant

BLOCK_ROWS = 128
"""Query rows of one step on the processor: few enough to stop between, enough for a full matrix product."""

MOST_STRIPS, LEAST_STRIP = 16, 512
"""A causal call on a GPU is cut into so many strips of queries at most, of so many rows at least: a product multiplies whole
rectangles, and what lies past a strip's last key is not computed. 16 strips compute a sixteenth too much."""

THREADS = 256
"""Of a row, as in `softmax_naive.cu`."""

Calls = Iterator[Callable[[], None]]


def resolve(workload: Workload, params: Params) -> Params:
    """There is nothing to choose."""
    return params


def cost(workload: Workload, params: Params, on: DeviceKind) -> Cost:
    """Three passes over n×n arrays that live in memory: scores in fp32, weights in the dtype."""
    w = workload
    heads, n, item = w.batch * w.num_heads, w.seq_len, w.item_bytes
    pairs = heads * w.pairs
    query, keys = heads * n * w.head_dim, w.batch * w.num_kv_heads * n * w.head_dim
    cut = len(strips(n, n, w.causal))
    calls = 1 if cut == 1 else cut * (w.num_heads // w.num_kv_heads)
    steps = (
        Step("scores", 2 * pairs * w.head_dim, 0, (query + keys) * item + pairs * 4, calls),
        Step("softmax", 0, pairs, pairs * (4 + item)),
        Step("weights × v", 2 * pairs * w.head_dim, 0, (query + keys) * item + pairs * item, calls),
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


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: Params, xp: Any, tick: Tick) -> Any:
    """Three passes over all heads, each over blocks of rows: scores, weights, product. Keys after a block are not computed."""
    heads, m = q.shape[:3], k.shape[2]
    scores = xp.empty((*heads, m), dtype=xp.float32)
    mapped = xp.zeros((*heads, m), dtype=q.dtype)
    out = xp.zeros_like(q)
    blocks = list(row_blocks(q.shape[2], m, workload.causal))
    workers = 1 if xp.__name__ == "torch" else threads()  # torch has threads of its own in each call

    def scoring() -> Calls:
        for b, h in np.ndindex(*q.shape[:2]):
            keys = _fp32(k[b, h * k.shape[1] // q.shape[1]], xp)
            for rows, reach in blocks:
                yield partial(_score, q[b, h, rows], keys[:reach], scores[b, h, rows, :reach], xp)

    def weighing() -> Calls:
        for b, h in np.ndindex(*q.shape[:2]):
            for rows, reach in blocks:
                yield partial(_weigh, scores[b, h, rows, :reach], mapped[b, h, rows, :reach], workload.causal, xp)

    def gathering() -> Calls:
        for b, h in np.ndindex(*q.shape[:2]):
            values = _fp32(v[b, h * k.shape[1] // q.shape[1]], xp)
            for rows, reach in blocks:
                yield partial(_gather, mapped[b, h, rows, :reach], values[:reach], out[b, h, rows], xp)

    for calls in (scoring, weighing, gathering):
        side_by_side.run(calls(), tick, workers)
    return out


def _score(q: Any, keys: Any, scores: Any, xp: Any) -> None:
    """QKᵀ·D^-½ of some rows of one head into `scores` `(rows, keys)`."""
    xp.matmul(_fp32(q, xp) * q.shape[1] ** -0.5, keys.T, out=scores)


def _weigh(scores: Any, mapped: Any, causal: bool, xp: Any) -> None:
    """Softmax of some rows into `mapped`."""
    if causal:
        hide_future(scores, xp)
    mapped[...] = _softmax(scores, xp)


def _gather(mapped: Any, values: Any, out: Any, xp: Any) -> None:
    """Weights of some rows of one head times v into `out` `(rows, D)`."""
    out[...] = xp.matmul(_fp32(mapped, xp), values)


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


def strips(n: int, m: int, causal: bool) -> list[tuple[int, int, int]]:
    """First and end of the queries of each strip, and how many keys its last query sees (1 where it sees none)."""
    rows = max(LEAST_STRIP, cuda.aligned(cuda.blocks(n, MOST_STRIPS))) if causal else n
    ends = [(first, min(first + rows, n)) for first in range(0, n, rows)]
    return [(first, end, max(1, min(end + m - n, m)) if causal else m) for first, end in ends]


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: Params) -> None:
    """The three steps, with the n×n arrays between them."""
    for _, step in steps(device, q, k, v, out, workload):
        step()


def steps(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload) -> list[tuple[str, Callable[[], None]]]:
    """Name and call of each step, as `cost` names them; each can be repeated by itself once those before it have run."""
    batch, heads, queries, head_dim = q.shape
    kv_heads, keys = k.shape[1:3]
    cuda.tiling("Naive", head_dim, workload.dtype)  # rows of 16 bytes, as everywhere
    scores = device.empty((batch, heads, queries, cuda.aligned(keys)), "float32")
    mapped = device.empty(scores.shape, cuda.STORED[workload.dtype])
    cut = strips(queries, keys, workload.causal)
    defines = {"DTYPE": cuda.DTYPE_CODE[workload.dtype], "CAUSAL": int(workload.causal)}
    kernel = device.kernel("softmax_naive", "softmax_naive", defines)
    sizes = tuple(np.int32(size) for size in (queries, keys, scores.shape[3], cut[0][1]))

    # Query heads that read one key head lie one behind the other: uncut they are one tall matrix.
    groups, per_group = batch * kv_heads, 1 if len(cut) == 1 else heads // kv_heads
    tall = [x.reshape(groups, per_group, -1, x.shape[3]) for x in (q, scores, mapped, out)]
    k, v = (x.reshape(groups, keys, head_dim) for x in (k, v))

    def rows_of(x: Any, head: int, strip: tuple[int, int, int]) -> Any:
        return x[:, head] if len(cut) == 1 else x[:, head, strip[0] : strip[1]]

    def multiply_keys() -> None:
        for strip in cut:
            for head in range(per_group):
                left, into = (rows_of(x, head, strip) for x in tall[:2])
                device.multiply(left, k[:, : strip[2]], into[:, :, : strip[2]], workload.dtype, head_dim**-0.5, True)

    def multiply_values() -> None:
        for strip in cut:
            for head in range(per_group):
                left, into = (rows_of(x, head, strip) for x in tall[2:])
                device.multiply(left[:, :, : strip[2]], v[:, : strip[2]], into, workload.dtype, 1.0, False)

    soften = partial(kernel, (queries, heads, batch), THREADS, (scores, mapped, *sizes))
    return [("scores", multiply_keys), ("softmax", soften), ("weights × v", multiply_values)]


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
    reference=numerics.reference_over(visible),
    run_cpu=run_cpu,
    launch=launch,
    weights=numerics.weights_over(visible),
    visible=visible,
    plain_softmax=True,
)

"""Softmax attention over a window with gaps: a query sees every `dilation`-th key behind it, as many as the window has.

Beltagy et al. 2020, "Longformer", section 3.1 ("Dilated Sliding Window"), arXiv 2004.05150. Tokens of equal remainder see
each other only, so they are put side by side, where what a query sees is a plain window: exact, and no work is done on the gaps.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, limits, strip_workspace, torch_limits
from attnscope_engine.cost import Cost, Step, kv_bytes, lse_term, softmax_step, tensor_term
from attnscope_engine.cuda.row_order import MARGIN, bounds_table, order_table, reordered
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, strips
from attnscope_engine.variant import Params, Tick, Variant, param


class DilatedParams(Params, frozen=True):
    """Which keys a query sees."""

    window_size: Annotated[
        int, param(1, 1_048_576, unit="tokens", help="Keys that a query sees, its own included", label="window", scale="log2")
    ] = 512
    dilation: Annotated[
        int, param(1, 1024, unit="tokens", help="From one key that is seen to the next; of 1 it is a plain window", scale="log2")
    ] = 4


def resolve(workload: Workload, params: DilatedParams) -> DilatedParams:
    """A window that reaches past the sequence sees all of its remainder: every setting is possible."""
    return params


def cost(workload: Workload, params: DilatedParams, on: DeviceKind) -> Cost:
    """One pass over the band of each remainder; on a GPU q, k and v are first written once more, reordered."""
    w = workload
    attention = softmax_step(w, pairs_of_head(w, params))
    if on == "cpu":
        return Cost((attention,), (tensor_term(w), workspace(w, params)))
    moved = w.batch * (w.num_heads + 2 * w.num_kv_heads) * w.seq_len * w.head_dim * w.item_bytes
    steps = (Step("reorder", 0, 0, 2 * moved, launches=3), attention)
    reordered = Term("q k v reordered", f"B·(H+2·G)·n·D·{w.item_bytes}", moved, "n")
    order = Term("order", f"12·n + {8 * MARGIN}", 12 * w.seq_len + 8 * MARGIN, "n")
    return Cost(steps, (tensor_term(w), reordered, lse_term(w), order))


def pairs_of_head(workload: Workload, params: DilatedParams) -> int:
    """Pairs that one head sees, counted exactly: a band for each remainder."""
    each, more = divmod(workload.seq_len, params.dilation)

    def band(size: int) -> int:
        window = min(params.window_size, size)
        side = size * (window - 1) - window * (window - 1) // 2 if size else 0
        return size + (1 if workload.causal else 2) * side

    return more * band(each + 1) + (params.dilation - more) * band(each)


def workspace(workload: Workload, params: DilatedParams) -> Term:
    """What a run holds for its calls: the first call of each part of the longest remainder is the largest of its part."""
    w = workload
    size = -(-w.seq_len // params.dilation)
    window, pieces = (_band(w.causal, params, size),), torch_limits(w.head_dim)
    starts = {start for start in (0, params.window_size - 1, size - params.window_size + 1) if 0 <= start < size}
    return strip_workspace(w, *(next(strips(window, start, size, pieces)) for start in sorted(starts)))


def _band(causal: bool, params: DilatedParams, kv_len: int) -> Band:
    """What is seen of the `kv_len` keys of one remainder."""
    return Band(Edge(1 - params.window_size, 0, kv_len), Edge(1 if causal else params.window_size, 0, kv_len))


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: DilatedParams, xp: Any, tick: Tick) -> Any:
    """A window for each remainder, on views that leave the other tokens out."""
    allowed, out = limits(q.shape[3], xp), xp.empty_like(q)
    for queries, keys in remainders(q.shape[2], k.shape[2], params.dilation):
        rows, seen, values, into = q[:, :, queries], k[:, :, keys], v[:, :, keys], out[:, :, queries]
        n, m = rows.shape[2], seen.shape[2]
        attend(rows, seen, values, strips((_band(workload.causal, params, m),), m - n, m, allowed), xp, tick, into=into)
    return out


def remainders(queries: int, keys: int, dilation: int) -> Iterator[tuple[slice, slice]]:
    """Queries and keys that see each other: slices of the rows of q and of k, one pair a remainder that has queries."""
    for first in range(min(dilation, queries)):
        yield slice(first, queries, dilation), slice((first + keys - queries) % dilation, keys, dilation)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: DilatedParams) -> None:
    """Puts tokens of equal remainder side by side, then one kernel, which stores its rows where they came from."""
    n, m = q.shape[2], k.shape[2]
    cuda.tiling("Dilated", q.shape[3], workload.dtype)  # refuses before anything is moved
    order = device.constant(order_of(n, 0, params.dilation))
    key_order = order if n == m else device.constant(order_of(m, (m - n) % params.dilation, params.dilation))
    bounds = device.constant(bounds_of(params, n, m, workload.causal))
    ordered = [reordered(device, "dilated", x, rows, workload.dtype) for x, rows in ((q, order), (k, key_order), (v, key_order))]
    most_seen = (1 if workload.causal else 2) * params.window_size
    cuda.attend_in_tiles(device, "dilated", "Dilated", (*ordered, out), workload, (bounds, order), most_seen)


@functools.lru_cache(maxsize=4)
def order_of(rows: int, shift: int, dilation: int) -> NDArray[np.int32]:
    """The rows sorted by `(row − shift) % dilation`, and among equals as they were."""
    return order_table(np.argsort((np.arange(rows) - shift) % dilation, kind="stable"))


@functools.lru_cache(maxsize=4)
def bounds_of(params: DilatedParams, queries: int, keys: int, causal: bool) -> NDArray[np.int32]:
    """`(queries + MARGIN, 2)`: of each query in its new order the first key, and the first behind the last, that it sees.

    Keys are in an order to match: their remainders follow one another as those of the queries that see them do.
    """
    dilation, window = params.dilation, params.window_size
    remainder = order_of(queries, 0, dilation) % dilation
    key_counts = np.bincount((np.arange(keys) - (keys - queries)) % dilation, minlength=dilation)
    key_ends = np.cumsum(key_counts)
    query_ends = np.cumsum(np.bincount(remainder, minlength=dilation))
    first, end = (key_ends - key_counts)[remainder], key_ends[remainder]
    own = np.arange(queries) + end - query_ends[remainder]  # the last query of a remainder stands at its last key
    low, high = np.clip(own + 1 - window, first, end), np.clip(own + (1 if causal else window), first, end)
    return bounds_table(low, high)


def visible(workload: Workload, params: DilatedParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Keys a multiple of `dilation` away, the nearest `window_size` of them (causal: back)."""
    back = numerics.distance_back(rows, columns, 0)
    near = np.abs(back) < params.window_size * params.dilation
    seen: NDArray[np.bool_] = near & (back % params.dilation == 0)
    return seen & (back >= 0) if workload.causal else seen


def state_bytes(workload: Workload, params: DilatedParams) -> int:
    """K and V of all that the window spans: each of them is seen by a later query."""
    return kv_bytes(workload, min(workload.seq_len, params.window_size * params.dilation))


def summary(params: DilatedParams) -> str:
    """Such as "w 512 · dilation 4"."""
    return f"w {params.window_size:,} · dilation {params.dilation:,}"


VARIANT = Variant(
    name="dilated",
    title="Dilated",
    family="restricted",
    order=13,
    source="Beltagy et al. 2020, section 3.1, arXiv 2004.05150",
    formula="out = softmax(Q Kᵀ · D^-½ where i − j = 0, r, 2·r … (w − 1)·r) V",
    params=DilatedParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=numerics.reference_over(visible),
    run_cpu=run_cpu,
    launch=launch,
    weights=numerics.weights_over(visible),
    visible=visible,
    like="sliding_window",
    plain_softmax=True,
    outside="in a gap or outside the window",
    state_bytes=state_bytes,
)

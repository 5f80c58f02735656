"""Softmax attention over a window, and a few global tokens, which see everything and are seen by everything.

Beltagy et al. 2020, "Longformer", section 3.1 ("Global Attention"), arXiv 2004.05150; here with one set of projections for both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, limits, strip_workspace, torch_limits
from attnscope_engine.cost import Cost, kv_bytes, lse_term, softmax_step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, Limits, Strip, still, strips
from attnscope_engine.variant import Params, Tick, Variant, param


class GlobalParams(Params, frozen=True):
    """Which keys a query sees."""

    window_size: Annotated[
        int,
        param(
            1,
            1_048_576,
            unit="tokens",
            help="Keys seen to each side, the query's own included",
            label="window",
            scale="log2",
        ),
    ] = 1024
    global_size: Annotated[
        int,
        param(
            1,
            256,
            unit="tokens",
            help="First tokens, which see everything and are seen by everything; causal it is a window with as many sinks",
            label="global",
        ),
    ] = 16


def resolve(workload: Workload, params: GlobalParams) -> GlobalParams:
    """A window or global tokens longer than the sequence see all of it: every setting is possible."""
    return params


def cost(workload: Workload, params: GlobalParams, on: DeviceKind) -> Cost:
    """The band, and a frame of global rows and columns."""
    w = workload
    steps = (softmax_step(w, pairs_of_head(w, params)),)
    if on == "cpu":
        return Cost(steps, (tensor_term(w), workspace(w, params)))
    return Cost(steps, (tensor_term(w), lse_term(w)))


def pairs_of_head(workload: Workload, params: GlobalParams) -> int:
    """Pairs that one head sees, counted exactly: of a global column, the band leaves what lies `window_size` below or further."""
    n, window, tokens = workload.seq_len, min(params.window_size, workload.seq_len), min(params.global_size, workload.seq_len)
    side = n * (window - 1) - window * (window - 1) // 2  # pairs of the band under the diagonal
    below = n - window  # rows of the first column that the band leaves; one fewer of each column further right
    columns = min(tokens, below)
    frame = columns * below - columns * (columns - 1) // 2
    return n + (1 if workload.causal else 2) * (side + frame)


def workspace(workload: Workload, params: GlobalParams) -> Term:
    """What a run holds for its calls: the first call of each part of the sequence is the largest of its part."""
    w, n = workload, workload.seq_len
    window, tokens = min(params.window_size, n), min(params.global_size, n)
    starts = {0, window, window + tokens} | (set() if w.causal else {tokens, n - window + 1})
    allowed = torch_limits(w.head_dim)
    return strip_workspace(w, *(next(global_strips(w, params, start, n, allowed)) for start in sorted(starts) if start < n))


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: GlobalParams, xp: Any, tick: Tick) -> Any:
    """Global queries against all keys, then blocks of queries against their band and the global keys outside it."""
    n, m = q.shape[2], k.shape[2]
    return attend(q, k, v, global_strips(workload, params, m - n, m, limits(q.shape[3], xp)), xp, tick)


def global_strips(workload: Workload, params: GlobalParams, first: int, kv_len: int, allowed: Limits) -> Iterator[Strip]:
    """The positions `first … kv_len − 1`."""
    w, m, tokens = params.window_size, kv_len, min(params.global_size, kv_len)
    before = Band(still(0), Edge(1 - w, 0, tokens))
    if workload.causal:
        return strips((Band(Edge(1 - w, 0, m), Edge(1, 0, m)), before), first, m, allowed)
    around = (Band(Edge(1 - w, 0, m), Edge(w, 0, m)), before, Band(Edge(w, 0, tokens), still(tokens)))
    dense = min(max(first, tokens), m)
    return itertools.chain(
        strips(around, first, min(0, dense), allowed) if first < 0 else (),
        strips((Band(still(0), still(m)),), max(first, 0), dense, allowed) if max(first, 0) < dense else (),
        strips(around, dense, m, allowed) if dense < m else (),
    )


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: GlobalParams) -> None:
    """One kernel: the windows of all queries, and behind them the rows of the global ones."""
    n, m = q.shape[2], k.shape[2]
    first = max(0, n - m)
    end = 0 if workload.causal else min(params.global_size + n - m, n)
    dense = max(0, end - first)
    extra = (params.window_size, params.global_size, first, dense)
    most_seen = (1 if workload.causal else 2) * params.window_size + params.global_size
    cuda.attend_in_tiles(device, "global_tokens", "Global", (q, k, v, out), workload, extra, most_seen, apart=dense)


def visible(workload: Workload, params: GlobalParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Keys fewer than `window_size` away, global keys, and for global queries all keys (causal: none after the query)."""
    rows, columns = np.asarray(rows), np.asarray(columns)
    back = numerics.distance_back(rows, columns, 0)
    key = (columns < params.global_size)[None, :]
    if workload.causal:
        return (back >= 0) & ((back < params.window_size) | key)
    query = ((rows >= 0) & (rows < params.global_size))[:, None]
    return (np.abs(back) < params.window_size) | key | query


def state_bytes(workload: Workload, params: GlobalParams) -> int:
    """K and V of the window and the global tokens."""
    return kv_bytes(workload, min(workload.seq_len, params.window_size + params.global_size))


def summary(params: GlobalParams) -> str:
    """Such as "w 1,024 · global 16"."""
    return f"w {params.window_size:,} · global {params.global_size}"


VARIANT = Variant(
    name="global_tokens",
    title="Global",
    family="restricted",
    order=12,
    source="Beltagy et al. 2020, section 3.1, arXiv 2004.05150",
    formula="out = softmax(Q Kᵀ · D^-½ where |i − j| < w or i < g or j < g) V",
    params=GlobalParams,
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
    outside="outside the window",
    state_bytes=state_bytes,
)

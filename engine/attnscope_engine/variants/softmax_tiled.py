"""Exact softmax attention, tile by tile with a running maximum and sum: the n×n map is never stored.

Dao et al. 2022, "FlashAttention", section 3.1, arXiv 2205.14135; running softmax: Milakov and Gimelshein 2018, arXiv 1805.02867.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, limits, whole_workspace
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, still, strips
from attnscope_engine.variant import Params, Tick, Variant


def resolve(workload: Workload, params: Params) -> Params:
    """There is nothing to choose."""
    return params


def cost(workload: Workload, params: Params, on: DeviceKind) -> Cost:
    """One pass: q, k, v read, out written, one log-sum-exp a query kept."""
    w = workload
    pairs = w.batch * w.num_heads * w.pairs
    query, keys = w.batch * w.num_heads * w.seq_len * w.head_dim, w.batch * w.num_kv_heads * w.seq_len * w.head_dim
    steps = (Step("attention", 4 * pairs * w.head_dim, pairs, 2 * (query + keys) * w.item_bytes),)
    if on == "cpu":
        return Cost(steps, (tensor_term(w), whole_workspace(w, w.seq_len)))
    return Cost(steps, (tensor_term(w), Term("LSE", "B·H·n·4", w.batch * w.num_heads * w.seq_len * 4, "n")))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: Params) -> NDArray[Any]:
    """softmax(QKᵀ·D^-½ over what is seen) V; a query that sees no key gives 0."""
    rows = np.arange(q.shape[-2]) + k.shape[-2] - q.shape[-2]
    return numerics.masked_attention(q, k, v, visible(workload, params, rows, np.arange(k.shape[-2])))


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: Params, xp: Any, tick: Tick) -> Any:
    """Blocks of queries against all keys that they see; torch's own fused call where one block is everything."""
    n, m = q.shape[2], k.shape[2]
    high = Edge(1, 0, m) if workload.causal else still(m)
    return attend(q, k, v, strips((Band(still(0), high),), m - n, m, limits(q.shape[3], xp)), xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: Params) -> None:
    """One kernel."""
    cuda.attend_in_tiles(device, "softmax_tiled", "Flash", (q, k, v, out), workload)


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: Params, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """Softmax of the rows' scores over what is seen."""
    seen = visible(workload, params, rows + k.shape[0] - q.shape[0], np.arange(k.shape[0]))
    return numerics.softmax_rows(numerics.scores_of(q[rows], k), seen)


def visible(workload: Workload, params: Params, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """All keys, or those not after the query."""
    return numerics.causal_visible(rows, columns, 0) if workload.causal else numerics.all_visible(rows, columns)


VARIANT = Variant(
    name="softmax_tiled",
    title="Flash",
    family="softmax",
    order=1,
    source="Dao et al. 2022, section 3.1, arXiv 2205.14135",
    formula="out = softmax(Q Kᵀ · D^-½) V, a tile at a time",
    params=Params,
    summary=lambda params: "softmax, tiled",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
)

"""Attention as it is written down: every score, then every weight, each an n×n array in memory.

Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1, arXiv 1706.03762.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import numerics
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.variant import Params, Tick, Unsupported, Variant


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
    held = (
        tensor_term(w),
        Term("scores", "B·H·n²·4", heads * n * n * 4, "n2"),
        Term("weights", f"B·H·n²·{item}", heads * n * n * item, "n2"),
    )
    return Cost(steps, held)


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: Params) -> NDArray[Any]:
    """softmax(QKᵀ·D^-½ over what is seen) V; a query that sees no key gives 0."""
    rows = np.arange(q.shape[-2]) + k.shape[-2] - q.shape[-2]
    return numerics.masked_attention(q, k, v, visible(workload, params, rows, np.arange(k.shape[-2])))


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: Params, xp: Any, tick: Tick) -> Any:
    raise Unsupported("Naive is not written for the processor yet")


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: Params) -> None:
    raise Unsupported("Naive needs a CUDA device")


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

"""Softmax attention over the newest keys only, and optionally over the first few, the sinks.

Window: Beltagy et al. 2020, "Longformer", section 3.1, arXiv 2004.05150. Sinks: Xiao et al. 2023, section 3.2, arXiv 2309.17453.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, band_workspace, limits
from attnscope_engine.cost import Cost, kv_bytes, lse_term, softmax_step, tensor_term
from attnscope_engine.protocol import DeviceKind, Workload
from attnscope_engine.regions import Band, Edge, still, strips
from attnscope_engine.variant import Params, Tick, Variant, param


class WindowParams(Params, frozen=True):
    """Which keys a query sees."""

    window_size: Annotated[
        int, param(1, 1_048_576, unit="tokens", help="Keys that a query sees, its own included", label="window", scale="log2")
    ] = 1024
    sinks: Annotated[int, param(0, 256, unit="tokens", help="First keys, seen by every query whatever the window")] = 0


def resolve(workload: Workload, params: WindowParams) -> WindowParams:
    """A window or sinks longer than the sequence see all of it: every setting is possible."""
    return params


def cost(workload: Workload, params: WindowParams, on: DeviceKind) -> Cost:
    """One pass over the band and the sinks before it."""
    w = workload
    steps = (softmax_step(w, pairs_of_head(w, params)),)
    if on == "cpu":
        return Cost(steps, (tensor_term(w), band_workspace(w, params.window_size, params.sinks)))
    return Cost(steps, (tensor_term(w), lse_term(w)))


def pairs_of_head(workload: Workload, params: WindowParams) -> int:
    """Pairs that one head sees: the band, and the sinks outside it, counted exactly."""
    n, window, sinks = workload.seq_len, min(params.window_size, workload.seq_len), min(params.sinks, workload.seq_len)
    below = _triangle(window - 1) + (n - window) * (window - 1)  # pairs under the diagonal inside the band
    past = n - window  # queries that have keys before their window
    sinks_before = _triangle(min(sinks, past)) + max(0, past - sinks) * sinks
    if workload.causal:
        return n + below + sinks_before
    return n + 2 * below + sinks_before + _triangle(max(0, sinks - window))


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: WindowParams, xp: Any, tick: Tick) -> Any:
    """Blocks of queries against their band and the sinks before it."""
    n, m = q.shape[2], k.shape[2]
    return attend(q, k, v, strips(bands(workload, params, m), m - n, m, limits(q.shape[3], xp)), xp, tick)


def bands(workload: Workload, params: WindowParams, kv_len: int) -> tuple[Band, ...]:
    """What is seen as disjoint bands: the window, the sinks before it and, not causal, the sinks after it."""
    w, m, sinks = params.window_size, kv_len, min(params.sinks, kv_len)
    before = Band(still(0), Edge(1 - w, 0, sinks))
    if workload.causal:
        return Band(Edge(1 - w, 0, m), Edge(1, 0, m)), before
    return Band(Edge(1 - w, 0, m), Edge(w, 0, m)), before, Band(Edge(w, 0, sinks), still(sinks))


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: WindowParams) -> None:
    """One kernel that skips what is outside the window."""
    extra = (params.window_size, params.sinks)
    most_seen = (1 if workload.causal else 2) * params.window_size + params.sinks
    cuda.attend_in_tiles(device, "sliding_window", "Window", (q, k, v, out), workload, extra, most_seen)


def visible(workload: Workload, params: WindowParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Fewer than `window_size` keys away (causal: back), or one of the sinks not after the query."""
    back = numerics.distance_back(rows, columns, 0)
    sink = np.asarray(columns)[None, :] < params.sinks
    if workload.causal:
        return (back >= 0) & ((back < params.window_size) | sink)
    return (np.abs(back) < params.window_size) | sink


def state_bytes(workload: Workload, params: WindowParams) -> int:
    """K and V of the window and the sinks."""
    return kv_bytes(workload, min(workload.seq_len, params.window_size + params.sinks))


def summary(params: WindowParams) -> str:
    """Such as "w 1,024 · sinks 0"."""
    return f"w {params.window_size:,} · sinks {params.sinks}"


VARIANT = Variant(
    name="sliding_window",
    title="Window",
    family="restricted",
    order=2,
    source="Beltagy et al. 2020, section 3.1, arXiv 2004.05150; sinks: Xiao et al. 2023, arXiv 2309.17453",
    formula="out = softmax(Q Kᵀ · D^-½ where i − w < j ≤ i or j < sinks) V",
    params=WindowParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=numerics.reference_over(visible),
    run_cpu=run_cpu,
    launch=launch,
    weights=numerics.weights_over(visible),
    visible=visible,
    plain_softmax=True,
    outside="outside the window",
    state_bytes=state_bytes,
)

"""Exact softmax attention, tile by tile with a running maximum and sum: the n×n map is never stored.

Dao et al. 2022, "FlashAttention", section 3.1, arXiv 2205.14135; running softmax: Milakov and Gimelshein 2018, arXiv 1805.02867.
Scores may be changed before their softmax: see `scores.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import attend_changed, cuda, numerics
from attnscope_engine.attend import attend, limits, whole_workspace
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, still, strips
from attnscope_engine.scores import ScoreChange, slopes
from attnscope_engine.variant import Params, Tick, Variant, flag, param


class TiledParams(Params, frozen=True):
    """What is done to scores before their softmax."""

    softcap: Annotated[
        int, param(0, 100, unit="score units", help="Scores s become c·tanh(s / c) (Gemma 2, arXiv 2408.00118); 0 leaves them")
    ] = 0
    alibi: Annotated[
        bool,
        flag(help="Scores lose slope·distance, with a slope of each head (Press et al. 2021, arXiv 2108.12409)", label="ALiBi"),
    ] = False


def change(params: TiledParams) -> ScoreChange:
    """Both changes at once, or none."""
    return ScoreChange(params.softcap, params.alibi)


def resolve(workload: Workload, params: TiledParams) -> TiledParams:
    """Every setting is possible at every shape."""
    return params


def cost(workload: Workload, params: TiledParams, on: DeviceKind) -> Cost:
    """One pass: q, k, v read, out written, one log-sum-exp a query kept. A tanh of each score costs what an exponential does."""
    w = workload
    pairs = w.batch * w.num_heads * w.pairs
    query, keys = w.batch * w.num_heads * w.seq_len * w.head_dim, w.batch * w.num_kv_heads * w.seq_len * w.head_dim
    exps = pairs * (2 if params.softcap else 1)
    steps = (Step("attention", 4 * pairs * w.head_dim, exps, 2 * (query + keys) * w.item_bytes),)
    if on == "cpu":
        changed = change(params)
        return Cost(steps, (tensor_term(w), attend_changed.workspace(w, changed) if changed else whole_workspace(w, w.seq_len)))
    return Cost(steps, (tensor_term(w), Term("LSE", "B·H·n·4", w.batch * w.num_heads * w.seq_len * 4, "n")))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: TiledParams) -> NDArray[Any]:
    """softmax(changed QKᵀ·D^-½ over what is seen) V; a query that sees no key gives 0."""
    rows, columns = np.arange(q.shape[-2]) + k.shape[-2] - q.shape[-2], np.arange(k.shape[-2])
    distance = np.abs(numerics.distance_back(rows, columns, 0))

    def changed(scores: NDArray[Any]) -> None:
        change(params).apply(scores, distance, slopes(q.shape[1])[:, None, None], np)

    return numerics.masked_attention(q, k, v, visible(workload, params, rows, columns), changed)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: TiledParams, xp: Any, tick: Tick) -> Any:
    """Blocks of queries against all keys that they see; torch's own fused call where one block is everything."""
    n, m = q.shape[2], k.shape[2]
    high = Edge(1, 0, m) if workload.causal else still(m)
    pieces = strips((Band(still(0), high),), m - n, m, limits(q.shape[3], xp, changes=bool(change(params))))
    return attend(q, k, v, pieces, xp, tick, change=change(params))


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: TiledParams) -> None:
    """One kernel."""
    extra, constants = (params.softcap, q.shape[1]), change(params).defines()
    cuda.attend_in_tiles(device, "softmax_tiled", "Flash", (q, k, v, out), workload, extra, constants=constants)


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: TiledParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """Softmax of the rows' changed scores over what is seen."""
    here, columns = rows + k.shape[0] - q.shape[0], np.arange(k.shape[0])
    scores = numerics.scores_of(q[rows], k)
    distance = np.abs(numerics.distance_back(here, columns, 0))
    change(params).apply(scores, distance, slopes(workload.num_heads)[head], np)
    return numerics.softmax_rows(scores, visible(workload, params, here, columns))


def visible(workload: Workload, params: TiledParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """All keys, or those not after the query."""
    return numerics.causal_visible(rows, columns, 0) if workload.causal else numerics.all_visible(rows, columns)


def summary(params: TiledParams) -> str:
    """Such as "softmax, tiled" or "tiled · cap 30 · ALiBi"."""
    words = [f"cap {params.softcap}"] if params.softcap else []
    words += ["ALiBi"] if params.alibi else []
    return " · ".join(["tiled", *words]) if words else "softmax, tiled"


VARIANT = Variant(
    name="softmax_tiled",
    title="Flash",
    family="softmax",
    order=1,
    source="Dao et al. 2022, section 3.1, arXiv 2205.14135; soft cap: Gemma 2, arXiv 2408.00118; ALiBi: arXiv 2108.12409",
    formula="out = softmax(Q Kᵀ · D^-½) V, a tile at a time",
    params=TiledParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    plain_softmax=True,
    change=change,
)

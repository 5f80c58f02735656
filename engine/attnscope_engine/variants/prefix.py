"""Softmax attention of a prefix language model: the first tokens see each other, the later ones what is not after them.

Raffel et al. 2020, "Exploring the limits of transfer learning" (T5), section 3.2.1, arXiv 1910.10683.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, limits, strip_workspace, torch_limits
from attnscope_engine.cost import Cost, lse_term, softmax_step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, still, strips
from attnscope_engine.variant import Params, Tick, Variant, param


class PrefixParams(Params, frozen=True):
    """Where the prefix ends."""

    prefix_size: Annotated[
        int,
        param(
            1,
            1_048_576,
            unit="tokens",
            help="First tokens, seen by every query; of 1 it is causal attention, and where the mask is full it changes nothing",
            label="prefix",
            scale="log2",
        ),
    ] = 512


def resolve(workload: Workload, params: PrefixParams) -> PrefixParams:
    """A prefix longer than the sequence is all of it: every setting is possible."""
    return params


def cost(workload: Workload, params: PrefixParams, on: DeviceKind) -> Cost:
    """The triangle of causal attention, and the triangle of the prefix that lies above the diagonal."""
    w = workload
    steps = (softmax_step(w, pairs_of_head(w, params)),)
    if on == "cpu":
        return Cost(steps, (tensor_term(w), workspace(w, params)))
    return Cost(steps, (tensor_term(w), lse_term(w)))


def pairs_of_head(workload: Workload, params: PrefixParams) -> int:
    """Pairs that one head sees, counted exactly."""
    prefix = min(params.prefix_size, workload.seq_len)
    return workload.pairs + (prefix * (prefix - 1) // 2 if workload.causal else 0)


def workspace(workload: Workload, params: PrefixParams) -> Term:
    """What a run holds for its calls: of the prefix, and of the tokens behind it, the first call is the largest."""
    w, allowed = workload, torch_limits(workload.head_dim)
    cut = {0, min(params.prefix_size, w.seq_len - 1) if w.causal else 0}
    return strip_workspace(w, *(next(strips((band(w, params, w.seq_len),), first, w.seq_len, allowed)) for first in cut))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: PrefixParams) -> NDArray[Any]:
    """softmax(QKᵀ·D^-½ over what is seen) V."""
    rows = np.arange(q.shape[-2]) + k.shape[-2] - q.shape[-2]
    return numerics.masked_attention(q, k, v, visible(workload, params, rows, np.arange(k.shape[-2])))


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: PrefixParams, xp: Any, tick: Tick) -> Any:
    """Blocks of queries against all keys that they see, the prefix as one rectangle."""
    n, m = q.shape[2], k.shape[2]
    return attend(q, k, v, strips((band(workload, params, m),), m - n, m, limits(q.shape[3], xp)), xp, tick)


def band(workload: Workload, params: PrefixParams, kv_len: int) -> Band:
    """What is seen: keys from the first to the query's own or to the end of the prefix."""
    return Band(still(0), Edge(1, min(params.prefix_size, kv_len), kv_len) if workload.causal else still(kv_len))


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: PrefixParams) -> None:
    """One kernel."""
    cuda.attend_in_tiles(device, "prefix", "Prefix", (q, k, v, out), workload, (params.prefix_size,))


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: PrefixParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """Softmax of the rows' scores over what is seen."""
    seen = visible(workload, params, rows + k.shape[0] - q.shape[0], np.arange(k.shape[0]))
    return numerics.softmax_rows(numerics.scores_of(q[rows], k), seen)


def visible(workload: Workload, params: PrefixParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Keys of the prefix and keys not after the query; all keys where the mask is full."""
    if not workload.causal:
        return numerics.all_visible(rows, columns)
    return numerics.causal_visible(rows, columns, 0) | (np.asarray(columns) < params.prefix_size)[None, :]


def summary(params: PrefixParams) -> str:
    """Such as "prefix 512 tokens"."""
    return f"prefix {params.prefix_size:,} token{'' if params.prefix_size == 1 else 's'}"


VARIANT = Variant(
    name="prefix",
    title="Prefix",
    family="restricted",
    order=10,
    source="Raffel et al. 2020, section 3.2.1, arXiv 1910.10683",
    formula="out = softmax(Q Kᵀ · D^-½ where j ≤ i or j < p) V",
    params=PrefixParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    like="softmax_tiled",
    plain_softmax=True,
    sees_ahead=True,
)

"""Softmax attention that forgets: a score loses what the gates of all tokens between key and query take away.

Lin et al. 2025, "Forgetting Transformer: Softmax Attention with a Forget Gate", section 3, arXiv 2503.02130. The gates are
synthetic: `gates.py` derives one a token of each key head from its key.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import attend_changed, cuda, gates, numerics
from attnscope_engine.attend import attend, biased_workspace, limits
from attnscope_engine.cost import Cost, Step, kv_bytes, lse_term, softmax_step, tensor_term
from attnscope_engine.cuda import forget_table
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, still, strips
from attnscope_engine.variant import Params, Tick, Unsupported, Variant

CAUSAL_ONLY = "FoX forgets what lies before a token, so it has a causal form only: choose a causal mask."

GATED_KEYS = 1024
"""Keys of one head whose gates are made at a time on the processor."""


class FoxParams(Params, frozen=True):
    """How fast scores fade."""

    half_life: Annotated[int, gates.HALF_LIFE] = 1024


def resolve(workload: Workload, params: FoxParams) -> FoxParams:
    """Every setting is possible at every shape."""
    return params


def cost(workload: Workload, params: FoxParams, on: DeviceKind) -> Cost:
    """Gates of the keys and their sums, then one pass of softmax over the causal pairs."""
    w = workload
    keys = w.batch * w.num_kv_heads * w.seq_len
    attention = softmax_step(w, w.seq_len * (w.seq_len + 1) // 2)
    made = Step("gates", 4 * keys * w.head_dim, 2 * keys, keys * (w.head_dim * w.item_bytes + 4))
    if on == "cpu":
        sums = Term("gates", "B·G·n·8", 8 * keys, "n")
        return Cost((made, attention), (tensor_term(w), sums, workspace(w)))
    return Cost((made, forget_table.step(w), attention), (tensor_term(w), *forget_table.held(w), lse_term(w)))


def workspace(workload: Workload) -> Term:
    """Blocks from the first on see more and more keys, until one of them is cut: the largest call is among these.

    Of this length, or of a half, a quarter …, where heads still fit one call: what is predicted never shrinks as n grows.
    """

    def largest(seq_len: int) -> Term:
        seen = Band(still(0), Edge(1, 0, seq_len))
        return biased_workspace(workload, itertools.islice(strips((seen,), 0, seq_len, attend_changed.LIMITS), 24))

    halved = (workload.seq_len >> times for times in range(workload.seq_len.bit_length()))
    return max((largest(seq_len) for seq_len in halved if seq_len), key=lambda term: term.bytes_)


def _forgotten(log_decays: NDArray[np.float64]) -> NDArray[np.float64]:
    """−G_j: what a key adds to all scores with it, the same for all queries but for what cancels."""
    return -np.cumsum(log_decays, axis=-1)


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: FoxParams) -> NDArray[Any]:
    """softmax(QKᵀ·D^-½ + G_i − G_j over what is seen) V; a query that sees no key gives 0."""
    (heads, n), m = q.shape[-3:-1], k.shape[-2]
    rows = np.arange(n) + m - n
    added = _forgotten(gates.decays_of(k, np.arange(k.shape[-3]), params.half_life))
    by_head = np.repeat(added, heads // k.shape[-3], axis=-2)
    bias = by_head[..., None, :] - by_head[..., np.maximum(rows, 0), None]

    def changed(scores: NDArray[Any]) -> None:
        scores += bias

    return numerics.masked_attention(q, k, v, numerics.keys_not_after(workload, params, rows, np.arange(m)), changed)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: FoxParams, xp: Any, tick: Tick) -> Any:
    """Gates and their sums, then blocks of queries against all keys before them. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    n, m = q.shape[2], k.shape[2]
    added = key_bias(k, params, xp, tick)
    pieces = strips((Band(still(0), Edge(1, 0, m)),), m - n, m, limits(q.shape[3], xp, changes=True))
    return attend(q, k, v, pieces, xp, tick, key_bias=added)


def key_bias(k: Any, params: FoxParams, xp: Any, tick: Tick) -> Any:
    """−G `(B, G, M)` float64 of k `(B, G, M, D)`."""
    batch, kv_heads, m, head_dim = k.shape
    found = xp.empty((batch, kv_heads, m), dtype=xp.float64)
    signs = xp.asarray(gates.signs("decay", np.arange(kv_heads), head_dim).astype(np.float32))
    for b, g in np.ndindex(batch, kv_heads):
        total: Any = 0.0
        for first in range(0, m, GATED_KEYS):
            tick()
            here = (b, g, slice(first, first + GATED_KEYS))
            keys = k[here].to(xp.float32) if xp.__name__ == "torch" else k[here].astype(xp.float32)
            decays = gates.log_decay(gates.along(keys, signs[g], xp), params.half_life, xp)[:, 0]
            wide = decays.to(xp.float64) if xp.__name__ == "torch" else decays.astype(xp.float64)
            found[here] = total - xp.cumsum(wide, 0)
            total = found[b, g, min(first + GATED_KEYS, m) - 1]
    return found


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: FoxParams) -> None:
    """Gates of the keys, their sums as a table, then one kernel. Raises: Unsupported."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    cuda.tiling("FoX", q.shape[3], workload.dtype)  # refuses before anything is made
    table = forget_table.made(device, "fox", k, workload.dtype, params.half_life)
    extra = (table, int(table.shape[2]))
    cuda.attend_in_tiles(device, "fox", "FoX", (q, k, v, out), workload, extra, constants={"FORGETS": 1})


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: FoxParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """Softmax of the rows' scores, less what is forgotten, over what is seen."""
    m = k.shape[0]
    here, group = rows + m - q.shape[0], head // (workload.num_heads // workload.num_kv_heads)
    added = _forgotten(gates.decays_of(k[None], [group], params.half_life)[0])
    scores = numerics.scores_of(q[rows], k) + added - added[np.maximum(here, 0), None]
    return numerics.softmax_rows(scores, numerics.keys_not_after(workload, params, here, np.arange(m)))


def state_bytes(workload: Workload, params: FoxParams) -> int:
    """K and V of every token, and the sum of its gates in fp32."""
    return kv_bytes(workload, workload.seq_len) + 4 * workload.batch * workload.num_kv_heads * workload.seq_len


def summary(params: FoxParams) -> str:
    """Such as "half-life 1,024"."""
    return f"half-life {params.half_life:,}"


VARIANT = Variant(
    name="fox",
    title="FoX",
    family="softmax",
    order=6,
    source="Lin et al. 2025, section 3, arXiv 2503.02130",
    formula="out = softmax(Q Kᵀ · D^-½ + G_i − G_j) V, G_t = Σ_{l ≤ t} log α_l",
    params=FoxParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=numerics.keys_not_after,
    causal_only=CAUSAL_ONLY,
    state_bytes=state_bytes,
)

"""Native sparse attention: coarse attention to the means of past blocks, fine attention to chosen ones, and a window, added up.

Yuan et al. 2025, "Native Sparse Attention", section 3, arXiv 2502.11089. Synthetic here: the gates of the three branches, which
the paper learns, are numbers, and a block is compressed to the mean of its keys and of its values, blocks side by side. Each head
chooses for itself (in the paper the heads of a key head together): the past blocks that its compressed branch weighs most.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import attend_chosen, chosen_exact, numerics
from attnscope_engine.attend import attend, limits, strip_workspace, torch_limits
from attnscope_engine.cost import Cost, Step, kv_bytes, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, Limits, Part, Strip, strips
from attnscope_engine.variant import Params, Tick, Unsupported, Variant, param, real

WINDOW_QUERIES = 1024
"""Of a head, in one call of the window's branch."""

CAUSAL_ONLY = "NSA is causal only, since a query chooses among the blocks before it: set the mask to causal."


class NsaParams(Params, frozen=True):
    """How large blocks are, how many are chosen, how wide the window is, and how much each branch counts."""

    block_size: Annotated[
        int, param(16, 1024, unit="keys", help="Keys of a block: compressed to one, or seen whole", scale="log2")
    ] = 64
    top_k: Annotated[
        int, param(1, 32, unit="blocks", help="Past blocks that each query chooses, beside its own", label="chosen", scale="log2")
    ] = 15
    window_size: Annotated[
        int, param(1, 65_536, unit="keys", help="Keys of the window, the query's own included", label="window", scale="log2")
    ] = 512
    coarse: Annotated[float, real(0, 1, step=0.01, unit="of the output", help="Gate of the compressed branch (synthetic)")] = 0.25
    fine: Annotated[float, real(0, 1, step=0.01, unit="of the output", help="Gate of the chosen blocks (synthetic)")] = 0.5
    near: Annotated[float, real(0, 1, step=0.01, unit="of the output", help="Gate of the window (synthetic)")] = 0.25


def resolve(workload: Workload, params: NsaParams) -> NsaParams:
    """What is more than the sequence has is all of it: every setting is possible."""
    return params


# ---------------------------------------------------------------- what it costs


def window_pairs(seq_len: int, window_size: int) -> int:
    """Of one head, causal."""
    inside = min(window_size, seq_len)
    return inside * (inside + 1) // 2 + (seq_len - inside) * inside


def cost(workload: Workload, params: NsaParams, on: DeviceKind) -> Cost:
    """Three attentions and their sum. The coarse one grows with n², by one pair for each `block_size` of them."""
    w, size, item = workload, params.block_size, workload.item_bytes
    heads, blocks = w.batch * w.num_heads, chosen_exact.past_blocks(w.seq_len, size)
    coarse = heads * chosen_exact.scores_of_blocks(w.seq_len, size)
    fine = heads * chosen_exact.pairs_of_head(w.seq_len, size, params.top_k)
    near = heads * window_pairs(w.seq_len, params.window_size)
    queries, keys = heads * w.seq_len * w.head_dim, w.batch * w.num_kv_heads * w.seq_len * w.head_dim
    means = Term(
        "block means", f"B·G·{blocks:,}·D·(4 + 2·{item})", w.batch * w.num_kv_heads * blocks * w.head_dim * (4 + 2 * item), "n"
    )
    before = (
        Step("block means", 2 * keys, 0, 2 * keys * item + means.bytes_),
        Step("coarse", 4 * coarse * w.head_dim, coarse, 2 * queries * item + means.bytes_),
        Step("choice", 2 * coarse * w.head_dim, 0, queries * item + means.bytes_),
    )
    steps = (
        Step("fine", 4 * fine * w.head_dim, fine, tensor_term(w).bytes_),
        Step("window", 4 * near * w.head_dim, near, tensor_term(w).bytes_),
        Step("sum", 5 * queries, 0, 4 * queries * item),
    )
    return Cost((*before, *steps) if blocks else steps, (tensor_term(w), means, *_held(w, params)))


def _held(w: Workload, params: NsaParams) -> tuple[Term, ...]:
    """On the processor: what the calls of the window need, or what the fuller of the other branches needs beside its output."""
    branch = w.batch * w.num_heads * w.seq_len * w.head_dim * w.item_bytes
    near = strip_workspace(w, *itertools.islice(_window_strips(w, params), 3))  # the first ones, a steady one, and what follows
    fine = attend_chosen.workspace(w, params.block_size, params.top_k)
    blocks = -(-w.seq_len // params.block_size)
    last = _coarse_strips(params.block_size, (blocks - 1) * params.block_size, w.seq_len, blocks - 1)  # it sees the most
    others = max(fine, strip_workspace(w, *last), key=lambda term: term.bytes_) if blocks > 1 else fine
    if near.bytes_ >= branch + others.bytes_:
        return (near,)
    return Term("one branch", f"B·H·n·D·{w.item_bytes}", branch, "n"), others


def _window_strips(w: Workload, params: NsaParams) -> Iterator[Strip]:
    return _strips_of_window(params, 0, w.seq_len, torch_limits(w.head_dim))


# ---------------------------------------------------------------- what it computes


def maps_of(q: NDArray[Any], k: NDArray[Any], positions: NDArray[Any], params: NsaParams) -> NDArray[np.float64]:
    """Q `(rows, D)` at these positions, k `(M, D)` → `(rows, M)`: the three maps, each times its gate."""
    size, scores = params.block_size, numerics.scores_of(q, k)
    means = chosen_exact.means_of(k, size)
    past = np.arange(len(means)) < (positions // size)[:, None]
    of_blocks = numerics.softmax_rows(numerics.scores_of(q, means), past)
    found = np.zeros(scores.shape)
    found[:, : len(means) * size] = params.coarse / size * np.repeat(of_blocks, size, axis=1)
    found += params.fine * numerics.softmax_rows(scores, chosen_exact.seen_by(q, k, positions, size, params.top_k))
    back = positions[:, None] - np.arange(len(k))
    return found + params.near * numerics.softmax_rows(scores, (back >= 0) & (back < params.window_size))


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: NsaParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """The rows' weights of all three branches: a token has its block's coarse weight divided by the block's size."""
    return maps_of(q[rows], k, rows + len(k) - len(q), params)


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: NsaParams) -> NDArray[Any]:
    """The weights of every head times V; a query that sees no key gives 0."""
    out, positions = np.zeros(q.shape), np.arange(q.shape[2]) + k.shape[2] - q.shape[2]
    for b, h in np.ndindex(*q.shape[:2]):
        group = h * k.shape[1] // q.shape[1]
        out[b, h] = maps_of(q[b, h], k[b, group], positions, params) @ v[b, group].astype(np.float64)
    return out


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: NsaParams, xp: Any, tick: Tick) -> Any:
    """Branch by branch, each at its own complexity. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    out = _window(q, k, v, params, xp, tick)  # first, while there is no other output: its calls are the largest
    out *= params.near
    for gate, branch in ((params.fine, _fine), (params.coarse, _coarse)):
        found = branch(q, k, v, params, xp, tick)
        found *= gate
        out += found
        del found  # before the next one is made
    return out


def _fine(q: Any, k: Any, v: Any, params: NsaParams, xp: Any, tick: Tick) -> Any:
    means = attend_chosen.means_of_blocks(k, params.block_size, xp)

    def choose(queries: Any, group: int, own: Any) -> Any:
        return attend_chosen.best_blocks(queries, means[group], own, params.top_k, xp)

    return attend_chosen.attend_chosen(q, k, v, params.block_size, choose, xp, tick)


def _window(q: Any, k: Any, v: Any, params: NsaParams, xp: Any, tick: Tick) -> Any:
    n, m = q.shape[2], k.shape[2]
    return attend(q, k, v, _strips_of_window(params, m - n, m, limits(q.shape[3], xp)), xp, tick)


def _strips_of_window(params: NsaParams, first: int, end: int, allowed: Limits) -> Iterator[Strip]:
    """Of few queries, so that what turned triangles need stays small beside the outputs of branches."""
    seen = Band(Edge(1 - params.window_size, 0, end), Edge(1, 0, end))
    return strips((seen,), first, end, replace(allowed, queries=min(allowed.queries, WINDOW_QUERIES)))


def _coarse(q: Any, k: Any, v: Any, params: NsaParams, xp: Any, tick: Tick) -> Any:
    n, m = q.shape[2], k.shape[2]
    if not chosen_exact.past_blocks(m, params.block_size):  # no query has a block before its own
        return xp.zeros(q.shape, dtype=q.dtype)
    keys, values = (_compressed(x, params.block_size, xp) for x in (k, v))
    return attend(q, keys, values, _coarse_strips(params.block_size, m - n, m, keys.shape[2]), xp, tick)


def _compressed(x: Any, block_size: int, xp: Any) -> Any:
    """`(B, G, M, D)` → `(B, G, blocks, D)` in x's dtype."""
    means = attend_chosen.means_of_blocks(x, block_size, xp).reshape(*x.shape[:2], -1, x.shape[3])
    return means.to(x.dtype) if xp.__name__ == "torch" else means.astype(x.dtype, copy=False)


def _coarse_strips(block_size: int, first: int, end: int, means: int) -> Iterator[Strip]:
    """The queries at the positions `first … end − 1`, block by block, against `means` compressed blocks: those before their own.

    `attend` aligns the last query with the last key; here that is position `end` − 1 with the last mean.
    """
    shift = means - end
    if first < 0:
        yield Strip(first + shift, -first, 1, ())
    for start, stop in attend_chosen.stretches(max(first, 0), end, block_size):
        before = start // block_size
        yield Strip(start + shift, stop - start, 1, (Part(0, before, "full", moves=False),) if before else ())


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: NsaParams) -> None:
    """Raises: Unsupported."""
    raise Unsupported("NSA has no GPU kernel yet: use the CPU")


def visible(workload: Workload, params: NsaParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Keys not after the query: which of them are seen is chosen by q and k, and by which branches count."""
    return numerics.causal_visible(rows, columns, 0)


def state_bytes(workload: Workload, params: NsaParams) -> int:
    """K and V of every token, and of every compressed block."""
    return kv_bytes(workload, workload.seq_len + workload.seq_len // params.block_size)


def summary(params: NsaParams) -> str:
    """Such as "blocks of 64 · 15 chosen · w 512 · gates 0.25 0.50 0.25"."""
    gates = f"{params.coarse:.2f} {params.fine:.2f} {params.near:.2f}"
    return f"blocks of {params.block_size:,} · {params.top_k} chosen · w {params.window_size:,} · gates {gates}"


VARIANT = Variant(
    name="nsa",
    title="NSA",
    family="restricted",
    order=19,
    source="Yuan et al. 2025, section 3, arXiv 2502.11089",
    formula="out = g1 · softmax over past means + g2 · over own and chosen blocks + g3 · over a window; synthetic gates g",
    params=NsaParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    like="pattern",
    normalised=False,
    picks=True,
    outside="in a block that the query did not choose, outside the window",
    block_size=lambda params: params.block_size,
    causal_only=CAUSAL_ONLY,
    state_bytes=state_bytes,
)

"""Softmax attention over packed documents: several texts lie one after the other in a sequence and do not see each other.

Krell et al. 2021, "Efficient sequence packing without cross-contamination", arXiv 2107.02027. Lengths are drawn
from a geometric distribution, seeded: where each document ends depends on the seed and the mean only, so a longer sequence begins
with the same ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, draws, numerics
from attnscope_engine.attend import attend, limits, strip_workspace, torch_limits
from attnscope_engine.cost import Cost, lse_term, softmax_step, tensor_term
from attnscope_engine.protocol import MAX_SEQ_LEN, DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, Limits, Strip, still, strips
from attnscope_engine.variant import Params, Tick, Variant, param

MARGIN = 256
"""Positions past the last that the kernel may ask for, as in `document.cu`."""


class DocumentParams(Params, frozen=True):
    """Where documents end."""

    mean_size: Annotated[
        int,
        param(
            16,
            1_048_576,
            unit="tokens",
            help="Mean length of a document; lengths are geometric, from a token up",
            label="mean",
            scale="log2",
        ),
    ] = 512
    seed: Annotated[int, param(0, 999, unit="number", help="Other documents of the same mean length")] = 0


def resolve(workload: Workload, params: DocumentParams) -> DocumentParams:
    """A document longer than the sequence is all of it: every setting is possible."""
    return params


@functools.lru_cache(maxsize=32)
def _ends(mean_size: int, seed: int, most: int) -> NDArray[np.int64]:
    """Where documents end, in order, up to the first end not before `most`."""
    count = most // mean_size + 64
    while True:
        chances = draws.uniforms(seed, np.arange(count))
        lengths = 1 + np.floor(np.log(chances) / math.log1p(-1 / mean_size)).astype(np.int64)
        ends = np.cumsum(np.minimum(lengths, MAX_SEQ_LEN))
        if ends[-1] >= most:
            found = ends[: np.searchsorted(ends, most) + 1]
            found.flags.writeable = False
            return found
        count *= 2


def ends_within(params: DocumentParams, seq_len: int) -> NDArray[np.int64]:
    """Where the documents of a sequence end, the last one cut off at `seq_len`."""
    ends = _ends(params.mean_size, params.seed, 1 << max(seq_len - 1, 0).bit_length())
    inside = ends[: np.searchsorted(ends, seq_len)]
    return np.append(inside, seq_len)


def lengths_within(params: DocumentParams, seq_len: int) -> NDArray[np.int64]:
    """Tokens of each document of a sequence."""
    return np.diff(ends_within(params, seq_len), prepend=0)


def cost(workload: Workload, params: DocumentParams, on: DeviceKind) -> Cost:
    """Full or causal attention inside each document."""
    w = workload
    steps = (softmax_step(w, pairs_of_head(w, params)),)
    if on == "cpu":
        return Cost(steps, (tensor_term(w), workspace(w, params)))
    item = 4 if w.causal else 8
    return Cost(
        steps, (tensor_term(w), lse_term(w), Term("documents", f"{item}·(n + {MARGIN})", item * (w.seq_len + MARGIN), "n"))
    )


def pairs_of_head(workload: Workload, params: DocumentParams) -> int:
    """Pairs that one head sees, counted exactly."""
    lengths = lengths_within(params, workload.seq_len)
    return int((lengths * (lengths + 1) // 2 if workload.causal else lengths**2).sum())


def workspace(workload: Workload, params: DocumentParams) -> Term:
    """What a run holds for its calls: of the longest document, or of the longest whose heads fit into one call."""
    w, allowed, heads = workload, torch_limits(workload.head_dim), workload.batch * workload.num_heads
    lengths = lengths_within(params, w.seq_len)
    together = min(allowed.queries // heads, math.isqrt(allowed.pairs // heads))
    sizes = {int(lengths.max()), int(lengths[lengths <= together].max(initial=1)), min(together + 1, int(lengths.max()))}
    return strip_workspace(w, *(next(_document(0, 0, size, size, w.causal, allowed)) for size in sizes))


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: DocumentParams, xp: Any, tick: Tick) -> Any:
    """Attention inside each document."""
    n, m = q.shape[2], k.shape[2]
    return attend(q, k, v, document_strips(params, m - n, m, workload.causal, limits(q.shape[3], xp)), xp, tick)


def document_strips(params: DocumentParams, first: int, kv_len: int, causal: bool, allowed: Limits) -> Iterator[Strip]:
    """The positions `first … kv_len − 1`, document by document."""
    if first < 0:
        yield Strip(first, -first, 1, ())
    start = 0
    for end in ends_within(params, kv_len).tolist():
        if end > first:
            yield from _document(start, max(start, first), end, end, causal, allowed)
        start = end


def _document(low: int, first: int, end: int, high: int, causal: bool, allowed: Limits) -> Iterator[Strip]:
    """The positions `first … end − 1` of the document `low … high − 1`."""
    return strips((Band(still(low), Edge(1, low, high) if causal else still(high)),), first, end, allowed)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: DocumentParams) -> None:
    """One kernel that walks over the documents of its queries."""
    bounds = device.constant(bounds_of(params, k.shape[2], workload.causal))
    most_seen = int(lengths_within(params, k.shape[2]).max())
    cuda.attend_in_tiles(device, "document", "Document", (q, k, v, out), workload, (bounds,), most_seen)


@functools.lru_cache(maxsize=4)
def bounds_of(params: DocumentParams, kv_len: int, causal: bool) -> NDArray[np.int32]:
    """`(1 or 2, kv_len + MARGIN)`: of each position the first of its document; not causal, and the first behind it."""
    ends, lengths = ends_within(params, kv_len), lengths_within(params, kv_len)
    sides = (ends - lengths,) if causal else (ends - lengths, ends)
    lengths[-1] += MARGIN
    found = np.stack([np.repeat(side, lengths) for side in sides]).astype(np.int32)
    found.flags.writeable = False
    return found


def visible(workload: Workload, params: DocumentParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Keys of the query's own document (causal: not after it)."""
    rows, columns = np.asarray(rows), np.asarray(columns)
    ends = _ends(params.mean_size, params.seed, MAX_SEQ_LEN)
    document = np.where(rows < 0, -1, np.searchsorted(ends, rows, side="right"))
    same: NDArray[np.bool_] = document[:, None] == np.searchsorted(ends, columns, side="right")[None, :]
    return same & numerics.causal_visible(rows, columns, 0) if workload.causal else same


def summary(params: DocumentParams) -> str:
    """Such as "mean 512 tokens · seed 0"."""
    return f"mean {params.mean_size:,} tokens · seed {params.seed}"


VARIANT = Variant(
    name="document",
    title="Document",
    family="restricted",
    order=11,
    source="packed documents: Krell et al. 2021, arXiv 2107.02027",
    formula="out = softmax(Q Kᵀ · D^-½ where i and j are of one document) V",
    params=DocumentParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=numerics.reference_over(visible),
    run_cpu=run_cpu,
    launch=launch,
    weights=numerics.weights_over(visible),
    visible=visible,
    like="chunked",
    plain_softmax=True,
    outside="in another document",
)

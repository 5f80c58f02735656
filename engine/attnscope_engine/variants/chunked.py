"""Naive chunking: the sequence is cut into chunks that do not see each other, which is what it costs nothing to lose.

The baseline of every long-sequence method; block-local attention in Child et al. 2019 is this plus links, arXiv 1904.10509.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, limits, whole_workspace
from attnscope_engine.cost import Cost, kv_bytes, lse_term, softmax_step, tensor_term
from attnscope_engine.protocol import DeviceKind, Workload
from attnscope_engine.regions import chunk_strips
from attnscope_engine.variant import Params, Tick, Variant, param


class ChunkedParams(Params, frozen=True):
    """Where the sequence is cut."""

    chunk_size: Annotated[
        int,
        param(1, 1_048_576, unit="tokens", help="Tokens of a chunk; a query sees no key of another", label="chunk", scale="log2"),
    ] = 2048


def resolve(workload: Workload, params: ChunkedParams) -> ChunkedParams:
    """A chunk longer than the sequence is all of it: every setting is possible."""
    return params


def cost(workload: Workload, params: ChunkedParams, on: DeviceKind) -> Cost:
    """Full attention inside each chunk, the last one as long as what is left."""
    w = workload
    steps = (softmax_step(w, pairs_of_head(w, params)),)
    if on == "cpu":
        return Cost(steps, (tensor_term(w), whole_workspace(w, min(w.seq_len, params.chunk_size))))
    return Cost(steps, (tensor_term(w), lse_term(w)))


def pairs_of_head(workload: Workload, params: ChunkedParams) -> int:
    """Pairs that one head sees: whole chunks and the tail, counted exactly."""
    chunks, tail = divmod(workload.seq_len, params.chunk_size)

    def inside(size: int) -> int:
        return size * (size + 1) // 2 if workload.causal else size * size

    return chunks * inside(params.chunk_size) + inside(tail)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: ChunkedParams, xp: Any, tick: Tick) -> Any:
    """Attention inside each chunk, many small chunks a call."""
    n, m = q.shape[2], k.shape[2]
    pieces = chunk_strips(m - n, m, params.chunk_size, workload.causal, limits(q.shape[3], xp))
    return attend(q, k, v, pieces, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: ChunkedParams) -> None:
    """One kernel that walks over the query's own chunk."""
    cuda.attend_in_tiles(device, "chunked", "Chunked", (q, k, v, out), workload, (params.chunk_size,), params.chunk_size)


def visible(workload: Workload, params: ChunkedParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Keys of the query's own chunk (causal: not after it)."""
    rows, columns = np.asarray(rows), np.asarray(columns)
    same: NDArray[np.bool_] = (rows // params.chunk_size)[:, None] == (columns // params.chunk_size)[None, :]
    return same & numerics.causal_visible(rows, columns, 0) if workload.causal else same


def state_bytes(workload: Workload, params: ChunkedParams) -> int:
    """K and V of one chunk."""
    return kv_bytes(workload, min(workload.seq_len, params.chunk_size))


def summary(params: ChunkedParams) -> str:
    """Such as "chunk 2,048 tokens"."""
    return f"chunk {params.chunk_size:,} token{'' if params.chunk_size == 1 else 's'}"


VARIANT = Variant(
    name="chunked",
    title="Chunked",
    family="restricted",
    order=4,
    source="block-local attention without links; compare Child et al. 2019, section 4, arXiv 1904.10509",
    formula="out = softmax(Q Kᵀ · D^-½ where ⌊i/C⌋ = ⌊j/C⌋) V",
    params=ChunkedParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=numerics.reference_over(visible),
    run_cpu=run_cpu,
    launch=launch,
    weights=numerics.weights_over(visible),
    visible=visible,
    plain_softmax=True,
    outside="in another chunk",
    block_size=lambda params: params.chunk_size,
    state_bytes=state_bytes,
)

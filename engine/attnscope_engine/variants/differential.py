"""Differential attention: one softmax less λ times another, so that what both give to everything cancels.

Ye et al. 2024, "Differential Transformer", section 2.1, arXiv 2410.05258. The halves of a head's channels are Q1 and Q2, K1 and
K2; values keep all of them. λ, which the paper learns from 0.8 − 0.6·exp(−0.3·(layer − 1)) on, is a number here. The norm of each
head and its factor 1 − λ belong to the layer and are not in here.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, limits, whole_workspace
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, still, strips
from attnscope_engine.variant import Params, Tick, Unsupported, Variant, real

PAIRS_OF_BLOCK = 256
"""Of elements, in the kernels that halve keys and that subtract."""


class DifferentialParams(Params, frozen=True):
    """How much of the second softmax is taken away."""

    subtracted: Annotated[
        float,
        real(
            0,
            1,
            step=0.01,
            unit="of a row",
            help="Times the second softmax: 0.8 is where deep layers of the paper begin",
            label="λ",
        ),
    ] = 0.8


def resolve(workload: Workload, params: DifferentialParams) -> DifferentialParams:
    """Every setting is possible."""
    return params


def cost(workload: Workload, params: DifferentialParams, on: DeviceKind) -> Cost:
    """Two softmaxes over all pairs.

    A GPU multiplies queries with keys of which the other half is 0; the processor takes the values in two halves, with the scores
    and exponentials of each half made anew. Both multiply 8·D a pair, where 6·D would do.
    """
    w, item = workload, workload.item_bytes
    queries, keys = w.batch * w.num_heads * w.seq_len * w.head_dim, w.batch * w.num_kv_heads * w.seq_len * w.head_dim
    pairs, calls = w.batch * w.num_heads * w.pairs, 2 if on == "cuda" else 4
    attention = Step("attention", 8 * pairs * w.head_dim, calls * pairs, 4 * (queries + keys) * item, launches=calls)
    difference = Step("difference", 2 * queries, 0, 3 * queries * item, launches=calls // 2)
    if on == "cpu":
        half = Term("half of the second output", f"B·H·n·D/2·{item}", queries // 2 * item, "n")
        return Cost((attention, difference), (tensor_term(w), half, whole_workspace(_half(w), w.seq_len)))
    held = (
        tensor_term(w),
        Term("halves of k", f"2·B·G·n·D·{item}", 2 * keys * item, "n"),
        Term("second output", f"B·H·n·D·{item}", queries * item, "n"),
        Term("LSE", "2·B·H·n·4", 2 * w.batch * w.num_heads * w.seq_len * 4, "n"),
    )
    return Cost((Step("halves of k", 0, 0, 3 * keys * item), attention, difference), held)


def _half(workload: Workload) -> Workload:
    """The workload of one softmax and half of the values."""
    return msgspec.structs.replace(workload, head_dim=workload.head_dim // 2)


def check(head_dim: int) -> None:
    """Raises: Unsupported when the channels have no halves."""
    if head_dim % 2:
        raise Unsupported(f"Differential needs an even head dim, not {head_dim}: set {head_dim - 1}")


def maps_of(q: NDArray[Any], k: NDArray[Any], seen: NDArray[np.bool_], params: DifferentialParams) -> NDArray[np.float64]:
    """`(…, N, D)`, `(…, M, D)` → `(…, N, M)`: softmax(Q1 K1ᵀ·(D/2)^-½) − λ softmax(Q2 K2ᵀ·(D/2)^-½) over what is seen."""
    half = q.shape[-1] // 2
    first, second = (
        numerics.softmax_rows(numerics.scores_of(q[..., part], k[..., part]), seen)
        for part in (slice(0, half), slice(half, 2 * half))
    )
    return first - params.subtracted * second


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: DifferentialParams) -> NDArray[Any]:
    """The difference of the two softmaxes times V; a query that sees no key gives 0."""
    n, m = q.shape[-2], k.shape[-2]
    seen = visible(workload, params, np.arange(n) + m - n, np.arange(m))
    found = maps_of(q, numerics.expand_heads(k, q.shape[1]), seen, params)
    return found @ numerics.expand_heads(v, q.shape[1]).astype(np.float64)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: DifferentialParams, xp: Any, tick: Tick) -> Any:
    """Each softmax with each half of the values, as tiled attention: four calls on views. Raises: Unsupported (odd head_dim)."""
    check(q.shape[3])
    n, m, half = q.shape[2], k.shape[2], q.shape[3] // 2
    low, high = slice(0, half), slice(half, 2 * half)
    seen = Band(still(0), Edge(1, 0, m) if workload.causal else still(m))

    def one(part: slice, values: slice, into: Any) -> Any:
        pieces = strips((seen,), m - n, m, limits(half, xp))
        return attend(q[..., part], k[..., part], v[..., values], pieces, xp, tick, into=into)

    out = xp.empty_like(q)
    second = xp.empty((*q.shape[:3], half), dtype=q.dtype)
    for values in (low, high):
        one(low, values, out[..., values])
        one(high, values, second)
        second *= params.subtracted
        out[..., values] -= second
    return out


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: DifferentialParams) -> None:
    """Keys with one half or the other set to 0, a tiled softmax with each, the difference of their outputs.

    With zeros for the other half q·k is Q1 K1ᵀ exactly, and values stay whole.

    Raises:
        Unsupported: head_dim.
    """
    cuda.tiling("Differential", q.shape[3], workload.dtype)
    first, second = (device.empty(k.shape, cuda.STORED[workload.dtype]) for _ in range(2))
    other = device.empty(q.shape, cuda.STORED[workload.dtype])
    defines = {"DTYPE": cuda.DTYPE_CODE[workload.dtype], "HALVES": 1}

    def start(entry: str, tensor: Any, *arguments: Any) -> None:
        batch, heads, tokens, width = tensor.shape
        blocks = (cuda.blocks(tokens * width // 2, PAIRS_OF_BLOCK), heads, batch)
        device.kernel("differential", entry, defines)(blocks, PAIRS_OF_BLOCK, (*arguments, np.int32(tokens), np.int32(width)))

    start("differential_halves", k, k, first, second)
    for keys, into in ((first, out), (second, other)):
        cuda.attend_in_tiles(device, "differential", "Differential", (q, keys, v, into), workload)
    start("differential_subtract", q, other, out, np.float32(params.subtracted))


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: DifferentialParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """The rows' differences: signed, each of sum 1 − λ."""
    seen = visible(workload, params, rows + k.shape[0] - q.shape[0], np.arange(k.shape[0]))
    return maps_of(q[rows], k, seen, params)


def visible(workload: Workload, params: DifferentialParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """All keys, or those not after the query."""
    return numerics.causal_visible(rows, columns, 0) if workload.causal else numerics.all_visible(rows, columns)


VARIANT = Variant(
    name="differential",
    title="Differential",
    family="softmax",
    order=16,
    source="Ye et al. 2024, section 2.1, arXiv 2410.05258",
    formula="out = (softmax(Q1 K1ᵀ · (D/2)^-½) − λ softmax(Q2 K2ᵀ · (D/2)^-½)) V, Q1 and Q2 the halves of Q",
    params=DifferentialParams,
    summary=lambda params: f"λ {params.subtracted:.2f}",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    like="softmax_tiled",
    signed=lambda params: params.subtracted > 0,
    normalised=lambda params: params.subtracted == 0,
)

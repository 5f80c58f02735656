"""Mixture of block attention: each query sees its own block, and of the blocks before it those whose mean key it likes best.

Lu et al. 2025, "MoBA: Mixture of Block Attention for Long-Context LLMs", section 2.2, arXiv 2502.13189. The paper's k counts a
query's own block, which it always sees; here past blocks are counted. Of blocks with the same score the earlier is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import attend_chosen, cuda, numerics
from attnscope_engine.chosen_exact import choices_of, pairs_of_head, past_blocks, scores_of_blocks, seen_by
from attnscope_engine.cost import Cost, Step, lse_term, tensor_term
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.variant import Params, Tick, Unsupported, Variant, param

CAUSAL_ONLY = "MoBA is causal only, since a query chooses among the blocks before it: set the mask to causal."

GROUP = 128
"""Rows of a GPU that attend to the same block of keys, as in `moba.cu`: a multiple of the rows of a block of threads."""


class MobaParams(Params, frozen=True):
    """How large blocks are, and how many of them a query chooses."""

    block_size: Annotated[int, param(16, 4096, unit="keys", help="Keys of a block, chosen as a whole", scale="log2")] = 512
    top_k: Annotated[
        int, param(1, 32, unit="blocks", help="Past blocks that each query chooses, beside its own", label="chosen", scale="log2")
    ] = 2


def resolve(workload: Workload, params: MobaParams) -> MobaParams:
    """What is more than the sequence has is all of it: every setting is possible."""
    return params


# ---------------------------------------------------------------- what it costs


def groups_of(queries: int, kv_len: int, params: MobaParams) -> int:
    """Groups of GROUP rows that a head needs at most: each block's last one may be short."""
    size, most = params.block_size, params.top_k
    choices = choices_of(kv_len, size, most) - choices_of(max(0, kv_len - queries), size, most)
    return choices // GROUP + past_blocks(kv_len, size)


def cost(workload: Workload, params: MobaParams, on: DeviceKind) -> Cost:
    """Means of the blocks, a score of each query with each block before it, and attention to what it chooses.

    The scores of blocks are the part that grows with n², by D multiplications for each `block_size` pairs.
    """
    w, blocks, item = workload, past_blocks(workload.seq_len, params.block_size), workload.item_bytes
    heads, kv_heads = w.batch * w.num_heads, w.batch * w.num_kv_heads
    pairs = heads * pairs_of_head(w.seq_len, params.block_size, params.top_k)
    means = Term("block means", f"B·G·{blocks:,}·D·4", kv_heads * blocks * w.head_dim * 4, "n")
    keys, scores = kv_heads * w.seq_len * w.head_dim, heads * scores_of_blocks(w.seq_len, params.block_size)
    choose = (
        Step("block means", keys, 0, keys * item + means.bytes_),
        Step("choice", 2 * scores * w.head_dim, 0, heads * w.seq_len * w.head_dim * item + means.bytes_),
    )
    if on == "cuda" and blocks:
        return Cost((*choose, *_gathering(w, params)), (tensor_term(w), lse_term(w), means, *_gathered(w, params)))
    attention = Step("attention", 4 * pairs * w.head_dim, pairs, tensor_term(w).bytes_)
    if on == "cuda":
        return Cost((attention,), (tensor_term(w), lse_term(w)))
    workspace = attend_chosen.workspace(w, params.block_size, params.top_k)
    return Cost((*choose, attention) if blocks else (attention,), (tensor_term(w), means, workspace))


def _gathering(w: Workload, params: MobaParams) -> tuple[Step, ...]:
    """What a GPU does once queries have chosen.

    To count and to place the rows that chose a block, the choices of all later queries are read: 4 bytes a choice and block.
    """
    heads, choices = w.batch * w.num_heads, w.batch * w.num_heads * choices_of(w.seq_len, params.block_size, params.top_k)
    pairs, item = heads * pairs_of_head(w.seq_len, params.block_size, params.top_k), w.item_bytes
    inside = pairs - params.block_size * choices
    read = 4 * heads * scores_of_blocks(w.seq_len, params.block_size) * params.top_k
    queries, keys = heads * w.seq_len * w.head_dim, w.batch * w.num_kv_heads * w.seq_len * w.head_dim
    return (
        Step("rows of blocks", 0, 0, 2 * read + 4 * choices, launches=2),
        Step("own blocks", 4 * inside * w.head_dim, inside, tensor_term(w).bytes_),
        Step("chosen blocks", 4 * (pairs - inside) * w.head_dim, pairs - inside, 2 * (choices * w.head_dim + keys) * item),
        Step("merge", 2 * choices * w.head_dim, choices, (choices * w.head_dim + 2 * queries) * item),
    )


def _gathered(w: Workload, params: MobaParams) -> tuple[Term, ...]:
    """What a GPU holds for that: tables of rows, and what each choice gave until all are merged."""
    heads, most, item = w.batch * w.num_heads, params.top_k, w.item_bytes
    groups, blocks = groups_of(w.seq_len, w.seq_len, params), past_blocks(w.seq_len, params.block_size)
    slots = heads * w.seq_len * most
    return (
        Term("choices", f"B·H·n·{most}·4", 4 * slots, "n"),
        Term("rows of blocks", f"B·H·({groups:,}·{GROUP + 1} + {blocks:,})·4", 4 * heads * (groups * (GROUP + 1) + blocks), "n"),
        Term("output of each choice", f"B·H·n·{most}·(D·{item} + 4)", slots * (w.head_dim * item + 4), "n"),
    )


# ---------------------------------------------------------------- what it computes


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: MobaParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """Softmax of the rows' scores over what each of them chose; 0 elsewhere."""
    return numerics.softmax_rows(
        numerics.scores_of(q[rows], k), seen_by(q[rows], k, rows + len(k) - len(q), params.block_size, params.top_k)
    )


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: MobaParams) -> NDArray[Any]:
    """The weights of every head times V; a query that sees no key gives 0."""
    out, every = np.zeros(q.shape), np.arange(q.shape[2])
    for b, h in np.ndindex(*q.shape[:2]):
        group = h * k.shape[1] // q.shape[1]
        out[b, h] = weights(q[b, h], k[b, group], workload, params, every, h) @ v[b, group].astype(np.float64)
    return out


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: MobaParams, xp: Any, tick: Tick) -> Any:
    """Each block's choosers together, by blocks of keys. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    means = attend_chosen.means_of_blocks(k, params.block_size, xp)

    def choose(queries: Any, group: int, own: Any) -> Any:
        return attend_chosen.best_blocks(queries, means[group], own, params.top_k, xp)

    return attend_chosen.attend_chosen(q, k, v, params.block_size, choose, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: MobaParams) -> None:
    """Own blocks; what is chosen; the rows that chose a block attend to it together; what all of it found, merged.

    Raises: Unsupported (a full mask, head_dim).
    """
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    size = params.block_size
    lse = cuda.attend_in_tiles(device, "moba", "MoBA", (q, k, v, out), workload, (size,), size)
    if past_blocks(k.shape[2], params.block_size):
        Chosen(device, workload, params, q.shape, k.shape).attend(q, k, v, out, lse)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The launches that a call needs for what its queries choose."""

    device: Any
    workload: Workload
    params: MobaParams
    of_q: tuple[int, int, int, int]
    of_k: tuple[int, int, int, int]

    def attend(self, q: Any, k: Any, v: Any, out: Any, lse: Any) -> None:
        """Out and lse have what own blocks gave, and get what choices give as well."""
        batch, heads, queries, width = self.of_q
        most, size, blocks = self.params.top_k, self.params.block_size, past_blocks(self.of_k[2], self.params.block_size)
        groups, offset = groups_of(queries, self.of_k[2], self.params), self.of_k[2] - queries
        means = self.device.empty((batch, self.of_k[1], blocks, width), "float32")
        picks, counts = self._integers(queries, most), self._integers(blocks)
        rows, of_groups = self._integers(groups, GROUP), self._integers(groups)
        parts = self.device.empty((batch, heads, most, queries, width), cuda.STORED[self.workload.dtype])
        logs = self.device.empty((batch, heads, most, queries), "float32")

        self._start("moba_means", blocks, (k, means), self.of_k[2], width, size, heads=self.of_k[1])
        group = heads // self.of_k[1]
        self._start("moba_choose", cuda.blocks(queries, 64), (q, means, picks), queries, width, blocks, group, most, offset, size)
        self._start("moba_count", blocks, (picks, counts), queries, most, offset, size)
        self._start("moba_place", blocks, (picks, counts, rows, of_groups), queries, most, offset, size, groups)
        self._gather((q, k, v, parts, logs), (rows, of_groups), groups)
        self._start("moba_merge", cuda.blocks(queries, 8), (out, lse, parts, logs), queries, width, most, offset, size)

    def _integers(self, *shape: int) -> Any:
        return self.device.empty((*self.of_q[:2], *shape), "int32")

    def _start(self, entry: str, blocks: int, arrays: tuple[Any, ...], *sizes: int, heads: int = 0) -> None:
        kernel = self.device.kernel("moba", entry, {"DTYPE": cuda.DTYPE_CODE[self.workload.dtype], "CHOOSES": 1})
        kernel((blocks, heads or self.of_q[1], self.of_q[0]), 256, (*arrays, *map(np.int32, sizes)))

    def _gather(self, tensors: tuple[Any, ...], tables: tuple[Any, Any], groups: int) -> None:
        """Attention of the rows of each group to its block. On every card the portable kernel: rows lie apart in q."""
        batch, heads, queries, width = self.of_q
        tiles = cuda.softmax_tiling("MoBA", width, self.workload.dtype, self.device.shared_bytes)
        kernel = self.device.kernel("moba", "moba_chosen", {**tiles.defines(causal=True), "GATHERS": 1})
        shape = (np.int32(queries), np.int32(self.of_k[2]), np.int32(heads // self.of_k[1]))
        own = tuple(map(np.int32, (self.params.block_size, groups, self.params.top_k)))
        arguments = (*tensors, *shape, np.float32(cuda.LOG2_E * width**-0.5), *tables, *own)
        kernel((groups * GROUP // tiles.block_q, heads, batch), tiles.threads, arguments, tiles.shared_bytes)


def visible(workload: Workload, params: MobaParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Keys not after the query: which of them are seen is chosen by q and k."""
    return numerics.causal_visible(rows, columns, 0)


VARIANT = Variant(
    name="moba",
    title="MoBA",
    family="restricted",
    order=18,
    source="Lu et al. 2025, section 2.2, arXiv 2502.13189",
    formula="out = softmax(Q Kᵀ · D^-½ over the own block and the k past blocks with the largest q·mean(keys of the block)) V",
    params=MobaParams,
    summary=lambda params: f"blocks of {params.block_size:,} · {params.top_k} chosen",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    like="pattern",
    picks=True,
    outside="in a block that the query did not choose",
    block_size=lambda params: params.block_size,
    causal_only=CAUSAL_ONLY,
)

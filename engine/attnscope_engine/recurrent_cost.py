"""What `recurrent.run` costs on the processor: operations, and memory by the arrays that are alive together. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import Term, Workload
from attnscope_engine.recurrent import BLOCK_QUERIES, CHUNK, groups_at_once

Decay = Literal["", "token", "channel"]
"""None, one a token (or head), one a token and channel."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one state and what feeds it."""

    features: int
    """F, rows of the state."""
    columns: int
    """V, its columns: those of a value, and one more where weights are summed."""
    decay: Decay = ""
    delta: bool = False
    made_features: bool = False
    """Whether φ makes arrays of its own; identity does not."""
    query_copies: int = 1
    """Arrays as large as the query features that are alive while those are made, they included."""


def state_bytes(workload: Workload, sizes: Sizes) -> int:
    """The state of every key head, fp32."""
    return workload.batch * workload.num_kv_heads * sizes.features * sizes.columns * 4


def cost(workload: Workload, sizes: Sizes, feature_flops: int = 0, feature_exps: int = 0) -> Cost:
    """`feature_flops`, `feature_exps`: what making the features (and gates) of one query or key takes."""
    w, f, v = workload, sizes.features, sizes.columns
    heads, kv_heads = w.batch * w.num_heads, w.batch * w.num_kv_heads
    flops = 2 * (heads + kv_heads) * w.seq_len * f * v
    exps = (heads + kv_heads) * w.seq_len * feature_exps
    if w.causal:
        pairs = pairs_inside_chunks(w.seq_len)
        flops += 2 * heads * pairs * (f + v)
        if sizes.decay == "token":
            exps += kv_heads * pairs
        if sizes.decay == "channel":  # of each halving, half of the queries and half of the keys
            exps += (heads + kv_heads) * w.seq_len * f * (CHUNK.bit_length() - 1) // 2
        if sizes.delta:  # products of keys, (I + L)⁻¹, that times keys and values, the state times the corrected keys
            inverses = -(-w.seq_len // CHUNK) * CHUNK**3 // 3
            flops += 2 * kv_heads * (pairs * (2 * f + v) + inverses + w.seq_len * f * v)
    flops += (heads + kv_heads) * w.seq_len * feature_flops
    tensors = tensor_term(w)
    step = Step("state", flops, exps, tensors.bytes_)
    at_once = min(kv_heads, groups_at_once(w.num_heads // w.num_kv_heads))
    held = Term("state", f"min(B·G, {at_once})·{f}·{v}·4", at_once * f * v * 4, "constant")
    return Cost((step,), (tensors, held, workspace(w, sizes, held.bytes_)))


def pairs_inside_chunks(n: int, chunk: int = CHUNK) -> int:
    """Causal pairs of one head whose query and key share a chunk."""
    chunks, tail = divmod(n, chunk)
    return (chunks * chunk * (chunk + 1) + tail * (tail + 1)) // 2


def workspace(workload: Workload, sizes: Sizes, state_bytes: int) -> Term:
    """Arrays of one step: what is made of the queries, keys and values of a block, and what a state gains."""
    w = workload
    group = w.num_heads // w.num_kv_heads
    at_once = min(w.batch * w.num_kv_heads, groups_at_once(group))
    size = min(CHUNK, w.seq_len)
    if not w.causal:
        keys = min(max(1, BLOCK_QUERIES // (at_once * CHUNK)) * CHUNK, w.seq_len // size * size)
        block = Block(w, sizes, group, copied=at_once > 1 and keys < w.seq_len)
        queries = min(max(1, BLOCK_QUERIES // (at_once * group)), w.seq_len)
        floats = max(at_once * keys * block.writing(size), at_once * queries * group * block.reading_all(queries))
        return Term("workspace", f"{floats:,}·4 + 2·state", floats * 4 + 2 * state_bytes, "constant")
    keys = min(max(1, BLOCK_QUERIES // (at_once * group * CHUNK)) * CHUNK, w.seq_len // size * size)
    block = Block(w, sizes, group, copied=at_once > 1 and keys < w.seq_len)
    each = max(block.writing(size), block.kept(size) + block.reading(size))
    return Term("workspace", f"{at_once * keys:,}·{each:,}·4 + state", at_once * keys * each * 4 + state_bytes, "constant")


@dataclass(frozen=True, slots=True)
class Block:
    """Floats alive together in one step, for each key of it."""

    workload: Workload
    sizes: Sizes
    group: int
    copied: bool
    """Keys and values of some heads have to be put together."""

    @property
    def _widened(self) -> int:
        """A query of a stored 16-bit type in fp32."""
        return self.workload.head_dim if self.workload.item_bytes < 4 else 0

    @property
    def _taken(self) -> int:
        """A key or value in fp32 and without gaps."""
        return self.workload.head_dim if self.copied or self._widened else 0

    def _keys(self) -> int:
        """φ(k) and what is written for it."""
        s = self.sizes
        features = s.features if s.made_features else self._taken
        return features + (s.columns if s.columns > self.workload.head_dim or s.delta else self._taken)

    def kept(self, size: int) -> int:
        """While queries are read: features, values, gates and the states before each chunk."""
        s = self.sizes
        gates = {"": 0, "token": 1, "channel": s.features}[s.decay]
        return self._keys() + gates + s.features * s.columns // size

    def writing(self, size: int) -> int:
        """The most while keys are written."""
        s = self.sizes
        late = s.features if s.decay else 0
        whole = self._taken if s.made_features else 0
        if not s.delta:
            return self.kept(size) + late + whole
        given = whole + s.features + self._taken + (s.features if s.decay == "channel" else 0)
        corrected = s.columns + s.features + late + s.features * s.columns // size
        return given + max(4 * size, corrected)

    def reading(self, size: int) -> int:
        """The most while the queries of all heads of a key are read."""
        s, d, group = self.sizes, self.workload.head_dim, self.group
        turned = d * self.workload.item_bytes // 4 if group > 1 else 0
        features = group * (turned + self._widened + s.features * s.query_copies)
        queries = group * (s.features if s.query_copies or group > 1 else self._widened)
        factors = 2 * size if s.decay == "token" else 0
        if s.decay == "channel":  # half of the queries and of the keys, each times its decay, and what puts them together
            factors = s.features * (group + 1) + 8 * group
        products = queries + group * size + max(group * s.columns, factors)
        faded = {"": 0, "token": group * s.features, "channel": (group + 1) * s.features}[s.decay]
        answers = queries + faded + group * s.columns
        last = group * (s.columns + (d if s.columns > d else 0) + (d if group > 1 else 0))
        return max(features, products, answers, group * (s.features + 2 * s.columns), last)

    def reading_all(self, queries: int) -> int:
        """The same without a mask, for each query, in steps of so many queries of a head."""
        s, d = self.sizes, self.workload.head_dim
        copied = d * self.workload.item_bytes // 4 if self.group > 1 and queries < self.workload.seq_len else 0
        divided = d if s.columns > d else 0
        return max(copied + self._widened + s.features * s.query_copies, s.features + s.columns, s.columns + divided)

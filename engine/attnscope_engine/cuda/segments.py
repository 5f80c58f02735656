"""How heads with a state are cut into segments of whole chunks, where there are too few of them for a card. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.cuda import hopper
from attnscope_engine.protocol import Workload
from attnscope_engine.variant import Unsupported

CHUNK = 64
"""Tokens between two updates of a state."""

WIDEST = 128
"""head_dim up to which a state fits the registers of one block of threads."""

WANTED_BLOCKS = 132
"""Segments that fill a large card. A number of its own, not the card's: memory is predicted without asking the card."""

FULL_FROM = 0.7
"""Share of WANTED_BLOCKS from which heads alone are fast enough: a cut would read keys and values again."""

LEAST_CHUNKS = 8
"""Chunks of a segment at least: shorter ones cost more to start, and in states, than they save."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How the tokens of each head are cut."""

    start: int
    """Token, counted along the keys, at which the first chunk begins, so that one begins with the first query: at most 0."""
    all: int
    """Chunks of a head."""
    chunks: int
    """Of a segment; the last may have fewer."""
    segments: int


def cut_of(heads: int, queries: int, keys: int) -> Cut:
    """`heads`: B·H; `queries` and `keys` of one head. A query stands at its own key, the last at the last."""
    before = keys - queries
    start = before if before < 0 else -(-before % CHUNK)
    chunks = cuda.blocks(keys - start, CHUNK)
    wanted = 1
    if heads < FULL_FROM * WANTED_BLOCKS:
        wanted = max(1, min(WANTED_BLOCKS // heads, chunks // LEAST_CHUNKS))
    of_segment = cuda.blocks(chunks, wanted)
    return Cut(start, chunks, of_segment, cuda.blocks(chunks, of_segment))


def cut_of_workload(workload: Workload) -> Cut:
    """As the measured call has it: N = M."""
    return cut_of(workload.batch * workload.num_heads, workload.seq_len, workload.seq_len)


def width_of(head_dim: int) -> int:
    """head_dim as the kernels see it: padded with zeros to 64 or 128."""
    return 64 if head_dim <= 64 else 128


@dataclass(frozen=True, slots=True)
class Call:
    """One causal call, cut: what its launches share."""

    device: Any
    stem: str
    cut: Cut
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    head_dim: int
    scale: float

    @property
    def width(self) -> int:
        return width_of(self.head_dim)

    @property
    def shape(self) -> tuple[np.int32, ...]:
        """Parameters of all kernels but scans, after the tensors (head_dim apart, which Hopper's tiles know)."""
        cut = self.cut
        return tuple(np.int32(x) for x in (self.queries, self.keys, cut.start, cut.all, cut.chunks, cut.segments))

    @property
    def group(self) -> np.int32:
        """Query heads of a key head."""
        return np.int32(self.heads // self.kv_heads)

    def on_hopper(self, workload: Workload) -> bool:
        """Whether Hopper's own kernels run it."""
        return not self.device.portable and self.device.capability == hopper.CAPABILITY and workload.dtype != "fp32"

    def states(self, floats: int, otherwise: Any) -> Any:
        """What segments do to a state, and then begin with: so many fp32 numbers each. `otherwise` where there is one segment."""
        if self.cut.segments == 1:
            return otherwise
        return self.device.empty((self.batch * self.kv_heads * self.cut.segments, floats), "float32")

    def start(
        self,
        entry: str,
        defines: dict[str, int],
        blocks: tuple[int, int],
        threads: int,
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        """Launches blocks of x and y in each of the batch."""
        self.device.kernel(self.stem, entry, defines)((*blocks, self.batch), threads, arguments, shared)


def call_of(device: Any, stem: str, title: str, tensors: tuple[Any, Any, Any, Any], workload: Workload, scale: float) -> Call:
    """Tensors are q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q.

    Raises:
        Unsupported: head_dim (names the nearest that works), or a call that is not causal.
    """
    (batch, heads, queries, head_dim), (kv_heads, keys) = tensors[0].shape, tensors[1].shape[1:3]
    cuda.tiling(title, head_dim, workload.dtype, widest=WIDEST)
    if not workload.causal:
        raise Unsupported(f"{title} reads and writes its state along the sequence, which needs a causal mask: set causal")
    cut = cut_of(batch * heads, queries, keys)
    return Call(device, stem, cut, batch, heads, kv_heads, queries, keys, head_dim, scale)

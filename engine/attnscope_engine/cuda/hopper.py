"""How a call of exact attention is cut up on Hopper, and its launch. Pure arithmetic: imports no CuPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.protocol import Dtype, Workload

CAPABILITY = (9, 0)
"""The one compute capability whose instructions these kernels use: they run on no other card."""

ROWS = 64
"""Queries of a warpgroup: what one product multiplies at once."""

PANEL_COLUMNS = 64
"""Tiles lie in shared memory in panels of so many columns: 128 bytes a row, the widest that the copy engine swizzles."""

MOST_SHARED_BYTES = 227 * 1024
"""Of a block of threads on Hopper."""

KEPT_IN_CACHE = 32 << 20
"""Bytes of keys and values in sight of causal blocks of queries that walk over several heads in turn."""

MOST_BLOCKS = 2**31 - 2**16
"""Blocks of queries are counted in an int, and each block of threads counts one past the end."""

MOST_IDLE = 1.06
"""Rows that blocks of three warpgroups work on, over those that there are, up to which three beat two at head dim 128."""

LONG_CAUSAL = 4096
"""Causal queries from which on three warpgroups are faster than two at head dim 128."""

SHORT_REACH = {64: 512 + 64, 128: 4096 + 64}
"""By width: keys that a query sees, up to which short tiles, less of which is cut away at the edges, are faster.

There are five of them, as a block's three warpgroups begin up to two tiles apart, each skipping what it does not see.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes that a kernel is compiled for."""

    width: int
    """head_dim as the kernel sees it."""
    block_k: int
    """Keys of a tile."""
    warpgroups: int
    """Each of 64 queries; one more warpgroup brings tiles."""
    stages: int
    """Tiles of keys, and of values, in shared memory."""
    take_turns: bool
    """Whether warpgroups issue products by turns, one's exponentials beside the other's products."""
    longest_first: bool
    """Whether blocks of queries are handed out while the kernel runs, those with the most keys first."""

    @property
    def block_q(self) -> int:
        return ROWS * self.warpgroups

    @property
    def threads(self) -> int:
        return 128 * (self.warpgroups + 1)

    @property
    def shared_bytes(self) -> int:
        """Queries, keys and values in panels, then the barriers: as laid out in `softmax_hopper.cuh`."""
        row = -(-self.width // PANEL_COLUMNS) * PANEL_COLUMNS * 2
        barriers = 2 * self.warpgroups + 4 * self.stages + 4
        return row * (self.block_q + 2 * self.stages * self.block_k) + 8 * barriers + 2 * 4

    def defines(self, dtype: Dtype, causal: bool) -> dict[str, int]:
        """Constants of the kernel."""
        return {
            "HOPPER": 1,
            "DTYPE": cuda.DTYPE_CODE[dtype],
            "WIDTH": self.width,
            "BLOCK_K": self.block_k,
            "WARPGROUPS": self.warpgroups,
            "STAGES": self.stages,
            "TAKE_TURNS": int(self.take_turns),
            "LONGEST_FIRST": int(self.longest_first),
            "CAUSAL": int(causal),
        }


def fits(capability: tuple[int, int], dtype: Dtype, queries: int, heads: int) -> bool:
    """Whether a call, `heads` being B·H, runs through these kernels; head_dim is what `cuda.tiling` lets through."""
    return capability == CAPABILITY and dtype != "fp32" and cuda.blocks(queries, ROWS) * heads < MOST_BLOCKS


def plan(head_dim: int, queries: int, keys: int, reach: int, causal: bool) -> Plan:
    """The fastest that was measured; `reach`: about how many keys a query sees at most, as of a window."""
    width = next(width for width in cuda.WIDTHS if width >= head_dim)
    if reach <= SHORT_REACH.get(width, 0) < keys:
        return Plan(width, 64, 3, 5, take_turns=False, longest_first=causal)
    if width <= 64:
        return Plan(width, 128, 3, 2, take_turns=not causal, longest_first=True)
    if width == 96:
        return Plan(width, 96, 3, 2, take_turns=not causal, longest_first=causal)
    if width > 128:
        return Plan(width, {192: 112, 256: 80}[width], 2, 2, take_turns=True, longest_first=causal)
    rows = cuda.blocks(queries, 3 * ROWS) * 3 * ROWS
    if rows <= MOST_IDLE * queries and (queries >= LONG_CAUSAL or not causal):
        return Plan(width, 80, 3, 2, take_turns=not causal, longest_first=causal)
    wide = min(160, 176, key=lambda size: cuda.blocks(keys, size) * size)  # fewest keys past the end
    return Plan(width, 128 if causal else wide, 2, 2, take_turns=True, longest_first=causal)


def plan_of_blocks(head_dim: int, block_size: int) -> Plan:
    """Where a block of queries has a list of blocks of keys: two warpgroups share it, and tiles are whole blocks or halves."""
    width = next(width for width in cuda.WIDTHS if width >= head_dim)
    stages = 4 if width <= 64 else 2 if width == 256 else 3
    return Plan(width, block_size // (1 if width <= 128 else 2), 2, stages, take_turns=True, longest_first=True)


def heads_together(causal: bool, heads: int, bytes_of_a_head: int) -> int:
    """Heads that are worked on in turn, out of `heads`: causal (or uneven) ones, as many as keep their keys in the cache.

    The longest blocks of queries of all of them then come first; a call that is not causal reads each head's keys while they are
    warm instead.
    """
    count = 1
    while causal and 2 * count <= heads and 2 * count * bytes_of_a_head <= KEPT_IN_CACHE:
        count *= 2
    return count


def attend(
    device: Any,
    stem: str,
    tensors: tuple[Any, Any, Any, Any],
    workload: Workload,
    extra: tuple[Any, ...],
    reach: int,
    apart: int,
    block_size: int,
    constants: Mapping[str, int],
) -> Any:
    """Launches a kernel built on `softmax_hopper.cuh`.

    `extra`, `apart`, `block_size` and `constants` are as in `cuda.attend_in_tiles`; `reach`: about how many keys a query sees at
    most.

    Tensors are q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q. Allocates the log-sum-exp `(B, H, N)` fp32, and returns it.
    """
    q, k, v, out = tensors
    batch, heads, queries, head_dim = q.shape
    kv_heads, keys = k.shape[1:3]
    cut = plan_of_blocks(head_dim, block_size) if block_size else plan(head_dim, queries, keys, reach, workload.causal)
    if apart:  # what lies behind all queries is long: it is handed out first
        cut = replace(cut, longest_first=True)
    lse = device.empty((batch, heads, queries), "float32")
    kernel = device.kernel(stem, f"{stem}_on_hopper", {**cut.defines(workload.dtype, workload.causal), **constants})
    maps = [device.tensor_map(x, rows, workload.dtype) for x, rows in ((q, ROWS), (k, cut.block_k), (v, cut.block_k))]
    group = heads // kv_heads
    together = heads_together(workload.causal or apart > 0, batch * heads, 4 * min(keys, reach) * head_dim // group)
    shape = [np.int32(size) for size in (queries, keys, head_dim, batch * heads, group, together)]
    scale = np.float32(cuda.LOG2_E * head_dim**-0.5)
    row_blocks = cuda.blocks(queries, cut.block_q) + cuda.blocks(apart, cut.block_q)
    grid = min(device.multiprocessors, row_blocks * batch * heads)
    arguments = (*maps, out, lse, *shape, scale, *cuda.parameters(extra))
    kernel((grid, 1, 1), cut.threads, arguments, cut.shared_bytes)
    return lse

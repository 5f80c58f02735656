"""How a call is cut into the tiles that the kernels are compiled for. Pure arithmetic: imports no CuPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnscope_engine.cuda import hopper
from attnscope_engine.protocol import ITEM_BYTES, Dtype, Workload
from attnscope_engine.variant import Unsupported

WIDTHS = (32, 64, 96, 128, 192, 256)
"""head_dim is padded with zeros to the next of these."""

DTYPE_CODE: dict[Dtype, int] = {"fp32": 0, "bf16": 1, "fp16": 2}
"""As in `ptx.cuh`."""

STORED: dict[Dtype, str] = {"fp32": "float32", "bf16": "uint16", "fp16": "uint16"}
"""Array types that hold a dtype: numpy has no bf16, so both 16-bit types travel as their bits."""

ALIGNMENT = 8
"""Elements: rows are read 16 bytes at a time."""

LOG2_E = 1.4426950408889634


@dataclass(frozen=True, slots=True)
class Tiling:
    """Sizes that a kernel is compiled for."""

    dtype: Dtype
    width: int
    """head_dim as the kernel sees it."""
    block_q: int
    """Queries of a block of threads, 16 a warp."""
    block_k: int
    """Keys of a tile."""

    @property
    def threads(self) -> int:
        return 2 * self.block_q

    def shared_bytes(self, rows: int, columns: int = 0) -> int:
        """Of `rows` rows of `columns` elements (`width` unless said)."""
        return rows * (columns or self.width) * ITEM_BYTES[self.dtype]

    def defines(self, causal: bool) -> dict[str, int]:
        """Constants of the kernels."""
        return {
            "DTYPE": DTYPE_CODE[self.dtype],
            "WIDTH": self.width,
            "BLOCK_Q": self.block_q,
            "BLOCK_K": self.block_k,
            "CAUSAL": int(causal),
        }


def tiling(title: str, head_dim: int, dtype: Dtype, *, widest: int = 256) -> Tiling:
    """Tiles that fit the 64 KiB of shared memory of every card since 2018, and the registers of a thread.

    Raises:
        Unsupported: head_dim is no multiple of 8 or above `widest`; names the nearest that works.
    """
    if head_dim > widest:
        raise Unsupported(f"{title} runs on a GPU up to head dim {widest}, not {head_dim}: set head dim {widest}, or use the CPU")
    if head_dim % ALIGNMENT:
        nearest = max(ALIGNMENT, round(head_dim / ALIGNMENT) * ALIGNMENT)
        raise Unsupported(
            f"{title} on a GPU needs a head dim that is a multiple of 8, not {head_dim}: set {nearest}, or use the CPU"
        )
    width = next(width for width in WIDTHS if width >= head_dim)
    row_bytes = width * ITEM_BYTES[dtype]
    block_q = 64 if row_bytes <= 512 else 32
    if row_bytes > 512 or width == 256:
        block_k = 16
    elif dtype == "fp32" or row_bytes > 256:
        block_k = 32
    else:
        block_k = 64
    return Tiling(dtype, width, block_q, block_k)


def blocks(count: int, size: int) -> int:
    """How many blocks of `size` hold `count`."""
    return -(-count // size)


def aligned(count: int) -> int:
    """Elements of a row of `count`, padded so that each row starts at 16 bytes."""
    return blocks(count, ALIGNMENT) * ALIGNMENT


def attend_in_tiles(
    device: Any,
    stem: str,
    title: str,
    tensors: tuple[Any, Any, Any, Any],
    workload: Workload,
    extra: tuple[int, ...] = (),
) -> None:
    """Launches a kernel built on `softmax_tiles.cuh`, or on `softmax_hopper.cuh` where that runs.

    `extra` are the kernel's own parameters after the shape.

    Tensors are q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q. Allocates the log-sum-exp `(B, H, N)` fp32.
    """
    q, k, v, out = tensors
    batch, heads, queries, head_dim = q.shape
    kv_heads, keys = k.shape[1:3]
    tiles = tiling(title, head_dim, workload.dtype)
    if hopper.fits(device.capability, workload.dtype, queries, batch * heads):
        hopper.attend(device, stem, tensors, workload, extra)
        return
    lse = device.empty((batch, heads, queries), "float32")
    kernel = device.kernel(stem, stem, tiles.defines(workload.causal))
    shape = [np.int32(size) for size in (queries, keys, head_dim, heads // kv_heads)]
    arguments = (q, k, v, out, lse, *shape, np.float32(LOG2_E * head_dim**-0.5), *(np.int32(value) for value in extra))
    grid = (blocks(queries, tiles.block_q), heads, batch)
    kernel(grid, tiles.threads, arguments, tiles.shared_bytes(tiles.block_q + 2 * tiles.block_k))

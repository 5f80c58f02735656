"""How a call is cut into the tiles that the kernels are compiled for. Pure arithmetic: imports no CuPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from attnscope_engine.cuda import hopper
from attnscope_engine.cuda import linear as linear
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


@dataclass(frozen=True, slots=True)
class SoftmaxTiling:
    """Sizes that `softmax_tiles.cuh` is compiled for."""

    dtype: Dtype
    head_dim: int
    width: int
    """head_dim as the tiles have it."""
    block_q: int
    """Rows of a block of threads."""
    block_k: int
    """Keys of a tile."""
    warp_rows: int
    """Rows of a warp, 16 or 32."""
    key_warps: int
    """Warps that share rows and halve the keys of a tile."""
    chunk: int
    """Keys that a warp takes at a time."""
    decode: bool
    """The rows of a block are those of all heads of a key head, and keys may be split over blocks."""

    @property
    def threads(self) -> int:
        return 32 * self.key_warps * self.block_q // self.warp_rows

    @property
    def shared_bytes(self) -> int:
        """16-bit: two tiles of keys and of values, the queries passing through the second; fp32: the queries and a tile each."""
        row_bytes = self.width * ITEM_BYTES[self.dtype]
        if self.dtype == "fp32":
            return (self.block_q + 2 * self.block_k) * row_bytes
        joined = self.block_q // 16 * (self.width // 2 + 4) * 128 if self.key_warps > 1 else 0
        return max((2 * self.block_k + max(2 * self.block_k, self.block_q)) * row_bytes, joined)

    def defines(self, causal: bool) -> dict[str, int]:
        """Constants of the kernels."""
        return {
            "DTYPE": DTYPE_CODE[self.dtype],
            "HEAD_DIM": self.head_dim,
            "WIDTH": self.width,
            "BLOCK_Q": self.block_q,
            "BLOCK_K": self.block_k,
            "WARP_ROWS": self.warp_rows,
            "KEY_WARPS": self.key_warps,
            "CHUNK": self.chunk,
            "DECODE": int(self.decode),
            "CAUSAL": int(causal),
        }


LARGE_TILES_FROM = 128 * 1024
"""Shared memory that a block may have where two of large tiles fit a multiprocessor: on 8.0, 8.7, 9.0 and 10.x."""

WIDE_WARPS_FROM = 96 * 1024
"""The same where a warp has 32 rows of up to 128 elements: from 8.0 on. On 7.5 its smaller products need too many registers."""


def softmax_tiling(title: str, head_dim: int, dtype: Dtype, shared_bytes: int, decode_rows: int = 0) -> SoftmaxTiling:
    """Tiles so that two blocks share a multiprocessor of any card since 8.0 and one runs on 7.5; fp32 as `tiling` has them.

    `shared_bytes`: what a block may have on this card. `decode_rows`: rows that share a key head when queries are few, else 0.

    Raises:
        Unsupported: as `tiling`.
    """
    base = tiling(title, head_dim, dtype)
    width, decode = base.width, decode_rows > 0
    rows = next((rows for rows in (16, 32, 64) if 0 < decode_rows <= rows), 0)
    if dtype == "fp32":
        block_q = min(max(rows, 32) if rows else 64, base.block_q)
        return SoftmaxTiling(dtype, head_dim, width, block_q, base.block_k, 16, 1, base.block_k, decode)
    wide = width <= (128 if shared_bytes >= WIDE_WARPS_FROM else 64)
    warp_rows = 32 if wide and rows != 16 else 16
    block_k, chunk = (64, 64) if width <= 64 else (32, 16) if width <= 128 else (16, 16)
    if rows:
        key_warps, chunk = min(2, block_k // 16), min(32, block_k // 2 if block_k > 16 else 16)
        return SoftmaxTiling(dtype, head_dim, width, rows, block_k, warp_rows, key_warps, chunk, decode)
    if shared_bytes >= LARGE_TILES_FROM:
        block_k *= 2  # half the barriers
    return SoftmaxTiling(dtype, head_dim, width, 4 * warp_rows, block_k, warp_rows, 1, chunk, decode)


MOST_DECODE_QUERIES = 16
"""Queries of a call up to which the heads of a key head share a block, so that each key is read once."""

LEAST_SPLIT_TILES = 8
"""A block does not get fewer tiles of keys than this for the sake of splitting: each starts and ends with a wait for memory."""


def splits_of(blocks: int, tiles: int, multiprocessors: int) -> int:
    """Into how many parts the keys of each of `blocks` blocks are cut: enough to keep four blocks on every multiprocessor.

    1 when the blocks are enough, or the tiles too few.
    """
    return max(1, min(4 * multiprocessors // blocks, tiles // LEAST_SPLIT_TILES))


def parameters(extra: tuple[Any, ...]) -> tuple[Any, ...]:
    """A kernel's own parameters with the widths that it declares: an int is an `int`, an array of the device a pointer."""
    return tuple(np.int32(value) if isinstance(value, int) else value for value in extra)


def attend_in_tiles(
    device: Any,
    stem: str,
    title: str,
    tensors: tuple[Any, Any, Any, Any],
    workload: Workload,
    extra: tuple[Any, ...] = (),
    most_seen: int | None = None,
    apart: int = 0,
    block_size: int = 0,
    constants: Mapping[str, int] = MappingProxyType({}),
) -> Any:
    """Launches a kernel built on `softmax_tiles.cuh`, or on `softmax_hopper.cuh` where that runs.

    `extra` are the kernel's own parameters after the shape: ints, and arrays of the device. `constants`: its own, beside those of
    the tiles.

    `most_seen`: keys that a query sees at most, all of them unless said. `apart`: rows of a `MAPPED` kernel in blocks of
    their own, behind those of all queries. `block_size`: of a `LISTED` kernel, 128.

    Tensors are q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q. Returns the log-sum-exp `(B, H, N)` fp32, which it allocates.
    When N ≤ 16 and M is long, so that few blocks would share the card, it allocates `splits`·B·H·N·(D + 1) fp32 too: what each
    split of the keys found, which a second kernel merges. (A measured call has N = M and never needs it.)
    """
    q, k, v, out = tensors
    batch, heads, queries, head_dim = q.shape
    kv_heads, keys = k.shape[1:3]
    group = heads // kv_heads
    decode = queries <= MOST_DECODE_QUERIES and not apart
    tiles = softmax_tiling(title, head_dim, workload.dtype, device.shared_bytes, queries * group if decode else 0)
    if not (decode or device.portable) and hopper.fits(device.capability, workload.dtype, queries, batch * heads):
        reach = keys if most_seen is None else most_seen
        return hopper.attend(device, stem, tensors, workload, extra, reach, apart, block_size, constants)
    defines = {**tiles.defines(workload.causal), **constants}
    row_blocks = blocks(queries * group if decode else queries, tiles.block_q) + blocks(apart, tiles.block_q)
    columns = kv_heads if decode else heads
    seen = blocks(min(keys, most_seen if most_seen is not None else keys), tiles.block_k)
    splits = splits_of(row_blocks * columns * batch, seen, device.multiprocessors) if decode else 1
    lse = device.empty((batch, heads, queries), "float32")
    rows = batch * heads * queries
    parts = device.empty((splits * rows * (head_dim + 1),), "float32") if splits > 1 else lse
    shape = [np.int32(size) for size in (queries, keys, group, splits)]
    arguments = (q, k, v, out, lse, parts, *shape, np.float32(LOG2_E * head_dim**-0.5), *parameters(extra))
    kernel = device.kernel(stem, stem, defines)
    kernel((row_blocks * splits, columns, batch), tiles.threads, arguments, tiles.shared_bytes)
    if splits > 1:
        merge = device.kernel(stem, "merge_splits", defines)
        merge((blocks(rows, 4), 1, 1), 128, (parts, out, lse, np.int64(rows), np.int32(splits)))
    return lse

"""Tensor maps: how Hopper's copy engine is told where a tensor lies and how its tiles are cut. The driver encodes them."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine.cuda.hopper import PANEL_COLUMNS
from attnscope_engine.devices import DeviceFault
from attnscope_engine.protocol import Dtype

BYTES = 128
"""Of a map, and its alignment."""

TENSOR_MAP = np.dtype(f"V{BYTES}")
"""A map as a numpy type: an array of one is passed to a kernel by value."""

DATA_TYPES: dict[Dtype, int] = {"fp16": 6, "bf16": 9}
"""CU_TENSOR_MAP_DATA_TYPE_FLOAT16 and _BFLOAT16."""

SWIZZLE_128B, L2_PROMOTION_128B = 3, 2


@functools.cache
def _encoder() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1").cuTensorMapEncodeTiled


def encode(pointer: int, shape: tuple[int, int, int], box_rows: int, dtype: Dtype) -> NDArray[np.void]:
    """The map of a contiguous tensor of 16-bit floats, cut into boxes of `box_rows` × 64; what lies outside reads as zeros.

    Args:
        pointer: of the device, aligned to 16 bytes.
        shape: matrices, rows, columns; columns a multiple of 8.
        box_rows: at most 256.
        dtype: fp16 or bf16.

    Raises:
        DeviceFault: the driver refuses.
    """
    matrices, rows, columns = shape
    bytes_ = np.zeros(2 * BYTES, np.uint8)
    start = -bytes_.ctypes.data % BYTES
    tensor_map = bytes_[start : start + BYTES].view(TENSOR_MAP)
    code = _encoder()(
        ctypes.c_void_p(tensor_map.ctypes.data),
        DATA_TYPES[dtype],
        3,
        ctypes.c_void_p(pointer),
        (ctypes.c_uint64 * 3)(columns, rows, matrices),
        (ctypes.c_uint64 * 2)(2 * columns, 2 * columns * rows),
        (ctypes.c_uint32 * 3)(PANEL_COLUMNS, box_rows, 1),
        (ctypes.c_uint32 * 3)(1, 1, 1),
        0,  # not interleaved
        SWIZZLE_128B,
        L2_PROMOTION_128B,
        0,  # outside: zeros
    )
    if code:
        raise DeviceFault(f"the driver can not describe a tensor of {shape} in boxes of {box_rows} rows", code=int(code))
    return tensor_map

"""Rows in another order, so that what a query sees lies side by side: see `row_order.cuh`. Imports no CuPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda
from attnscope_engine.protocol import ITEM_BYTES, Dtype

MOVED_ROWS = 64
"""Rows that a block of threads moves, as there."""

MARGIN = 256
"""Rows past the last whose bounds a kernel may ask for: a block of rows may begin at the last."""


def reordered(device: Any, stem: str, x: Any, order: Any, dtype: Dtype) -> Any:
    """Rows `order` `(R,)` int32 of x `(B, H, N, D)` → `(B, H, R, D)`, by the kernel `reorder` of `<stem>.cu`."""
    batch, heads, rows, head_dim = x.shape
    count = order.shape[0]
    ordered = device.empty((batch, heads, count, head_dim), cuda.STORED[dtype])
    parts = head_dim * ITEM_BYTES[dtype] // 16
    kernel = device.kernel(stem, "reorder", {"REORDER": 1})
    arguments = (x, ordered, order, np.int32(rows), np.int32(count), np.int32(parts))
    kernel((cuda.blocks(count, MOVED_ROWS), heads, batch), 256, arguments)
    return ordered


def bounds_table(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.int32]:
    """`(rows + MARGIN, 2)`: of each row the first key, and the first behind the last, that it sees; read-only."""
    table = np.pad(np.stack([low, high], axis=1), ((0, MARGIN), (0, 0)), mode="edge").astype(np.int32)
    table.flags.writeable = False
    return table


def order_table(order: NDArray[Any]) -> NDArray[np.int32]:
    """The same numbers as int32, read-only."""
    table: NDArray[np.int32] = order.astype(np.int32)
    table.flags.writeable = False
    return table

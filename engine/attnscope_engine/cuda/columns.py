"""Columns moved from one array of the device to another, and rotated by position: see `columns.cuh`. Imports no CuPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.protocol import ITEM_BYTES, Dtype


@dataclass(frozen=True, slots=True)
class Place:
    """Columns of an array of the device from one on; how far it is to the same column elsewhere, in elements."""

    array: Any
    first: int
    batch: int
    head: int
    row: int

    @classmethod
    def of(cls, x: Any, column: int = 0) -> Place:
        """Of x `(B, H, N, C)`; what has one head is that of all."""
        heads, rows, columns = x.shape[1:]
        return cls(x, column, heads * rows * columns, 0 if heads == 1 else rows * columns, columns)

    def words(self, item: int) -> tuple[Any, ...]:
        """As the kernels take it."""
        return (self.array, *(np.int64(count * item // 4) for count in (self.first, self.batch, self.head, self.row)))


@dataclass(frozen=True, slots=True)
class Mover:
    """The kernels of `columns.cuh`, which `<stem>.cu` includes. Shapes are sequences, heads, rows."""

    device: Any
    stem: str
    dtype: Dtype

    def _launch(self, entry: str, shape: tuple[int, int, int], units: int, arguments: tuple[Any, ...]) -> None:
        batch, heads, rows = shape
        kernel = self.device.kernel(self.stem, entry, {"DTYPE": cuda.DTYPE_CODE[self.dtype]})
        kernel((cuda.blocks(rows * units, 256), heads, batch), 256, (*arguments, np.int32(rows), np.int32(units)))

    def copy(self, to: Place, source: Place | None, shape: tuple[int, int, int], columns: int) -> None:
        """`columns` columns; of no source zeros."""
        item = ITEM_BYTES[self.dtype]
        there = np.int32(source is not None)
        arguments = (*to.words(item), *(source or to).words(item), there)
        self._launch("copy_columns", shape, columns * item // 4, arguments)

    def rotate(
        self, x: Place, tables: tuple[Any, Any], position: int, shape: tuple[int, int, int], rope: int, factor: float
    ) -> None:
        """`rope` columns in place, of rows from `position` on, times `factor`."""
        arguments = (*x.words(ITEM_BYTES[self.dtype]), *tables, np.float32(factor), np.int32(position))
        self._launch("rotate", shape, rope // 2, arguments)

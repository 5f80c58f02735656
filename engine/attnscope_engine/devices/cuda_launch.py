"""A compiled kernel, and the only way to start one.

Arguments are arrays, tensor maps and numpy scalars of the widths that CUDA C++ declares. A Python number has no width, and CuPy
would pass a float as a double into a float parameter: the packer refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnscope_engine.cuda.linear import HEAD_VALUES
from attnscope_engine.devices.cuda_tensor_map import TENSOR_MAP
from attnscope_engine.variant import Unsupported

FREE_SHARED_BYTES = 48 * 1024
"""Dynamic shared memory that a kernel gets without asking."""

MAX_DYNAMIC_SHARED_SIZE = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES."""

SCALARS = (np.int32, np.int64, np.float32)


def is_tensor_map(value: Any) -> bool:
    """Whether this is one map of `cuda_tensor_map.py`, passed by value: CuPy copies the bytes of an array of one element."""
    return isinstance(value, np.ndarray) and value.dtype == TENSOR_MAP and value.shape == (1,)


def is_by_value(value: Any) -> bool:
    """Whether this is a tensor map, or numbers of all heads (`cuda.linear.by_value`), passed in the same way."""
    return is_tensor_map(value) or (isinstance(value, np.ndarray) and value.dtype == HEAD_VALUES and value.shape == (1,))


def packed(arguments: Sequence[Any], array_type: type) -> tuple[Any, ...]:
    """The arguments, checked.

    Raises:
        TypeError: one is neither an array of the device, nor passed by value, nor a numpy scalar of a known width; names where.
    """
    for place, value in enumerate(arguments):
        if not isinstance(value, (array_type, *SCALARS)) and not is_by_value(value):
            allowed = ", ".join(scalar.__name__ for scalar in SCALARS)
            raise TypeError(
                f"kernel argument {place} is {type(value).__name__}, must be an array of the device or one of {allowed}"
            )
    return tuple(arguments)


class Kernel:
    """One entry of a loaded cubin."""

    def __init__(self, function: Any, set_attribute: Any, array_type: type, most_shared_bytes: int) -> None:
        self._function = function
        self._set_attribute = set_attribute
        self._array_type = array_type
        self._most_shared_bytes = most_shared_bytes
        self._shared_bytes = FREE_SHARED_BYTES

    def __call__(self, grid: tuple[int, int, int], threads: int, arguments: Sequence[Any], shared_bytes: int = 0) -> None:
        """Starts it on the current stream.

        Raises:
            Unsupported: the card has less shared memory a block.
            TypeError: an argument has no CUDA width.
        """
        if shared_bytes > self._shared_bytes:
            if shared_bytes > self._most_shared_bytes:
                raise Unsupported(
                    f"this GPU has {self._most_shared_bytes:,} bytes of shared memory a block, {shared_bytes:,} are needed"
                )
            self._set_attribute(self._function.ptr, MAX_DYNAMIC_SHARED_SIZE, shared_bytes)
            self._shared_bytes = shared_bytes
        self._function(grid, (threads, 1, 1), packed(arguments, self._array_type), shared_bytes)

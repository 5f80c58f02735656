"""Products of matrices by cuBLAS, called directly, as `nvrtc.py` calls the compiler.

CuPy finds and loads the library. Its own wrapper names the stream before every call, and that takes a handle's workspace away
(cuBLAS documentation, `cublasSetStream`): each captured graph would then hold memory that nobody counts. Here the workspace is
one buffer of the device, taken once, outside of CuPy's pool: like the kernels' code it belongs to no call, no call allocates
anything for its products, and the same call gives the same bits.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnscope_engine.addons.folder import MANIFEST
from attnscope_engine.addons.using import CUPY, cupy_package
from attnscope_engine.devices import DeviceFault
from attnscope_engine.protocol import Dtype
from attnscope_engine.variant import Unsupported

WORKSPACE_BYTES = {True: 32 << 20, False: 4 << 20}
"""What NVIDIA recommends for Hopper and newer, and for older cards (cuBLAS documentation, `cublasSetWorkspace`)."""

FULL_FP32_SUMS = 16
"""CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION. fp32 operands are multiplied as fp32, without TF32."""

COMPUTE_FP32 = 68
"""CUBLAS_COMPUTE_32F: fp32 accumulation for every dtype."""

TYPES: dict[Dtype, int] = {"fp32": 0, "fp16": 2, "bf16": 14}
"""CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF."""

AS_IS, TRANSPOSED = 0, 1
DEFAULT_ALGORITHM = -1
NO_MEMORY = 3
MOST_MATRICES = 65535
"""Of one call: more are grid blocks that some cards do not have."""


@dataclass(frozen=True, slots=True)
class Matrices:
    """Row-major matrices, one behind the other, in elements."""

    count: int
    rows: int
    columns: int
    row_stride: int
    stride: int

    @classmethod
    def of(cls, array: Any) -> Matrices:
        """Of an array or view `(P, R, C)`. Raises: ValueError when neighbours in a row are not neighbours in memory."""
        count, rows, columns = array.shape
        item = array.dtype.itemsize
        far, row, near = (stride // item for stride in array.strides)
        if near != 1 and columns > 1:
            raise ValueError(f"elements of a row must be neighbours in memory, are {near} apart")
        return cls(count, rows, columns, max(row, columns), far)


def check(left: Matrices, right: Matrices, out: Matrices, transposed: bool) -> None:
    """Raises: ValueError when out (P, R, C) is no product of left (P, R, K) and right (P, K, C), or (P, C, K) transposed."""
    inner, columns = (right.columns, right.rows) if transposed else (right.rows, right.columns)
    if (left.columns, left.rows, columns) != (inner, out.rows, out.columns) or {left.count, right.count} != {out.count}:
        raise ValueError(f"no product of matrices: {left}, {right}, {out}, {transposed=}")


def addon_libraries(*stems: str) -> tuple[str, ...]:
    """Of the cuBLAS add-on on the path that belongs to this CuPy, these libraries in their order; none without one."""
    name = CUPY.get(cupy_package(sys.path), "").replace("gpu", "cublas")
    major = name.removeprefix("cublas")
    for entry in sys.path:
        if not name or Path(entry).name != name or not (Path(entry) / MANIFEST).is_file():
            continue
        for folder in (f"cu{major}/lib", f"cu{major}/bin/x86_64", "cublas/lib", "cublas/bin"):
            files = [Path(entry) / "nvidia" / folder / library_name(stem, int(major)) for stem in stems]
            if all(file.is_file() for file in files):
                return tuple(map(str, files))
    return ()


def library_name(stem: str, major: int) -> str:
    return f"{stem}64_{major}.dll" if sys.platform == "win32" else f"lib{stem}.so.{major}"


def load() -> Any:
    """CuPy's own wrapper, which loads what a wheel, an add-on or the toolkit has. Raises: ImportError."""
    for library in addon_libraries("cublasLt", "cublas"):
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)  # CuPy takes a library that is loaded, and looks into no add-on
    from cupy_backends.cuda import libs

    return libs.cublas


@functools.cache
def _library(major: int) -> ctypes.CDLL:
    """The library that CuPy loads. Raises: Unsupported when there is none."""
    try:
        load()
    except ImportError as error:
        package = "nvidia-cublas" if major >= 13 else f"nvidia-cublas-cu{major}"
        raise Unsupported(f"cuBLAS, which multiplies here, is not installed: pip install {package}, or use the CPU") from error
    library = ctypes.CDLL(library_name("cublas", major))
    library.cublasGetStatusString.restype = ctypes.c_char_p
    library.cublasGemmStridedBatchedEx.argtypes = [
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p),
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_longlong) * 2,
        ctypes.c_void_p,
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_longlong),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ]
    return library


class Cublas:
    """One handle with its workspace, for one device and thread.

    Raises, when made: Unsupported (not installed), DeviceFault.
    """

    def __init__(self, cupy: Any, capability: tuple[int, int]) -> None:
        self._cupy = cupy
        self._library = _library(int(cupy.cuda.runtime.runtimeGetVersion()) // 1000)
        self._handle = ctypes.c_void_p()
        self._do("cublasCreate_v2", ctypes.byref(self._handle))
        self._do("cublasSetMathMode", self._handle, FULL_FP32_SUMS)
        self._workspace_bytes = WORKSPACE_BYTES[capability >= (9, 0)]
        self._workspace = cupy.cuda.Memory(self._workspace_bytes)  # straight from the driver: no pool, no hook of the pool

    @property
    def version(self) -> str:
        """Such as `13.1.0`."""
        parts = []
        for part in range(3):  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
            value = ctypes.c_int()
            self._do("cublasGetProperty", part, ctypes.byref(value))
            parts.append(str(value.value))
        return ".".join(parts)

    def multiply(self, left: Any, right: Any, out: Any, dtype: Dtype, scale: float, transposed: bool) -> None:
        """Scale · left · right into `out`, on CuPy's current stream.

        Args:
            left: `(P, R, K)`; as all three an array or a view whose rows are contiguous, float32 or the bits of `dtype`.
            right: `(P, K, C)`, or `(P, C, K)` when `transposed`.
            out: `(P, R, C)`. What it held before is not read.
            dtype: what 16-bit arrays hold.
            scale: a factor on the fp32 sums, before they are rounded.
            transposed: whether `right` is.

        Raises:
            ValueError: the shapes are of no product, or a row is not contiguous.
            DeviceFault: cuBLAS could not.
        """
        a, b, c = (Matrices.of(array) for array in (left, right, out))
        check(a, b, c, transposed)
        stream = self._cupy.cuda.get_current_stream().ptr
        self._do("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
        workspace = ctypes.c_void_p(self._workspace.ptr)
        self._do("cublasSetWorkspace_v2", self._handle, workspace, ctypes.c_size_t(self._workspace_bytes))
        factor, nothing = ctypes.c_float(scale), ctypes.c_float(0)

        def operand(array: Any, matrices: Matrices, first: int) -> tuple[int, int, int, int]:
            kind = TYPES["fp32" if array.dtype == np.float32 else dtype]
            pointer = array.data.ptr + first * matrices.stride * array.dtype.itemsize
            return pointer, kind, matrices.row_stride, matrices.stride

        for first in range(0, c.count, MOST_MATRICES):
            # cuBLAS stores by columns: to it each array is its own transpose, and outᵀ = rightᵀ · leftᵀ.
            self._do(
                "cublasGemmStridedBatchedEx",
                self._handle,
                *(TRANSPOSED if transposed else AS_IS, AS_IS),
                *(c.columns, c.rows, a.columns),
                ctypes.byref(factor),
                *operand(right, b, first),
                *operand(left, a, first),
                ctypes.byref(nothing),
                *operand(out, c, first),
                *(min(MOST_MATRICES, c.count - first), COMPUTE_FP32, DEFAULT_ALGORITHM),
            )

    def _do(self, name: str, *arguments: Any) -> None:
        status = int(getattr(self._library, name)(*arguments))
        if status:
            text = self._library.cublasGetStatusString(status).decode()
            raise DeviceFault(f"cuBLAS: {name} answers {text}", code=status, kind="memory" if status == NO_MEMORY else "device")

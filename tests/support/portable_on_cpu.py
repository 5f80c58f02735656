"""Kernels of the engine compiled by g++ and run on the processor: see `emulator_portable/ptx.cuh`."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attnscope_engine.devices import cubins
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.devices.cuda_launch import is_by_value
from attnscope_engine.protocol import Dtype

STAND_IN = Path(__file__).parent / "emulator_portable" / "ptx.cuh"
COMPILER = shutil.which("g++")

C_TYPES = {np.int32: ("int", ctypes.c_int), np.int64: ("i64", ctypes.c_longlong), np.float32: ("float", ctypes.c_float)}


def text_of(name: str) -> str:
    """The kernel's own text, with the stand-in where instructions of a GPU would be."""
    return STAND_IN.read_text(encoding="utf-8") if name == STAND_IN.name else cubins.file_text(name)


@functools.cache
def library(stem: str, entry: str, signature: tuple[str, ...], defines: tuple[str, ...]) -> ctypes.CDLL:
    """Compiled kernel with a function `start(blocks…, threads, seed, arguments…)`."""
    parameters = "".join(f", {kind} a{place}" for place, kind in enumerate(signature))
    forms = {"void*": "Any{{a{}}}", "Decays*": "*a{}"}
    names = ", ".join(forms.get(kind, "a{}").format(place) for place, kind in enumerate(signature))
    start = f"""
struct Any {{ void* pointer; template <class T> operator T*() const {{ return (T*)pointer; }} }};
extern "C" void start(u32 x, u32 y, u32 z, int threads, u32 seed{parameters}) {{
  gridDim = {{x, y, z}};
  kernel_call = [=] {{ {entry}({names}); }};
  for (u32 i = 0; i < x * y * z; ++i) {{
    blockIdx = {{i % x, i / x % y, i / (x * y)}};
    run_block(threads, seed + i);
  }}
}}
"""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"{stem}.cpp", Path(folder) / f"{stem}.so"
        source.write_text(cubins.source_of(stem, text_of) + start, encoding="utf-8")
        command = [
            str(COMPILER),
            "-std=c++17",
            "-O1",
            "-fno-strict-aliasing",
            "-w",
            "-fPIC",
            "-shared",
            *defines,
            str(source),
            "-o",
            str(target),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:4000]
        return ctypes.CDLL(str(target))


def kind_of(argument: Any) -> str:
    """How C++ is handed an argument; what a kernel gets by value, through a pointer."""
    if is_by_value(argument):
        return "Decays*"
    return "void*" if isinstance(argument, np.ndarray) else C_TYPES[type(argument)][0]


class EmulatedDevice:
    """What `Variant.launch` asks of a GPU, on arrays of numpy; counts its launches."""

    multiprocessors = 3
    portable = True

    def __init__(self, shared_bytes: int) -> None:
        self.shared_bytes = shared_bytes
        self.launches: list[tuple[str, tuple[int, int, int], int, int]] = []
        self.workspaces: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Full of NaN: what is read before it is written shows."""
        array = np.full(shape, np.nan, dtype) if dtype == "float32" else np.full(shape, 0x7FFF, dtype)
        self.workspaces.append(array)
        return array

    def constant(self, values: np.ndarray) -> np.ndarray:
        return values.copy()

    def multiply(
        self, left: np.ndarray, right: np.ndarray, out: np.ndarray, dtype: Dtype, scale: float, transposed: bool
    ) -> None:
        """A library's product on a GPU, which is no kernel of ours: fp32 sums, into fp32 or `dtype`."""
        a, b = from_bits(left, dtype), from_bits(right, dtype)
        product = np.float32(scale) * (a @ (b.swapaxes(1, 2) if transposed else b))
        out[...] = product if out.dtype == np.float32 else to_bits(product, dtype)

    def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any:
        def run(grid: tuple[int, int, int], threads: int, arguments: Sequence[Any], shared_bytes: int = 0) -> None:
            signature = tuple(kind_of(x) for x in arguments)
            code = library(stem, entry, signature, cubins.flags(defines))
            values = [
                x.ctypes.data_as(ctypes.c_void_p) if isinstance(x, np.ndarray) else C_TYPES[type(x)][1](x) for x in arguments
            ]
            self.launches.append((entry, grid, threads, shared_bytes))
            code.start(*(ctypes.c_uint(n) for n in grid), ctypes.c_int(threads), ctypes.c_uint(len(self.launches)), *values)

        return run

"""A Hopper GPU that is a CPU: launches compile the kernels' own text with g++ against a model of the chip, and run it.

The model (`emulator_hopper/`) shows wrong indices, missing barriers and wrong sizes, what goes wrong in such kernels; it knows
neither speed nor registers.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from attnscope_engine.cuda import wgmma
from attnscope_engine.devices import cubins
from attnscope_engine.devices.cuda_launch import is_by_value, is_tensor_map, packed
from attnscope_engine.devices.cuda_tensor_map import TENSOR_MAP
from attnscope_engine.protocol import Dtype
from portable_on_cpu import EmulatedDevice

FOLDER = Path(__file__).parent / "emulator_hopper"
REPLACED = {"ptx.cuh": "threads.h", "hopper.cuh": "hopper.h", wgmma.NAME: None}
"""Instructions are in these files only; `hopper.h` holds the products too."""

COMPILER = shutil.which("g++")

GUARD = 64
"""Elements before and after each output that must stay as they are."""

CALL = """
struct Any {{ const void* pointer; template <class T> operator T*() const {{ return (T*)pointer; }} }};
extern "C" const char* run(const unsigned* grid, int threads, unsigned shared, unsigned seed, const void** values) {{
  gridDim = {{grid[0], grid[1], grid[2]}};
  if (shared > SHARED_BYTES) return "too much shared memory";
  for (unsigned block = 0; block < grid[0] * grid[1] * grid[2]; ++block) {{
    begin_hopper(seed & 1, seed & 2);
    const auto kernel = [&] {{ {entry}({arguments}); }};
    const Index index = {{block % grid[0], block / grid[0] % grid[1], block / (grid[0] * grid[1])}};
    if (!run_block(index, threads, seed + block, kernel, land_some_copies)) return fault_text.c_str();
  }}
  return {fault_at_end};
}}
"""
COUNTERS = 'handed_out[0] || handed_out[1] ? "the counters are not zero after a launch" : ""'
"""Said at the end of a launch of a kernel that hands out work."""


def parameter(value: Any) -> str:
    """How C++ gets an argument from a pointer to it."""
    if is_tensor_map(value):
        return "*(const TensorMap*){}"
    if is_by_value(value):
        return "*(const Decays*){}"
    if isinstance(value, np.ndarray):
        return "Any{{{}}}"
    return "*(const int*){}" if isinstance(value, np.int32) else "*(const float*){}"


class KernelFault(Exception):
    """The model found something wrong."""


def guarded(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """An array full of NaN with guards around it, of which only the array's own part is returned (its `base` holds all)."""
    size = int(np.prod(shape))
    whole = np.full(size + 2 * GUARD, np.nan if dtype == "float32" else 0x7FFF, dtype)
    return whole[GUARD : GUARD + size].reshape(shape)


def guards_are_whole(array: np.ndarray[Any, Any]) -> bool:
    base = array
    while base.base is not None:
        base = base.base
    outside = np.concatenate([base[:GUARD], base[-GUARD:]])
    return bool(np.isnan(outside).all() if outside.dtype == np.float32 else (outside == 0x7FFF).all())


@dataclass
class HopperOnCpu:
    """What `Variant.launch` asks of a device. Few multiprocessors: blocks of threads work on several blocks of queries."""

    builds: Path
    multiprocessors: int = 2
    seed: int = 0
    """Order of the threads; its first bit: copies are late, its second: products are early."""
    planted: tuple[str, str] | None = None
    """A bug: what to write for which text of the kernel."""
    capability: tuple[int, int] = (9, 0)
    shared_bytes: int = 227 * 1024
    portable: bool = False
    workspaces: list[np.ndarray[Any, Any]] = field(default_factory=list)

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
        self.workspaces.append(guarded(shape, dtype))
        return self.workspaces[-1]

    def constant(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return values.copy()

    def tensor_map(self, array: np.ndarray[Any, Any], box_rows: int, dtype: Dtype) -> np.ndarray[Any, Any]:
        batch, heads, rows, columns = array.shape
        assert array.flags.c_contiguous
        assert columns % 8 == 0
        assert 0 < box_rows <= 256
        words = np.zeros(16 + 8, np.uint64)
        start = -words.ctypes.data % 64 // 8
        words = words[start : start + 16]
        words[:5] = [array.ctypes.data, columns, rows, batch * heads, box_rows]
        return words.view(TENSOR_MAP)

    def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any:
        if "HOPPER" not in defines:  # one that runs on every card
            return EmulatedDevice(self.shared_bytes).kernel(stem, entry, defines)

        def start(grid: tuple[int, int, int], threads: int, arguments: Sequence[Any], shared_bytes: int = 0) -> None:
            arguments = packed(arguments, np.ndarray)
            library = self._built(stem, entry, defines, tuple(map(parameter, arguments)))
            kept = [value if isinstance(value, np.ndarray) else np.array([value]) for value in arguments]
            values = (ctypes.c_void_p * len(kept))(*(value.ctypes.data for value in kept))
            said = library.run((ctypes.c_uint * 3)(*grid), threads, shared_bytes, self.seed, values).decode()
            if said:
                raise KernelFault(said)

        return start

    def _built(self, stem: str, entry: str, defines: dict[str, int], parameters: tuple[str, ...]) -> Any:
        def read(name: str) -> str:
            if name not in REPLACED:
                return cubins.file_text(name)
            own = REPLACED[name]
            return (FOLDER / own).read_text() if own else '#include "hopper.cuh"\n'

        arguments = ", ".join(form.format(f"values[{place}]") for place, form in enumerate(parameters))
        text = cubins.source_of(stem, read)
        if self.planted:
            assert self.planted[0] in text
            text = text.replace(*self.planted)
        fault = COUNTERS if "handed_out" in text else '""'
        text += CALL.format(entry=entry, arguments=arguments, fault_at_end=fault)
        flags = [*cubins.flags(defines), "-O1", "-std=c++17", "-w", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-ffp-contract=off"]
        key = hashlib.sha256("\0".join([text, *flags]).encode()).hexdigest()[:16]
        built = self.builds / f"{key}.so"
        if not built.exists():
            source = self.builds / f"{key}.cpp"
            source.write_text(text)
            assert COMPILER
            done = subprocess.run([COMPILER, *flags, "-o", built, source], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[:4000]
        library = ctypes.CDLL(str(built))
        library.run.restype = ctypes.c_char_p
        return library

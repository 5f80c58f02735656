"""A GPU that only writes down what it is asked for: kernels, launches, workspaces, products."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from attnscope_engine import catalogue, cuda, variants
from attnscope_engine.devices.cuda_launch import packed
from attnscope_engine.devices.cuda_tensor_map import TENSOR_MAP
from attnscope_engine.protocol import Dtype, Workload


@dataclass(frozen=True)
class FakeArray:
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * np.dtype(self.dtype).itemsize

    def reshape(self, *shape: int) -> FakeArray:
        known = int(np.prod([size for size in shape if size >= 0], dtype=object))
        whole = int(np.prod(self.shape, dtype=object))
        assert whole % known == 0
        return FakeArray(tuple(whole // known if size < 0 else size for size in shape), self.dtype)

    def __getitem__(self, places: tuple[Any, ...]) -> FakeArray:
        kept = []
        for size, place in itertools.zip_longest(self.shape, places, fillvalue=slice(None)):
            if isinstance(place, slice):
                assert (place.stop or 0) <= size
                kept.append(len(range(size)[place]))
            else:
                assert 0 <= place < size
        return FakeArray(tuple(kept), self.dtype)


@dataclass
class WritingDevice:
    """Keeps every workspace and every launch; has no memory and runs nothing."""

    capability: tuple[int, int] = (8, 0)
    multiprocessors: int = 132
    shared_bytes: int = 227 * 1024
    portable: bool = False
    workspaces: list[FakeArray] = field(default_factory=list)
    products: list[tuple[int, int, int, int]] = field(default_factory=list)
    launches: list[tuple[str, tuple[int, int, int], int, int]] = field(default_factory=list)
    kernels: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    """(stem, defines) of each that was asked for."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> FakeArray:
        self.workspaces.append(FakeArray(shape, dtype))
        return self.workspaces[-1]

    def constant(self, values: np.ndarray) -> FakeArray:
        assert values.flags.c_contiguous
        return self.empty(values.shape, values.dtype.name)

    def multiply(self, left: Any, right: Any, out: Any, dtype: Dtype, scale: float, transposed: bool) -> None:
        inner, columns = right.shape[:0:-1] if transposed else right.shape[1:]
        assert left.shape == (*out.shape[:2], inner)
        assert (len(right.shape), right.shape[0], columns) == (3, out.shape[0], out.shape[2])
        self.products.append((*out.shape, inner))

    def tensor_map(self, array: FakeArray, box_rows: int, dtype: Dtype) -> Any:
        assert cuda.STORED[dtype] == array.dtype
        assert 0 < box_rows <= 256
        assert array.shape[-1] % cuda.ALIGNMENT == 0
        return np.zeros(1, TENSOR_MAP)

    def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any:
        if (stem, defines) not in self.kernels:
            self.kernels.append((stem, defines))

        def start(grid: tuple[int, int, int], threads: int, arguments: tuple[Any, ...], shared_bytes: int = 0) -> None:
            packed(arguments, FakeArray)
            self.launches.append((entry, grid, threads, shared_bytes))

        return start


def launched(
    name: str,
    workload: Workload,
    capability: tuple[int, int] = (8, 0),
    device: WritingDevice | None = None,
    values: dict[str, Any] | None = None,
) -> tuple[WritingDevice, int]:
    """The device after one launch with these parameters (the defaults unless said), and the bytes of q, k, v and out."""
    w, device, variant = workload, device or WritingDevice(capability), catalogue.find(name)
    queries, keys = (w.batch, w.num_heads, w.seq_len, w.head_dim), (w.batch, w.num_kv_heads, w.seq_len, w.head_dim)
    q, k, v, out = (FakeArray(shape, cuda.STORED[w.dtype]) for shape in (queries, keys, keys, queries))
    variant.launch(device, q, k, v, out, w, variant.resolve(w, variant.parse(values or {})))
    return device, sum(array.nbytes for array in (q, k, v, out))


def with_kernels() -> tuple[str, ...]:
    """Names of the variants that have a kernel's text: one that never runs on a GPU has none."""
    return tuple(name for name in catalogue.variants() if (Path(variants.__file__).parent / f"{name}.cu").exists())

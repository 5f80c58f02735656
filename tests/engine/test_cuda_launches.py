"""What each variant launches and allocates on a GPU, seen by a device that only writes it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from attnscope_engine import catalogue, cuda, numerics
from attnscope_engine.devices.cuda import Scratch, from_bits, to_bits
from attnscope_engine.devices.cuda_launch import packed
from attnscope_engine.protocol import Choice, Dtype, Workload
from attnscope_engine.variant import Unsupported

DTYPES: tuple[Dtype, ...] = ("fp32", "bf16", "fp16")
MOST_THREADS, MOST_BLOCKS_YZ, MOST_BLOCKS_X = 1024, 65535, 2**31 - 1


@dataclass(frozen=True)
class FakeArray:
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * np.dtype(self.dtype).itemsize


@dataclass
class WritingDevice:
    """Keeps every workspace and every launch; has no memory and runs nothing."""

    multiprocessors: int = 132
    shared_bytes: int = 227 * 1024
    workspaces: list[FakeArray] = field(default_factory=list)
    launches: list[tuple[str, tuple[int, int, int], int, int]] = field(default_factory=list)

    def empty(self, shape: tuple[int, ...], dtype: str) -> FakeArray:
        self.workspaces.append(FakeArray(shape, dtype))
        return self.workspaces[-1]

    def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any:
        def start(grid: tuple[int, int, int], threads: int, arguments: tuple[Any, ...], shared_bytes: int = 0) -> None:
            packed(arguments, FakeArray)
            self.launches.append((entry, grid, threads, shared_bytes))

        return start


def launched(name: str, workload: Workload) -> tuple[WritingDevice, int]:
    """The device after one launch, and the bytes of q, k, v and out."""
    w, device, variant = workload, WritingDevice(), catalogue.find(name)
    queries, keys = (w.batch, w.num_heads, w.seq_len, w.head_dim), (w.batch, w.num_kv_heads, w.seq_len, w.head_dim)
    q, k, v, out = (FakeArray(shape, cuda.STORED[w.dtype]) for shape in (queries, keys, keys, queries))
    variant.launch(device, q, k, v, out, w, variant.resolve(w, variant.parse({})))
    return device, sum(array.nbytes for array in (q, k, v, out))


@pytest.mark.parametrize("n", [64, 113, 1000, 4096, 46341, 1 << 20])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", catalogue.variants())
def test_that_a_launch_allocates_what_the_cost_predicts(name: str, dtype: Dtype, n: int) -> None:
    for heads, kv_heads, head_dim, causal in ((9, 3, 64, True), (4, 1, 128, False), (2, 2, 80, True)):
        workload = Workload(
            batch=2, seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, causal=causal
        )
        device, inputs = launched(name, workload)
        held = catalogue.cost_of(Choice(name), workload, "cuda").held_bytes
        assert inputs + sum(array.nbytes for array in device.workspaces) == held


@pytest.mark.parametrize("name", catalogue.variants())
def test_that_no_launch_is_beyond_what_cuda_allows(name: str) -> None:
    largest = Workload(batch=1024, seq_len=1 << 20, num_heads=256, num_kv_heads=256, head_dim=128, dtype="fp32")
    for workload in (largest, msgspec.structs.replace(largest, seq_len=1, dtype="bf16")):
        for _, (x, y, z), threads, shared_bytes in launched(name, workload)[0].launches:
            assert 1 <= x <= MOST_BLOCKS_X
            assert max(y, z) <= MOST_BLOCKS_YZ
            assert threads <= MOST_THREADS
            assert shared_bytes <= 64 * 1024


@pytest.mark.parametrize(
    ("name", "head_dim", "says"),
    [
        ("softmax_tiled", 320, "Flash runs on a GPU up to head dim 256, not 320: set head dim 256, or use the CPU"),
        ("linear", 192, "Linear runs on a GPU up to head dim 128, not 192: set head dim 128, or use the CPU"),
        ("chunked", 20, "Chunked on a GPU needs a head dim that is a multiple of 8, not 20: set 16, or use the CPU"),
    ],
)
def test_that_a_head_dim_without_a_kernel_names_the_nearest_with_one(name: str, head_dim: int, says: str) -> None:
    with pytest.raises(Unsupported) as caught:
        launched(name, Workload(num_heads=1, num_kv_heads=1, head_dim=head_dim))
    assert str(caught.value) == says


@pytest.mark.parametrize("dtype", DTYPES)
def test_that_numbers_come_back_from_their_bits_rounded_to_nearest(dtype: Dtype) -> None:
    x = np.concatenate([np.random.default_rng(0).standard_normal(10_000) * 100, [0, -0.0, np.inf, -np.inf, 1e-30]]).astype(
        np.float32
    )
    assert np.array_equal(from_bits(to_bits(x, dtype), dtype), numerics.rounded(x, dtype))
    assert np.isnan(from_bits(to_bits(np.full(1, np.nan, np.float32), dtype), dtype)).all()


def test_that_a_call_again_gets_the_same_workspaces() -> None:
    scratch, made = Scratch(), WritingDevice()
    first = [scratch.take((2, 3), "float32", made.empty), scratch.take((4,), "float32", made.empty)]
    scratch.restart()
    assert scratch.take((2, 3), "float32", made.empty) is first[0]
    assert scratch.take((5,), "float32", made.empty) is not first[1]
    assert len(made.workspaces) == 3

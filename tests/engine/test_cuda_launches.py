"""What each variant launches and allocates on a GPU, seen by a device that only writes it down."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from attnscope_engine import catalogue, numerics
from attnscope_engine.cuda import linear
from attnscope_engine.devices.cuda import Scratch, from_bits, to_bits
from attnscope_engine.devices.cuda_products import Matrices, check
from attnscope_engine.protocol import Choice, Dtype, Workload
from attnscope_engine.variant import Unsupported
from attnscope_engine.variants import softmax_naive
from writing_device import FakeArray, WritingDevice, launched, with_kernels

DTYPES: tuple[Dtype, ...] = ("fp32", "bf16", "fp16")
MOST_THREADS, MOST_BLOCKS_YZ, MOST_BLOCKS_X = 1024, 65535, 2**31 - 1


@pytest.mark.parametrize("n", [64, 113, 1000, 4096, 46341, 1 << 20])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("name", with_kernels())
def test_that_a_launch_allocates_what_the_cost_predicts(name: str, capability: tuple[int, int], dtype: Dtype, n: int) -> None:
    for heads, kv_heads, head_dim, causal in ((9, 3, 64, True), (4, 1, 128, False), (2, 2, 80, True)):
        workload = Workload(
            batch=2, seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, causal=causal
        )
        device, inputs = launched(name, workload, capability)
        held = catalogue.cost_of(Choice(name), workload, "cuda").held_bytes
        assert inputs + sum(array.nbytes for array in device.workspaces) == held


@pytest.mark.parametrize(("capability", "most_shared"), [((8, 0), 64 * 1024), ((9, 0), 227 * 1024)])
@pytest.mark.parametrize("name", with_kernels())
def test_that_no_launch_is_beyond_what_cuda_allows(name: str, capability: tuple[int, int], most_shared: int) -> None:
    largest = Workload(batch=1024, seq_len=1 << 20, num_heads=256, num_kv_heads=256, head_dim=128, dtype="fp32")
    for changes in ({}, {"dtype": "bf16"}, {"seq_len": 1, "dtype": "bf16"}, {"batch": 1, "dtype": "fp16"}):
        workload = msgspec.structs.replace(largest, **changes)
        device, _ = launched(name, workload, device=WritingDevice(capability, shared_bytes=most_shared))
        for _, (x, y, z), threads, shared_bytes in device.launches:
            assert 1 <= x <= MOST_BLOCKS_X
            assert max(y, z) <= MOST_BLOCKS_YZ
            assert threads <= MOST_THREADS
            assert shared_bytes <= most_shared


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


@pytest.mark.parametrize(("n", "causal"), [(64, True), (1000, True), (8192, True), (8192, False), (46341, True)])
def test_that_naive_multiplies_what_is_seen_and_at_most_a_strip_more(n: int, causal: bool) -> None:
    workload = Workload(batch=2, seq_len=n, num_heads=6, num_kv_heads=2, head_dim=64, causal=causal)
    device, _ = launched("softmax_naive", workload)
    cost = catalogue.cost_of(Choice("softmax_naive"), workload, "cuda")
    done = sum(2 * count * rows * columns * inner for count, rows, columns, inner in device.products)
    rows = softmax_naive.strips(n, n, causal)[0][1]
    assert cost.flops <= done <= cost.flops * (1 + (rows / n if causal else 0))
    assert len(device.products) == sum(step.launches for step in cost.steps if step.flops)
    assert len(device.launches) == 1


@pytest.mark.parametrize(("n", "m"), [(1, 1), (513, 513), (2000, 2000), (9000, 9000), (3, 700), (700, 3), (1, 300)])
@pytest.mark.parametrize("causal", [True, False])
def test_that_strips_hold_every_query_once_and_all_keys_that_it_sees(n: int, m: int, causal: bool) -> None:
    cut = softmax_naive.strips(n, m, causal)
    assert len(cut) <= softmax_naive.MOST_STRIPS
    assert [row for first, end, _ in cut for row in range(first, end)] == list(range(n))
    assert all(reach == (max(1, min(end + m - n, m)) if causal else m) for _, end, reach in cut)


class RunningDevice(WritingDevice):
    """Carries the three steps of Naive out in numpy, with the softmax that its kernel promises, in memory full of NaN."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return np.full(shape, np.nan, "float32")

    def multiply(self, left: Any, right: Any, out: Any, dtype: Dtype, scale: float, transposed: bool) -> None:
        assert np.shares_memory(out, out.base)
        out[...] = scale * (left @ (right.swapaxes(1, 2) if transposed else right))

    def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any:
        def start(grid: tuple[int, int, int], threads: int, arguments: tuple[Any, ...]) -> None:
            scores, weights, queries, keys, stride, strip = arguments
            assert grid == scores.shape[2::-1]
            assert stride == scores.shape[3]
            for row in range(queries):
                last = min(row // strip * strip + strip, queries) - 1
                seen = max(0, min(row + keys - queries + 1, keys)) if defines["CAUSAL"] else keys
                end = max(1, min(last + keys - queries + 1, keys)) if defines["CAUSAL"] else keys
                weights[:, :, row, :end] = 0
                weights[:, :, row, :seen] = numerics.softmax_rows(scores[:, :, row, :seen], np.array(True))

        return start


@pytest.mark.parametrize(("n", "m"), [(1, 1), (600, 600), (1030, 1030), (5, 700), (700, 5), (1, 300)])
@pytest.mark.parametrize("heads", [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize("causal", [True, False])
def test_that_the_three_steps_of_naive_are_attention(n: int, m: int, heads: tuple[int, int], causal: bool) -> None:
    """Strips, groups of heads and padded rows, with products and softmax by numpy: what is not written or not meant is NaN."""
    rng = np.random.default_rng(n)
    shapes = ((2, heads[0], n, 16), (2, heads[1], m, 16), (2, heads[1], m, 16))
    q, k, v = (rng.standard_normal(shape, np.float32) for shape in shapes)
    variant = catalogue.find("softmax_naive")
    workload = Workload(2, max(n, m), heads[0], heads[1], 16, 1, "fp32", causal)
    out = np.full_like(q, np.nan)
    variant.launch(RunningDevice(), q, k, v, out, workload, variant.params())
    assert np.abs(out - variant.reference(q, k, v, workload, variant.params())).max() < 1e-5


def test_that_the_steps_of_naive_are_those_of_its_cost() -> None:
    workload = Workload(seq_len=64, num_heads=2, num_kv_heads=1, head_dim=32)
    q, k = FakeArray((1, 2, 64, 32), "uint16"), FakeArray((1, 1, 64, 32), "uint16")
    names = [name for name, _ in softmax_naive.steps(WritingDevice(), q, k, k, q, workload)]
    assert names == [step.name for step in catalogue.cost_of(Choice("softmax_naive"), workload, "cuda").steps]


def test_that_matrices_are_described_by_their_strides() -> None:
    scores = np.zeros((2, 3, 100, 104), np.float32)
    strip = scores.reshape(2, 3, 100, 104)[:, 1, 64:100, :90]
    assert Matrices.of(strip) == Matrices(2, 36, 90, 104, 3 * 100 * 104)
    assert Matrices.of(np.zeros((5, 1, 8), np.uint16)).row_stride >= 8
    with pytest.raises(ValueError, match="neighbours"):
        Matrices.of(scores[0].swapaxes(1, 2))


def test_that_what_is_no_product_is_refused() -> None:
    rows, tall, out = (Matrices.of(np.zeros(shape, np.float32)) for shape in ((2, 5, 8), (2, 7, 8), (2, 5, 7)))
    check(rows, tall, out, transposed=True)
    for left, right, into, transposed in ((rows, tall, out, False), (tall, rows, out, True), (rows, tall, rows, True)):
        with pytest.raises(ValueError, match="no product"):
            check(left, right, into, transposed)


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


@pytest.mark.parametrize(
    ("heads", "n", "causal", "entries"),
    [
        (96, 8192, True, ["linear_outputs"]),
        (16, 8192, True, ["linear_states", "linear_scan", "linear_outputs"]),
        (96, 8192, False, ["linear_states", "linear_scan", "linear_outputs"]),
        (1, 64, True, ["linear_outputs"]),
    ],
)
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_that_linear_is_one_launch_or_three(
    capability: tuple[int, int], heads: int, n: int, causal: bool, entries: list[str]
) -> None:
    """Where heads fill the card no state is kept; segments of few heads are as many as one wave of blocks holds."""
    workload = Workload(1, n, heads, heads, 128, 1, "bf16", causal)
    device, _ = launched("linear", workload, capability)
    assert [entry for entry, *_ in device.launches] == entries
    outputs = device.launches[-1][1]
    if causal:
        assert outputs[0] * heads <= 132
    assert bool(device.workspaces) is (len(entries) == 3)


def test_that_segments_of_keys_before_the_queries_are_absorbed_first() -> None:
    device = WritingDevice((9, 0))
    q, k = FakeArray((1, 4, 64, 64), "uint16"), FakeArray((1, 4, 10_000, 64), "uint16")
    workload = Workload(1, 64, 4, 4, 64, 1, "bf16", True)
    linear.attend(device, "linear", "Linear", (q, k, k, q), workload, decay=np.zeros(4, np.float32))
    found = linear.cut(4, 64, 10_000, True)
    assert found.before * found.chunks * 64 >= 10_000 - 64
    assert device.launches[0][1] == (found.states - 1, 4, 1)
    assert device.launches[-1][1] == (1, 4, 1)
    assert device.workspaces[0].nbytes == 4 * found.states * linear.state_floats(64) * 4

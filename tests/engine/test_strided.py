"""The strided and fixed patterns: which pairs they see, how those become bounds, and what runs, against float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import attend, catalogue, cuda, numerics
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Choice, Dtype, ParamValue, Workload
from attnscope_engine.variants import strided
from hopper_on_cpu import COMPILER, HopperOnCpu, guarded, guards_are_whole
from portable_on_cpu import EmulatedDevice
from writing_device import FakeArray, WritingDevice

NAMED: tuple[dict[str, ParamValue], ...] = (
    {"stride": 2},
    {"stride": 7},
    {"stride": 40},
    {"stride": 1000},
    {"stride": 2, "pattern": "fixed"},
    {"stride": 16, "pattern": "fixed"},
    {"stride": 50, "pattern": "fixed"},
    {"stride": 1000, "pattern": "fixed"},
)
SHAPES = ((1, 1), (64, 64), (130, 130), (5, 90), (90, 5), (33, 31), (1, 50), (70, 68))
"""Queries and keys."""


def pattern(values: dict[str, ParamValue], n: int, m: int, causal: bool) -> np.ndarray:
    """Pair by pair from section 4.3, both factors in one head; with a full mask in both directions."""
    stride, fixed = int(values["stride"]), values.get("pattern") == "fixed"
    seen = np.zeros((n, m), bool)
    for row in range(n):
        i = row + m - n
        for j in range(m):
            near = i // stride == j // stride if fixed else abs(i - j) < stride
            far = j % stride >= stride - max(1, stride // 8) if fixed else (i - j) % stride == 0
            seen[row, j] = (near or far) and (j <= i or not causal)
    return seen


def truth(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Softmax over the pairs that are seen, in float64."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x.astype(np.float64), group, axis=1) for x in (k, v))
    scores = np.where(seen, q.astype(np.float64) @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5, -np.inf)
    parts = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e30))
    total = parts.sum(-1, keepdims=True)
    return parts / np.where(total == 0, 1, total) @ v


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("values", NAMED, ids=str)
def test_that_what_is_seen_is_the_union_of_both_factors(
    values: dict[str, ParamValue], shape: tuple[int, int], causal: bool
) -> None:
    n, m = shape
    workload = Workload(seq_len=n, num_heads=1, num_kv_heads=1, head_dim=8, causal=causal)
    params = strided.StridedParams(**values)
    expected = pattern(values, n, m, causal)
    assert np.array_equal(strided.visible(workload, params, np.arange(n) + m - n, np.arange(m)), expected)
    if n == m:
        assert catalogue.cost_of(Choice("strided", values), workload, "cuda").flops == 4 * 8 * expected.sum()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("values", NAMED, ids=str)
def test_that_the_kernels_bounds_hold_each_pair_once_and_never_decrease(
    values: dict[str, ParamValue], shape: tuple[int, int], causal: bool
) -> None:
    (n, m), params = shape, strided.StridedParams(**values)
    seen = np.zeros((n, m), int)
    near = strided.near_bounds(params, n, m, causal)
    for row, (low, high) in enumerate(near[:n].tolist()):
        seen[row, low:high] += 1
    tables = [near]
    far = strided.far_keys(params, n, m, causal)
    if far is not None:
        tables.append(far.bounds)
        for row, (low, high) in enumerate(far.bounds[:n].tolist()):
            assert high - low <= far.most_seen
            np.add.at(seen[row if far.queries is None else far.queries[row]], far.keys[low:high], 1)
    assert np.array_equal(seen, pattern(values, n, m, causal))
    for table in tables:
        assert (np.diff(table, axis=0) >= 0).all()
        assert len(table) == n + 256


def inputs(shape: tuple[int, int, int, int, int], dtype: Dtype) -> list[np.ndarray]:
    """Of heads, key heads, queries, keys and head dim."""
    heads, kv_heads, n, m, head_dim = shape
    rng = np.random.default_rng(n + m)
    shapes = ((1, heads, n, head_dim), (1, kv_heads, m, head_dim), (1, kv_heads, m, head_dim))
    return [numerics.rounded(rng.standard_normal(size, np.float32), dtype) for size in shapes]


def launched(device: Any, arrays: list[np.ndarray], dtype: Dtype, causal: bool, values: dict[str, ParamValue]) -> np.ndarray:
    (_, heads, n, head_dim), kv_heads = arrays[0].shape, arrays[1].shape[1]
    workload = Workload(seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, causal=causal)
    q, k, v = (to_bits(x, dtype) for x in arrays)
    out = guarded(q.shape, cuda.STORED[dtype])
    strided.launch(device, q, k, v, out, workload, strided.StridedParams(**values))
    assert guards_are_whole(out)
    return from_bits(out, dtype)


LARGEST_ERROR: dict[Dtype, float] = {"fp32": 1e-5, "fp16": 1e-3, "bf16": 8e-3}
"""Of the output, by norm: weights, both outputs and the merged one are rounded to the dtype."""

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")


def check(device: Any, shape: tuple[int, int, int, int, int], dtype: Dtype, causal: bool, values: dict[str, ParamValue]) -> None:
    arrays = inputs(shape, dtype)
    expected = truth(*arrays, pattern(values, shape[2], shape[3], causal))
    got = launched(device, arrays, dtype, causal, values)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    assert np.linalg.norm(got - expected) <= LARGEST_ERROR[dtype] * np.linalg.norm(expected)


@needs_compiler
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("values", [NAMED[1], NAMED[2], NAMED[5], NAMED[6], NAMED[3]], ids=str)
def test_that_the_portable_kernels_are_right(values: dict[str, ParamValue], causal: bool) -> None:
    for shape in ((2, 1, 130, 130, 64), (1, 1, 70, 150, 32), (1, 1, 150, 70, 32)):
        check(EmulatedDevice(99 * 1024), shape, "bf16", causal, values)


@needs_compiler
def test_that_the_portable_kernels_are_right_in_other_types_and_for_few_queries() -> None:
    for dtype, shape in (("fp16", (2, 2, 90, 90, 72)), ("fp32", (2, 1, 90, 90, 32)), ("fp16", (4, 2, 9, 400, 64))):
        for values in (NAMED[1], NAMED[5]):
            check(EmulatedDevice(99 * 1024), shape, dtype, True, values)
            check(EmulatedDevice(99 * 1024), shape, dtype, False, values)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@needs_compiler
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("values", [NAMED[2], NAMED[1], NAMED[6], NAMED[5]], ids=str)
def test_that_the_hopper_kernels_are_right(builds: Path, values: dict[str, ParamValue], causal: bool) -> None:
    for seed, shape in enumerate(((2, 1, 333, 333, 64), (1, 1, 200, 307, 64), (1, 1, 307, 200, 64))):
        check(HopperOnCpu(builds, seed=seed), shape, "bf16", causal, values)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("values", NAMED, ids=str)
@pytest.mark.parametrize("n", [64, 1000, 4097])
def test_that_a_launch_allocates_what_each_pattern_predicts(n: int, values: dict[str, ParamValue], causal: bool) -> None:
    workload = Workload(batch=2, seq_len=n, num_heads=4, num_kv_heads=2, head_dim=64, dtype="bf16", causal=causal)
    device = WritingDevice((9, 0))
    tensors = [FakeArray((2, heads, n, 64), "uint16") for heads in (4, 2, 2, 4)]
    strided.launch(device, *tensors, workload, strided.StridedParams(**values))
    cost = catalogue.cost_of(Choice("strided", values), workload, "cuda")
    assert sum(array.nbytes for array in (*tensors, *device.workspaces)) == cost.held_bytes
    assert len(device.launches) == sum(step.launches for step in cost.steps)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_that_outputs_over_parts_of_the_keys_merge_into_the_whole(library: str) -> None:
    """Rows that one part, or both, leave without a key among them."""
    xp = np if library == "numpy" else pytest.importorskip("torch")
    q, k, v = inputs((2, 2, 1500, 20, 8), "fp32")
    first = np.zeros((1500, 20), bool)
    first[:1000, :12] = True
    second = np.zeros((1500, 20), bool)
    second[500:1200, 12:] = True

    def part(seen: np.ndarray) -> tuple[Any, Any]:
        scores = np.where(seen, q @ k.swapaxes(-1, -2) * 8**-0.5, -np.inf)
        with np.errstate(divide="ignore"):
            sums = np.log(np.exp(scores).sum(-1))
        return xp.asarray(truth(q, k, v, seen), dtype=xp.float32), xp.asarray(sums, dtype=xp.float32)

    into = part(first)
    attend.merge_by_rows(into, part(second), xp, lambda: None)
    assert np.abs(np.asarray(into[0]) - truth(q, k, v, first | second)).max() < 1e-5
    assert (np.asarray(into[0])[:, :, 1200:] == 0).all()

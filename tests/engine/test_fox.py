"""Attention that forgets: the formula pair by pair, precision far along, and the kernels' text on a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import cuda, gates, numerics
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variants import fox
from hopper_on_cpu import COMPILER, HopperOnCpu, guarded, guards_are_whole
from portable_on_cpu import EmulatedDevice

Shape = tuple[int, int, int, int, int]
"""Heads, key heads, queries, keys, head dim."""


def inputs(shape: Shape, dtype: Dtype = "fp32", batch: int = 1) -> list[np.ndarray]:
    heads, kv_heads, n, m, head_dim = shape
    rng = np.random.default_rng(n + m)
    shapes = ((batch, heads, n, head_dim), (batch, kv_heads, m, head_dim), (batch, kv_heads, m, head_dim))
    return [numerics.rounded(rng.standard_normal(size, np.float32), dtype) for size in shapes]


def workload_of(shape: Shape, dtype: Dtype, batch: int = 1) -> Workload:
    heads, kv_heads, n, _, head_dim = shape
    return Workload(batch=batch, seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype)


def pair_by_pair(q: np.ndarray, k: np.ndarray, v: np.ndarray, half_life: int) -> np.ndarray:
    """Section 3: each score loses the gates of the tokens after its key up to its query, added up one by one."""
    (batch, heads, n, dim), (kv_heads, m) = q.shape, k.shape[1:3]
    out = np.zeros(q.shape)
    for b, h, i in np.ndindex(batch, heads, n):
        group, here = h * kv_heads // heads, i + m - n
        scores, fades = [], 0.0
        signs = gates.signs("decay", [group], dim)[0]
        for j in range(here, -1, -1):
            key = k[b, group, j].astype(np.float64)
            scores.append(q[b, h, i] @ key / np.sqrt(dim) + fades)
            fades -= np.log1p(np.exp(key @ signs / np.linalg.norm(key))) / half_life
        if scores:
            shares = np.exp(np.array(scores) - max(scores))
            out[b, h, i] = shares / shares.sum() @ v[b, group, here::-1]
    return out


@pytest.mark.parametrize("shape", [(4, 2, 30, 30, 8), (2, 2, 7, 40, 16), (3, 1, 40, 7, 8)], ids=str)
@pytest.mark.parametrize("half_life", [1, 10, 100_000])
def test_that_the_reference_is_the_formula(shape: Shape, half_life: int) -> None:
    arrays = inputs(shape, batch=2)
    found = fox.reference(*arrays, workload_of(shape, "fp32", 2), fox.FoxParams(half_life))
    assert np.abs(found - pair_by_pair(*arrays, half_life)).max() < 1e-12


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_that_a_run_keeps_its_digits_where_sums_of_gates_are_large(library: str) -> None:
    """After 5,000 tokens of a half-life of 1 the sums are about 4,000, of which fp32 keeps three digits behind the point."""
    xp: Any = np if library == "numpy" else pytest.importorskip("torch")
    shape = (1, 1, 5_000, 5_000, 8)
    q, k, v = inputs(shape)
    w, params, rows = workload_of(shape, "fp32"), fox.FoxParams(1), np.array([0, 1, 1000, 4_000, 4_999])
    out = np.asarray(fox.run_cpu(*(xp.asarray(x) for x in (q, k, v)), w, params, xp, lambda: None))
    truth = fox.weights(q[0, 0], k[0, 0], w, params, rows, 0) @ v[0, 0]
    assert np.abs(out[0, 0, rows] - truth).max() < 2e-5


def test_that_no_forgetting_is_plain_softmax_and_fast_forgetting_is_the_own_value() -> None:
    q, k, v = inputs((2, 1, 50, 50, 8))
    w = workload_of((2, 1, 50, 50, 8), "fp32")
    plain = numerics.masked_attention(q, k, v, np.tri(50, dtype=bool))
    assert np.abs(fox.reference(q, k, v, w, fox.FoxParams(1_048_576)) - plain).max() < 1e-3
    weights = fox.weights(q[0, 0], 0.01 * k[0, 0], w, fox.FoxParams(1), np.arange(50), 0)
    assert (weights.argmax(axis=1) == np.arange(50)).all()


LARGEST_ERROR: dict[Dtype, float] = {"fp32": 2e-5, "fp16": 6e-4, "bf16": 4e-3}
"""Of the output, by norm: what rounding the weights and the output to the dtype costs."""

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")


def run(device: Any, shape: Shape, dtype: Dtype, half_life: int, batch: int = 1) -> float:
    """Error of a launch against float64, by norm; queries that see nothing give 0."""
    arrays, w = inputs(shape, dtype, batch), workload_of(shape, dtype, batch)
    q, k, v = (to_bits(x, dtype) for x in arrays)
    out = guarded(q.shape, cuda.STORED[dtype])
    fox.launch(device, q, k, v, out, w, fox.FoxParams(half_life))
    assert guards_are_whole(out)
    got, truth = from_bits(out, dtype), fox.reference(*arrays, w, fox.FoxParams(half_life))
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    assert (got[:, :, : max(0, shape[2] - shape[3])] == 0).all()
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


@needs_compiler
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("half_life", [2, 50])
def test_that_the_portable_kernels_are_right(half_life: int, dtype: Dtype) -> None:
    for shape, batch in (((2, 1, 150, 150, 32), 2), ((2, 2, 70, 203, 32), 1), ((1, 1, 350, 60, 32), 1)):
        assert run(EmulatedDevice(99 * 1024), shape, dtype, half_life, batch) < LARGEST_ERROR[dtype], shape


@needs_compiler
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_that_few_queries_with_their_keys_split_are_right(dtype: Dtype) -> None:
    for shape, batch in (((4, 2, 4, 600, 32), 2), ((8, 1, 1, 1000, 32), 1), ((4, 2, 12, 5, 32), 1)):
        assert run(EmulatedDevice(99 * 1024), shape, dtype, 30, batch) < LARGEST_ERROR[dtype], shape


@needs_compiler
@pytest.mark.parametrize(("dtype", "half_life"), [("bf16", 40), ("fp16", 2)])
def test_that_the_hopper_kernels_are_right(tmp_path: Path, dtype: Dtype, half_life: int) -> None:
    for seed, (shape, batch) in enumerate((((4, 2, 333, 333, 64), 2), ((2, 1, 200, 307, 64), 1), ((1, 1, 600, 200, 64), 1))):
        assert run(HopperOnCpu(tmp_path, seed=seed), shape, dtype, half_life, batch) < LARGEST_ERROR[dtype], shape


@needs_compiler
def test_that_sums_of_gates_are_those_of_all_keys_before() -> None:
    """Over more than one pass of the block that sums."""
    from attnscope_engine.cuda import forget_table

    (_, k, _), device = inputs((1, 2, 1, 2500, 16), "fp16", 2), EmulatedDevice(99 * 1024)
    table = forget_table.made(device, "fox", to_bits(k, "fp16"), "fp16", 20)
    exact = -np.cumsum(gates.decays_of(k, np.arange(2), 20), axis=-1) / np.log(2)
    margin = forget_table.MARGIN
    assert np.abs(table[..., margin : margin + 2500] - exact).max() < 1e-3
    assert (table[..., :margin] == 0).all()
    assert np.isfinite(table).all()

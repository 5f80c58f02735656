"""Kernels of the recurrent variants against their recurrence in float64, by norm: what rounding to the dtype may cost."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue, numerics
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variant import Unsupported

pytestmark = pytest.mark.gpu

LARGEST_ERROR: dict[Dtype, float] = {"bf16": 1e-2, "fp16": 1.5e-3, "fp32": 1e-5}
"""Of the output by norm: features, scaled values, state, weights and output are rounded to the dtype once each."""

PARAMS: dict[str, tuple[dict[str, Any], ...]] = {
    "retnet": ({}, {"exponent": 1}, {"exponent": 30}),
    "simple_gla": ({}, {"half_life": 1}, {"half_life": 1_048_576}),
    "mamba2": ({}, {"half_life": 1, "skip": False}, {"half_life": 100_000}),
    "gla": ({}, {"half_life": 1}, {"half_life": 1000}),
    "deltanet": ({},),
    "gated_deltanet": ({}, {"half_life": 1}, {"half_life": 1_048_576}),
    "kda": ({}, {"half_life": 1}, {"half_life": 1000}),
}
SHAPES = ((1, 1), (63, 63), (64, 64), (257, 257), (113, 203), (203, 113), (1, 300), (1000, 1023), (2048, 2048))
HEADS = ((2, 2), (4, 2), (3, 1))


@pytest.mark.parametrize("head_dim", [32, 64, 80, 128])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("name", PARAMS)
def test_that_a_kernel_computes_the_recurrence(device: Any, name: str, dtype: Dtype, head_dim: int) -> None:
    if dtype not in device.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    variant, worst = catalogue.find(name), 0.0
    for number, ((heads, kv_heads), (n, m)) in enumerate(itertools.product(HEADS, SHAPES)):
        rng = np.random.default_rng(number)
        shapes = ((2, heads, n, head_dim), (2, kv_heads, m, head_dim), (2, kv_heads, m, head_dim))
        arrays = [numerics.rounded(rng.standard_normal(shape, np.float32), dtype) for shape in shapes]
        workload = Workload(2, max(n, m), heads, kv_heads, head_dim, 1, dtype, True)
        params = variant.parse(PARAMS[name][number % len(PARAMS[name])])
        truth = variant.reference(*arrays, workload, params)
        out = device.run(variant, *arrays, workload, params)
        assert np.isfinite(out).all()
        assert not out[:, :, : max(0, n - m)].any(), "a query before all keys gives 0"
        error = float(np.linalg.norm(out - truth) / np.linalg.norm(truth))
        assert error <= LARGEST_ERROR[dtype], (heads, kv_heads, n, m, params)
        worst = max(worst, error)
    print(f"{name} {dtype} D{head_dim}: largest error {worst:.1e}")


@pytest.mark.parametrize("name", PARAMS)
def test_that_a_full_mask_is_refused(device: Any, name: str) -> None:
    variant, arrays = catalogue.find(name), [np.zeros((1, 1, 64, 64), np.float32)] * 3
    workload = Workload(1, 64, 1, 1, 64, 1, "fp16", causal=False)
    with pytest.raises(Unsupported, match="causal only"):
        device.run(variant, *arrays, workload, variant.parse({}))


@pytest.mark.parametrize("name", PARAMS)
def test_that_a_head_dim_without_a_kernel_is_refused_with_the_nearest(device: Any, name: str) -> None:
    variant, arrays = catalogue.find(name), [np.zeros((1, 1, 64, 256), np.float32)] * 3
    workload = Workload(1, 64, 1, 1, 256, 1, "fp16")
    with pytest.raises(Unsupported, match="128"):
        device.run(variant, *arrays, workload, variant.parse({}))

"""Attention that forgets, on the card against float64, at lengths and half-lives at which scores fade in different ways."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from attnscope_engine import numerics
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variants import fox

pytestmark = pytest.mark.gpu

LARGEST_ERROR: dict[Dtype, float] = {"fp32": 2e-5, "fp16": 8e-4, "bf16": 5e-3}
"""Of the output, by norm: what rounding the weights and the output to the dtype costs."""

SHAPES = ((1, 1), (65, 65), (257, 257), (203, 113), (113, 203), (9, 700), (1, 300), (1000, 1000), (2050, 2050))


def random_inputs(heads: tuple[int, int], shape: tuple[int, int], head_dim: int, dtype: Dtype, batch: int) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(shape))
    sizes = ((batch, heads[0], shape[0], head_dim), *[(batch, heads[1], shape[1], head_dim)] * 2)
    return [numerics.rounded(rng.standard_normal(size, np.float32), dtype) for size in sizes]


@pytest.mark.parametrize("head_dim", [32, 64, 96, 128, 192, 256])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_that_what_is_forgotten_is_right(device: Any, dtype: Dtype, head_dim: int) -> None:
    if dtype not in device.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    worst = 0.0
    for (number, shape), half_life in itertools.product(enumerate(SHAPES), (1, 30, 1024)):
        heads, batch = ((2, 2), (4, 2), (3, 1))[number % 3], 2 if shape[0] < 300 else 1
        arrays = random_inputs(heads, shape, head_dim, dtype, batch)
        w = Workload(
            batch=batch, seq_len=shape[0], num_heads=heads[0], num_kv_heads=heads[1], head_dim=head_dim, dtype=dtype, causal=True
        )
        params = fox.FoxParams(half_life)
        out, truth = device.run(fox.VARIANT, *arrays, w, params), fox.reference(*arrays, w, params)
        assert np.isfinite(out).all(), "an output was not written, or something unwritten was read"
        error = float(np.linalg.norm(out - truth) / np.linalg.norm(truth))
        assert error <= LARGEST_ERROR[dtype], (shape, heads, half_life, error)
        worst = max(worst, error)
    print(f"fox {dtype} D{head_dim}: largest error {worst:.2e}")


@pytest.mark.parametrize(("n", "half_life"), [(65_537, 64), (131_072, 1024)])
def test_that_long_calls_keep_their_digits(device: Any, n: int, half_life: int) -> None:
    """Sums of gates reach hundreds here; of rows all over the call."""
    arrays = random_inputs((2, 1), (n, n), 64, "bf16", 1)
    w = Workload(seq_len=n, num_heads=2, num_kv_heads=1, head_dim=64, dtype="bf16")
    params, rows = fox.FoxParams(half_life), np.array([0, 1, 1000, n // 2, n - 2, n - 1])
    out = device.run(fox.VARIANT, *arrays, w, params)
    for head in range(2):
        truth = fox.weights(arrays[0][0, head], arrays[1][0, 0], w, params, rows, head) @ arrays[2][0, 0].astype(np.float64)
        assert np.abs(out[0, head, rows] - truth).max() < 0.01

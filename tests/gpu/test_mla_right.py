"""Latent attention on the card against float64: both forms, within what their products in a row round."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from attnscope_engine import numerics
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variants import mla

pytestmark = pytest.mark.gpu

LARGEST_ERROR: dict[Dtype, float] = {"fp32": 5e-5, "fp16": 2e-3, "bf16": 1.5e-2}
"""Of the output, by norm: each of up to five products in a row rounds to the dtype."""

SHAPES = (
    (2, 2, 65, 65),
    (4, 2, 257, 257),
    (3, 1, 203, 113),
    (4, 2, 113, 203),
    (8, 1, 9, 700),
    (4, 1, 1000, 1000),
    (2, 1, 1, 300),
)


def random_inputs(shape: tuple[int, int, int, int, int], dtype: Dtype, seed: int, batch: int) -> list[np.ndarray]:
    """Of heads, key heads, queries, keys and head dim."""
    heads, kv_heads, n, m, head_dim = shape
    rng = np.random.default_rng(seed)
    shapes = ((batch, heads, n, head_dim), (batch, kv_heads, m, head_dim), (batch, kv_heads, m, head_dim))
    return [numerics.rounded(rng.standard_normal(size, np.float32), dtype) for size in shapes]


@pytest.mark.parametrize("head_dim", [64, 96, 128, 192])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("form", ["absorbed", "naive"])
def test_that_both_forms_are_right(device: Any, form: str, dtype: Dtype, head_dim: int) -> None:
    if dtype not in device.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    worst = 0.0
    for number, (shape, causal, widths) in enumerate(itertools.product(SHAPES, (True, False), ((128, 32), (192, 64), (16, 8)))):
        heads, kv_heads, n, _ = shape
        batch = 2 if n < 100 else 1
        arrays = random_inputs((*shape, head_dim), dtype, number, batch=batch)
        w = Workload(
            batch=batch, seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, causal=causal
        )
        params = mla.MlaParams(form, *widths)
        out, truth = device.run(mla.VARIANT, *arrays, w, params), mla.reference(*arrays, w, params)
        assert np.isfinite(out).all(), "an output was not written, or something unwritten was read"
        error = float(np.linalg.norm(out - truth) / np.linalg.norm(truth))
        assert error <= LARGEST_ERROR[dtype], (shape, causal, widths, error)
        worst = max(worst, error)
    print(f"mla {form} {dtype} D{head_dim}: largest error {worst:.2e}")


@pytest.mark.parametrize("form", ["absorbed", "naive"])
def test_that_positions_far_along_are_turned_by_their_own_angle(device: Any, form: str) -> None:
    """Rows of a long call, whose angles no fp32 product of position and frequency has."""
    n, params = 65_537, mla.MlaParams(form, 64, 32)
    arrays = random_inputs((1, 1, n, n, 64), "fp16", 3, batch=1)
    w = Workload(seq_len=n, num_heads=1, num_kv_heads=1, head_dim=64, dtype="fp16")
    rows = np.array([0, 1, 255, 256, 4096, n // 2, n - 2, n - 1])
    out = device.run(mla.VARIANT, *arrays, w, params)[0, 0, rows]
    weights = mla.weights(arrays[0][0, 0], arrays[1][0], w, params, rows, 0)
    truth = weights @ mla.values(arrays[2][0], w, params, 0)
    assert np.abs(out - truth).max() <= 4e-3 * max(1.0, float(np.abs(truth).max()))

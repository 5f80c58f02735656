"""Kernels of Performer, Differential and MoBA against their references in float64, by norm."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue, chosen_exact, numerics
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variant import Unsupported

pytestmark = pytest.mark.gpu

LARGEST_ERROR: dict[str, dict[Dtype, float]] = {
    "performer": {"bf16": 6e-3, "fp16": 1e-3, "fp32": 2e-5},
    "differential": {"bf16": 1.5e-2, "fp16": 2e-3, "fp32": 1e-5},
    "moba": {"bf16": 6e-3, "fp16": 1e-3, "fp32": 1e-5},
}
"""What rounding to the dtype may cost; a difference of two softmaxes is smaller than what was rounded."""

PARAMS: dict[str, tuple[dict[str, Any], ...]] = {
    "performer": ({}, {"features": 8}, {"features": 50, "seed": 3}),
    "differential": ({}, {"subtracted": 0.2}, {"subtracted": 1.0}),
    "moba": ({"block_size": 64, "top_k": 2}, {"block_size": 16, "top_k": 7}, {"block_size": 100, "top_k": 1}, {}),
}
SHAPES = ((1, 1), (63, 63), (64, 64), (257, 257), (113, 203), (203, 113), (1, 300), (1000, 1023), (2048, 2048))
HEADS = ((2, 2), (4, 2), (3, 1))
UNDECIDED = 1e-4
"""Scores of blocks that are nearer to each other may be told apart in another way in fp32."""


def decided(name: str, arrays: list[np.ndarray], params: Any) -> np.ndarray:
    """`(B, H, N)`: rows whose choice of blocks no rounding changes; all of them where nothing is chosen."""
    q, k, _ = arrays
    sure = np.ones(q.shape[:3], bool)
    if name != "moba":
        return sure
    positions = np.arange(q.shape[2]) + k.shape[2] - q.shape[2]
    for b, h in np.ndindex(*q.shape[:2]):
        means = chosen_exact.means_of(k[b, h * k.shape[1] // q.shape[1]], params.block_size)
        if len(means) <= params.top_k:
            continue
        past = np.arange(len(means)) < (positions // params.block_size)[:, None]
        scores = -np.sort(-np.where(past, q[b, h].astype(np.float64) @ means.T, -np.inf), axis=1)
        last, next_ = scores[:, params.top_k - 1], scores[:, params.top_k]
        sure[b, h] = ~np.isfinite(next_) | (last - np.where(np.isfinite(next_), next_, 0) > UNDECIDED)
    return sure


@pytest.mark.parametrize("head_dim", [32, 64, 80, 128])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("name", PARAMS)
def test_that_a_kernel_computes_the_reference(device: Any, name: str, dtype: Dtype, head_dim: int) -> None:
    if dtype not in device.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    variant, worst = catalogue.find(name), 0.0
    masks = (True,) if variant.causal_only else (True, False)
    for number, ((heads, kv_heads), (n, m), causal) in enumerate(itertools.product(HEADS, SHAPES, masks)):
        rng = np.random.default_rng(number)
        shapes = ((2, heads, n, head_dim), (2, kv_heads, m, head_dim), (2, kv_heads, m, head_dim))
        arrays = [numerics.rounded(rng.standard_normal(shape, np.float32), dtype) for shape in shapes]
        workload = Workload(2, max(n, m), heads, kv_heads, head_dim, 1, dtype, causal)
        params = variant.parse(PARAMS[name][number % len(PARAMS[name])])
        truth = variant.reference(*arrays, workload, params)
        out = device.run(variant, *arrays, workload, params)
        assert np.isfinite(out).all()
        assert not causal or not out[:, :, : max(0, n - m)].any(), "a query before all keys gives 0"
        sure = decided(name, arrays, params)
        assert sure.mean() > 0.9
        scale = float(np.linalg.norm(truth[sure]))
        error = float(np.linalg.norm((out - truth)[sure])) / max(scale, 1e-6)
        assert error <= LARGEST_ERROR[name][dtype], (heads, kv_heads, n, m, causal, params)
        worst = max(worst, error)
    print(f"{name} {dtype} D{head_dim}: largest error {worst:.1e}")


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_that_performer_takes_keys_of_any_length_without_a_mask(device: Any, dtype: Dtype) -> None:
    """Exponents of hundreds: of each direction the largest key's is taken out, so that no row's sum is 0."""
    if dtype not in device.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, h, 5000, 64)).astype(np.float32) for h in (4, 2, 2))
    k *= 60 / np.linalg.norm(k, axis=-1, keepdims=True)
    arrays = [numerics.rounded(x, dtype) for x in (4 * q, k, v)]
    variant, workload = catalogue.find("performer"), Workload(1, 5000, 4, 2, 64, 1, dtype, causal=False)
    truth = variant.reference(*arrays, workload, variant.parse({}))
    out = device.run(variant, *arrays, workload, variant.parse({}))
    assert np.linalg.norm(out - truth) <= 3e-2 * np.linalg.norm(truth)


def test_that_what_a_gpu_can_not_do_is_refused_with_what_it_can(device: Any) -> None:
    arrays = [np.zeros((1, 1, 64, 64), np.float32)] * 3
    workload, performer = Workload(1, 64, 1, 1, 64, 1, "fp16"), catalogue.find("performer")
    with pytest.raises(Unsupported, match="128 features"):
        device.run(performer, *arrays, workload, performer.parse({"features": 200}))
    with pytest.raises(Unsupported, match="causal only"):
        device.run(
            catalogue.find("moba"), *arrays, Workload(1, 64, 1, 1, 64, 1, "fp16", causal=False), catalogue.find("moba").parse({})
        )

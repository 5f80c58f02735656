"""A few queries against many keys: all heads of a key head in one block, the keys split over blocks, and merged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue, numerics
from attnscope_engine.protocol import Dtype, Workload
from plain_scores import changed

pytestmark = pytest.mark.gpu

ROUNDING = {"bf16": 2.0**-8, "fp16": 2.0**-11, "fp32": 2.0**-20}


class KeptScratch:
    """Workspaces full of NaN, kept to be looked at: the first is the log-sum-exp."""

    def __init__(self) -> None:
        self.arrays: list[Any] = []

    def restart(self) -> None:
        pass

    def take(self, shape: tuple[int, ...], dtype: str, make: Any) -> Any:
        array = make(shape, dtype)
        array.set(np.full(shape, np.nan, dtype))
        self.arrays.append(array)
        return array


def launched(
    device: Any, name: str, arrays: list[np.ndarray], workload: Workload, params: Any
) -> tuple[np.ndarray, np.ndarray, int]:
    """Out and log-sum-exp of a launch into NaN-poisoned memory, and how many workspaces it took."""
    from attnscope_engine.devices.cuda import from_bits

    with device.stream:
        q, k, v = (device.upload(x, workload.dtype) for x in arrays)
        out = device.upload(np.full(arrays[0].shape, np.nan, np.float32), workload.dtype)
        scratch = KeptScratch()
        device.call(catalogue.find(name), q, k, v, out, workload, params, scratch)
        return from_bits(out.get(), workload.dtype), scratch.arrays[0].get(), len(scratch.arrays)


@pytest.mark.parametrize("m", [5, 1000, 32768])
@pytest.mark.parametrize("n", [1, 4, 16])
@pytest.mark.parametrize("heads", [(2, 2), (16, 2), (3, 1)])
@pytest.mark.parametrize(("dtype", "head_dim"), [("bf16", 128), ("fp16", 64), ("bf16", 256), ("fp16", 96), ("fp32", 64)])
def test_that_few_queries_are_right(device: Any, dtype: Dtype, head_dim: int, heads: tuple[int, int], n: int, m: int) -> None:
    if dtype not in device.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    batch, rng = 1 if m > 10_000 else 2, np.random.default_rng(n + m)
    shapes = ((batch, heads[0], n, head_dim), (batch, heads[1], m, head_dim), (batch, heads[1], m, head_dim))
    arrays = [numerics.rounded(rng.standard_normal(s, np.float32), dtype) for s in shapes]
    for name, causal, values in (
        ("softmax_tiled", True, {}),
        ("softmax_tiled", False, {}),
        ("softmax_tiled", True, {"softcap": 3, "alibi": True}),
        ("softmax_tiled", False, {"alibi": True}),
        ("sliding_window", True, {"window_size": 700, "sinks": 4}),
    ):
        workload = Workload(
            batch=batch, seq_len=n, num_heads=heads[0], num_kv_heads=heads[1], head_dim=head_dim, dtype=dtype, causal=causal
        )
        variant = catalogue.find(name)
        params = variant.parse(values)
        out, lse, workspaces = launched(device, name, arrays, workload, params)
        again = launched(device, name, arrays, workload, params)
        assert np.array_equal(out.view(np.uint32), again[0].view(np.uint32))
        assert np.array_equal(lse.view(np.uint32), again[1].view(np.uint32))
        if name == "softmax_tiled" and m != 1000:  # where it depends on how many rows share a key head
            assert workspaces == 1 + (m > 1000), "the keys of long rows are split, those of short ones not"

        seen = variant.visible(workload, params, np.arange(n) + m - n, np.arange(m))
        keys, values_ = (numerics.expand_heads(x, heads[0]).astype(np.float64) for x in arrays[1:])
        scores = np.where(seen, changed(arrays[0].astype(np.float64) @ keys.swapaxes(-1, -2) * head_dim**-0.5, values), -np.inf)
        any_seen = seen.any(1)
        top = np.maximum(scores.max(-1), -1e30)
        parts = np.exp(scores - top[..., None])
        truth = np.where(any_seen[:, None], parts @ values_ / np.maximum(parts.sum(-1), 1e-300)[..., None], 0)
        allowed = 3 * ROUNDING[dtype] * np.abs(truth).max() + 1e-5
        assert np.abs(out - truth).max() <= allowed, (name, causal)
        assert np.isneginf(lse[..., ~any_seen]).all()
        rounded_tanh = 2**-11 * values.get("softcap", 0) if dtype == "bf16" else 0  # as far off as the instruction may be
        assert np.abs(lse - (top + np.log(np.maximum(parts.sum(-1), 1e-300))))[..., any_seen].max() < 1e-3 + rounded_tanh

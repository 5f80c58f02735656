"""The kernels that derive decays and time steps from keys, their text run on the processor, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attnscope_engine import cuda, gates, numerics
from attnscope_engine.cuda import token_decays
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from portable_on_cpu import COMPILER, EmulatedDevice

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++")


def drawn(heads: int, tokens: int, head_dim: int, dtype: Dtype) -> np.ndarray:
    numbers = np.random.default_rng(heads + tokens).standard_normal((2, heads, tokens, head_dim)).astype(np.float32)
    return numerics.rounded(numbers, dtype)


@needs_compiler
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("head_dim", "half_life"), [(64, 1), (80, 1000), (8, 16)])
def test_that_the_kernels_gates_are_those_of_the_formulas(dtype: Dtype, head_dim: int, half_life: int) -> None:
    k, v, device = drawn(3, 21, head_dim, dtype), drawn(3, 21, head_dim, dtype), EmulatedDevice(64 * 1024)
    k[1, 2, 20] = 0
    arguments = to_bits(k, dtype), to_bits(v, dtype), dtype, half_life
    found, scaled = token_decays.decays_and_steps(device, "mamba2", *arguments)
    assert np.abs(found / gates.decays_of(k, range(3), half_life) - 1).max() < 1e-5
    truth = v * gates.steps_of(k, range(3))[..., None]
    rounding = {"fp32": 1e-6, "bf16": 2.0**-8, "fp16": 2.0**-11}[dtype]
    assert (np.abs(from_bits(scaled, dtype) - truth) <= rounding * np.abs(truth) + 1e-7).all()
    alone = token_decays.decays(EmulatedDevice(64 * 1024), "simple_gla", arguments[0], dtype, half_life)
    assert np.array_equal(alone, found)


@needs_compiler
@pytest.mark.parametrize(("n", "m"), [(21, 21), (9, 30), (30, 9)])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_that_each_query_gets_the_value_of_its_own_key(dtype: Dtype, n: int, m: int) -> None:
    before, v = drawn(4, n, 72, dtype), drawn(2, m, 72, dtype)
    out = to_bits(before, dtype).copy()
    token_decays.add_own_values(EmulatedDevice(64 * 1024), "mamba2", to_bits(v, dtype), out, dtype)
    truth, own = before.astype(np.float64), min(n, m)
    truth[:, :, n - own :] += numerics.expand_heads(v, 4)[:, :, m - own :]
    assert np.array_equal(from_bits(out, dtype), numerics.rounded(truth, dtype))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_that_what_is_allocated_is_what_is_said(dtype: Dtype) -> None:
    w = Workload(batch=2, seq_len=21, num_heads=6, num_kv_heads=3, head_dim=64, dtype=dtype)

    class Writing:
        def __init__(self) -> None:
            self.bytes_ = 0

        def empty(self, shape: tuple[int, ...], kind: str) -> np.ndarray:
            array = np.empty(shape, kind)
            self.bytes_ += array.nbytes
            return array

        def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any:
            return lambda *_: None

    k = np.zeros((2, 3, 21, 64), cuda.STORED[dtype])
    alone, scaled = Writing(), Writing()
    token_decays.decays(alone, "simple_gla", k, dtype, 1)
    token_decays.decays_and_steps(scaled, "mamba2", k, k, dtype, 1)
    assert alone.bytes_ == sum(term.bytes_ for term in token_decays.held(w))
    assert scaled.bytes_ == sum(term.bytes_ for term in token_decays.held(w, scaled=True))

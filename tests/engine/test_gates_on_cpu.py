"""The text of the kernels that derive gates from keys, run on a CPU against the formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
from attnscope_engine import numerics
from attnscope_engine.cuda import gates
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from numpy.typing import NDArray
from portable_on_cpu import COMPILER, EmulatedDevice

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")

HALF_LIFE = 5


def sign(purpose: int, head: int, channel: int) -> int:
    """±1: two rounds of shifts and multiplications in 32 bits of (purpose, head, channel)."""
    x = (channel + (head << 10) + (purpose << 24)) % 2**32
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return -1 if (x ^ x >> 16) & 1 else 1


def signs(purpose: int, heads: int, head_dim: int) -> NDArray[np.float64]:
    return np.array([[sign(purpose, head, channel) for channel in range(head_dim)] for head in range(heads)], np.float64)


def keys_of(shape: tuple[int, int, int, int], dtype: Dtype) -> NDArray[np.float32]:
    """One of them all zeros."""
    k = numerics.rounded(np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(3), dtype)
    k[0, 0, 5] = 0
    return k


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("head_dim", [24, 80, 128])
def test_that_gates_of_tokens_are_the_formulas(head_dim: int, dtype: Dtype) -> None:
    shape = (2, 3, 37, head_dim)
    k = keys_of(shape, dtype)
    wide = k.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1)
    length[length == 0] = 1
    along = [(wide * signs(purpose, 3, head_dim)[:, None]).sum(-1) / length for purpose in (1, 2)]
    made = gates.of_tokens(EmulatedDevice(0), "gated_deltanet", to_bits(k, dtype), Workload(dtype=dtype), HALF_LIFE)
    assert made.gates is not None
    np.testing.assert_allclose(made.lengths, 1 / length, rtol=1e-6)
    np.testing.assert_allclose(made.beta, 1 / (1 + np.exp(-along[1])), rtol=3e-6)
    np.testing.assert_allclose(made.gates, -np.log1p(np.exp(along[0])) / HALF_LIFE, rtol=1e-5)
    assert gates.of_tokens(EmulatedDevice(0), "deltanet", to_bits(k, dtype), Workload(dtype=dtype), None).gates is None


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("head_dim", [24, 80, 128])
def test_that_gates_of_channels_are_the_formula(head_dim: int, dtype: Dtype) -> None:
    shape = (2, 3, 37, head_dim)
    k = keys_of(shape, dtype)
    wide = k.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    length[length == 0] = 1
    x = np.roll(wide, -(head_dim // 2), -1) * signs(1, 3, head_dim)[:, None] * head_dim**0.5 / length
    made = gates.of_channels(EmulatedDevice(0), "gla", to_bits(k, dtype), Workload(dtype=dtype), HALF_LIFE)
    got = made if dtype == "fp32" else from_bits(made, "bf16")
    np.testing.assert_allclose(got, -np.log1p(np.exp(x)) / HALF_LIFE, rtol=1e-5 if dtype == "fp32" else 2**-8, atol=1e-7)


def test_that_what_is_held_is_what_is_allocated() -> None:
    shape = (2, 3, 37, 80)
    for dtype in ("fp32", "bf16"):
        workload = Workload(batch=2, num_heads=6, num_kv_heads=3, seq_len=37, head_dim=80, dtype=dtype)
        k = to_bits(keys_of(shape, dtype), dtype)
        for half_life in (None, 3):
            device = EmulatedDevice(0)
            gates.of_tokens(device, "gated_deltanet", k, workload, half_life)
            held = gates.held_of_tokens(workload, half_life is not None)
            assert sum(x.nbytes for x in device.workspaces) == held.bytes_
        device = EmulatedDevice(0)
        gates.of_channels(device, "gla", k, workload, 3)
        assert sum(x.nbytes for x in device.workspaces) == gates.held_of_channels(workload).bytes_

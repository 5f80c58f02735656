"""The text of the kernels that run token by token on every card, run on a CPU against float64 recurrences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import recurrences
from attnscope_engine import numerics
from attnscope_engine.cuda import delta, gla, segments
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from portable_on_cpu import COMPILER, EmulatedDevice
from recurrences import Sizes

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")

LARGEST_ERROR: dict[Dtype, float] = {"fp32": 2e-6, "bf16": 3e-3, "fp16": 4e-4}
"""Of the output: sums of fp32, and the output's rounding."""

SIZES = (
    Sizes(1, 1, heads=4, kv_heads=4),
    Sizes(20, 20, heads=4, kv_heads=2),
    Sizes(20, 50, head_dim=96, heads=1),
    Sizes(50, 20, heads=1),
)
KINDS = ("delta", "gated delta", "delta with gates of channels", "gla")


def inputs_of(kind: str, sizes: Sizes, dtype: Dtype, strength: str) -> tuple[list[Any], Any, Any]:
    """q, k, v, β and gates; keys of length 1 for the delta rule."""
    q, k, v = recurrences.tensors(sizes, dtype, seed=sizes.queries)
    if kind != "gla":
        k = numerics.rounded((k / np.linalg.norm(k, axis=-1, keepdims=True)).astype(np.float32), dtype)
    beta = np.random.default_rng(1).random(sizes.k[:3], np.float32)
    of_channels = kind in KINDS[2:]
    gates = None if kind == "delta" else recurrences.gates_of(strength, sizes.k if of_channels else sizes.k[:3], 2)
    return [q, k, v], beta, gates


def run(device: EmulatedDevice, kind: str, sizes: Sizes, dtype: Dtype, strength: str) -> float:
    """Error of the output."""
    (q, k, v), beta, gates = inputs_of(kind, sizes, dtype, strength)
    scale, workload = sizes.head_dim**-0.5, Workload(dtype=dtype, causal=True)
    out = np.full(sizes.q, np.nan, "float32") if dtype == "fp32" else np.full(sizes.q, 0x7FFF, "uint16")
    tensors = (*(to_bits(x, dtype) for x in (q, k, v)), out)
    stored = gates
    if kind in KINDS[2:] and sizes.queries % 20 == 0:  # gates of channels may be bf16
        stored = to_bits(gates, "bf16")
        gates = from_bits(stored, "bf16")
    if kind == "gla":
        gla.attend(device, "gla", "GLA", tensors, stored, workload, scale)
        truth = recurrences.gla(q, k, v, gates, scale)
    else:
        delta.attend(device, "deltanet", "Delta", tensors, beta, stored, workload, scale)
        truth = recurrences.delta(q, k, v, beta, gates, scale)
    got = from_bits(out, dtype)
    assert np.isfinite(got).all()
    return recurrences.error(got, truth)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_that_the_kernels_text_follows_the_recurrence(kind: str, dtype: Dtype) -> None:
    for number, sizes in enumerate(SIZES):
        strength = ("weak", "mixed", "strong")[number % 3]
        device = EmulatedDevice(48 * 1024)
        assert run(device, kind, sizes, dtype, strength) <= LARGEST_ERROR[dtype], (sizes, strength)
        assert [launch[0] for launch in device.launches] == ["recurrent_outputs"]
        assert max(launch[3] for launch in device.launches) <= 48 * 1024


@pytest.mark.parametrize("kind", KINDS)
def test_that_segments_carry_the_state_on(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(segments, "LEAST_CHUNKS", 1)
    for sizes in (Sizes(130, 130, heads=1), Sizes(10, 90, heads=1)):
        monkeypatch.setattr(segments, "WANTED_BLOCKS", 8)
        device = EmulatedDevice(48 * 1024)
        assert run(device, kind, sizes, "fp32", "mixed") <= LARGEST_ERROR["fp32"], sizes
        assert len(device.launches) == 3


@pytest.mark.parametrize("n", [64, 1000, 8192, 1 << 20])
@pytest.mark.parametrize("heads", [(1, 1), (16, 4), (96, 96)])
def test_that_what_is_held_is_what_is_allocated(n: int, heads: tuple[int, int]) -> None:
    """The sizes of arrays only: nothing runs."""

    class Nothing(EmulatedDevice):
        allocated = 0

        def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
            Nothing.allocated += int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
            return None

        def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any:
            return lambda *arguments: None

    class Shaped:
        def __init__(self, *shape: int) -> None:
            self.shape, self.dtype = shape, "float32"

    workload = Workload(seq_len=n, num_heads=heads[0], num_kv_heads=heads[1], head_dim=80, dtype="bf16", causal=True)
    q, k, gates = Shaped(1, heads[0], n, 80), Shaped(1, heads[1], n, 80), Shaped(1, heads[1], n)
    delta.attend(Nothing(0), "deltanet", "Delta", (q, k, k, q), gates, gates, workload, 1.0)
    assert Nothing.allocated == sum(term.bytes_ for term in delta.held(workload))
    Nothing.allocated = 0
    gla.attend(Nothing(0), "gla", "GLA", (q, k, k, q), k, workload, 1.0)
    assert Nothing.allocated == sum(term.bytes_ for term in gla.held(workload))

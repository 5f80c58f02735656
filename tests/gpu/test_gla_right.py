"""Gated linear attention's kernels against a float64 recurrence that the same card computes: RMS error below 5e-3."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import recurrences
from attnscope_engine.cuda import gla, segments
from attnscope_engine.protocol import Dtype, Workload
from poisoned_scratch import PoisonedScratch
from recurrences import Sizes

pytestmark = pytest.mark.gpu

LARGEST_ERROR = 5e-3
DTYPES: tuple[Dtype, ...] = ("bf16", "fp16")
LENGTHS = (1, 63, 64, 65, 1000, 4097)


def launched(device: Any, arrays: list[Any], gates: Any, dtype: Dtype, scale: float) -> Any:
    """Bits of the output, poisoned before, as workspaces are."""
    with device.stream, device.holding(PoisonedScratch()):
        tensors = [device.upload(x, dtype) for x in arrays]
        out = device.upload(np.full(arrays[0].shape, np.nan, np.float32), dtype)
        gla.attend(device, "gla", "GLA", (*tensors, out), device.cupy.asarray(gates), Workload(dtype=dtype, causal=True), scale)
        return out.get()


def check(device: Any, sizes: Sizes, dtype: Dtype, strength: str, float_gates: bool) -> float:
    from attnscope_engine.devices.cuda import from_bits, to_bits

    arrays, scale = recurrences.tensors(sizes, dtype, seed=sizes.queries), sizes.head_dim**-0.5
    gates = recurrences.gates_of(strength, sizes.k, 2)
    stored = gates if float_gates else to_bits(gates, "bf16")
    bits = launched(device, arrays, stored, dtype, scale)
    got = from_bits(bits, dtype)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    assert np.array_equal(bits, launched(device, arrays, stored, dtype, scale)), "the same call gave other bits"
    with device.stream:
        wide = [device.cupy.asarray(x, "float64") for x in (*arrays, gates if float_gates else from_bits(stored, "bf16"))]
        truth = recurrences.gla(*wide, scale, device.cupy).get()
    return recurrences.error(got, truth)


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strength", ["weak", "mixed", "strong"])
def test_that_the_recurrence_is_followed(device: Any, strength: str, dtype: Dtype, head_dim: int) -> None:
    for n in LENGTHS:
        # One token has many heads: its output is (q·k)·v, and one product near 0 would be all rounding.
        sizes = Sizes(n, n, heads=64 if n == 1 else 4, kv_heads=64 if n == 1 else 2, head_dim=head_dim)
        error = check(device, sizes, dtype, strength, float_gates=n % 2 == 0)
        print(f"{strength} {dtype} D{head_dim} n {n}: {error:.1e}")
        assert error < LARGEST_ERROR, n


@pytest.mark.parametrize("strength", ["weak", "mixed"])
@pytest.mark.parametrize("head_dim", [32, 96, 128])
def test_that_queries_and_keys_may_differ_in_number(device: Any, head_dim: int, strength: str) -> None:
    for n, m in ((70, 300), (300, 70), (1, 500), (1000, 1100)):
        sizes = Sizes(n, m, heads=6, kv_heads=2, head_dim=head_dim, batch=2)
        assert check(device, sizes, "bf16", strength, float_gates=n == 70) < LARGEST_ERROR, (n, m)


@pytest.mark.parametrize("float_gates", [False, True])
def test_that_heads_that_fill_the_card_are_right(device: Any, float_gates: bool) -> None:
    """One segment each."""
    assert segments.cut_of(160, 700, 700).segments == 1
    assert (
        check(device, Sizes(700, 700, heads=80, kv_heads=80, head_dim=128, batch=2), "bf16", "weak", float_gates) < LARGEST_ERROR
    )


def test_that_every_number_of_segments_gives_the_same(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for least, wanted in itertools.product((1, 3), (2, 8, 132)):
        monkeypatch.setattr(segments, "LEAST_CHUNKS", least)
        monkeypatch.setattr(segments, "WANTED_BLOCKS", wanted)
        assert check(device, Sizes(1000, 1000, heads=2, head_dim=128), "bf16", "weak", float_gates=True) < LARGEST_ERROR


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_that_every_card_follows_it_token_by_token(device: Any, monkeypatch: pytest.MonkeyPatch, dtype: Dtype) -> None:
    monkeypatch.setattr(device, "portable", True)
    for n, head_dim in ((65, 64), (1000, 128)):
        error = check(device, Sizes(n, n, heads=4, kv_heads=2, head_dim=head_dim), dtype, "mixed", float_gates=dtype == "fp32")
        assert error < (1e-5 if dtype == "fp32" else 1e-3), n

"""The delta rule's kernels against a float64 recurrence that the same card computes: root mean square error below 5e-3."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import recurrences
from attnscope_engine.cuda import delta, segments
from attnscope_engine.protocol import Dtype, Workload
from poisoned_scratch import PoisonedScratch
from recurrences import Sizes

pytestmark = pytest.mark.gpu

LARGEST_ERROR = 5e-3
DTYPES: tuple[Dtype, ...] = ("bf16", "fp16")
LENGTHS = (1, 63, 64, 65, 1000, 4097)


@dataclass(frozen=True)
class Call:
    """Inputs on the processor: bits are made of them when they are uploaded."""

    q: Any
    k: Any
    v: Any
    beta: Any
    gates: Any | None
    lengths: Any | None
    scale: float


def call_of(sizes: Sizes, dtype: Dtype, strength: str | None, unit_keys: bool = True, of_channels: bool = False) -> Call:
    from attnscope_engine.devices.cuda import from_bits, to_bits

    q, k, v = recurrences.tensors(sizes, dtype, seed=sizes.queries)
    lengths = (1 / np.linalg.norm(k, axis=-1)).astype(np.float32)
    if unit_keys:
        k = from_bits(to_bits(k * lengths[..., None], dtype), dtype)
    beta = np.random.default_rng(1).random(sizes.k[:3], np.float32)
    gates = None if strength is None else recurrences.gates_of(strength, sizes.k if of_channels else sizes.k[:3], 2)
    return Call(q, k, v, beta, gates, None if unit_keys else lengths, sizes.head_dim**-0.5)


def launched(device: Any, call: Call, dtype: Dtype) -> Any:
    """Bits of the output, poisoned before, as workspaces are."""
    with device.stream, device.holding(PoisonedScratch()):
        tensors = [device.upload(x, dtype) for x in (call.q, call.k, call.v)]
        out = device.upload(np.full(call.q.shape, np.nan, np.float32), dtype)
        beta, gates, lengths = (None if x is None else device.upload(x, "fp32") for x in (call.beta, call.gates, call.lengths))
        stem = "deltanet" if gates is None else "gated_deltanet"
        workload = Workload(dtype=dtype, causal=True)
        delta.attend(device, stem, "Delta", (*tensors, out), beta, gates, workload, call.scale, lengths)
        return out.get()


def truth_of(device: Any, call: Call) -> Any:
    """In float64 on the card: a token is one step for all heads."""
    with device.stream:
        arrays = (call.q, call.k, call.v, call.beta, call.gates, call.lengths)
        q, k, v, beta, gates, lengths = (None if x is None else device.cupy.asarray(x, "float64") for x in arrays)
        keys = k if lengths is None else k * lengths[..., None]
        return recurrences.delta(q, keys, v, beta, gates, call.scale, device.cupy).get()


def check(
    device: Any, sizes: Sizes, dtype: Dtype, strength: str | None, unit_keys: bool = True, of_channels: bool = False
) -> float:
    from attnscope_engine.devices.cuda import from_bits

    call = call_of(sizes, dtype, strength, unit_keys, of_channels)
    bits = launched(device, call, dtype)
    got = from_bits(bits, dtype)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    assert np.array_equal(bits, launched(device, call, dtype)), "the same call gave other bits"
    return recurrences.error(got, truth_of(device, call))


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strength", [None, "weak", "mixed", "strong"])
def test_that_the_delta_rule_is_followed(device: Any, strength: str | None, dtype: Dtype, head_dim: int) -> None:
    for n in LENGTHS:
        # One token has many heads: its output is (q·k)·v, and one product near 0 would be all rounding.
        sizes = Sizes(n, n, heads=64 if n == 1 else 4, kv_heads=64 if n == 1 else 2, head_dim=head_dim)
        error = check(device, sizes, dtype, strength, unit_keys=n != 1000)
        print(f"{strength} {dtype} D{head_dim} n {n}: {error:.1e}")
        assert error < LARGEST_ERROR, n


@pytest.mark.parametrize("strength", [None, "mixed"])
@pytest.mark.parametrize("head_dim", [32, 96, 128])
def test_that_queries_and_keys_may_differ_in_number(device: Any, head_dim: int, strength: str | None) -> None:
    """As near as rounding what products are made of lets it be, in short heads a little further away than in others."""
    for n, m in ((70, 300), (300, 70), (1, 500), (1000, 1100)):
        sizes = Sizes(n, m, heads=6, kv_heads=2, head_dim=head_dim, batch=2)
        error, call = check(device, sizes, "bf16", strength), call_of(sizes, "bf16", strength)
        rounded = recurrences.delta_rounded(call.q, call.k, call.v, call.beta, call.gates, call.scale, "bf16")
        assert error < 1.1 * recurrences.error(rounded, truth_of(device, call)), (n, m)


@pytest.mark.parametrize("strength", [None, "weak"])
def test_that_heads_that_fill_the_card_are_right(device: Any, strength: str | None) -> None:
    """One segment each."""
    assert segments.cut_of(160, 700, 700).segments == 1
    assert check(device, Sizes(700, 700, heads=80, kv_heads=80, head_dim=128, batch=2), "bf16", strength) < LARGEST_ERROR


def test_that_every_number_of_segments_gives_the_same(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for least, wanted in itertools.product((1, 3), (2, 8, 132)):
        monkeypatch.setattr(segments, "LEAST_CHUNKS", least)
        monkeypatch.setattr(segments, "WANTED_BLOCKS", wanted)
        assert check(device, Sizes(1000, 1000, heads=2, head_dim=128), "bf16", "weak") < LARGEST_ERROR


@pytest.mark.parametrize("of_channels", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_that_every_card_follows_it_token_by_token(
    device: Any, monkeypatch: pytest.MonkeyPatch, dtype: Dtype, of_channels: bool
) -> None:
    """Gates of channels run so on every card."""
    monkeypatch.setattr(device, "portable", not of_channels)
    for n, head_dim in ((65, 64), (1000, 128)):
        error = check(device, Sizes(n, n, heads=4, kv_heads=2, head_dim=head_dim), dtype, "mixed", of_channels=of_channels)
        assert error < (1e-5 if dtype == "fp32" else 1e-3), n

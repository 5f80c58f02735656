"""The kernels of linear attention on the GPU against the recurrence in float64: RMS error below 5e-3 of the RMS of the truth."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from attnscope_engine import numerics
from attnscope_engine.cuda import linear
from attnscope_engine.devices.cuda import CudaDevice, from_bits
from attnscope_engine.protocol import Dtype, Workload
from linear_truth import linear_truth

pytestmark = pytest.mark.gpu

LARGEST_ERROR: dict[Dtype, float] = {"bf16": 5e-3, "fp16": 5e-3, "fp32": 2e-5}
LENGTHS = (1, 63, 64, 65, 1000, 4097)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"scale": 0.125},
    "normalised": {"feature": "elu", "normalised": True},
    "retnet": {"decay": "head", "scale": 0.125},
    "gated": {"decay": "token", "scale": 0.125},
    "gated and normalised": {"decay": "gate", "feature": "elu", "normalised": True},
    "relu": {"feature": "relu", "normalised": True, "decay": "head"},
    "relu2": {"feature": "relu2", "scale": 0.125},
    "exp": {"feature": "exp", "normalised": True},
}
Shape = tuple[int, int, int, int, int, int]
"""Batch, heads, key heads, queries, keys, head_dim."""


class PoisonedScratch:
    """Workspaces full of NaN: what a kernel reads without having written shows."""

    def restart(self) -> None:
        pass

    def take(self, shape: tuple[int, ...], dtype: str, make: Any) -> Any:
        array = make(shape, dtype)
        array.set(np.full(shape, np.nan, dtype))
        return array


@pytest.fixture(scope="module", params=["its own kernels", "portable"])
def card(request: pytest.FixtureRequest, device: Any) -> CudaDevice:
    """The card with the kernels that are its own, and with those of every card."""
    return device if request.param == "its own kernels" else CudaDevice(portable=True)


def decay_of(kind: str | None, shape: Shape, rng: np.random.Generator) -> np.ndarray | None:
    batch, heads, kv_heads, _, keys, _ = shape
    if kind is None:
        return None
    if kind == "head":
        return np.log(1 - 2.0 ** -(5 + np.arange(heads) % 8)).astype(np.float32)
    raw = rng.standard_normal((batch, heads if kind == "token" else kv_heads, keys))
    raw[..., keys // 2] = -np.inf  # one token that forgets everything
    return (-np.log1p(np.exp(-raw)) / 16).astype(np.float32)


def error_of(card: CudaDevice, dtype: Dtype, shape: Shape, options: dict[str, Any], causal: bool = True) -> float:
    """RMS error over RMS of the truth, of a launch into NaN that gives the same bits twice."""
    batch, heads, kv_heads, n, m, d = shape
    rng = np.random.default_rng(n + m)
    shapes = ((batch, heads, n, d), (batch, kv_heads, m, d), (batch, kv_heads, m, d))
    q, k, v = (numerics.rounded(rng.standard_normal(s, np.float32), dtype) for s in shapes)
    kept = {name: value for name, value in options.items() if name != "decay"}
    decay = decay_of(options.get("decay"), shape, rng)
    workload = Workload(batch, n, heads, kv_heads, d, 1, dtype, causal)
    found = []
    with card.stream:
        inputs = [card.upload(x, dtype) for x in (q, k, v)]
        on_card = card.upload(decay, "fp32") if decay is not None and decay.ndim == 3 else decay
        for _ in range(2):
            out = card.upload(np.full(q.shape, np.nan, np.float32), dtype)
            with card.holding(PoisonedScratch()):
                linear.attend(card, "linear", "Linear", (*inputs, out), workload, decay=on_card, **kept)
            found.append(from_bits(out.get(), dtype))
    assert np.array_equal(found[0].view(np.uint32), found[1].view(np.uint32)), "not the same bits twice"
    assert np.isfinite(found[0]).all(), "an output was not written, or something unwritten was read"
    truth = linear_truth(q, k, v, causal=causal, decay=decay, **kept)
    return float(np.linalg.norm(found[0] - truth) / max(np.linalg.norm(truth), 1e-30))


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("name", OPTIONS)
def test_that_every_option_at_every_length_is_right(card: CudaDevice, name: str, dtype: Dtype, head_dim: int) -> None:
    if dtype not in card.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    lengths = LENGTHS if name in ("plain", "normalised", "gated") else LENGTHS[:-1]
    errors = [error_of(card, dtype, (1, 2, 1, n, n, head_dim), OPTIONS[name]) for n in lengths]
    print(f"{name} {dtype} D{head_dim}: largest error {max(errors):.1e}")
    assert max(errors) < LARGEST_ERROR[dtype]


@pytest.mark.parametrize("head_dim", [32, 96, 128])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_that_other_numbers_of_keys_than_of_queries_are_right(card: CudaDevice, dtype: Dtype, head_dim: int) -> None:
    if dtype not in card.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    for (n, m), name, causal in itertools.product(
        ((1, 700), (130, 1000), (700, 130), (65, 64)), ("normalised", "gated and normalised"), (True, False)
    ):
        if not causal and name != "normalised":
            continue
        error = error_of(card, dtype, (2, 4, 2, n, m, head_dim), OPTIONS[name], causal)
        assert error < LARGEST_ERROR[dtype], (n, m, name, causal)


@pytest.mark.parametrize("name", ["plain", "normalised"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_that_calls_without_a_mask_are_right(card: CudaDevice, name: str, dtype: Dtype) -> None:
    if dtype not in card.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    for n in (1, 65, 1000, 4097):
        assert error_of(card, dtype, (1, 2, 1, n, n, 128), OPTIONS[name], causal=False) < LARGEST_ERROR[dtype]


@pytest.mark.parametrize("name", ["plain", "gated and normalised"])
def test_that_heads_that_fill_the_card_and_those_cut_into_segments_are_right(card: CudaDevice, name: str) -> None:
    for batch, heads, kv_heads, n in ((1, 96, 32, 200), (3, 48, 48, 130), (1, 20, 20, 1500), (1, 1, 1, 5000)):
        assert error_of(card, "fp16", (batch, heads, kv_heads, n, n, 64), OPTIONS[name]) < LARGEST_ERROR["fp16"]
        assert bool(linear.cut(batch * heads, n, n, True).states) is (batch * heads < 92)


@pytest.mark.parametrize("name", ["plain", "normalised"])
def test_that_sums_past_the_range_of_fp16_are_right(card: CudaDevice, name: str) -> None:
    """A mean of 20 in v, and 6,000 keys that nothing forgets: a state of 120,000 and more."""
    n, rng = 6000, np.random.default_rng(0)
    q, k, v = (numerics.rounded(rng.standard_normal((1, 1, n, 64), np.float32) + mean, "fp16") for mean in (1, 1, 20))
    options = {**OPTIONS[name], **({"scale": 1e-4} if name == "plain" else {})}
    with card.stream:
        bits = [card.upload(x, "fp16") for x in (q, k, v)]
        out = card.upload(np.full(q.shape, np.nan, np.float32), "fp16")
        with card.holding(PoisonedScratch()):
            linear.attend(card, "linear", "Linear", (*bits, out), Workload(1, n, 1, 1, 64, 1, "fp16", True), **options)
        got = from_bits(out.get(), "fp16")
    truth = linear_truth(q, k, v, causal=True, **options)
    assert np.linalg.norm(got - truth) / np.linalg.norm(truth) < LARGEST_ERROR["fp16"]

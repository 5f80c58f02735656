"""Differential attention: one softmax less another, as the paper writes it, on the processor and as a GPU computes it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from attnscope_engine import catalogue, numerics
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Choice, Dtype, Workload
from attnscope_engine.variant import Unsupported
from hopper_on_cpu import COMPILER, HopperOnCpu, guarded, guards_are_whole
from portable_on_cpu import EmulatedDevice

torch = pytest.importorskip("torch")

VARIANT = catalogue.find("differential")
LARGEST_ERROR: dict[Dtype, float] = {"bf16": 8e-3, "fp16": 1.2e-3, "fp32": 5e-6}
"""Of the output by norm: two softmaxes are rounded where one is, and their difference is smaller than either."""


def drawn(n: int, m: int, d: int = 16) -> list[np.ndarray]:
    rng = np.random.default_rng(n + m)
    return [rng.standard_normal((1, h, tokens, d)) for h, tokens in ((4, n), (2, m), (2, m))]


def as_written(subtracted: float, q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> np.ndarray:
    """Query by query, with the exponentials of the definition."""
    out, n, m, half = np.zeros(q.shape), q.shape[2], k.shape[2], q.shape[3] // 2
    for h, i in itertools.product(range(q.shape[1]), range(n)):
        last = i + m - n if causal else m - 1
        if last < 0:
            continue
        shares = []
        for part in (slice(None, half), slice(half, None)):
            grown = np.exp([q[0, h, i, part] @ k[0, h // 2, j, part] / np.sqrt(half) for j in range(last + 1)])
            shares.append(grown / grown.sum())
        out[0, h, i] = (shares[0] - subtracted * shares[1]) @ v[0, h // 2, : last + 1]
    return out


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("subtracted", [0.8, 0.2, 0.0, 1.0])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (20, 20), (5, 30), (30, 5)])
def test_that_reference_run_and_map_are_the_paper_as_it_is_written(n: int, m: int, subtracted: float, causal: bool) -> None:
    params, (q, k, v) = VARIANT.parse({"subtracted": subtracted}), drawn(n, m)
    w, truth = Workload(1, max(n, m), 4, 2, 16, 1, "fp32", causal), as_written(subtracted, q, k, v, causal)
    assert np.abs(VARIANT.reference(q, k, v, w, params) - truth).max() <= 1e-12
    single = [x.astype(np.float32) for x in (q, k, v)]
    for library in (np, torch):
        own = [torch.from_numpy(x) for x in single] if library is torch else single
        assert np.abs(np.asarray(VARIANT.run_cpu(*own, w, params, library, lambda: None)) - truth).max() <= 3e-6
    for head in range(4):
        found = VARIANT.weights(q[0, head], k[0, head // 2], w, params, np.arange(n), head)
        assert np.abs(found @ v[0, head // 2] - truth[0, head]).max() <= 1e-12
        sees = found.any(axis=1)
        assert np.abs(found.sum(axis=1)[sees] - (1 - subtracted)).max(initial=0) < 1e-12


def test_that_what_both_halves_weigh_alike_cancels() -> None:
    q, k, v = drawn(12, 12)
    q[..., 8:], k[..., 8:] = q[..., :8], k[..., :8]
    w = Workload(1, 12, 4, 2, 16, 1, "fp32", True)
    assert np.abs(VARIANT.reference(q, k, v, w, VARIANT.parse({"subtracted": 1.0}))).max() < 1e-12
    assert VARIANT.is_signed(VARIANT.parse({}))
    assert not VARIANT.is_signed(VARIANT.parse({"subtracted": 0.0}))


@pytest.mark.parametrize("causal", [True, False])
def test_that_the_cost_is_that_of_two_softmaxes_of_whole_width(causal: bool) -> None:
    w = Workload(2, 333, 6, 3, 64, 1, "bf16", causal)
    once = catalogue.cost_of(Choice("softmax_tiled"), w, "cuda")
    for on in ("cpu", "cuda"):
        cost = catalogue.cost_of(Choice("differential"), w, on)
        (attention,) = (step for step in cost.steps if step.name == "attention")
        assert attention.flops == 2 * once.flops
        assert attention.exps == (4 if on == "cpu" else 2) * once.steps[0].exps
        assert cost.flops == attention.flops + 2 * w.batch * w.num_heads * w.seq_len * w.head_dim


def test_that_channels_without_halves_are_refused() -> None:
    q, k, v = (np.zeros((1, h, 3, 9), np.float32) for h in (4, 2, 2))
    with pytest.raises(Unsupported, match="even head dim, not 9: set 8"):
        VARIANT.run_cpu(q, k, v, Workload(1, 3, 4, 2, 9, 1, "fp32", True), VARIANT.parse({}), np, lambda: None)


# ---------------------------------------------------------------- on a GPU


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")
@pytest.mark.parametrize(
    ("d", "causal", "dtype"),
    [(64, True, "bf16"), (80, False, "bf16"), (128, True, "fp16"), (24, False, "fp16"), (64, True, "fp32"), (40, False, "fp32")],
)
def test_that_a_launch_computes_the_difference(builds: Path, d: int, causal: bool, dtype: Dtype) -> None:
    devices: list[Any] = [EmulatedDevice(99 * 1024)]
    devices += [HopperOnCpu(builds)] if dtype != "fp32" else []
    params = VARIANT.parse({})
    for device, (n, m) in itertools.product(devices, ((17, 17), (130, 130), (70, 150), (90, 40))):
        rounded = [numerics.rounded(x, dtype) for x in drawn(n, m, d)]
        q, k, v = (to_bits(x, dtype) for x in rounded)
        w, out = Workload(1, n, 4, 2, d, 1, dtype, causal), guarded(q.shape, str(q.dtype))
        VARIANT.launch(device, q, k, v, out, w, params)
        assert guards_are_whole(out)
        truth = VARIANT.reference(*rounded, msgspec.structs.replace(w, seq_len=max(n, m)), params)
        got = from_bits(out, dtype)
        assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
        assert np.linalg.norm(got - truth) <= LARGEST_ERROR[dtype] * np.linalg.norm(truth), (device, n, m)

"""Performer: its features as the paper writes them, what they estimate, and what large keys do to them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue, numerics
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variant import Unsupported
from attnscope_engine.variants import performer
from hopper_on_cpu import COMPILER, HopperOnCpu, guarded, guards_are_whole
from portable_on_cpu import EmulatedDevice
from writing_device import launched

torch = pytest.importorskip("torch")

VARIANT = catalogue.find("performer")


def drawn(n: int, m: int, d: int = 16, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(n + m)
    return [scale * rng.standard_normal((1, h, tokens, d)) for h, tokens in ((4, n), (2, m), (2, m))]


def shape_of(q: np.ndarray, k: np.ndarray, causal: bool) -> Workload:
    return Workload(1, max(q.shape[2], k.shape[2]), 4, 2, q.shape[3], 1, "fp32", causal)


def as_written(params: Any, q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> np.ndarray:
    """Features of one vector at a time, with all their factors, and sums over pairs."""
    omega = performer.directions(q.shape[3], params.features, params.seed)

    def phi(x: np.ndarray) -> np.ndarray:
        scaled = x / q.shape[3] ** 0.25
        return np.array([np.exp(w @ scaled - scaled @ scaled / 2) for w in omega]) / np.sqrt(params.features)

    out, n, m = np.zeros(q.shape), q.shape[2], k.shape[2]
    for h, i in itertools.product(range(4), range(n)):
        last = i + m - n if causal else m - 1
        shares = np.array([phi(q[0, h, i]) @ phi(k[0, h // 2, j]) for j in range(last + 1)])
        if len(shares):
            out[0, h, i] = shares @ v[0, h // 2, : last + 1] / shares.sum()
    return out


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("values", [{}, {"features": 8}, {"features": 40, "seed": 7}])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (20, 20), (5, 30), (30, 5)])
def test_that_reference_run_and_map_are_the_paper_as_it_is_written(n: int, m: int, values: dict[str, int], causal: bool) -> None:
    params, (q, k, v) = VARIANT.parse(values), drawn(n, m)
    w, truth = shape_of(q, k, causal), as_written(params, q, k, v, causal)
    assert np.abs(VARIANT.reference(q, k, v, w, params) - truth).max() <= 1e-12
    for library in (np, torch):
        own = [torch.from_numpy(x) for x in (q, k, v)] if library is torch else (q, k, v)
        assert np.abs(np.asarray(VARIANT.run_cpu(*own, w, params, library, lambda: None)) - truth).max() <= 1e-11
    for head in range(4):
        found = VARIANT.weights(q[0, head], k[0, head // 2], w, params, np.arange(n), head)
        assert np.abs(found @ v[0, head // 2] - truth[0, head]).max() <= 1e-12


@pytest.mark.parametrize("n", [1, 2, 63, 100, 257])
def test_that_with_the_unit_matrix_for_v_the_run_is_the_map(n: int) -> None:
    q, k, _ = drawn(n, n)
    w, params = shape_of(q, k, True), VARIANT.parse({})
    out = VARIANT.run_cpu(q, k, np.broadcast_to(np.eye(n), (1, 2, n, n)), w, params, np, lambda: None)
    for head in range(4):
        found = VARIANT.weights(q[0, head], k[0, head // 2], w, params, np.arange(n), head)
        assert np.abs(out[0, head] - found).max() <= 1e-10


@pytest.mark.parametrize(("d", "features"), [(16, 128), (64, 64), (80, 100), (64, 8)])
def test_that_directions_are_orthogonal_in_blocks_and_as_long_as_normal_vectors(d: int, features: int) -> None:
    omega = performer.directions(d, features, 3)
    assert omega.shape == (features, d)
    for first in range(0, features, d):
        block = omega[first : first + d]
        products = block @ block.T
        assert np.abs(products - np.diag(np.diag(products))).max() < 1e-10
    many = np.concatenate([performer.directions(d, features, seed) for seed in range(max(1, 2000 // features))])
    assert (many**2).sum(axis=1).mean() == pytest.approx(d, rel=0.05)
    assert np.abs(many.mean(axis=0)).max() < 0.2, "no direction is preferred"
    assert np.array_equal(omega, performer.directions(d, features, 3))
    assert not np.allclose(omega, performer.directions(d, features, 4))


def test_that_more_features_estimate_the_softmax_better() -> None:
    q, k, _ = (x[0, 0] for x in drawn(60, 60, scale=0.7))
    seen = np.tri(60, dtype=bool)
    truth = numerics.softmax_rows(numerics.scores_of(q, k), seen)
    errors = []
    for features in (8, 64, 1024):
        tries = [VARIANT.parse({"features": features, "seed": seed}) for seed in range(20)]
        errors.append(np.mean([np.abs(performer.weights_of(q, k, seen, params) - truth).sum(axis=1).mean() for params in tries]))
    assert errors[0] > 1.5 * errors[1] > 3 * errors[2], errors
    assert errors[2] < 0.16


def test_that_products_of_features_are_the_exponential_on_average() -> None:
    q, k, _ = (x[0, 0] / 2 for x in drawn(6, 6))
    omega = np.concatenate([performer.directions(16, 128, seed) for seed in range(400)])

    def phi(x: np.ndarray) -> np.ndarray:
        scaled = x / 2.0  # 16^¼
        return np.exp(scaled @ omega.T - (scaled**2).sum(axis=1, keepdims=True) / 2)

    estimate = phi(q) @ phi(k).T / len(omega)
    assert np.abs(estimate / np.exp(q @ k.T / 4) - 1).max() < 0.06


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("causal", [True, False])
def test_that_large_keys_neither_overflow_nor_divide_by_nothing(library: str, causal: bool) -> None:
    """Exponents down to −600 in fp32, where the features as they are written would all be 0."""
    arrays = [x.astype(np.float32) for x in drawn(200, 200)]
    q, k, v = arrays[0] * 4, arrays[1] / np.linalg.norm(arrays[1], axis=-1, keepdims=True) * 60, arrays[2]
    w, params, xp = shape_of(q, k, causal), VARIANT.parse({}), torch if library == "torch" else np
    own = [torch.from_numpy(x) for x in (q, k, v)] if library == "torch" else (q, k, v)
    out = np.asarray(VARIANT.run_cpu(*own, w, params, xp, lambda: None))
    truth = VARIANT.reference(q, k, v, w, params)
    assert np.isfinite(out).all()
    assert np.abs(out - truth).max() < 2e-3, "exponents of hundreds keep four digits in fp32"


# ---------------------------------------------------------------- on a GPU

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")
LARGEST_ERROR: dict[Dtype, float] = {"bf16": 5e-3, "fp16": 8e-4, "fp32": 5e-6}
"""Of the output by norm: what rounding features, state, weights and output to the dtype costs."""


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def error_of_a_launch(device: Any, values: dict[str, int], arrays: list[np.ndarray], dtype: Dtype, causal: bool) -> float:
    """Of the output by norm, against the reference on what is stored."""
    params, rounded = VARIANT.parse(values), [numerics.rounded(x, dtype) for x in arrays]
    q, k, v = (to_bits(x, dtype) for x in rounded)
    workload, out = shape_of(*rounded[:2], causal), guarded(q.shape, str(q.dtype))
    VARIANT.launch(device, q, k, v, out, Workload(1, q.shape[2], 4, 2, q.shape[3], 1, dtype, causal), params)
    assert guards_are_whole(out)
    truth, got = VARIANT.reference(*rounded, workload, params), from_bits(out, dtype)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


CALLS: tuple[tuple[int, int, bool, Dtype], ...] = (
    (64, 128, True, "bf16"),
    (128, 64, True, "fp16"),
    (80, 33, False, "bf16"),
    (64, 128, True, "fp32"),
    (40, 8, False, "fp32"),
)
"""head_dim, features (more than head_dim, fewer, and no multiple of 8), causal, dtype."""


@needs_compiler
@pytest.mark.parametrize(("d", "features", "causal", "dtype"), CALLS)
def test_that_a_launch_computes_the_estimate(builds: Path, d: int, features: int, causal: bool, dtype: Dtype) -> None:
    devices: list[Any] = [EmulatedDevice(99 * 1024)]
    devices += [HopperOnCpu(builds)] if dtype != "fp32" else []
    for device, (n, m) in itertools.product(devices, ((1, 1), (130, 130), (70, 150), (90, 40))):
        error = error_of_a_launch(device, {"features": features}, drawn(n, m, d), dtype, causal)
        assert error <= LARGEST_ERROR[dtype], (device, n, m)


@needs_compiler
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("causal", [True, False])
def test_that_a_launch_with_keys_of_any_length_neither_overflows_nor_divides_by_nothing(causal: bool, dtype: Dtype) -> None:
    """Exponents down to −600. Shares of the keys, and the maxima of each share, are several."""
    q, k, v = drawn(300, 300)
    k *= 60 / np.linalg.norm(k, axis=-1, keepdims=True)
    if causal:  # keys that are all far below the later ones are lost, as `performer.cu` says: here the first are the highest
        k[:, :, 0] *= 0.1
    error = error_of_a_launch(EmulatedDevice(99 * 1024), {}, [4 * q, k, v], dtype, causal)
    assert error <= (2e-3 if dtype == "fp32" else 3e-2), "exponents of hundreds keep four digits in fp32"


@needs_compiler
def test_that_keys_are_cut_into_shares_without_losing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performer, "SHARES", 3)
    q, k, v = drawn(700, 700)
    k[:, :, [69, 300, 699]] *= 8
    assert error_of_a_launch(EmulatedDevice(99 * 1024), {"features": 16}, [q, k, v], "fp32", False) <= LARGEST_ERROR["fp32"]


def test_that_more_features_than_a_gpu_takes_are_refused_with_the_most_that_it_takes() -> None:
    workload, params = Workload(num_heads=2, num_kv_heads=1, head_dim=64), VARIANT.parse({"features": 200})
    with pytest.raises(Unsupported, match="up to 128 features, not 200: set features 128"):
        VARIANT.launch(None, None, None, None, None, workload, params)
    with pytest.raises(Unsupported, match="Performer runs on a GPU up to head dim 128, not 192"):
        launched("performer", Workload(num_heads=1, num_kv_heads=1, head_dim=192))

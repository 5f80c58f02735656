"""Latent attention: both forms against loops written out here, what is kept, and the kernels' text run on a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from attnscope_engine import catalogue, cuda, head_maps, library, maps, numerics
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.latents import projections, stored_projections
from attnscope_engine.protocol import Choice, Dtype, ParamValue, ReadRow, SyntheticSource, Workload
from attnscope_engine.sources import Sources, SyntheticHeads
from attnscope_engine.variant import Unsupported
from attnscope_engine.variants import mla
from hopper_on_cpu import COMPILER, HopperOnCpu, guarded, guards_are_whole
from portable_on_cpu import EmulatedDevice
from writing_device import FakeArray, WritingDevice, launched

FORMS = ("absorbed", "naive")
Shape = tuple[int, int, int, int, int]
"""Heads, key heads, queries, keys, head dim."""


def mixed(number: int) -> int:
    """SplitMix64's finaliser, on Python's integers."""
    mask = 2**64 - 1
    number &= mask
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & mask
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & mask
    return number ^ (number >> 31)


def matrix(number: int, *shape: int) -> np.ndarray:
    """Signs of a numbered matrix, place by place."""
    start = mixed(number)
    places = range(int(np.prod(shape)))
    signs = [-1.0 if mixed(start + (place + 1) * 0x9E3779B97F4A7C15) & 1 else 1.0 for place in places]
    return np.array(signs).reshape(shape)


def turned(x: np.ndarray, position: int) -> np.ndarray:
    """Pair by pair, as complex numbers."""
    pairs = x[0::2] + 1j * x[1::2]
    pairs = pairs * np.array([np.exp(1j * position * 10_000.0 ** (-2 * i / len(x))) for i in range(len(pairs))])
    return np.stack([pairs.real, pairs.imag], axis=1).reshape(-1)


def by_token(q: np.ndarray, k: np.ndarray, v: np.ndarray, params: mla.MlaParams, causal: bool) -> np.ndarray:
    """Token by token and head by head, from what the module says."""
    (_, heads, n, dim), (_, groups, m, _) = q.shape, k.shape
    half, rope = params.latent // 2, params.rope
    down_v, down_k = matrix(1, groups * dim, half), matrix(2, groups * dim, half + rope)
    of_queries, up = matrix(3, heads, dim, half + rope), matrix(4, heads, half, dim)
    out = np.zeros(q.shape)
    for b in range(q.shape[0]):
        latents, shared = [], []
        for t in range(m):
            low = np.concatenate(list(k[b, :, t])) @ down_k / np.sqrt(groups * dim)
            latents.append((np.concatenate(list(v[b, :, t])) @ down_v / np.sqrt(groups * dim), low[:half]))
            shared.append(turned(low[half:], t))
        for h in range(heads):
            keys = [
                np.concatenate([of_queries[h, :, :half] @ c / np.sqrt(half), r])
                for (_, c), r in zip(latents, shared, strict=True)
            ]
            values = [c @ up[h] / np.sqrt(half) for c, _ in latents]
            for i in range(n):
                here = i + m - n
                seen = range(min(here + 1, m) if causal else m)
                if not seen:
                    continue
                query = np.concatenate([q[b, h, i], turned(q[b, h, i] @ of_queries[h, :, half:] / np.sqrt(dim), here)])
                scores = np.array([query @ keys[j] for j in seen]) / np.sqrt(dim + rope)
                shares = np.exp(scores - scores.max())
                out[b, h, i] = shares / shares.sum() @ np.array([values[j] for j in seen])
    return out


def inputs(shape: Shape, dtype: Dtype = "fp32", batch: int = 1) -> list[np.ndarray]:
    heads, kv_heads, n, m, head_dim = shape
    rng = np.random.default_rng(n + m)
    shapes = ((batch, heads, n, head_dim), (batch, kv_heads, m, head_dim), (batch, kv_heads, m, head_dim))
    return [numerics.rounded(rng.standard_normal(size, np.float32), dtype) for size in shapes]


def workload_of(shape: Shape, dtype: Dtype, causal: bool, batch: int = 1) -> Workload:
    heads, kv_heads, n, _, head_dim = shape
    return Workload(batch=batch, seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, causal=causal)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shape", [(4, 2, 9, 9, 8), (2, 2, 4, 11, 16), (3, 1, 11, 4, 8)], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_that_the_reference_is_what_is_said(form: str, shape: Shape, causal: bool) -> None:
    arrays, params = inputs(shape, batch=2), mla.MlaParams(form, 16, 8)
    expected = by_token(*arrays, params, causal)
    found = mla.reference(*arrays, workload_of(shape, "fp32", causal, 2), params)
    assert np.abs(found - expected).max() < 1e-12


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("shape", [(4, 2, 300, 300, 32), (4, 1, 40, 300, 64), (2, 2, 300, 40, 16)], ids=str)
def test_that_both_forms_give_the_same(library: str, shape: Shape) -> None:
    xp: Any = np if library == "numpy" else pytest.importorskip("torch")
    for causal in (True, False):
        arrays = [xp.asarray(x) for x in inputs(shape, batch=2)]
        w = workload_of(shape, "fp32", causal, 2)
        outs = [np.asarray(mla.run_cpu(*arrays, w, mla.MlaParams(form, 64, 16), xp, lambda: None)) for form in FORMS]
        assert np.abs(outs[0]).max() > 0.1
        assert np.abs(outs[0] - outs[1]).max() < 1e-5


def test_that_a_token_costs_its_latent_and_its_shared_key_whatever_the_heads() -> None:
    for heads, kv_heads in ((32, 32), (32, 8), (4, 1)):
        w = Workload(batch=3, seq_len=1000, num_heads=heads, num_kv_heads=kv_heads, head_dim=128, dtype="bf16")
        for form in FORMS:
            assert catalogue.find("mla").kept_bytes(w, mla.MlaParams(form, 192, 64)) == 3 * 1000 * 256 * 2


def test_that_widths_are_resolved_to_what_kernels_take() -> None:
    w = Workload(seq_len=64, num_heads=2, num_kv_heads=2)
    for latent in range(16, 193):
        found = mla.resolve(w, mla.MlaParams("absorbed", latent, 8 + latent % 57))
        assert found.half % 8 == found.rope % 8 == found.width(128) % 8 == 0
        assert found.width(128) <= 256


def test_that_maps_are_made_of_the_keys_of_all_heads() -> None:
    w = Workload(seq_len=300, num_heads=4, num_kv_heads=2, head_dim=16)
    source, params, variant = SyntheticSource(), mla.MlaParams("absorbed", 32, 8), catalogue.find("mla")
    heads = SyntheticHeads(source, w)
    q = np.stack([heads.head(0, head)[0] for head in range(4)])[None]
    k = np.stack([heads.head(0, head)[1] for head in (0, 2)])[None]
    v = np.random.default_rng(1).standard_normal(k.shape)
    truth = mla.reference(q, k, v, w, params)
    job = ReadRow(source, w, 0, 3, (Choice("mla", {"latent": 32, "rope": 8}),), 299, 0)
    row = maps.read_row(job, Sources(), lambda: None).rows[0]
    shown = np.frombuffer(row.weights.data, row.weights.dtype)
    for head in (1, 3):
        values = mla.values(v[0], w, params, head)
        found = head_maps.variant_map(variant, params, heads, 0, head, w, head_maps.MapCache(), lambda: None)
        assert np.abs(found.weights @ values - truth[0, head]).max() < 1e-5
        exact = library.attention_map(q[0, head], k[0], variant="mla", head=head, num_heads=4, latent=32, rope=8)
        assert np.abs(exact @ values - truth[0, head]).max() < 1e-10
    assert np.abs(shown - exact[299]).max() < 1e-6
    with pytest.raises(ValueError, match="k must be \\(key heads, tokens, D\\)"):
        library.attention_map(q[0, 0], k[0, 0], variant="mla", num_heads=4)


def run(device: Any, shape: Shape, dtype: Dtype, causal: bool, params: mla.MlaParams, batch: int = 1) -> float:
    """Error of a launch against float64, by norm."""
    arrays = inputs(shape, dtype, batch)
    w = workload_of(shape, dtype, causal, batch)
    q, k, v = (to_bits(x, dtype) for x in arrays)
    out = guarded(q.shape, cuda.STORED[dtype])
    mla.launch(device, q, k, v, out, w, params)
    assert guards_are_whole(out)
    got, truth = from_bits(out, dtype), mla.reference(*arrays, w, params)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


LARGEST_ERROR: dict[Dtype, float] = {"fp32": 2e-5, "fp16": 2e-3, "bf16": 1.5e-2}
"""Each of up to five products in a row rounds to the dtype."""

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")


@needs_compiler
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("form", FORMS)
def test_that_the_portable_kernels_are_right(form: str, dtype: Dtype) -> None:
    for shape, causal, batch in (((2, 1, 90, 90, 32), True, 2), ((2, 2, 70, 40, 24), False, 1), ((4, 2, 5, 300, 32), True, 1)):
        params = mla.MlaParams(form, 32, 16)
        assert run(EmulatedDevice(99 * 1024), shape, dtype, causal, params, batch) < LARGEST_ERROR[dtype], shape


class Multiplying(HopperOnCpu):
    """With products, as the portable model does them."""

    multiply = EmulatedDevice.multiply


@needs_compiler
@pytest.mark.parametrize("form", FORMS)
def test_that_the_hopper_kernels_are_right(tmp_path: Path, form: str) -> None:
    for shape, causal in (((2, 1, 200, 200, 64), True), ((2, 2, 130, 300, 64), False)):
        assert run(Multiplying(tmp_path), shape, "bf16", causal, mla.MlaParams(form, 48, 16)) < LARGEST_ERROR["bf16"]


@needs_compiler
def test_that_positions_past_the_fine_table_are_turned_by_their_own_angle() -> None:
    """fp32, so that an angle that is off by one position of many would show."""
    assert run(EmulatedDevice(99 * 1024), (1, 1, 3, 1200, 8), "fp32", True, mla.MlaParams("absorbed", 16, 8)) < 2e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [64, 1000])
def test_that_a_launch_does_and_allocates_what_the_cost_says(form: str, n: int) -> None:
    values: dict[str, ParamValue] = {"form": form, "latent": 64, "rope": 16}
    w = Workload(batch=2, seq_len=n, num_heads=4, num_kv_heads=2, head_dim=64, dtype="bf16", causal=False)
    device = WritingDevice((9, 0))
    tensors = [FakeArray((2, heads, n, 64), "uint16") for heads in (4, 2, 2, 4)]
    mla.launch(device, *tensors, w, mla.MlaParams(**values))
    cost = catalogue.cost_of(Choice("mla", values), w, "cuda")
    assert sum(array.nbytes for array in (*tensors, *device.workspaces)) == cost.held_bytes
    multiplied = sum(2 * count * rows * columns * inner for count, rows, columns, inner in device.products)
    assert multiplied == sum(step.flops for step in cost.steps if step.name != "attention")
    launches = sum(step.launches for step in cost.steps)
    assert launches == len(device.products) + len(device.launches)


def test_that_what_is_too_wide_is_refused_with_a_way_out() -> None:
    w = Workload(seq_len=64, num_heads=2, num_kv_heads=2, head_dim=256, dtype="bf16")
    launched("mla", w)
    tensors = [FakeArray((1, 2, 64, 256), "uint16")] * 4
    with pytest.raises(Unsupported, match="head dim \\+ rope 256, not 288: set form to absorbed"):
        mla.launch(WritingDevice(), *tensors, w, mla.MlaParams("naive"))
    with pytest.raises(Unsupported, match="multiple of 8"):
        launched("mla", msgspec.structs.replace(w, head_dim=20))


def test_that_numbers_of_the_dtype_are_the_signs() -> None:
    dtypes: tuple[Dtype, ...] = ("fp32", "fp16", "bf16")
    for dtype in dtypes:
        stored = stored_projections(16, 8, 2, 1, 32, dtype)
        found = projections(16, 8, 2, 1, 32)
        for bits, signs in zip(stored, (found.values_down, found.keys_down, found.queries, found.values_up), strict=True):
            assert np.array_equal(from_bits(bits, dtype), signs)

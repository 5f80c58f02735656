"""The contract of a variant, for every variant of the catalogue: a newcomer is covered without an edit here."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import plain_scores
import pytest
from attnscope_engine import catalogue
from attnscope_engine.devices.cpu import CpuDevice
from attnscope_engine.parameters import FlagField, ParamField, RealField, WholeField, WordField
from attnscope_engine.protocol import Choice, Dtype, Measure, ParamValue, Workload
from attnscope_engine.variant import Interrupted, Params, Variant
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

VARIANTS = tuple(catalogue.variants().values())
TOGETHER: dict[str, tuple[dict[str, Any], ...]] = {
    "softmax_tiled": ({"softcap": 3}, {"softcap": 30, "alibi": True}),
    "sliding_window": ({"window_size": 16, "sinks": 4}, {"window_size": 1000, "sinks": 256}),
    "chunked": ({"chunk_size": 8}, {"chunk_size": 64}, {"chunk_size": 5000}),
    "linear": tuple({"feature": feature, "normalised": False} for feature in ("elu + 1", "relu²", "exp")),
    "block_sparse": ({"window_blocks": 1, "random_blocks": 2}, {"global_blocks": 0, "random_blocks": 1, "seed": 5}),
    "dilated": ({"window_size": 7, "dilation": 3}, {"window_size": 40, "dilation": 2}, {"window_size": 5, "dilation": 100}),
    "document": ({"mean_size": 60, "seed": 7},),
    "global_tokens": ({"window_size": 9, "global_size": 40}, {"window_size": 50, "global_size": 3}),
    "prefix": ({"prefix_size": 37},),
    "strided": ({"stride": 9}, {"stride": 40, "pattern": "fixed"}, {"stride": 70, "pattern": "fixed"}),
}
"""Values beside those that every variant is tried at: more than one at once, or of a size that matters here."""
HEADS = {"MHA": (4, 4), "GQA": (4, 2), "MQA": (4, 1)}
TOLERANCE: dict[Dtype, float] = {"fp32": 2e-5, "fp16": 4e-3, "bf16": 3e-2}
"""Largest error of a run against float64 on the same rounded inputs of unit scale: a few roundings of the stored dtype."""


def tried(variant: Variant) -> Iterator[dict[str, Any]]:
    """The defaults, every sample of every declared parameter, some of each at a time, and what stands in `TOGETHER`."""
    samples = {field.name: field.samples() for field in variant.fields()}
    yield {}
    for index in range(max(map(len, samples.values()), default=0)):
        yield {name: values[index % len(values)] for name, values in samples.items()}
    yield from TOGETHER.get(variant.name, ())


def cases() -> Iterator[Any]:
    for variant in VARIANTS:
        for values in tried(variant):
            name = "-".join([variant.name, *(f"{key}{value}" for key, value in values.items())])
            yield pytest.param(variant, variant.parse(values), id=name)


def cases_and_masks() -> Iterator[Any]:
    """Causal, and full where there is a full form; `test_recurrent.py` has the refusals of the others."""
    for case in cases():
        for causal in (True, False) if not case.values[0].causal_only else (True,):
            yield pytest.param(*case.values, causal, id=f"{'causal' if causal else 'full'}-{case.id}")


every_case = pytest.mark.parametrize(("variant", "params"), list(cases()))
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
every_case_and_mask = pytest.mark.parametrize(("variant", "params", "causal"), list(cases_and_masks()))


def workload_of(
    n: int, heads: str = "MHA", *, causal: bool = True, dtype: Dtype = "fp32", batch: int = 1, head_dim: int = 16
) -> Workload:
    num_heads, num_kv_heads = HEADS[heads]
    return Workload(batch, n, num_heads, num_kv_heads, 16, 1, dtype, causal)


def inputs_of(w: Workload, m: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(w.seq_len + 31 * w.num_kv_heads)
    query = (w.batch, w.num_heads, w.seq_len, w.head_dim)
    keys = (w.batch, w.num_kv_heads, m or w.seq_len, w.head_dim)
    return rng.standard_normal(query), rng.standard_normal(keys), rng.standard_normal(keys)


def quiet() -> None:
    """A tick that never interrupts."""


def seen_pairs(variant: Variant, params: Params, w: Workload) -> int:
    every = np.arange(w.seq_len)
    return int(variant.visible(w, variant.resolve(w, params), every, every).sum())


# ---------------------------------------------------------------- what it says of itself


@every_variant
def test_that_names_source_formula_and_parameters_are_written(variant: Variant) -> None:
    assert variant.title
    assert variant.formula
    assert "arXiv" in variant.source
    assert variant.summary(variant.params())
    assert variant.like != variant.name
    for field in variant.fields():
        assert field.help
        assert field.unit or isinstance(field, FlagField | WordField)
        assert field.allows(field.default)


def wrong_values(field: ParamField) -> tuple[ParamValue, ...]:
    """What lies next to what is allowed."""
    match field:
        case WholeField():
            return field.low - 1, field.high + 1, True, "7"
        case RealField():
            return field.low - field.step, field.high + field.step, field.low + field.step / 3, float("nan"), True
        case FlagField():
            return 1, "true"
        case WordField():
            return field.words[0] + "x", "", True


@every_variant
def test_that_bounds_are_checked_and_named(variant: Variant) -> None:
    for field in variant.fields():
        for value in wrong_values(field):
            with pytest.raises(ValueError, match=f"{field.name} must be {re.escape(field.allowed)}"):
                variant.parse({field.name: value})
    with pytest.raises(ValueError, match="no_such"):
        variant.parse({"no_such": 1})


@every_case
def test_that_each_setting_has_a_summary_of_its_own(variant: Variant, params: Params) -> None:
    assert (variant.summary(params) == variant.summary(variant.params())) == (params == variant.params())


@every_case
@pytest.mark.parametrize("n", [1, 17, 4096])
def test_that_resolving_twice_is_resolving_once(variant: Variant, params: Params, n: int) -> None:
    w = workload_of(n)
    once = variant.resolve(w, params)
    assert variant.resolve(w, once) == once


def test_that_the_catalogue_is_the_folder_in_order() -> None:
    names = list(catalogue.variants())
    assert names[:5] == ["softmax_naive", "softmax_tiled", "sliding_window", "linear", "chunked"]
    with pytest.raises(ValueError, match="softmax_naive"):
        catalogue.find("nothing")


# ---------------------------------------------------------------- what it computes


def ten_line_loop(variant: Variant, params: Params, w: Workload, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Row by row, pair by pair, in float64, from the definition: softmax, or the features of linear attention."""
    out = np.zeros(q.shape)
    n, m = q.shape[2], k.shape[2]
    group = q.shape[1] // k.shape[1]
    seen = variant.visible(w, params, np.arange(n) + m - n, np.arange(m))
    if variant.name == "linear":
        feature = FEATURES[params.feature]  # type: ignore[attr-defined]
    for b, h, i in itertools.product(range(q.shape[0]), range(q.shape[1]), range(n)):
        keys = [j for j in range(m) if seen[i, j]]
        if not keys:
            continue
        rows = k[b, h // group, keys]
        if variant.name == "linear":
            share = feature(rows) @ feature(q[b, h, i])
            if not params.normalised:  # type: ignore[attr-defined]
                out[b, h, i] = share @ v[b, h // group, keys] / np.sqrt(q.shape[3])
                continue
        else:
            score = rows @ q[b, h, i] / np.sqrt(q.shape[3])
            if getattr(params, "softcap", 0):
                score = params.softcap * np.tanh(score / params.softcap)
            if getattr(params, "alibi", 0):
                score = score - plain_scores.slopes(q.shape[1])[h] * np.array([abs(i + m - n - j) for j in keys])
            share = np.exp(score - score.max())
        out[b, h, i] = share @ v[b, h // group, keys] / (share.sum() or 1)
    return out


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "elu + 1": lambda x: np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))),
    "relu": lambda x: x * (x > 0),
    "relu²": lambda x: x * x * (x > 0),
    "exp": np.exp,
    "identity": lambda x: x,
}


def has_a_loop(variant: Variant) -> bool:
    """Whether `ten_line_loop` is its definition; the tests of the others' own files have theirs."""
    return variant.plain_softmax or variant.name == "linear"


@every_case_and_mask
@pytest.mark.parametrize(("heads", "n"), [("MHA", 1), ("GQA", 2), ("MQA", 63), ("GQA", 100)])
def test_that_the_reference_is_the_definition(variant: Variant, params: Params, heads: str, n: int, causal: bool) -> None:
    if not has_a_loop(variant):
        pytest.skip("its definition is not that of plain attention")
    w = workload_of(n, heads, causal=causal, batch=2 if n < 50 else 1)
    params = variant.resolve(w, params)
    q, k, v = inputs_of(w)
    loop = ten_line_loop(variant, params, w, q, k, v)
    assert np.abs(variant.reference(q, k, v, w, params) - loop).max() < 1e-12 * size_of(loop)


@every_case_and_mask
@pytest.mark.parametrize(("heads", "n"), [("GQA", 1), ("MHA", 63), ("MQA", 63), ("GQA", 700)])
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_that_a_run_is_the_reference(variant: Variant, params: Params, library: str, heads: str, n: int, causal: bool) -> None:
    w = workload_of(n, heads, causal=causal)
    params = variant.resolve(w, params)
    wide = inputs_of(w)
    dtypes: tuple[Dtype, ...] = ("fp32", "fp16", "bf16") if library == "torch" else ("fp32", "fp16")
    for dtype in dtypes:
        rounded, run = stored(wide, dtype, library)
        truth = variant.reference(*rounded, w, params)
        out = variant.run_cpu(*run, msgspec.structs.replace(w, dtype=dtype), params, xp_of(library), quiet)
        got = out.to(torch.float64).numpy() if library == "torch" else out.astype(np.float64)
        assert got.shape == truth.shape
        assert np.abs(got - truth).max() < TOLERANCE[dtype] * size_of(truth), dtype


def size_of(truth: np.ndarray) -> float:
    """Scores that are not normalised give outputs of any size."""
    return max(1.0, float(np.abs(truth).max()))


def xp_of(library: str) -> Any:
    return torch if library == "torch" else np


def stored(wide: tuple[np.ndarray, ...], dtype: Dtype, library: str) -> tuple[list[np.ndarray], list[Any]]:
    """The inputs rounded to a dtype, as float64 and as the library's own."""
    if library == "torch":
        kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        run = [torch.from_numpy(x).to(kinds[dtype]) for x in wide]
        return [x.to(torch.float64).numpy() for x in run], run
    own = [x.astype(np.float32 if dtype == "fp32" else np.float16) for x in wide]
    return [x.astype(np.float64) for x in own], own


@every_case_and_mask
@pytest.mark.parametrize(("n", "m"), [(1, 9), (5, 40), (40, 5), (3, 200)])
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_that_fewer_or_more_queries_than_keys_are_aligned_at_the_end(
    variant: Variant, params: Params, library: str, n: int, m: int, causal: bool
) -> None:
    w = workload_of(n, "GQA", causal=causal)
    params = variant.resolve(msgspec.structs.replace(w, seq_len=max(n, m)), params)
    rounded, run = stored(inputs_of(w, m), "fp32", library)
    truth = variant.reference(*rounded, w, params)
    if has_a_loop(variant):
        assert np.abs(truth - ten_line_loop(variant, params, w, *rounded)).max() < 1e-12 * size_of(truth)
    out = variant.run_cpu(*run, w, params, xp_of(library), quiet)
    got = out.numpy() if library == "torch" else out
    assert np.abs(got - truth).max() < TOLERANCE["fp32"] * size_of(truth)


@every_case_and_mask
@pytest.mark.parametrize("heads", HEADS)
def test_that_the_map_times_v_is_the_output(variant: Variant, params: Params, heads: str, causal: bool) -> None:
    if variant.why_no_map:
        pytest.skip(variant.why_no_map)
    w = workload_of(97, heads, causal=causal)
    params = variant.resolve(w, params)
    q, k, v = inputs_of(w)
    rows, group = np.array([0, 1, 31, 32, 96]), w.num_heads // w.num_kv_heads
    truth = variant.reference(q, k, v, w, params)
    for head in range(w.num_heads):
        keys = k[0] if variant.mixes_heads else k[0, head // group]
        weights, seen = variant.rows_of_map(q[0, head], keys, w, params, rows, head)
        assert weights.shape == seen.shape == (5, 97)
        values = variant.values(v[0], w, params, head) if variant.values else v[0, head // group]
        assert np.abs(weights @ values - truth[0, head, rows]).max() < 1e-12 * size_of(truth)
        assert not weights[~seen].any()
        if variant.is_normalised(params):
            something = weights.any(axis=1)
            assert np.abs(weights.sum(axis=1)[something] - 1).max(initial=0) < 1e-12
        if not variant.is_signed(params):
            assert (weights >= 0).all()
        if variant.plain_softmax:
            assert (weights[seen] > 0).all()


@every_case
def test_that_what_is_kept_never_shrinks_and_is_said_by_every_linear_variant(variant: Variant, params: Params) -> None:
    kept = [variant.kept_bytes(workload_of(n), variant.resolve(workload_of(n), params)) for n in (1, 100, 4096)]
    assert 0 < kept[0] <= kept[1] <= kept[2]
    assert variant.family != "linear" or variant.state_bytes is not None


@every_variant
def test_that_a_tick_can_interrupt_a_run(variant: Variant) -> None:
    w = workload_of(64)
    calls = []

    def tick() -> None:
        calls.append(1)
        raise Interrupted

    run = [torch.from_numpy(x).float() for x in inputs_of(w)]
    with pytest.raises(Interrupted):
        variant.run_cpu(*run, w, variant.resolve(w, variant.params()), torch, tick)
    assert calls == [1]


# ---------------------------------------------------------------- what it costs


@every_case_and_mask
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 200])
def test_that_softmax_operations_are_the_pairs_that_are_seen(variant: Variant, params: Params, n: int, causal: bool) -> None:
    w = workload_of(n, causal=causal)
    cost = variant.cost(w, variant.resolve(w, params), "cuda")
    if not variant.plain_softmax:
        pytest.skip("its operations are not those of the pairs alone")
    pairs = w.batch * w.num_heads * seen_pairs(variant, params, w)
    assert cost.flops == 4 * pairs * w.head_dim
    assert sum(step.exps for step in cost.steps) >= w.num_heads * seen_pairs(variant, params, w)


@every_case
@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 1 << 20), causal=st.booleans(), heads=st.sampled_from(sorted(HEADS)), on=st.sampled_from(["cpu", "cuda"]))
def test_that_a_cost_is_positive_and_named_at_any_length(
    variant: Variant, params: Params, n: int, causal: bool, heads: str, on: Any
) -> None:
    w = workload_of(n, heads, causal=causal)
    cost = variant.cost(w, variant.resolve(w, params), on)
    assert cost.flops > 0
    assert all(step.bytes_moved > 0 and step.launches > 0 for step in cost.steps)  # a step may do nothing but move
    assert all(term.bytes_ >= 0 and term.name and term.formula for term in cost.held)
    tensors = 2 * (w.num_heads + w.num_kv_heads) * n * w.head_dim * w.item_bytes
    assert cost.held_bytes >= tensors
    longer = variant.cost(msgspec.structs.replace(w, seq_len=min(2 * n, 1 << 20)), params, on)
    assert longer.held_bytes >= cost.held_bytes


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@every_variant
def test_that_predicted_memory_is_what_is_measured(variant: Variant, dtype: Dtype, library: str) -> None:
    w = Workload(1, 1024, 4, 2, 64, 1, dtype, True)
    if library == "numpy":
        pytest.skip("the prediction is of torch's blocks; numpy's are measured in the exponents below")
    prepared = CpuDevice(library).prepare(Measure(w, Choice(variant.name)))
    measured, predicted = prepared.peak_bytes(quiet), variant.cost(w, variant.resolve(w, variant.params()), "cpu").held_bytes
    prepared.close()
    assert measured <= predicted <= 1.05 * measured


@pytest.mark.parametrize("library", ["torch", "numpy"])
@every_variant
def test_that_peak_memory_grows_as_the_variant_says(variant: Variant, library: str) -> None:
    """Exponent of n between 2,048 and 4,096, measured by the allocator: 2 where a term grows as n², at most 1 elsewhere."""
    device = CpuDevice(library)
    peaks = []
    for n in (2048, 4096):
        w = Workload(1, n, 2, 1, 32, 1, "fp32", True)
        prepared = device.prepare(Measure(w, Choice(variant.name)))
        peaks.append(prepared.peak_bytes(quiet))
        prepared.close()
    exponent = np.log2(peaks[1] / peaks[0])
    held = variant.cost(w, variant.resolve(w, variant.params()), "cpu").held
    if any(term.growth == "n2" for term in held):
        assert exponent == pytest.approx(2, abs=0.05)
    else:
        assert exponent <= 1.05

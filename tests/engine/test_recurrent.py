"""Linear and recurrent variants: recurrence, chunked run and closed-form map are one function, however strong the gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue, gates, library, maps
from attnscope_engine.head_maps import MapCache
from attnscope_engine.protocol import Choice, DrawMap, ReadRow, SyntheticSource, Workload
from attnscope_engine.sources import Sources
from attnscope_engine.variant import Params, Unsupported, Variant
from paper_recurrences import RECURRENCES, recurrence, signs

torch = pytest.importorskip("torch")

STRONG: dict[str, tuple[dict[str, Any], ...]] = {
    "retnet": ({"exponent": 1},),
    "simple_gla": ({"half_life": 1}, {"half_life": 1_048_576}),
    "mamba2": ({"half_life": 1}, {"half_life": 1_048_576, "skip": False}),
    "gla": ({"half_life": 1}, {"half_life": 1_048_576}),
    "gated_deltanet": ({"half_life": 1}, {"half_life": 1_048_576}),
    "kda": ({"half_life": 1}, {"half_life": 1_048_576}),
}
"""Parameters besides the defaults: the strongest gates and hardly any."""


def cases() -> Iterator[Any]:
    for name in RECURRENCES:
        variant = catalogue.find(name)
        for values in ({}, *STRONG.get(name, ())):
            words = "-".join([name, *(f"{key}{value}" for key, value in values.items())])
            yield pytest.param(variant, variant.parse(values), id=words)


every_case = pytest.mark.parametrize(("variant", "params"), list(cases()))
both = pytest.mark.parametrize("library_name", ["numpy", "torch"])


def drawn(n: int, m: int, heads: tuple[int, int], d: int = 16, batch: int = 1, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed + n + 1000 * m)
    return [rng.standard_normal((batch, h, tokens, d)) for h, tokens in ((heads[0], n), (heads[1], m), (heads[1], m))]


def shape_of(q: np.ndarray, k: np.ndarray, **fields: Any) -> Workload:
    return Workload(q.shape[0], max(q.shape[2], k.shape[2]), q.shape[1], k.shape[1], q.shape[3], 1, "fp32", **fields)


def run(variant: Variant, params: Params, arrays: list[np.ndarray], library_name: str) -> np.ndarray:
    """`run_cpu` in the arrays' own type."""
    w, xp = shape_of(*arrays[:2]), torch if library_name == "torch" else np
    own = [torch.from_numpy(np.ascontiguousarray(x)) for x in arrays] if library_name == "torch" else arrays
    return np.asarray(variant.run_cpu(*own, w, params, xp, lambda: None))


def scale_of(truth: np.ndarray) -> float:
    return max(1.0, float(np.abs(truth).max(initial=0)))


# ---------------------------------------------------------------- one function, four ways


@every_case
@pytest.mark.parametrize("heads", [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 2), (63, 63), (100, 100), (257, 257), (5, 90), (90, 5)])
def test_that_the_reference_is_the_papers_recurrence(
    variant: Variant, params: Params, n: int, m: int, heads: tuple[int, int]
) -> None:
    q, k, v = drawn(n, m, heads)
    k[0, 0, -1] = 0  # a key without direction
    truth = recurrence(variant.name, params, q, k, v)
    found = variant.reference(q, k, v, shape_of(q, k), params)
    assert np.abs(found - truth).max() <= 1e-12 * scale_of(truth)


@every_case
@both
@pytest.mark.parametrize("heads", [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 2), (63, 63), (64, 64), (100, 100), (257, 257), (5, 300), (300, 5), (130, 200)])
def test_that_the_chunked_run_is_the_recurrence_in_float64(
    variant: Variant, params: Params, n: int, m: int, heads: tuple[int, int], library_name: str
) -> None:
    arrays = drawn(n, m, heads, batch=2 if n < 50 else 1)
    truth = recurrence(variant.name, params, *arrays)
    assert np.abs(run(variant, params, arrays, library_name) - truth).max() <= 1e-11 * scale_of(truth)


@every_case
@pytest.mark.parametrize("n", [1, 2, 63, 100, 257])
def test_that_with_the_unit_matrix_for_v_the_output_is_the_map(variant: Variant, params: Params, n: int) -> None:
    """Of any method that is linear in V, whatever it is: A = A·I, from the run and from the reference."""
    q, k, _ = drawn(n, n, (4, 2))
    unit = np.broadcast_to(np.eye(n), (1, 2, n, n))
    w = shape_of(q, k)
    truth = variant.reference(q, k, unit, w, params)
    ran = run(variant, params, [q, k, unit], "numpy")
    for head in range(4):
        found, seen = variant.rows_of_map(q[0, head], k[0, head // 2], w, params, np.arange(n), head)
        assert np.abs(found - truth[0, head]).max() <= 1e-10 * scale_of(truth)
        assert np.abs(found - ran[0, head]).max() <= 1e-10 * scale_of(truth)
        assert np.array_equal(seen, np.tri(n, dtype=bool))
        assert not found[~seen].any()


@every_case
@pytest.mark.parametrize(("n", "m"), [(100, 100), (7, 90), (90, 7)])
def test_that_any_rows_are_those_rows_of_the_map(variant: Variant, params: Params, n: int, m: int) -> None:
    q, k, _ = (x[0, 0] for x in drawn(n, m, (1, 1)))
    w = shape_of(q[None, None], k[None, None])
    whole = variant.weights(q, k, w, params, np.arange(n), 0)
    for rows in ([n - 1], [0], [3, 3, 1], list(range(2, 7)), [6, 2, 5, 0]):
        some = variant.weights(q, k, w, params, np.array(rows), 0)
        assert np.abs(some - whole[rows]).max() <= 1e-12 * scale_of(whole)
        assert not whole[: max(0, n - m)].any()


@every_case
@both
@pytest.mark.parametrize("amplitude", [1.0, 1e3])
def test_that_the_strongest_gates_neither_overflow_nor_become_nan(
    variant: Variant, params: Params, library_name: str, amplitude: float
) -> None:
    """All keys point where the gates are strongest: within a chunk what is left falls below any number."""
    q, k, v = drawn(200, 200, (2, 1))
    toward = signs(0, 0, 16)
    k = (k * 0.05 + toward) * amplitude
    q = q / np.sqrt(amplitude)
    single = [x.astype(np.float32) for x in (q, k, v)]
    truth = recurrence(variant.name, params, *(x.astype(np.float64) for x in single))
    out = run(variant, params, single, library_name)
    assert np.isfinite(truth).all()
    assert np.abs(out - truth).max() <= 2e-5 * scale_of(truth)
    weights = variant.weights(single[0][0, 0], single[1][0, 0], shape_of(q, k), params, np.arange(200), 0)
    assert np.abs(weights @ single[2][0, 0].astype(np.float64) - truth[0, 0]).max() <= 1e-10 * scale_of(truth)


# ---------------------------------------------------------------- only causal


@pytest.mark.parametrize("name", RECURRENCES)
def test_that_a_full_mask_is_refused_with_the_way_out(name: str) -> None:
    variant, (q, k, v) = catalogue.find(name), drawn(64, 64, (2, 1))
    w = shape_of(q, k, causal=False)
    assert variant.title in variant.causal_only
    assert "set the mask to causal" in variant.causal_only
    refusal = catalogue.admission(Choice(name), w, "cpu", 1 << 40, 1 << 40)
    assert refusal is not None
    assert (refusal.reason, refusal.text, refusal.variant) == ("unsupported", variant.causal_only, name)
    assert catalogue.admission(Choice(name), shape_of(q, k), "cpu", 1 << 40, 1 << 40) is None
    with pytest.raises(Unsupported, match="causal only"):
        variant.run_cpu(q, k, v, w, variant.parse({}), np, lambda: None)
    with pytest.raises(ValueError, match="causal only"):
        library.attention(q, k, v, variant=name, causal=False)
    with pytest.raises(ValueError, match="causal only"):
        library.attention_map(q[0, 0], k[0, 0], variant=name, causal=False)
    assert library.attention(q, k, v, variant=name).shape == q.shape


@pytest.mark.parametrize("name", RECURRENCES)
def test_that_a_map_with_a_full_mask_is_refused_and_its_row_is_the_causal_one(name: str) -> None:
    panels, source = (Choice(name), Choice("linear")), SyntheticSource("needle", 3)
    full, causal = (Workload(1, 40, 2, 1, 16, 1, "fp32", mask) for mask in (False, True))
    plenty = maps.Fits("cpu", 1 << 40, 1 << 40)
    job = DrawMap(source, full, 0, 1, panels, (0, 40), (0, 40))
    refused, drawn_one = maps.draw_map(job, Sources(), MapCache(), plenty, lambda: None).pictures
    assert refused.refusal is not None
    assert "causal only" in refused.refusal.text
    assert drawn_one.refusal is None
    rows = [maps.read_row(ReadRow(source, w, 0, 1, panels, 30, 3), Sources(), lambda: None).rows for w in (full, causal)]
    assert rows[0][0].weights == rows[1][0].weights
    assert rows[0][1].weights != rows[1][1].weights


# ---------------------------------------------------------------- gates


def test_that_the_signs_are_what_the_formula_says_and_as_good_as_drawn() -> None:
    for purpose, number in (("decay", 0), ("write", 1)):
        found = gates.signs(purpose, range(8), 128)
        assert np.array_equal(found, np.array([signs(number, group, 128) for group in range(8)]))
        assert np.abs(found.mean()) < 0.1
    every = np.concatenate([gates.signs("decay", range(8), 128), gates.signs("write", range(8), 128)]) / np.sqrt(128)
    assert np.abs(every @ every.T - np.eye(16)).max() < 0.35, "two heads' directions are nearly at right angles"


@pytest.mark.parametrize("half_life", [1, 16, 1000])
def test_that_a_middling_gate_halves_the_state_in_its_half_life(half_life: int) -> None:
    k = np.random.default_rng(1).standard_normal((1, 5000, 64))
    decays = gates.decays_of(k, [0], half_life)
    assert np.exp(np.median(decays) * half_life) == pytest.approx(0.5, abs=0.02)
    assert (decays < 0).all()
    assert gates.decays_of(1e6 * k, [0], half_life) == pytest.approx(decays, rel=1e-9), "the length of keys does not matter"


def test_that_gates_of_zeros_are_middling() -> None:
    zeros = np.zeros((1, 3, 16), np.float32)
    assert gates.decays_of(zeros, [0], 10) == pytest.approx(-np.log(2) / 10)
    assert gates.channel_decays_of(zeros, [0], 10) == pytest.approx(-np.log(2) / 10)
    assert gates.steps_of(zeros, [0]) == pytest.approx(np.log(2))
    assert gates.write_strengths_of(zeros, [0]) == pytest.approx(0.5)


# ---------------------------------------------------------------- features that are exponentials


@both
@pytest.mark.parametrize("causal", [True, False])
def test_that_exponential_features_of_large_numbers_do_not_overflow(library_name: str, causal: bool) -> None:
    """Numbers of ±90, whose exponentials fp32 can not hold and whose products float64 still can."""
    q, k, v = (x.astype(np.float32) for x in drawn(300, 300, (2, 1)))
    q, k = np.clip(q * 30, -90, 90), np.clip(k * 30, -90, 90)
    variant = catalogue.find("linear")
    params = variant.parse({"feature": "exp"})
    w, xp = shape_of(q, k, causal=causal), torch if library_name == "torch" else np
    own = [torch.from_numpy(x) for x in (q, k, v)] if library_name == "torch" else (q, k, v)
    out = np.asarray(variant.run_cpu(*own, w, params, xp, lambda: None))
    truth = variant.reference(q, k, v, w, params)
    assert np.isfinite(truth).all()
    assert np.abs(out - truth).max() <= 2e-5 * scale_of(truth)

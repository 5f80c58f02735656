"""Soft cap and ALiBi: the numbers themselves, and what a variant that changes scores is held to beyond the contract of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import plain_scores
import pytest
from attnscope_engine import attend as attending
from attnscope_engine import attend_changed, attention_map, catalogue, numerics
from attnscope_engine.attend import attend
from attnscope_engine.devices.cpu import CpuDevice
from attnscope_engine.head_maps import MapCache, variant_map, variant_weights
from attnscope_engine.protocol import Choice, Dtype, Measure, Workload
from attnscope_engine.regions import Limits, strips
from attnscope_engine.scores import ScoreChange, slopes
from attnscope_engine.variants import sliding_window
from attnscope_engine.variants.softmax_tiled import VARIANT

torch = pytest.importorskip("torch")

CHANGES = ({"softcap": 3}, {"alibi": True}, {"softcap": 30, "alibi": True})
every_change = pytest.mark.parametrize("values", CHANGES, ids=lambda values: "-".join(map(str, values.items())))
both_libraries = pytest.mark.parametrize("xp", [torch, np], ids=["torch", "numpy"])


def quiet() -> None:
    """A tick that never interrupts."""


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 9, 12, 16, 20, 64, 255, 256])
def test_that_slopes_are_those_of_the_paper(heads: int) -> None:
    assert slopes(heads) == pytest.approx(plain_scores.slopes(heads), rel=1e-12)
    assert slopes(8).tolist() == [2.0**-i for i in range(1, 9)]


@both_libraries
def test_that_both_changes_are_their_formulas(xp: Any) -> None:
    scores = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32) * 20
    distance = np.abs(np.arange(5)[:, None] + 2 - np.arange(7)).astype(np.float32)
    for values in CHANGES:
        own = np.asarray(slopes(3), np.float32)[:, None, None]
        arrays = [xp.asarray(x.copy()) for x in (scores, distance, own)]
        ScoreChange(values.get("softcap", 0), bool(values.get("alibi"))).apply(*arrays, xp)
        np.testing.assert_allclose(np.asarray(arrays[0]), plain_scores.changed(scores, values), rtol=2e-6, atol=2e-5)


@every_change
@pytest.mark.parametrize(("n", "m"), [(33, 33), (9, 33), (33, 9)])
@pytest.mark.parametrize("causal", [True, False])
def test_that_the_reference_and_the_map_are_the_plain_formula(values: dict[str, int], n: int, m: int, causal: bool) -> None:
    rng = np.random.default_rng(1)
    q, k = 3 * rng.standard_normal((2, 6, n, 16)), 3 * rng.standard_normal((2, 3, m, 16))
    w = Workload(batch=2, seq_len=max(n, m), num_heads=6, num_kv_heads=3, head_dim=16, dtype="fp32", causal=causal)
    params = VARIANT.parse(values)
    scores = plain_scores.changed(q @ np.repeat(k, 2, axis=1).swapaxes(-1, -2) / 4, values)
    if causal:
        scores[..., np.arange(n)[:, None] + m - n < np.arange(m)] = -np.inf
    parts = np.exp(scores)
    truth = parts / np.maximum(parts.sum(-1, keepdims=True), 1e-300)
    one_hot = np.broadcast_to(np.eye(m), (2, 3, m, m))
    np.testing.assert_allclose(VARIANT.reference(q, k, one_hot, w, params), truth, atol=1e-12)
    for head in range(6):
        rows = np.array([0, n // 2, n - 1])
        np.testing.assert_allclose(
            VARIANT.weights(q[1, head], k[1, head // 2], w, params, rows, head), truth[1, head, rows], atol=1e-12
        )


@every_change
@both_libraries
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("cut", [Limits(300, 16, 4), Limits(5000, 30, 1)], ids=lambda cut: str(cut.pairs))
@pytest.mark.parametrize(("n", "m"), [(61, 61), (30, 61), (61, 30)])
def test_that_cutting_into_blocks_moves_no_distance(
    monkeypatch: pytest.MonkeyPatch, xp: Any, values: dict[str, int], causal: bool, cut: Limits, n: int, m: int
) -> None:
    """Over the bands of a window with sinks, which are cut into every kind of part: moving, repeated and turned round."""
    monkeypatch.setattr(attending, "limits", lambda head_dim, xp, changes: cut)
    rng = np.random.default_rng(2)
    q, k, v = (2 * rng.standard_normal((2, heads, rows, 8), dtype=np.float32) for heads, rows in ((6, n), (3, m), (3, m)))
    w = Workload(batch=2, seq_len=n, num_heads=6, num_kv_heads=3, head_dim=8, dtype="fp32", causal=causal)
    window = catalogue.find("sliding_window")
    params = window.parse({"window_size": 11, "sinks": 3})
    seen = window.visible(w, params, np.arange(n) + m - n, np.arange(m))
    scores = plain_scores.changed(q.astype(np.float64) @ np.repeat(k, 2, axis=1).swapaxes(-1, -2) * 8**-0.5, values)
    truth = numerics.softmax_rows(scores, seen) @ np.repeat(v, 2, axis=1)
    pieces = strips(sliding_window.bands(w, params, m), m - n, m, cut)
    change = ScoreChange(values.get("softcap", 0), bool(values.get("alibi")))
    out = np.asarray(attend(*(xp.asarray(x) for x in (q, k, v)), pieces, xp, quiet, change=change))
    assert np.abs(out - truth).max() < 2e-5


@every_change
@pytest.mark.parametrize("head", [0, 2])
def test_that_the_fast_map_is_the_exact_one_and_no_longer_plain_softmaxs(values: dict[str, int], head: int) -> None:
    w = Workload(seq_len=300, num_heads=3, num_kv_heads=1, head_dim=16)
    q, k = 2 * np.random.default_rng(3).standard_normal((2, 300, 16)).astype(np.float32)
    params = VARIANT.parse(values)
    exact = VARIANT.weights(q, k, w, params, np.arange(300), head)
    fast, _ = variant_weights(VARIANT, params, q, k, w, head, quiet)
    np.testing.assert_allclose(fast, exact, rtol=2e-4, atol=1e-7)

    class OneHead:
        key = "one"

        def head(self, layer: int, head: int) -> tuple[np.ndarray, np.ndarray]:
            return q, k

    cache, heads = MapCache(), OneHead()
    plain, changed, naive = (
        variant_map(found, found.parse(chosen), heads, 0, head, w, cache, quiet)  # type: ignore[arg-type]
        for found, chosen in ((VARIANT, {}), (VARIANT, values), (catalogue.find("softmax_naive"), {}))
    )
    assert plain is naive, "exact softmax variants share a map"
    np.testing.assert_allclose(changed.weights, exact, rtol=2e-4, atol=1e-7)
    assert np.abs(plain.weights - changed.weights).max() > 0.01


def test_that_a_map_of_one_head_from_python_has_that_heads_slope() -> None:
    q, k = np.zeros((20, 8)), np.zeros((20, 8))
    for head in range(6):
        last = attention_map(q, k, alibi=True, head=head, num_heads=6)[-1]
        assert last[-1] / last[-2] == pytest.approx(np.exp(plain_scores.slopes(6)[head]))
    with pytest.raises(ValueError, match="head must be 0 to 5, was 6"):
        attention_map(q, k, alibi=True, head=6, num_heads=6)


def test_that_a_soft_cap_costs_an_exponential_more_a_pair() -> None:
    w = Workload(seq_len=1000, num_heads=4, num_kv_heads=2)
    plain, capped, biased = (VARIANT.cost(w, VARIANT.parse(values), "cuda") for values in ({}, {"softcap": 50}, {"alibi": True}))
    assert capped.steps[0].exps == 2 * plain.steps[0].exps == 2 * 4 * w.pairs
    assert biased == plain
    assert (capped.flops, capped.held) == (plain.flops, plain.held)


def test_that_values_are_arguments_of_one_kernel_and_off_is_the_kernel_without() -> None:
    assert ScoreChange(3, False).defines() == ScoreChange(100, False).defines() == {"SOFTCAP": 1, "ALIBI": 0}
    assert ScoreChange(0, True).defines() == {"SOFTCAP": 0, "ALIBI": 1}
    assert ScoreChange().defines() == {}


@every_change
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("n", [64, 1024, 3000])
def test_that_predicted_memory_is_at_least_what_is_measured(values: dict[str, int], dtype: Dtype, n: int) -> None:
    w = Workload(1, n, 4, 2, 64, 1, dtype, True)
    prepared = CpuDevice("torch").prepare(Measure(w, Choice("softmax_tiled", values)))
    measured, predicted = prepared.peak_bytes(quiet), VARIANT.cost(w, VARIANT.parse(values), "cpu").held_bytes
    prepared.close()
    assert measured <= predicted <= measured + 4 * attend_changed.LIMITS.pairs, "a block of scores more at most"


def test_that_the_line_under_the_title_names_what_is_on() -> None:
    assert [VARIANT.summary(VARIANT.parse(values)) for values in ({}, *CHANGES)] == [
        "softmax, tiled",
        "tiled · cap 3",
        "tiled · ALiBi",
        "tiled · cap 30 · ALiBi",
    ]

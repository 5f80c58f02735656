"""Blocks of attention merged by their log-sum-exp, with limits so small that everything is cut: columns, rows, heads, blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attnscope_engine import attend as attending
from attnscope_engine import catalogue
from attnscope_engine.protocol import Workload
from attnscope_engine.regions import Band, Edge, Limits, chunk_strips, still, strips
from attnscope_engine.variants import sliding_window

torch = pytest.importorskip("torch")
CUTS = [Limits(pairs=64, queries=16, rows=4), Limits(pairs=700, queries=64, rows=8), Limits(pairs=5000, queries=30, rows=1)]


@pytest.fixture(params=["torch", "numpy"])
def xp(request: pytest.FixtureRequest) -> Any:
    return torch if request.param == "torch" else np


def quiet() -> None:
    """A tick that never interrupts."""


def regions(name: str, values: dict[str, int], n: int, m: int, causal: bool, allowed: Limits) -> Any:
    if name == "chunked":
        return chunk_strips(m - n, m, values["chunk_size"], causal, allowed)
    if name == "softmax_tiled":
        return strips((Band(still(0), Edge(1, 0, m) if causal else still(m)),), m - n, m, allowed)
    workload = Workload(seq_len=n, causal=causal)
    return strips(sliding_window.bands(workload, catalogue.find(name).parse(values), m), m - n, m, allowed)


@pytest.mark.parametrize("allowed", CUTS, ids=lambda cut: f"{cut.pairs}-{cut.queries}-{cut.rows}")
@pytest.mark.parametrize(("n", "m"), [(97, 97), (40, 97), (97, 40)])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)], ids=["MHA", "GQA", "MQA"])
@pytest.mark.parametrize(
    ("name", "values"),
    [("softmax_tiled", {}), ("sliding_window", {"window_size": 11, "sinks": 3}), ("chunked", {"chunk_size": 10})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_that_cutting_changes_nothing(
    xp: Any, monkeypatch: pytest.MonkeyPatch, name: str, values: dict, heads: tuple, causal: bool, n: int, m: int, allowed: Limits
) -> None:
    variant = catalogue.find(name)  # imported before `limits` is another: it would keep that one
    monkeypatch.setattr(attending, "limits", lambda head_dim, xp: allowed)
    rng = np.random.default_rng(n + m)
    q, k, v = (
        rng.standard_normal((2, h, length, 8), dtype=np.float32)
        for h, length in zip((heads[0], heads[1], heads[1]), (n, m, m), strict=True)
    )
    workload = Workload(batch=2, seq_len=n, num_heads=heads[0], num_kv_heads=heads[1], head_dim=8, dtype="fp32", causal=causal)
    truth = variant.reference(q, k, v, workload, variant.parse(values))
    inputs = (q, k, v) if xp is np else [torch.from_numpy(x) for x in (q, k, v)]
    found = regions(name, values, n, m, causal, allowed)
    out = np.asarray(attending.attend(*inputs, found, xp, quiet))
    assert np.abs(out - truth).max() < 3e-6


def test_that_no_call_is_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that newer work waits for one call at most."""
    allowed = Limits(pairs=4096, queries=128, rows=16)
    monkeypatch.setattr(attending, "limits", lambda head_dim, xp: allowed)
    calls = []
    square = attending.square

    def counted(q: Any, k: Any, v: Any, causal: bool, xp: Any) -> Any:
        calls.append(q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2])
        return square(q, k, v, causal, xp)

    monkeypatch.setattr(attending, "square", counted)
    q = np.random.default_rng(0).standard_normal((1, 6, 500, 8), dtype=np.float32)
    k = q[:, :2]
    attending.attend(q, k, k, strips((Band(still(0), Edge(1, 0, 500)),), 0, 500, allowed), np, quiet)
    assert len(calls) > 100
    assert max(calls) <= allowed.pairs


@pytest.mark.parametrize("scale", [1e3, 1e-3])
def test_that_scores_of_any_size_are_merged_without_overflow(xp: Any, monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    allowed = CUTS[0]
    monkeypatch.setattr(attending, "limits", lambda head_dim, xp: allowed)
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((1, 1, 70, 8), dtype=np.float32) for _ in range(3))
    q *= scale
    workload = Workload(seq_len=70, num_heads=1, num_kv_heads=1, head_dim=8, dtype="fp32")
    truth = catalogue.find("softmax_tiled").reference(q, k, v, workload, catalogue.find("softmax_tiled").params())
    inputs = (q, k, v) if xp is np else [torch.from_numpy(x) for x in (q, k, v)]
    out = np.asarray(attending.attend(*inputs, regions("softmax_tiled", {}, 70, 70, True, allowed), xp, quiet))
    assert np.isfinite(out).all()
    assert np.abs(out - truth).max() < 1e-3 if scale > 1 else np.abs(out - truth).max() < 1e-6


@pytest.mark.parametrize(("wanted", "found"), [("1", 1), ("100000", None), ("0", None), ("many", None), ("", None)])
def test_that_fewer_threads_may_be_wished_for(monkeypatch: pytest.MonkeyPatch, wanted: str, found: int | None) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    every = attending.threads.__wrapped__()
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert attending.threads.__wrapped__() == (every if found is None else found)

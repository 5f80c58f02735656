"""NSA: its three branches as the paper writes them, with means for compression and numbers for gates."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue
from attnscope_engine.protocol import Choice, Workload
from attnscope_engine.variant import Unsupported

torch = pytest.importorskip("torch")

VARIANT = catalogue.find("nsa")


def drawn(n: int, m: int, d: int = 16) -> list[np.ndarray]:
    rng = np.random.default_rng(n + m)
    return [rng.standard_normal((1, h, tokens, d)) for h, tokens in ((4, n), (2, m), (2, m))]


def softmax(scores: np.ndarray) -> np.ndarray:
    grown = np.exp(scores - scores.max())
    return np.asarray(grown / grown.sum())


def one_row(q: np.ndarray, k: np.ndarray, v: np.ndarray, position: int, p: Any) -> np.ndarray:
    """Of one query: each branch by its own sum."""
    own, size, root = position // p.block_size, p.block_size, np.sqrt(len(q))
    blocks = [slice(block * size, block * size + size) for block in range(own)]
    out = np.zeros(v.shape[1])
    chosen: list[int] = []
    if blocks:
        shares = softmax(np.array([q @ k[block].mean(axis=0) / root for block in blocks]))
        out += p.coarse * sum(share * v[block].mean(axis=0) for share, block in zip(shares, blocks, strict=True))
        chosen = sorted(range(own), key=lambda block: -shares[block])[: p.top_k]
    seen = [j for block in chosen for j in range(block * size, block * size + size)] + list(range(own * size, position + 1))
    out += p.fine * softmax(k[seen] @ q / root) @ v[seen]
    near = slice(max(0, position + 1 - p.window_size), position + 1)
    return np.asarray(out + p.near * softmax(k[near] @ q / root) @ v[near])


@pytest.mark.parametrize(
    "values",
    [
        {"block_size": 16, "top_k": 1, "window_size": 5},
        {"block_size": 16, "top_k": 3, "coarse": 0.0, "window_size": 100},
        {"block_size": 30, "fine": 0.9, "near": 0.0},
    ],
)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (100, 100), (7, 90), (90, 33)])
def test_that_reference_run_and_map_are_the_paper_as_it_is_written(n: int, m: int, values: dict[str, Any]) -> None:
    params, (q, k, v) = VARIANT.parse(values), drawn(n, m)
    w, truth = Workload(1, max(n, m), 4, 2, 16, 1, "fp32", True), np.zeros(q.shape)
    for h, i in itertools.product(range(4), range(max(0, n - m), n)):
        truth[0, h, i] = one_row(q[0, h, i], k[0, h // 2], v[0, h // 2], i + m - n, params)
    assert np.abs(VARIANT.reference(q, k, v, w, params) - truth).max() <= 1e-12
    single = [x.astype(np.float32) for x in (q, k, v)]
    for library in (np, torch):
        own = [torch.from_numpy(x) for x in single] if library is torch else single
        assert np.abs(np.asarray(VARIANT.run_cpu(*own, w, params, library, lambda: None)) - truth).max() <= 3e-6
    for head in range(4):
        found, seen = VARIANT.rows_of_map(q[0, head], k[0, head // 2], w, params, np.arange(n), head)
        assert np.abs(found @ v[0, head // 2] - truth[0, head]).max() <= 1e-12
        assert not found[~seen].any()


@pytest.mark.parametrize("n", [1, 64, 65, 333, 1024])
def test_that_operations_are_those_of_the_pairs_of_each_branch(n: int) -> None:
    params, position = VARIANT.parse({}), np.arange(n)
    own = position // 64
    steps = {step.name: step for step in catalogue.cost_of(Choice("nsa"), Workload(2, n, 4, 2, 16, 1), "cpu").steps}
    assert steps["fine"].exps == 8 * int((position % 64 + 1 + 64 * np.minimum(own, params.top_k)).sum())
    assert steps["window"].exps == 8 * int(np.minimum(position + 1, 512).sum())
    assert ("coarse" in steps) == (n > 64)
    if n > 64:
        assert steps["coarse"].exps == 8 * int(own.sum())
    assert all(step.flops == 4 * step.exps * 16 for name, step in steps.items() if name in ("coarse", "fine", "window"))


def test_that_a_gpu_says_that_it_has_no_kernel() -> None:
    with pytest.raises(Unsupported, match="use the CPU"):
        VARIANT.launch(None, None, None, None, None, Workload(num_heads=2, num_kv_heads=1), VARIANT.parse({}))

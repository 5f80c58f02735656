"""The Hopper kernels' own text, run on a CPU against float64: see `hopper_on_cpu.py` for what that shows and what not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue, numerics
from attnscope_engine.cuda import hopper
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from hopper_on_cpu import COMPILER, HopperOnCpu, KernelFault, guarded, guards_are_whole
from plain_scores import changed

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")

LARGEST_ERROR: dict[Dtype, float] = {"bf16": 4e-3, "fp16": 6e-4}
"""Of the output, by norm: what rounding the weights and the output to the dtype costs."""


@dataclass(frozen=True)
class Case:
    name: str
    head_dim: int
    shapes: tuple[tuple[int, int], ...]
    """Queries and keys of each call."""
    causal: bool = True
    dtype: Dtype = "bf16"
    heads: tuple[int, int] = (2, 1)
    params: dict[str, int] = field(default_factory=dict)
    slope: tuple[float, float] = (1, 1)
    """Scale of the first key and of the last: maxima that grow along the row, or against the order of visits."""

    def __str__(self) -> str:
        words = [self.name, f"D{self.head_dim}", self.dtype, "causal" if self.causal else "full", *map(str, self.params.values())]
        return "-".join(words) + ("" if self.slope == (1, 1) else f"-{self.slope[0]}to{self.slope[1]}")


CASES = (
    Case("softmax_tiled", 64, ((17, 17), (65, 200), (200, 65), (333, 333), (17, 300)), heads=(4, 2)),
    Case("softmax_tiled", 64, ((333, 333),), slope=(20, 1)),
    Case("softmax_tiled", 64, ((129, 900),), causal=False, slope=(150, 1)),
    Case("softmax_tiled", 64, ((129, 300), (64, 64)), causal=False, dtype="fp16"),
    Case("softmax_tiled", 64, ((129, 600),), causal=False, dtype="fp16", slope=(40, 1)),
    Case("softmax_tiled", 80, ((200, 150),)),
    Case("softmax_tiled", 128, ((250, 333), (300, 130)), heads=(8, 1)),
    Case("softmax_tiled", 128, ((250, 420),), causal=False),
    Case("softmax_tiled", 128, ((192, 200),), causal=False, dtype="fp16"),
    Case("softmax_tiled", 192, ((130, 130),), causal=False, heads=(1, 1)),
    Case("softmax_tiled", 256, ((130, 170),), heads=(1, 1)),
    Case("softmax_tiled", 64, ((200, 200), (70, 300), (200, 65)), heads=(6, 2), params={"softcap": 3}, slope=(2, 2)),
    Case("softmax_tiled", 64, ((200, 200), (70, 300), (200, 65)), heads=(6, 2), params={"alibi": True}),
    Case("softmax_tiled", 64, ((130, 400),), causal=False, heads=(3, 1), params={"alibi": True}, slope=(1, 20)),
    Case("softmax_tiled", 64, ((333, 333),), params={"alibi": True}, slope=(40, 1), dtype="fp16"),
    Case("softmax_tiled", 128, ((200, 333),), heads=(3, 1), params={"softcap": 30, "alibi": True}, slope=(9, 9), dtype="fp16"),
    Case("softmax_tiled", 192, ((130, 130),), causal=False, heads=(1, 1), params={"softcap": 30, "alibi": True}),
    Case("sliding_window", 64, ((500, 500), (300, 450)), params={"window_size": 100, "sinks": 5}),
    Case("sliding_window", 64, ((500, 500), (450, 300)), params={"window_size": 7, "sinks": 200}),
    Case("chunked", 64, ((333, 333), (200, 400)), params={"chunk_size": 48}),
    Case("chunked", 64, ((333, 333),), params={"chunk_size": 1}),
    Case(
        "block_sparse",
        64,
        ((600, 600), (256, 256), (300, 613), (300, 250)),
        params={"window_blocks": 1, "global_blocks": 1, "random_blocks": 1},
    ),
    Case(
        "block_sparse",
        128,
        ((600, 600), (280, 313)),
        params={"window_blocks": 1, "global_blocks": 1, "random_blocks": 1},
        causal=False,
        heads=(1, 1),
    ),
    Case("block_sparse", 256, ((300, 300),), params={"window_blocks": 1, "global_blocks": 0, "random_blocks": 1}, heads=(1, 1)),
    Case("dilated", 64, ((333, 333), (200, 307), (307, 200)), params={"window_size": 20, "dilation": 3}),
    Case("dilated", 64, ((333, 333), (300, 341)), params={"window_size": 5, "dilation": 50}, causal=False),
    Case("document", 64, ((333, 333), (200, 300), (300, 200)), params={"mean_size": 40}),
    Case("document", 64, ((333, 333), (300, 200)), params={"mean_size": 70, "seed": 3}, causal=False),
    Case(
        "global_tokens",
        64,
        ((400, 400), (300, 350), (350, 300), (100, 333)),
        params={"window_size": 30, "global_size": 70},
        causal=False,
    ),
    Case("global_tokens", 128, ((300, 300),), params={"window_size": 9, "global_size": 1}, causal=False, heads=(1, 1)),
    Case("global_tokens", 64, ((333, 333),), params={"window_size": 30, "global_size": 5}),
    Case("prefix", 64, ((333, 333), (200, 300), (300, 200)), params={"prefix_size": 100}),
    Case("prefix", 128, ((250, 333),), params={"prefix_size": 300}, heads=(1, 1)),
    Case("chunked", 128, ((333, 333),), params={"chunk_size": 130}, causal=False, heads=(1, 1)),
)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def inputs(case: Case, shape: tuple[int, int], batch: int, seed: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    (heads, kv_heads), (n, m) = case.heads, shape
    q, k, v = (rng.standard_normal((batch, h, rows, case.head_dim)) for h, rows in ((heads, n), (kv_heads, m), (kv_heads, m)))
    return [numerics.rounded(x.astype(np.float32), case.dtype) for x in (q, k * np.linspace(*case.slope, m)[:, None], v)]


def run(case: Case, shape: tuple[int, int], device: HopperOnCpu, batch: int = 2) -> tuple[np.ndarray[Any, Any], float, float]:
    """Bits of the output, its error by norm and the largest of the log-sum-exp."""
    variant = catalogue.find(case.name)
    params, (n, m), (heads, kv_heads) = variant.parse(case.params), shape, case.heads
    workload = Workload(
        batch=batch,
        seq_len=n,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=case.head_dim,
        dtype=case.dtype,
        causal=case.causal,
    )
    arrays = inputs(case, shape, batch, seed=n + m)
    q, k, v = (to_bits(x, case.dtype) for x in arrays)
    out = guarded(q.shape, "uint16")
    variant.launch(device, q, k, v, out, workload, params)
    lse = device.workspaces[-1]
    assert guards_are_whole(out)
    assert guards_are_whole(lse)

    wide = [x.astype(np.float64) for x in arrays]
    truth = variant.reference(*arrays, workload, params)
    seen = variant.visible(workload, params, np.arange(n) + m - n, np.arange(m))
    scores = wide[0] @ numerics.expand_heads(wide[1], heads).swapaxes(-1, -2) * case.head_dim**-0.5
    with np.errstate(divide="ignore"):
        true_lse = np.logaddexp.reduce(np.where(seen, changed(scores, case.params), -np.inf), axis=-1)
    got = from_bits(out, case.dtype)
    blind = ~seen.any(-1)
    assert (got[..., blind, :] == 0).all()
    assert (lse[..., blind] == -np.inf).all()
    error = float(np.linalg.norm(got - truth) / np.linalg.norm(truth)) if truth.any() else 0.0
    return out, error, float(np.abs(lse[..., ~blind] - true_lse[..., ~blind]).max(initial=0))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_that_the_kernels_text_computes_attention(builds: Path, case: Case) -> None:
    for shape in case.shapes:
        out, error, lse_error = run(case, shape, HopperOnCpu(builds, seed=0))
        assert error <= LARGEST_ERROR[case.dtype], shape
        rounded_tanh = (
            2**-11 * case.params.get("softcap", 0) if case.dtype == "bf16" else 0
        )  # as far off as the instruction may be
        assert lse_error <= 1e-4 + rounded_tanh, shape
        again, _, _ = run(case, shape, HopperOnCpu(builds, multiprocessors=3, seed=3))
        assert np.array_equal(out, again), "the bits depend on who ran when"


@pytest.mark.parametrize("head_dim", [64, 96, 128, 192])
def test_that_long_causal_calls_compute_attention(builds: Path, monkeypatch: pytest.MonkeyPatch, head_dim: int) -> None:
    """From the first key on, three warpgroups at head dim 128. What is long, and so cut this way, would take a minute here."""
    monkeypatch.setattr(hopper, "LONG_CAUSAL", 1)
    monkeypatch.setattr(hopper, "LONG_WALK", 1)
    case = Case("softmax_tiled", head_dim, (), heads=(2, 1))
    for shape in ((192, 192), (384, 500), (576, 300)):
        assert hopper.plan(head_dim, *shape, shape[1], True, "bf16").ascending
        out, error, lse_error = run(case, shape, HopperOnCpu(builds, seed=3), batch=1)
        assert error <= LARGEST_ERROR["bf16"], shape
        assert lse_error <= 1e-4, shape
        again, _, _ = run(case, shape, HopperOnCpu(builds, multiprocessors=1, seed=0), batch=1)
        assert np.array_equal(out, again)


def test_that_a_prefix_and_chunks_compute_attention_from_the_first_key_on(builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a row does not see may lie on either side of what it does."""
    monkeypatch.setattr(hopper, "LONG_WALK", 1)
    for name, params in (("prefix", {"prefix_size": 130}), ("chunked", {"chunk_size": 350})):
        for shape in ((333, 333), (200, 300)):
            _, error, _ = run(Case(name, 64, (), params=params), shape, HopperOnCpu(builds, seed=3), batch=1)
            assert error <= LARGEST_ERROR["bf16"], (name, shape)


@pytest.mark.parametrize("short", [0, 1, 2, 3])
def test_that_blocks_with_a_warpgroup_less_compute_attention(builds: Path, monkeypatch: pytest.MonkeyPatch, short: int) -> None:
    monkeypatch.setattr(hopper, "short_blocks", lambda *sizes: short)
    case = Case("softmax_tiled", 128, (), causal=False, heads=(2, 1))
    for shape in ((576, 150), (570, 200), (130, 70)):
        assert hopper.plan(128, *shape, shape[1], False, "bf16").warpgroups == 3
        out, error, lse_error = run(case, shape, HopperOnCpu(builds, multiprocessors=3, seed=3), batch=1)
        assert error <= LARGEST_ERROR["bf16"], shape
        assert lse_error <= 1e-4, shape
        again, _, _ = run(case, shape, HopperOnCpu(builds, multiprocessors=2, seed=0), batch=1)
        assert np.array_equal(out, again)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("head_dim", "window", "sinks"), [(128, 70, 3), (64, 70, 0), (64, 200, 0)])
def test_that_short_tiles_of_windows_compute_attention(
    builds: Path, monkeypatch: pytest.MonkeyPatch, head_dim: int, window: int, sinks: int, causal: bool
) -> None:
    """Warpgroups that skip tiles at either end and hold a product meanwhile, over several blocks of queries each."""
    monkeypatch.setattr(hopper, "SHORT_REACH", {64: 299, 128: 299})
    params = {"window_size": window, "sinks": sinks}
    case = Case("sliding_window", head_dim, (), params=params, heads=(1, 1), causal=causal)
    for shape in ((600, 600), (200, 333), (700, 300)):
        outs = []
        for seed, multiprocessors in ((0, 1), (3, 2)):
            out, error, lse_error = run(case, shape, HopperOnCpu(builds, multiprocessors, seed), batch=1)
            assert error <= LARGEST_ERROR["bf16"], shape
            assert lse_error <= 1e-4, shape
            outs.append(out)
        assert np.array_equal(outs[0], outs[1])


INDENT = "\n        "
WAIT, FREE_VALUES, FREE_KEYS = "products_wait<0>();", "free(VALUES_FREE, last);", "free(KEYS_FREE, use);"
PLAIN, STEEP = Case("softmax_tiled", 64, ()), Case("softmax_tiled", 64, (), slope=(60, 1))
PLANTED = {
    "tiles are multiplied before they came": (
        PLAIN,
        INDENT.join(("wait_for(VALUES_FULL, last);", "wait_for(KEYS_FULL, use);")),
        "",
    ),
    "tiles are given back before they are multiplied": (
        PLAIN,
        INDENT.join((WAIT, FREE_VALUES, FREE_KEYS)),
        INDENT.join((FREE_VALUES, FREE_KEYS, WAIT)),
    ),
    "a tile is never given back": (PLAIN, INDENT.join((FREE_VALUES, FREE_KEYS)), FREE_VALUES),
    "queries are multiplied before they came": (PLAIN, "barrier_wait(memory + QUERIES_FULL + 8 * group, blocks & 1);", ""),
    "a reference moves and the weights stay": (STEEP, "weights[i] = product_of_pairs(weights[i], pairs[i & 1]);", ""),
    "a reference moves and the sum stays": (STEEP, "    sum[half] *= factor[half];", ""),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_that_a_planted_bug_is_caught(builds: Path, bug: str) -> None:
    """Under some order of what runs at once: a race may well come out right under another."""
    case, *planted = PLANTED[bug]
    caught = 0
    for seed in range(4):
        try:
            device = HopperOnCpu(builds, seed=seed, planted=(planted[0], planted[1]))
            _, error, _ = run(case, (500, 500), device, batch=1)
        except (KernelFault, AssertionError):
            caught += 1
        else:
            caught += not error <= LARGEST_ERROR["bf16"]
    assert caught

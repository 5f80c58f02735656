"""The text of the linear kernels, run on a CPU against float64: see `hopper_on_cpu.py` and `portable_on_cpu.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import cuda, numerics
from attnscope_engine.cuda import linear
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from hopper_on_cpu import COMPILER, HopperOnCpu, KernelFault, guarded, guards_are_whole
from linear_truth import linear_truth
from portable_on_cpu import EmulatedDevice

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")

LARGEST_ERROR: dict[Dtype, float] = {"bf16": 5e-3, "fp16": 8e-4, "fp32": 5e-6}
"""Of the output, by norm: what rounding features, state, weights and output to the dtype costs."""


@dataclass(frozen=True)
class Case:
    head_dim: int
    shapes: tuple[tuple[int, int], ...]
    """Queries and keys of each call."""
    feature: linear.Feature = "identity"
    normalised: bool = False
    decay: str = ""
    """"", "head", "token" (of each query head), "gate" (of each key head), "strong"."""
    causal: bool = True
    dtype: Dtype = "bf16"
    heads: tuple[int, int] = (1, 1)
    scale: float = 0.25
    segments: int = 1
    """Wanted: few heads are cut into so many."""

    def __str__(self) -> str:
        words = [f"D{self.head_dim}", self.dtype, "causal" if self.causal else "full", self.feature, self.decay]
        return "-".join(word for word in (*words, "normalised" * self.normalised, f"{self.segments}") if word)


def decay_of(case: Case, batch: int, keys: int, rng: np.random.Generator) -> np.ndarray[Any, Any] | None:
    heads, kv_heads = case.heads
    if not case.decay:
        return None
    if case.decay == "head":
        return np.log(1 - 2.0 ** -(3 + np.arange(heads))).astype(np.float32)
    raw = rng.standard_normal((batch, kv_heads if case.decay == "gate" else heads, keys))
    if case.decay == "strong":
        raw[..., 5] = np.inf
        return (-np.abs(raw) * 4).astype(np.float32)
    return (-np.log1p(np.exp(-raw)) / 4).astype(np.float32)


def run(case: Case, shape: tuple[int, int], device: Any, batch: int = 1) -> tuple[np.ndarray[Any, Any], float]:
    """Bits of the output and its error by norm."""
    rng = np.random.default_rng(shape[0] + shape[1])
    (heads, kv_heads), (n, m) = case.heads, shape
    shapes = ((batch, h, rows, case.head_dim) for h, rows in ((heads, n), (kv_heads, m), (kv_heads, m)))
    q, k, v = (numerics.rounded(rng.standard_normal(s).astype(np.float32), case.dtype) for s in shapes)
    decay = decay_of(case, batch, m, rng)
    out = guarded(q.shape, cuda.STORED[case.dtype])
    workload = Workload(batch, n, heads, kv_heads, case.head_dim, 1, case.dtype, case.causal)
    options = {"feature": case.feature, "normalised": case.normalised, "scale": case.scale}
    bits = tuple(to_bits(x, case.dtype) for x in (q, k, v))
    linear.attend(device, "linear", "Linear", (*bits, out), workload, decay=decay, **options)
    assert guards_are_whole(out)
    truth = linear_truth(q, k, v, causal=case.causal, decay=decay, **options)
    got = from_bits(out, case.dtype)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    blind = max(0, n - m) if case.causal else 0
    assert (got[..., :blind, :] == 0).all()
    return out, float(np.linalg.norm(got - truth) / np.linalg.norm(truth)) if truth.any() else 0.0


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def cut_into(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Segments as on a card of so few multiprocessors, of single chunks if need be."""

    def want(case: Case) -> None:
        monkeypatch.setattr(linear, "WANTED_BLOCKS", case.segments * case.heads[0])
        monkeypatch.setattr(linear, "LEAST_CHUNKS", 1)

    return want


HOPPER_CASES = (
    Case(64, ((1, 1), (63, 63), (200, 200))),
    Case(128, ((65, 65), (200, 200)), feature="elu", normalised=True, decay="token", heads=(2, 1)),
    Case(64, ((130, 300), (300, 130)), feature="elu", normalised=True, heads=(2, 1), dtype="fp16"),
    Case(80, ((300, 300), (70, 290)), feature="exp", normalised=True, decay="gate", heads=(2, 1), segments=3),
    Case(128, ((333, 333),), decay="head", heads=(2, 2), segments=2),
    Case(64, ((130, 70),), feature="relu", decay="strong", segments=2, dtype="fp16"),
    Case(64, ((300, 300), (1, 500)), feature="relu2", segments=4, heads=(2, 1)),
    Case(32, ((200, 333), (90, 50)), feature="elu", normalised=True, causal=False, segments=3, heads=(2, 1)),
    Case(128, ((70, 130),), causal=False),
)


@pytest.mark.parametrize("case", HOPPER_CASES, ids=str)
def test_that_hoppers_text_computes_the_recurrence(builds: Path, cut_into: Any, case: Case) -> None:
    cut_into(case)
    for shape in case.shapes:
        out, error = run(case, shape, HopperOnCpu(builds, seed=0))
        print(case, shape, f"{error:.1e}")
        assert error <= LARGEST_ERROR[case.dtype], shape
        again, _ = run(case, shape, HopperOnCpu(builds, seed=3))
        assert np.array_equal(out, again), "the bits depend on who ran when"


ROUND = "if (i + 1 < walk.count) round_state"
PLANTED = {
    "features are made of tiles that have not come": ("barrier_wait(memory.barrier(M::LOADED, i), M::parity(i));", ""),
    "weights are read before they are there": ("barrier_wait(memory.address + M::WEIGHTS_FULL + 8 * place, i >> 1 & 1);", ""),
    "a state is rounded before it is complete": ("products_wait<1>();\n      " + ROUND, ROUND),
    "outputs are written over those on their way": ("if (thread == 0) stores_wait_read<1>();", ""),
    "a chunk is never given back": ("make_seen();\n    release(memory.barrier(M::FULL, i));", "make_seen();"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_that_a_planted_bug_is_caught(builds: Path, bug: str) -> None:
    """Under some order of what runs at once: a race may well come out right under another."""
    case = Case(64, (), feature="elu", normalised=True)
    for seed in range(4):
        try:
            _, error = run(case, (333, 333), HopperOnCpu(builds, seed=seed, planted=PLANTED[bug]))
        except (KernelFault, AssertionError):
            return
        if not error <= LARGEST_ERROR["bf16"]:
            return
    pytest.fail("the kernel came out right")


PORTABLE_CASES = (
    Case(64, ((1, 1), (150, 150)), feature="elu", normalised=True, heads=(2, 1)),
    Case(128, ((100, 100),), decay="token", segments=2),
    Case(64, ((70, 200), (150, 90)), feature="exp", normalised=True, decay="gate", heads=(2, 1), segments=3, dtype="fp16"),
    Case(32, ((90, 90),), decay="head", heads=(2, 2), dtype="fp32", segments=2),
    Case(80, ((70, 90),), feature="elu", normalised=True, decay="strong", dtype="fp32"),
    Case(64, ((90, 150), (40, 30)), feature="elu", normalised=True, causal=False, segments=2, heads=(2, 1)),
    Case(128, ((70, 70),), feature="relu2", causal=False, dtype="fp32"),
)


@pytest.mark.parametrize("shared_kib", [64, 163])
@pytest.mark.parametrize("case", PORTABLE_CASES, ids=str)
def test_that_the_portable_text_computes_the_recurrence(cut_into: Any, case: Case, shared_kib: int) -> None:
    """On a card with little shared memory, and on one with room for long chunks."""
    cut_into(case)
    for shape in case.shapes:
        _, error = run(case, shape, EmulatedDevice(shared_kib * 1024))
        assert error <= LARGEST_ERROR[case.dtype], shape

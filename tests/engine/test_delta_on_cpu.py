"""The delta kernels' own text, run on a CPU against a float64 recurrence: `hopper_on_cpu.py` says what that shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recurrences
from attnscope_engine.cuda import delta, segments
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from hopper_on_cpu import COMPILER, HopperOnCpu, KernelFault, guarded, guards_are_whole
from recurrences import Sizes

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")

LARGEST_ERROR: dict[Dtype, float] = {"bf16": 5e-3, "fp16": 8e-4}
"""Of the output: what rounding operands and output to the dtype costs."""

CASES: tuple[tuple[Sizes, str | None], ...] = (
    (Sizes(1, 1, heads=4, kv_heads=4), None),
    (Sizes(63, 63), "weak"),
    (Sizes(63, 63), "strong"),
    (Sizes(130, 130, heads=4, kv_heads=2), None),
    (Sizes(129, 129, batch=2), "mixed"),
    (Sizes(30, 130), "mixed"),
    (Sizes(130, 70), None),
    (Sizes(70, 70, head_dim=128), None),
    (Sizes(129, 129, head_dim=128, heads=1), "mixed"),
    (Sizes(40, 50, head_dim=96), "weak"),
    (Sizes(65, 65, head_dim=32), "strong"),
)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def run(
    device: HopperOnCpu, sizes: Sizes, dtype: Dtype, strength: str | None, unit_keys: bool = True
) -> tuple[np.ndarray[Any, Any], float]:
    """Bits of the output, and its error. Without `unit_keys`, keys of any length and their lengths are given."""
    q, k, v = recurrences.tensors(sizes, dtype, seed=sizes.queries)
    lengths = (1 / np.linalg.norm(k, axis=-1)).astype(np.float32)
    if unit_keys:
        k = from_bits(to_bits(k * lengths[..., None], dtype), dtype)
    rng = np.random.default_rng(1)
    beta = rng.random(sizes.k[:3], np.float32)
    gates = None if strength is None else recurrences.gates_of(strength, sizes.k[:3], 2)
    scale = sizes.head_dim**-0.5
    workload = Workload(dtype=dtype, causal=True)
    out = guarded(sizes.q, "uint16")
    stem = "deltanet" if gates is None else "gated_deltanet"
    arrays = (*(to_bits(x, dtype) for x in (q, k, v)), out)
    delta.attend(device, stem, "Delta", arrays, beta, gates, workload, scale, None if unit_keys else lengths)
    assert guards_are_whole(out)
    assert all(map(guards_are_whole, device.workspaces))
    keys = k if unit_keys else k.astype(np.float64) * lengths[..., None]
    truth = recurrences.delta(q, keys, v, beta, gates, scale)
    got = from_bits(out, dtype)
    assert np.isfinite(got).all()
    return out, recurrences.error(got, truth)


@pytest.mark.parametrize(("sizes", "strength"), CASES, ids=str)
def test_that_the_kernels_text_follows_the_delta_rule(builds: Path, sizes: Sizes, strength: str | None) -> None:
    dtype: Dtype = "bf16" if sizes.head_dim == 64 else "fp16"
    out, error = run(HopperOnCpu(builds, seed=0), sizes, dtype, strength, unit_keys=sizes.queries % 2 > 0)
    assert error <= LARGEST_ERROR[dtype]
    again, _ = run(HopperOnCpu(builds, seed=3), sizes, dtype, strength, unit_keys=sizes.queries % 2 > 0)
    assert np.array_equal(out, again), "the bits depend on who ran when"


@pytest.mark.parametrize("strength", [None, "mixed"])
@pytest.mark.parametrize(
    "sizes", [Sizes(150, 150, heads=4, kv_heads=2), Sizes(30, 130, head_dim=128, heads=1), Sizes(130, 30)], ids=str
)
def test_that_segments_carry_the_state_on(
    builds: Path, monkeypatch: pytest.MonkeyPatch, sizes: Sizes, strength: str | None
) -> None:
    """A segment for each chunk."""
    monkeypatch.setattr(segments, "LEAST_CHUNKS", 1)
    monkeypatch.setattr(segments, "WANTED_BLOCKS", 8 * sizes.heads)
    assert segments.cut_of(sizes.heads, sizes.queries, sizes.keys).segments == 3
    out, error = run(HopperOnCpu(builds, seed=1), sizes, "bf16", strength)
    assert error <= LARGEST_ERROR["bf16"]
    again, _ = run(HopperOnCpu(builds, seed=2), sizes, "bf16", strength)
    assert np.array_equal(out, again), "the bits depend on who ran when"


@pytest.mark.parametrize("strength", [None, "mixed"])
@pytest.mark.parametrize(("queries", "keys"), [(70, 140), (130, 30), (1, 140)])
def test_that_short_heads_are_as_near_as_rounding_lets_them_be(
    builds: Path, queries: int, keys: int, strength: str | None
) -> None:
    sizes = Sizes(queries, keys, heads=6, kv_heads=2, head_dim=32, batch=2)
    _, error = run(HopperOnCpu(builds, seed=1), sizes, "bf16", strength)
    q, k, v = recurrences.tensors(sizes, "bf16", seed=sizes.queries)
    k = from_bits(to_bits(k * (1 / np.linalg.norm(k, axis=-1)).astype(np.float32)[..., None], "bf16"), "bf16")
    beta = np.random.default_rng(1).random(sizes.k[:3], np.float32)
    gates = None if strength is None else recurrences.gates_of(strength, sizes.k[:3], 2)
    truth = recurrences.delta(q, k, v, beta, gates, sizes.head_dim**-0.5)
    rounded = recurrences.delta_rounded(q, k, v, beta, gates, sizes.head_dim**-0.5, "bf16")
    assert error < 1.1 * recurrences.error(rounded, truth)


def test_that_repeated_keys_are_solved(builds: Path) -> None:
    """Each key overwrites the last value: products of powers of L would lose all digits here. Rounded writes of a key add up."""
    sizes = Sizes(80, 80)
    q, k, v = recurrences.tensors(sizes, "fp16", 0)
    k[:] = 0
    k[..., 5] = 1
    beta = np.full(sizes.k[:3], 0.99, np.float32)
    out = guarded(sizes.q, "uint16")
    arrays = (*(to_bits(x, "fp16") for x in (q, k, v)), out)
    workload = Workload(dtype="fp16", causal=True)
    delta.attend(HopperOnCpu(builds, seed=0), "deltanet", "Delta", arrays, beta, None, workload, 1.0)
    error = recurrences.error(from_bits(out, "fp16"), recurrences.delta(q, k, v, beta, None, 1.0))
    assert error <= 8 * LARGEST_ERROR["fp16"]


PLANTED = {
    "T is multiplied before it is there": ("    wait_for<2>(memory.address + M::SOLVED_FULL, i);\n", ""),
    "tiles are given back before they are read": (
        "    products_wait<0>();\n    round_all(values, answers);",
        "    round_all(values, answers);",
    ),
    "outputs leave before they are written": ("      store_outputs(values_at, out);\n", ""),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_that_a_planted_bug_is_caught(builds: Path, bug: str) -> None:
    caught = 0
    for seed in range(3):
        try:
            _, error = run(HopperOnCpu(builds, seed=seed, planted=PLANTED[bug]), Sizes(140, 140, heads=1), "bf16", "mixed")
        except (KernelFault, AssertionError):
            caught += 1
        else:
            caught += not error <= LARGEST_ERROR["bf16"]
    assert caught

"""The text of gated linear attention's kernels, run on a CPU against a float64 recurrence: see `hopper_on_cpu.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recurrences
from attnscope_engine.cuda import gla, segments
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from hopper_on_cpu import COMPILER, HopperOnCpu, KernelFault, guarded, guards_are_whole
from recurrences import Sizes

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")

LARGEST_ERROR: dict[Dtype, float] = {"bf16": 5e-3, "fp16": 8e-4}
"""Of the output: what rounding operands and output to the dtype costs."""

CASES = (
    (Sizes(1, 1, heads=4, kv_heads=4), "weak"),
    (Sizes(63, 63), "weak"),
    (Sizes(63, 63), "strong"),
    (Sizes(130, 130, heads=4, kv_heads=2), "weak"),
    (Sizes(129, 129, batch=2), "mixed"),
    (Sizes(30, 130), "mixed"),
    (Sizes(130, 70), "weak"),
    (Sizes(70, 70, head_dim=128), "weak"),
    (Sizes(129, 129, head_dim=128, heads=1), "mixed"),
    (Sizes(40, 50, head_dim=96), "strong"),
    (Sizes(65, 65, head_dim=32), "mixed"),
)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def run(device: HopperOnCpu, sizes: Sizes, dtype: Dtype, strength: str, float_gates: bool) -> tuple[np.ndarray[Any, Any], float]:
    """Bits of the output, and its error."""
    q, k, v = recurrences.tensors(sizes, dtype, seed=sizes.queries)
    gates = recurrences.gates_of(strength, sizes.k, 2)
    bits = gates if float_gates else to_bits(gates, "bf16")
    scale = sizes.head_dim**-0.5
    out = guarded(sizes.q, "uint16")
    arrays = (*(to_bits(x, dtype) for x in (q, k, v)), out)
    gla.attend(device, "gla", "GLA", arrays, bits, Workload(dtype=dtype, causal=True), scale)
    assert guards_are_whole(out)
    assert all(map(guards_are_whole, device.workspaces))
    truth = recurrences.gla(q, k, v, gates if float_gates else from_bits(bits, "bf16"), scale)
    got = from_bits(out, dtype)
    assert np.isfinite(got).all()
    return out, recurrences.error(got, truth)


@pytest.mark.parametrize(("sizes", "strength"), CASES, ids=str)
def test_that_the_kernels_text_follows_the_recurrence(builds: Path, sizes: Sizes, strength: str) -> None:
    dtype: Dtype = "bf16" if sizes.head_dim == 64 else "fp16"
    float_gates = sizes.queries % 2 > 0
    out, error = run(HopperOnCpu(builds, seed=0), sizes, dtype, strength, float_gates)
    assert error <= LARGEST_ERROR[dtype]
    again, _ = run(HopperOnCpu(builds, seed=3), sizes, dtype, strength, float_gates)
    assert np.array_equal(out, again), "the bits depend on who ran when"


@pytest.mark.parametrize("strength", ["weak", "mixed"])
@pytest.mark.parametrize(
    "sizes", [Sizes(150, 150, heads=4, kv_heads=2), Sizes(30, 130, head_dim=128, heads=1), Sizes(130, 30)], ids=str
)
def test_that_segments_carry_the_state_on(builds: Path, monkeypatch: pytest.MonkeyPatch, sizes: Sizes, strength: str) -> None:
    """A segment for each chunk."""
    monkeypatch.setattr(segments, "LEAST_CHUNKS", 1)
    monkeypatch.setattr(segments, "WANTED_BLOCKS", 8 * sizes.heads)
    assert segments.cut_of(sizes.heads, sizes.queries, sizes.keys).segments == 3
    out, error = run(HopperOnCpu(builds, seed=1), sizes, "bf16", strength, float_gates=False)
    assert error <= LARGEST_ERROR["bf16"]
    again, _ = run(HopperOnCpu(builds, seed=2), sizes, "bf16", strength, float_gates=False)
    assert np.array_equal(out, again), "the bits depend on who ran when"


def test_that_a_gate_that_forgets_everything_leaves_only_what_comes_after(builds: Path) -> None:
    """Channel by channel: at token 20 every second channel forgets, whatever the others do."""
    sizes = Sizes(40, 40)
    q, k, v = recurrences.tensors(sizes, "bf16", 0)
    gates = np.zeros(sizes.k, np.float32)
    gates[:, :, 20, ::2] = -np.inf
    out = guarded(sizes.q, "uint16")
    arrays = (*(to_bits(x, "bf16") for x in (q, k, v)), out)
    gla.attend(HopperOnCpu(builds, seed=0), "gla", "GLA", arrays, gates, Workload(dtype="bf16", causal=True), 1.0)
    assert recurrences.error(from_bits(out, "bf16"), recurrences.gla(q, k, v, gates, 1.0)) <= LARGEST_ERROR["bf16"]


PLANTED = {
    "scores are made before all of what is near is there": ("named_sync(1, 128 * GATERS);  // all of", "// all of"),
    "tiles are given back before they are read": (
        "    products_wait<0>();\n    release(barrier_of<STAGES>",
        "    release(barrier_of<STAGES>",
    ),
    "strong blocks are scored as the others": ("        if (too_strong) {", "        if (false) {"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_that_a_planted_bug_is_caught(builds: Path, bug: str) -> None:
    caught = 0
    for seed in range(3):
        try:
            _, error = run(
                HopperOnCpu(builds, seed=seed, planted=PLANTED[bug]), Sizes(140, 140), "bf16", "mixed", float_gates=True
            )
        except (KernelFault, AssertionError):
            caught += 1
        else:
            caught += not error <= LARGEST_ERROR["bf16"]
    assert caught

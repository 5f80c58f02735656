"""Kernels of the delta rule and of gated linear attention: how calls are cut, and what the compiler makes of the text."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
from attnscope_engine import cuda
from attnscope_engine.cuda import delta, gla, hopper, segments
from attnscope_engine.devices import cubins, nvrtc
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variant import Unsupported
from sass import disassembler, instructions, of_kernel

Plan = delta.HopperPlan | gla.HopperPlan
WIDTHS = (64, 128)
DTYPES: tuple[Dtype, ...] = ("bf16", "fp16")
PLANS: list[Plan] = [
    *(delta.HopperPlan(dtype, width, gated) for dtype in DTYPES for width in WIDTHS for gated in (False, True)),
    *(gla.HopperPlan(dtype, width, floats) for dtype in DTYPES for width in WIDTHS for floats in (False, True)),
]
MOST_SPILLED = 4
"""Bytes a thread, where the gates of channels are fp32; none elsewhere."""

ARCHS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
KINDS: dict[str, tuple[str, dict[str, int]]] = {
    "delta": ("deltanet", {"DELTA": 1, "GATES": 0, "GATE_FLOATS": 1}),
    "gated": ("gated_deltanet", {"DELTA": 1, "GATES": 1, "GATE_FLOATS": 1}),
    "kda": ("kda", {"DELTA": 1, "GATES": 2, "GATE_FLOATS": 0}),
    "gla": ("gla", {"DELTA": 0, "GATES": 2, "GATE_FLOATS": 1}),
    "gates": ("gla", {"GATES_ONLY": 1}),
}


def name_of(value: object) -> str | None:
    if not isinstance(value, Plan):
        return None
    kind = "delta" if isinstance(value, delta.HopperPlan) else "gla"
    last = value.gated if isinstance(value, delta.HopperPlan) else value.float_gates
    return f"{kind}-{value.dtype}-{value.width}-{int(last)}"


@functools.cache
def compiled(plan: Plan) -> tuple[bytes, str]:
    """With a check that the text lays shared memory out as the plan counts it."""
    stem = "gla" if isinstance(plan, gla.HopperPlan) else "gated_deltanet" if plan.gated else "deltanet"
    counted = "".join(
        f'static_assert(Memory<{word}>::END == {plan.shared_bytes(outputs)}, "shared bytes");\n'
        for word, outputs in (("true", True), ("false", False))
    )
    return nvrtc.compile_cubin(cubins.source_of(stem) + counted, f"{stem}.cu", "sm_90a", cubins.flags(plan.defines()))


@pytest.mark.parametrize("plan", PLANS, ids=name_of)
def test_that_products_stay_in_the_background_and_registers_suffice(plan: Plan) -> None:
    cubin, log = compiled(plan)
    assert cubin.startswith(b"\x7fELF")
    assert "warning" not in log.lower(), log
    assert "C75" not in log, "products are made one by one"
    most = MOST_SPILLED if isinstance(plan, gla.HopperPlan) and plan.float_gates else 0
    assert all(int(spilled) <= most for spilled in re.findall(r"(\d+) bytes spill", log)), log


@pytest.mark.skipif(disassembler() is None, reason="nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize("plan", [PLANS[3], PLANS[10]], ids=name_of)
def test_that_tiles_come_and_go_by_the_copy_engine_and_warpgroups_multiply(tmp_path: Path, plan: Plan) -> None:
    lines, _ = instructions(compiled(plan)[0], tmp_path)
    for instruction in ("UTMALDG.3D", "UTMASTG.3D", "USETMAXREG", "HGMMA.64x64x16", f"HGMMA.64x{plan.width}x16"):
        assert any(instruction in line for line in lines), instruction


@pytest.mark.skipif(disassembler() is None, reason="nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize("plan", PLANS[:4], ids=name_of)
def test_that_the_delta_rule_waits_for_products_only_where_its_text_says(tmp_path: Path, plan: Plan) -> None:
    """Seen in the machine code: a compiler that can not keep a product in the background makes each wait for the one before.

    A chunk has in `solve` products of keys and of scores, each waited for; in `keep` answers to keys, T and queries, then
    scores and the write in the background of each other. Without outputs neither queries nor scores.
    """
    lines, labels = instructions(compiled(plan)[0], tmp_path)
    of_state, of_tokens = plan.width // 16, segments.CHUNK // 16
    expected = {
        "delta_outputs": (2 * of_state + 2 * of_state + 3 * of_tokens, 2 + 5),
        "delta_transitions": (of_state + of_state + 2 * of_tokens, 1 + 3),
    }
    for kernel, counts in expected.items():
        own = of_kernel(lines, labels, kernel)
        assert tuple(sum(word in line for line in own) for word in ("HGMMA", "WARPGROUP.DEPBAR")) == counts, kernel


@pytest.mark.parametrize("plan", PLANS, ids=name_of)
def test_that_every_plan_fits_the_chip(plan: Plan) -> None:
    assert max(map(plan.shared_bytes, (False, True))) <= hopper.MOST_SHARED_BYTES
    assert plan.threads <= 1024
    assert plan.threads // 128 * 128 == plan.threads


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("kind", KINDS)
def test_that_kernels_of_every_card_compile_without_warning_or_spill(kind: str, arch: str) -> None:
    stem, defines = KINDS[kind]
    dtypes: tuple[Dtype, ...] = ("fp32", "bf16", "fp16") if arch == "sm_90" else ("fp16",)
    for dtype in dtypes:
        options = {"DTYPE": cuda.DTYPE_CODE[dtype], "WIDTH": 128, **defines}
        cubin, log = nvrtc.compile_cubin(cubins.source_of(stem), f"{stem}.cu", arch, cubins.flags(options))
        assert cubin.startswith(b"\x7fELF")
        assert "warning" not in log, log
        assert all(int(spilled) == 0 for spilled in re.findall(r"(\d+) bytes spill", log)), log


@pytest.mark.parametrize("stem", ["deltanet", "gated_deltanet", "gla", "kda"])
def test_that_a_kernel_begins_with_its_six_lines(stem: str) -> None:
    heads = [line.split(":")[0] for line in cubins.file_text(f"{stem}.cu").splitlines()[:6]]
    assert heads == ["// What", "// Grid → work", "// Block → work", "// Shared memory", "// Numerics", "// Limits"]
    assert "#include" not in cubins.source_of(stem), "no kernel needs a header of CUDA"


@pytest.mark.parametrize("keys", [1, 63, 64, 65, 1000, 4097, 131072])
@pytest.mark.parametrize("queries", [1, 64, 100, 1000, 4096])
@pytest.mark.parametrize("heads", [1, 7, 92, 93, 500])
def test_that_segments_hold_every_token_once_and_a_chunk_begins_with_the_first_query(heads: int, queries: int, keys: int) -> None:
    cut = segments.cut_of(heads, queries, keys)
    first_query = keys - queries
    assert cut.start <= min(0, first_query)
    assert cut.start > min(0, first_query) - segments.CHUNK
    assert (first_query - cut.start) % segments.CHUNK == 0
    assert cut.start + segments.CHUNK * cut.all >= keys > cut.start + segments.CHUNK * (cut.all - 1)
    assert (cut.segments - 1) * cut.chunks < cut.all <= cut.segments * cut.chunks
    if heads >= segments.FULL_FROM * segments.WANTED_BLOCKS:
        assert cut.segments == 1
    assert heads * cut.segments <= max(heads, segments.WANTED_BLOCKS)


@pytest.mark.parametrize(
    ("head_dim", "causal", "says"),
    [
        (192, True, "up to head dim 128, not 192: set head dim 128"),
        (20, True, "a multiple of 8, not 20: set 16"),
        (64, False, "set causal"),
    ],
)
def test_that_what_has_no_kernel_is_refused_with_a_way_out(head_dim: int, causal: bool, says: str) -> None:
    class Shaped:
        shape = (1, 2, 64, head_dim)

    x = Shaped()
    for attend in (
        lambda w: delta.attend(None, "deltanet", "DeltaNet", (x, x, x, x), None, None, w, 1.0),
        lambda w: gla.attend(None, "gla", "GLA", (x, x, x, x), None, w, 1.0),
    ):
        with pytest.raises(Unsupported, match=says):
            attend(Workload(dtype="bf16", causal=causal))

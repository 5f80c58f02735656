"""Hopper's own kernels: how calls are cut, and what the compiler makes of the text; no GPU is needed for either."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import cuda
from attnscope_engine.cuda import hopper, wgmma
from attnscope_engine.cuda.hopper import Plan
from attnscope_engine.devices import cubins, nvrtc
from attnscope_engine.devices.cuda_launch import packed
from attnscope_engine.devices.cuda_tensor_map import TENSOR_MAP
from attnscope_engine.protocol import Dtype
from sass import disassembler, instructions

LENGTHS = (1, 64, 128, 192, 1000, 1024, 2048, 4096, 8192, 46341, 131072)
MOST_SPILLED = 32
"""Bytes a thread, outside the loop over tiles: counters that are used once for each block of queries."""


def plans(causal: bool, reach: int = 1 << 20) -> list[Plan]:
    """All that calls of these lengths and every width are cut into."""
    halves: tuple[Dtype, ...] = ("bf16", "fp16")
    calls = itertools.product(cuda.WIDTHS, LENGTHS, LENGTHS, halves)
    return list(dict.fromkeys(hopper.plan(width, n, m, min(reach, m), causal, dtype) for width, n, m, dtype in calls))


CASES: list[tuple[str, Plan, Dtype, bool]] = [
    *(("softmax_tiled", plan, "bf16", causal) for causal in (True, False) for plan in plans(causal)),
    *(("softmax_tiled", plan, "fp16", True) for plan in plans(True) if plan.width in (64, 128)),
    *((stem, plan, "bf16", True) for stem in ("sliding_window", "chunked") for plan in plans(True, 256) if plan.width != 32),
    *(("sliding_window", plan, "fp16", False) for plan in plans(False, 256) if plan.width in (64, 128)),
]


def name_of(value: object) -> str | None:
    if isinstance(value, Plan):
        return f"{value.width}-{value.warpgroups}x{value.block_k}"
    return None


CHANGES = ({"SOFTCAP": 1, "ALIBI": 0}, {"SOFTCAP": 0, "ALIBI": 1}, {"SOFTCAP": 1, "ALIBI": 1})


@pytest.mark.parametrize(
    ("plan", "changes"),
    [(plan, CHANGES[place % 3]) for place, plan in enumerate(plans(True) + plans(False))],
    ids=lambda value: name_of(value) or "-".join(value),
)
def test_that_registers_suffice_for_changed_scores(plan: Plan, changes: dict[str, int]) -> None:
    defines = {**plan.defines("fp16", plan in plans(True)), **changes}
    _, log = nvrtc.compile_cubin(cubins.source_of("softmax_tiled"), "softmax_tiled.cu", "sm_90a", cubins.flags(defines))
    assert "warning" not in log.lower(), log
    assert "C75" not in log, "products are made one by one"
    assert all(int(spilled) <= MOST_SPILLED for spilled in re.findall(r"(\d+) bytes spill", log)), log


@functools.cache
def compiled(stem: str, plan: Plan, dtype: Dtype, causal: bool) -> tuple[bytes, str]:
    defines = plan.defines(dtype, causal)
    return nvrtc.compile_cubin(cubins.source_of(stem), f"{stem}.cu", "sm_90a", cubins.flags(defines))


@pytest.mark.parametrize(("stem", "plan", "dtype", "causal"), CASES, ids=name_of)
def test_that_products_stay_in_the_background_and_registers_suffice(stem: str, plan: Plan, dtype: Dtype, causal: bool) -> None:
    cubin, log = compiled(stem, plan, dtype, causal)
    assert cubin.startswith(b"\x7fELF")
    assert "warning" not in log.lower(), log
    assert "C75" not in log, "products are made one by one"
    assert all(int(spilled) <= MOST_SPILLED for spilled in re.findall(r"(\d+) bytes spill", log)), log


@pytest.mark.skipif(disassembler() is None, reason="nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize(
    ("plan", "causal"),
    [(plan, causal) for causal in (True, False) for plan in plans(causal) if plan.width in (64, 128)],
    ids=name_of,
)
def test_that_the_loop_over_tiles_touches_registers_and_shared_memory_only(tmp_path: Path, plan: Plan, causal: bool) -> None:
    lines, labels = instructions(compiled("softmax_tiled", plan, "bf16", causal)[0], tmp_path)
    assert any("UTMALDG.3D" in line for line in lines)
    assert any("USETMAXREG" in line for line in lines)
    products = plan.width // 16 + plan.block_k // 16
    back = [(labels[to[1]], end) for end, line in enumerate(lines) if (to := re.search(r"BRA.*`\((\.L_x_\d+)\)", line))]
    loops = [lines[start : end + 1] for start, end in back if start <= end]
    step = min((loop for loop in loops if sum("HGMMA" in line for line in loop) >= products), key=len)
    assert sum("HGMMA" in line for line in step) == products
    assert not [line for line in step if re.search(r"\b(LDL|STL|LDG|STG|LD|ST)\b", line)]
    first = next(place for place, line in enumerate(step) if "HGMMA" in line)
    assert not [line for line in step[:first] if "VOTE" in line], "counters are not seen to be the same in all lanes"


@pytest.mark.parametrize("reach", [1, 1024, 1 << 20])
@pytest.mark.parametrize("causal", [False, True])
def test_that_every_plan_fits_the_chip(causal: bool, reach: int) -> None:
    for plan in plans(causal, reach):
        assert plan.shared_bytes <= hopper.MOST_SHARED_BYTES
        assert plan.threads <= 1024
        assert plan.block_k in wgmma.WIDTHS
        assert plan.width in wgmma.WIDTHS
        assert plan.block_k <= 256, "rows of a box"


def test_that_calls_at_head_dim_128_are_cut_for_three_warpgroups_but_short_causal_ones_and_windows_into_short_tiles() -> None:
    def cut(n: int, reach: int, causal: bool) -> tuple[int, int]:
        plan = hopper.plan(128, n, n, reach, causal, "bf16")
        return plan.warpgroups, plan.block_k

    assert cut(8192, 8192, False) == cut(8192, 8192, True) == (3, 80)
    assert cut(1024, 1024, False) == (3, 64)
    assert cut(1024, 1024, True) == cut(2048, 2048, True) == (2, 128)
    assert cut(8192, 1024, True) == cut(1 << 17, 1, False) == (3, 64)
    assert cut(8192, 4096, True) == (3, 64)
    assert cut(8192, 5000, True) == (3, 80)
    assert cut(1024, 1024, True) == (2, 128), "a window that sees everything is none"


def test_that_long_causal_calls_walk_from_the_first_key_on_and_windows_from_the_last_back() -> None:
    for head_dim in (64, 96, 128, 192, 256):
        assert hopper.plan(head_dim, 8192, 8192, 8192, True, "bf16").ascending
        assert not hopper.plan(head_dim, 8192, 8192, 8192, False, "bf16").ascending
        assert not hopper.plan(head_dim, 1024, 1024, 1024, True, "bf16").ascending
        assert not hopper.plan(head_dim, 8192, 8192, 1024, True, "bf16").ascending
    assert not hopper.plan_of_blocks(128, 128).ascending


def test_that_windows_have_stages_for_warpgroups_two_tiles_apart_at_head_dim_64_only_short_ones() -> None:
    """Three tiles in work, one whose values are still to be multiplied, one on its way."""
    for head_dim, reach in ((128, 1024), (64, 512), (40, 256)):
        plan = hopper.plan(head_dim, 8192, 8192, reach, True, "bf16")
        assert (plan.block_k, plan.stages) == (64, 5), (head_dim, reach)
    assert hopper.plan(64, 8192, 8192, 1024, True, "bf16").block_k == 128
    assert hopper.plan(32, 8192, 8192, 256, True, "bf16").block_k == 128


def test_that_shared_memory_is_what_the_kernel_lays_out() -> None:
    """By hand: 2·64 queries, two tiles of 176 keys and of values, 128 columns of 2 bytes; 16 barriers; two numbers."""
    plan = Plan(128, 176, 2, 2, take_turns=True, longest_first=False)
    assert plan.shared_bytes == 128 * 256 + 4 * 176 * 256 + 16 * 8 + 8


def test_that_causal_heads_go_together_in_equal_groups() -> None:
    """As many as the cache keeps, or as leave four blocks of each side by side."""
    assert hopper.heads_together(False, 64, 1 << 20, 132) == 1
    assert hopper.heads_together(True, 64, 1 << 19, 132) == 64
    assert hopper.heads_together(True, 128, 1 << 19, 132) == 64
    assert hopper.heads_together(True, 64, 2 << 20, 132) == 32
    assert hopper.heads_together(True, 32, 4 << 20, 132) == 32
    assert hopper.heads_together(True, 42, 3 << 20, 132) == 21
    assert hopper.heads_together(True, 20, 6 << 20, 132) == 20
    assert hopper.heads_together(True, 20, 9 << 20, 132) == 10
    assert hopper.heads_together(True, 64, 1 << 30, 132) == 1


@pytest.mark.parametrize(
    ("rows", "heads"), [(8192, 32), (4096, 64), (16384, 16), (1024, 256), (1000, 7), (64, 1), (1, 1), (130, 3)]
)
def test_that_short_blocks_cover_all_rows_and_end_no_later(rows: int, heads: int) -> None:
    def rounds(short: int) -> float:
        """Time of the multiprocessor that gets a block in every round, in blocks of one warpgroup."""
        whole = -(-max(0, rows - 128 * short) // 192)
        kinds = [3] * (whole * heads) + [2] * (short * heads)
        return sum(kinds[::132])

    found = hopper.short_blocks(rows, heads, 3, 132)
    assert all(rounds(found) <= rounds(other) for other in range(min(hopper.MOST_SHORT_BLOCKS, -(-rows // 64) // 2) + 1))


def test_that_no_block_is_short_where_that_saves_nothing() -> None:
    assert hopper.short_blocks(32768, 16, 3, 132) == 0
    assert hopper.short_blocks(8192, 32, 3, 132) == 3


@pytest.mark.parametrize(
    ("capability", "dtype", "queries", "heads", "expected"),
    [
        ((9, 0), "bf16", 1, 1, True),
        ((9, 0), "fp32", 1, 1, False),
        ((8, 9), "bf16", 1, 1, False),
        ((10, 0), "bf16", 1, 1, False),
        ((9, 0), "fp16", 1 << 20, 1 << 15, True),
        ((9, 0), "fp16", 1 << 20, 1 << 18, False),
    ],
)
def test_that_only_what_hopper_multiplies_goes_to_hopper(
    capability: tuple[int, int], dtype: Dtype, queries: int, heads: int, expected: bool
) -> None:
    assert hopper.fits(capability, dtype, queries, heads) is expected


def test_that_blocks_of_queries_are_handed_out_once_each() -> None:
    """The kernel's order of blocks, redone here: every row of every head once, and the longest first where that is wanted."""
    for heads, together, queries, block_q in ((7, 4, 333, 192), (5, 1, 128, 128), (3, 2, 1, 192)):
        blocks = cuda.blocks(queries, block_q)
        rows: set[tuple[int, int]] = set()
        for number in range(blocks * heads):
            group, inside = divmod(number, together * blocks)
            first_head = group * together
            place, head = divmod(inside, min(together, heads - first_head))
            first = queries - (place + 1) * block_q
            mine = {(first_head + head, row) for row in range(max(first, 0), first + block_q)}
            assert not rows & mine
            rows |= mine
        assert rows == {(head, row) for head in range(heads) for row in range(queries)}


@pytest.mark.parametrize("width", wgmma.WIDTHS)
def test_that_a_product_names_each_of_its_registers(width: int) -> None:
    struct = wgmma.text().split(f"struct Wgmma<{width}> {{")[1].split("};\n")[0]
    for inputs in re.findall(r"wgmma\.mma_async[^{]*\{([^}]*)\}", struct):
        assert inputs.split(", ") == [f"%{i}" for i in range(width // 2)]
    products = 4 if width == wgmma.TURNED_WIDTH else 2
    assert struct.count(f"m64n{width}k16") == products
    assert len(re.findall(r'"\+f"', struct)) == products * width // 2


def test_that_a_tensor_map_is_an_argument_and_other_host_arrays_are_not() -> None:
    class OnDevice:
        pass

    good: Any = np.zeros(1, TENSOR_MAP)
    assert packed((good, np.int32(1)), OnDevice) == (good, np.int32(1))
    for bad in (np.zeros(2, TENSOR_MAP), np.zeros(128, np.uint8), np.zeros(1, np.float32)):
        with pytest.raises(TypeError, match="argument 0"):
            packed((bad,), OnDevice)

"""Linear attention: how calls are cut, and what the compiler makes of Hopper's text; no GPU is needed for either."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import cuda
from attnscope_engine.cuda import hopper, linear
from attnscope_engine.cuda.linear import NO_DECAY, PER_HEAD, PER_TOKEN, Options
from attnscope_engine.devices import cubins, nvrtc
from attnscope_engine.devices.cuda_launch import packed
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variant import Unsupported
from sass import disassembler, instructions

ALL = [
    Options(dtype, width, feature, decay, normalised, causal)
    for width in (64, 128)
    for dtype, feature, decay, normalised, causal in (
        ("bf16", "identity", NO_DECAY, False, True),
        ("bf16", "identity", PER_HEAD, False, True),
        ("bf16", "identity", PER_TOKEN, False, True),
        ("bf16", "identity", NO_DECAY, True, True),
        ("bf16", "elu", NO_DECAY, False, True),
        ("bf16", "elu", NO_DECAY, True, True),
        ("fp16", "elu", NO_DECAY, True, True),
        ("bf16", "elu", PER_TOKEN, True, True),
        ("fp16", "relu2", PER_TOKEN, False, True),
        ("bf16", "exp", NO_DECAY, True, False),
        ("bf16", "identity", NO_DECAY, False, False),
    )
]


def name_of(value: Options) -> str:
    words = (value.width, value.dtype, value.feature, value.decay, value.normalised, value.causal)
    return "-".join(map(str, words))


@functools.cache
def compiled(options: Options) -> tuple[bytes, str]:
    defines = linear.hopper_plan(options).defines()
    return nvrtc.compile_cubin(cubins.source_of("linear"), "linear.cu", "sm_90a", cubins.flags(defines))


@pytest.mark.parametrize("options", ALL, ids=name_of)
def test_that_products_stay_in_the_background_and_registers_suffice(options: Options) -> None:
    cubin, log = compiled(options)
    assert cubin.startswith(b"\x7fELF")
    assert "warning" not in log.lower(), log
    assert "C75" not in log, "products are made one by one"
    assert all(int(spilled) == 0 for spilled in re.findall(r"(\d+) bytes spill", log)), log


@pytest.mark.skipif(disassembler() is None, reason="nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize("options", ALL[5:6] + ALL[13:14], ids=name_of)
def test_that_tiles_come_and_go_by_the_copy_engine_and_warpgroups_multiply(tmp_path: Path, options: Options) -> None:
    lines, _ = instructions(compiled(options)[0], tmp_path)
    assert any("UTMALDG.3D" in line for line in lines)
    assert any("UTMASTG.3D" in line for line in lines)
    assert any("USETMAXREG" in line for line in lines) is (options.width == 128)
    for product in ("HGMMA.64x64x16", f"HGMMA.64x{options.width}x16"):
        assert any(product in line for line in lines), product


@pytest.mark.parametrize("options", ALL, ids=name_of)
def test_that_every_plan_fits_the_chip(options: Options) -> None:
    plan = linear.hopper_plan(options)
    assert max(plan.shared_bytes, plan.state_shared_bytes) <= hopper.MOST_SHARED_BYTES
    assert plan.threads <= 1024


def test_that_shared_memory_is_what_the_kernel_lays_out() -> None:
    """By hand, 128 wide: 3 stages of three tiles of 64 rows of 256 bytes, 132 numbers and 3 barriers; two panels of weights, two
    tiles of outputs, factors and normalisers twice; four more barriers."""
    plan = linear.hopper_plan(Options("bf16", 128, "elu", NO_DECAY, True, True))
    assert plan.stages == 3
    tile = 64 * 256
    assert plan.shared_bytes == 3 * (3 * tile + 132 * 4 + 24) + 2 * 8192 + 2 * tile + 2 * 64 * 4 + 2 * 128 * 4 + 32
    assert plan.state_shared_bytes == 3 * (2 * tile + 132 * 4 + 24) + 32


@pytest.mark.parametrize(("decay", "normalised", "stages"), [(NO_DECAY, False, 2), (NO_DECAY, True, 3), (PER_TOKEN, True, 2)])
def test_that_three_chunks_without_features_are_under_way_only_where_they_were_faster(
    decay: int, normalised: bool, stages: int
) -> None:
    assert linear.hopper_plan(Options("bf16", 128, "identity", decay, normalised, True)).stages == stages
    assert linear.hopper_plan(Options("bf16", 64, "identity", decay, normalised, True)).stages == 3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [1, 5, 16, 60, 92, 93, 500])
def test_that_segments_hold_every_token_once(heads: int, causal: bool) -> None:
    """The kernels' own arithmetic, redone: which keys are absorbed into states and which queries are answered."""
    for n, m in ((1, 1), (64, 64), (1000, 1000), (131072, 131072), (1, 5000), (300, 5000), (5000, 300), (65, 64)):
        cut = linear.cut(heads, n, m, causal)
        own, chunks = (n if causal else m), cut.chunks * linear.CHUNK
        assert (cut.segments - 1) * chunks < own <= cut.segments * chunks
        absorbed = cut.before + cut.segments - 1 if causal else cut.segments
        first = (m - n if causal else 0) - cut.before * chunks
        assert first <= max(0, m - n if causal else 0)
        assert cut.before == 0 or -chunks < first <= 0
        assert cut.states == (0 if causal and absorbed == 0 else cut.before + cut.segments)
        assert heads * cut.segments <= max(linear.WANTED_BLOCKS, heads)


def test_that_few_heads_are_cut_until_they_fill_a_card_and_many_are_not() -> None:
    assert linear.cut(16, 131072, 131072, True) == linear.Cut(256, 0, 8, 8)
    assert linear.cut(96, 8192, 8192, True) == linear.Cut(128, 0, 1, 0)
    assert linear.cut(1, 1, 70000, True).before > 100
    assert linear.cut(96, 8192, 8192, False).states == 1


def test_that_heads_share_a_state_unless_they_forget_at_different_rates() -> None:
    assert linear.state_heads(8, 2, 0) == linear.state_heads(8, 2, 2) == 2
    assert linear.state_heads(8, 2, 8) == 8


class Refusing:
    capability, multiprocessors, shared_bytes, portable = (9, 0), 132, 227 * 1024, False


@pytest.mark.parametrize(
    ("head_dim", "dtype", "causal", "says"),
    [
        (256, "bf16", True, "RetNet runs on a GPU up to head dim 128, not 256: set head dim 128, or use the CPU"),
        (20, "fp16", True, "RetNet on a GPU needs a head dim that is a multiple of 8, not 20: set 16, or use the CPU"),
        (64, "bf16", False, "RetNet forgets along the sequence, which needs a causal mask: set causal"),
    ],
)
def test_that_what_has_no_kernel_is_refused_with_a_way_out(head_dim: int, dtype: Dtype, causal: bool, says: str) -> None:
    workload = Workload(seq_len=64, num_heads=2, num_kv_heads=1, head_dim=head_dim, dtype=dtype, causal=causal)
    q, k = np.zeros((1, 2, 64, head_dim), np.uint16), np.zeros((1, 1, 64, head_dim), np.uint16)
    with pytest.raises(Unsupported) as caught:
        linear.attend(Refusing(), "linear", "RetNet", (q, k, k, q), workload, decay=np.zeros(2, np.float32))
    assert str(caught.value) == says


def test_that_numbers_of_heads_travel_by_value() -> None:
    class OnDevice:
        pass

    values = linear.by_value(np.array([-1, -2.5], np.float32))
    assert packed((values, np.int32(1)), OnDevice) == (values, np.int32(1))
    assert values.view(np.float32)[:3].tolist() == [-1, -2.5, 0]
    with pytest.raises(ValueError, match="256 heads, was 300"):
        linear.by_value(np.zeros(300, np.float32))
    bad: Any = np.zeros(2, linear.HEAD_VALUES)
    with pytest.raises(TypeError, match="argument 0"):
        packed((bad,), OnDevice)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000])
def test_that_operations_are_those_of_the_chunks(n: int) -> None:
    workload = Workload(2, n, 60, 20, 64, 1, "bf16", True)
    own = sum(1 for i in range(n) for j in range(i + 1) if i // linear.CHUNK == j // linear.CHUNK)
    (step,) = linear.steps(workload, normalised=True)
    heads, d = 120, 64
    assert step.flops == 2 * heads * (2 * n * d * (d + 1) + own * (2 * d + 1))
    assert cuda.blocks(n, linear.CHUNK) * linear.CHUNK >= n

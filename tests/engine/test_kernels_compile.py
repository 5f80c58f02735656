"""Every kernel compiles for every card, without one: NVRTC needs neither GPU nor driver."""

from __future__ import annotations

import functools
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from attnscope_engine import catalogue, cuda
from attnscope_engine.devices import cubins, nvrtc
from attnscope_engine.protocol import ITEM_BYTES, Dtype

ARCHS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_120")
STEMS = (*catalogue.variants(), cubins.DEVICE)
DTYPES: tuple[Dtype, ...] = ("fp32", "bf16", "fp16")
MOST_SPILLED = 32
"""Bytes a thread: what ptxas gives up by itself to fit one more block on the card, not an array in slow memory."""

MOST_SPILLED_WIDEST = 96
"""The same of 256 elements on 7.5, where a product takes operands in halves."""

MOST_SPILLED_CHANGED = 64
"""The same where scores are changed on the way: 32 rows of 128 elements leave a thread no register for what changes them."""

TILED = ("chunked", "sliding_window", "softmax_tiled")
"""Built on `softmax_tiles.cuh`."""

SHARED_KIB = {"sm_75": 64, "sm_80": 163, "sm_86": 99, "sm_89": 99, "sm_90": 227, "sm_90a": 227, "sm_100": 227, "sm_120": 99}
"""What a block may have."""

Case = tuple[str, str, Dtype, int, int]
CHANGED = "softmax_tiled, changed scores"
"""With a soft cap and ALiBi; without ALiBi or cap there is less of everything."""

SMALL = [(stem, arch, dtype, 64, 0) for stem in STEMS for arch in ARCHS for dtype in DTYPES if (arch, dtype) != ("sm_75", "bf16")]
WIDE = [(stem, "sm_90", dtype, 128, 0) for stem in STEMS if stem != cubins.DEVICE for dtype in DTYPES]
WIDEST: list[Case] = [
    ("softmax_tiled", arch, "fp16", head_dim, 0) for arch in ("sm_75", "sm_86") for head_dim in (96, 128, 192, 256)
]
DECODE: list[Case] = [
    *(("softmax_tiled", arch, "fp16", 128, 8) for arch in ("sm_75", "sm_80", "sm_86", "sm_120")),
    *(
        ("softmax_tiled", "sm_90", dtype, head_dim, rows)
        for dtype in DTYPES
        for head_dim, rows in ((64, 64), (128, 32), (256, 1))
    ),
    ("sliding_window", "sm_90", "bf16", 128, 1),
]
CHANGES: list[Case] = [
    *((CHANGED, arch, dtype, 64, 0) for arch in ARCHS for dtype in DTYPES if (arch, dtype) != ("sm_75", "bf16")),
    *((CHANGED, arch, "fp16", head_dim, 0) for arch in ("sm_75", "sm_86") for head_dim in (128, 256)),
    *((CHANGED, arch, "fp16", 128, 8) for arch in ("sm_75", "sm_90")),
]


def compiled(case: Case) -> tuple[bytes, str]:
    stem, arch, dtype, head_dim, decode_rows = case
    changes = {"SOFTCAP": 1, "ALIBI": 1} if stem == CHANGED else {}
    stem = stem.split(",")[0]
    if stem == cubins.DEVICE:
        defines = {"DTYPE": cuda.DTYPE_CODE[dtype]}
    elif stem in TILED:
        defines = cuda.softmax_tiling(stem, head_dim, dtype, SHARED_KIB[arch] * 1024, decode_rows).defines(True) | changes
    else:
        tiles = cuda.tiling(stem, head_dim, dtype)
        defines = {**tiles.defines(True), "SEGMENT": 256}
    return nvrtc.compile_cubin(cubins.source_of(stem), f"{stem}.cu", arch, cubins.flags(defines))


@functools.cache
def pool() -> ThreadPoolExecutor:
    """NVRTC lets go of the interpreter while it compiles, so threads use all cores."""
    return ThreadPoolExecutor(os.cpu_count())


@functools.cache
def future(case: Case) -> Future[tuple[bytes, str]]:
    return pool().submit(compiled, case)


@pytest.fixture(scope="module", autouse=True)
def all_started(request: pytest.FixtureRequest) -> None:
    """Starts what the selected tests will ask for, so that one core waits for none."""
    for item in request.session.items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        if case and item.module is request.module:
            future(case)


@pytest.mark.parametrize("case", [*SMALL, *WIDE, *WIDEST, *DECODE, *CHANGES], ids=lambda case: "-".join(map(str, case)))
def test_that_each_kernel_compiles_without_warning_or_spill(case: Case) -> None:
    cubin, log = future(case).result()
    assert cubin.startswith(b"\x7fELF")
    assert "warning" not in log, log
    most = MOST_SPILLED_CHANGED if case[0] == CHANGED else MOST_SPILLED
    most = MOST_SPILLED_WIDEST if case[0].startswith("softmax_tiled") and case[1] == "sm_75" and case[3] == 256 else most
    assert all(int(spilled) <= most for spilled in re.findall(r"(\d+) bytes spill", log)), log


def test_that_no_variant_is_without_a_kernel() -> None:
    assert {"chunked", "linear", "sliding_window", "softmax_naive", "softmax_tiled"} <= set(STEMS)


@pytest.mark.parametrize("stem", STEMS)
def test_that_a_kernel_begins_with_its_six_lines(stem: str) -> None:
    heads = [line.split(":")[0] for line in cubins.file_text(f"{stem}.cu").splitlines()[:6]]
    assert heads == ["// What", "// Grid → work", "// Block → work", "// Shared memory", "// Numerics", "// Limits"]


@pytest.mark.parametrize("stem", STEMS)
def test_that_no_kernel_needs_a_header_of_cuda(stem: str) -> None:
    assert "#include" not in cubins.source_of(stem)


@pytest.mark.parametrize("head_dim", [*range(8, 257, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_that_tiles_fit_the_shared_memory_of_every_card(dtype: Dtype, head_dim: int) -> None:
    tiles = cuda.tiling("Flash", head_dim, dtype)
    assert tiles.width >= head_dim
    assert tiles.shared_bytes(tiles.block_q + 2 * tiles.block_k) <= 64 * 1024


@pytest.mark.parametrize("kib", sorted(set(SHARED_KIB.values())))
@pytest.mark.parametrize("head_dim", [*range(8, 257, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_that_tiles_of_softmax_fit_the_shared_memory_of_the_card(dtype: Dtype, head_dim: int, kib: int) -> None:
    """A block is within its limit, and from 8.0 on two of 16-bit elements are within a multiprocessor's, which is 1 KiB more."""
    for decode_rows in (0, 1, 17, 33, 128):
        tiles = cuda.softmax_tiling("Flash", head_dim, dtype, kib * 1024, decode_rows)
        assert tiles.width >= head_dim
        assert tiles.threads % 32 == 0
        assert tiles.threads >= tiles.width * ITEM_BYTES[dtype] // 16, "a row is loaded by the threads of one block at once"
        assert tiles.block_k % (tiles.chunk * tiles.key_warps) == 0
        assert tiles.block_q >= min(decode_rows, 32)
        assert tiles.shared_bytes <= 64 * 1024
        if dtype != "fp32" and kib > 64:
            assert 2 * (tiles.shared_bytes + 1024) <= (kib + 1) * 1024

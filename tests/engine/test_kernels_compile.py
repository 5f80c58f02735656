"""Every kernel compiles for every card, without one: NVRTC needs neither GPU nor driver."""

from __future__ import annotations

import functools
import re
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from attnscope_engine import cuda
from attnscope_engine.cuda import linear
from attnscope_engine.devices import cubins, nvrtc
from attnscope_engine.protocol import ITEM_BYTES, Dtype, Workload
from attnscope_engine.variant import Unsupported
from writing_device import WritingDevice, launched, with_kernels

ARCHS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_120")
STEMS = (*with_kernels(), cubins.DEVICE)
DTYPES: tuple[Dtype, ...] = ("fp32", "bf16", "fp16")
MOST_SPILLED = 32
"""Bytes a thread: what ptxas gives up by itself to fit one more block on the card, not an array in slow memory."""

MOST_SPILLED_WIDEST = 96
"""The same of 256 elements on 7.5, where a product takes operands in halves."""

MOST_SPILLED_CHANGED = 64
"""The same where scores are changed on the way: 32 rows of 128 elements leave a thread no register for what changes them."""

MOST_SPILLED_LINEAR = 72
"""The same of a block with one warp more than a power of two, which gets the registers of a larger one."""

MOST_SPILLED_OF_A_TABLE = 48
"""The same where both bounds of a row are read from a table."""

TILED = ("block_sparse", "chunked", "dilated", "document", "global_tokens", "prefix", "sliding_window", "softmax_tiled")
"""Built on `softmax_tiles.cuh`."""

OPTIONS: tuple[tuple[linear.Feature, int, bool, bool], ...] = (
    ("elu", linear.NO_DECAY, True, True),
    ("exp", linear.PER_HEAD, False, True),
    ("identity", linear.PER_TOKEN, False, True),
    ("relu", linear.PER_TOKEN, True, True),
    ("relu2", linear.NO_DECAY, True, False),
)
"""Feature, decay, normalised, causal."""

SHARED_KIB = {"sm_75": 64, "sm_80": 163, "sm_86": 99, "sm_89": 99, "sm_90": 227, "sm_90a": 227, "sm_100": 227, "sm_120": 99}
"""What a block may have."""

Case = tuple[str, str, Dtype, int, int]
CHANGED = "softmax_tiled, changed scores"
"""With a soft cap and ALiBi; without ALiBi or cap there is less of everything."""

EVERYWHERE = ("linear", "softmax_naive", "softmax_tiled", cubins.DEVICE)
"""Compiled in every dtype for every card. The others add a mask or a decay to these: fp16 on every card, all dtypes on one."""

SMALL = [
    (stem, arch, dtype, 64, 0)
    for stem in STEMS
    for arch in ARCHS
    for dtype in DTYPES
    if (arch, dtype) != ("sm_75", "bf16") and (stem in EVERYWHERE or dtype == "fp16" or arch == "sm_90")
]
WIDE = [
    (stem, "sm_90", dtype, 128, 0)
    for stem in STEMS
    for dtype in DTYPES
    if stem != cubins.DEVICE and (stem in EVERYWHERE or dtype == "bf16")
]
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
        return compiled_as_launched(case)
    return nvrtc.compile_cubin(cubins.source_of(stem), f"{stem}.cu", arch, cubins.flags(defines))


def compiled_as_launched(case: Case) -> tuple[bytes, str]:
    """Every kernel that a launch of the variant asks for, with the constants that it gives: one of the cubins, all the words."""
    name, arch, dtype, head_dim, _ = case
    number = int(arch.removeprefix("sm_").rstrip("a"))
    device = WritingDevice(divmod(number, 10), shared_bytes=SHARED_KIB[arch] * 1024, portable=not arch.endswith("a"))
    workload = Workload(seq_len=1024, num_heads=4, num_kv_heads=2, head_dim=head_dim, layers=1, dtype=dtype)
    try:
        launched(name, workload, device=device)
    except Unsupported as says:
        pytest.skip(str(says))
    found = [
        nvrtc.compile_cubin(cubins.source_of(stem), f"{stem}.cu", arch, cubins.flags(defines)) for stem, defines in device.kernels
    ]
    assert found, f"{name} launches nothing"
    return found[0][0], "".join(log for _, log in found)


@functools.cache
def pool() -> ThreadPoolExecutor:
    """NVRTC lets go of the interpreter while it compiles: one text is compiled while the last is looked at."""
    return ThreadPoolExecutor(1)


@functools.cache
def future(case: Case) -> Future[tuple[bytes, str]]:
    return pool().submit(compiled, case)


@pytest.fixture(scope="module", autouse=True)
def all_started(request: pytest.FixtureRequest) -> None:
    """Starts what the selected tests will ask for."""
    for item in request.session.items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        if case and item.module is request.module:
            future(case)


@pytest.mark.parametrize("case", [*SMALL, *WIDE, *WIDEST, *DECODE, *CHANGES], ids=lambda case: "-".join(map(str, case)))
def test_that_each_kernel_compiles_without_warning_or_spill(case: Case) -> None:
    cubin, log = future(case).result()
    assert cubin.startswith(b"\x7fELF")
    assert "warning" not in log, log
    most = {
        "dilated": MOST_SPILLED_OF_A_TABLE,
        "strided": MOST_SPILLED_OF_A_TABLE,
        "fox": MOST_SPILLED_CHANGED,
        "performer": MOST_SPILLED_LINEAR,
        CHANGED: MOST_SPILLED_CHANGED,
    }.get(case[0], MOST_SPILLED)
    most = MOST_SPILLED_WIDEST if case[0].startswith("softmax_tiled") and case[1] == "sm_75" and case[3] == 256 else most
    assert all(int(spilled) <= most for spilled in re.findall(r"(\d+) bytes spill", log)), log


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("arch", "dtype", "width"), [("sm_75", "fp16", 64), ("sm_80", "bf16", 128), ("sm_120", "fp32", 128)])
def test_that_linear_kernels_compile_with_every_option(
    arch: str, dtype: Dtype, width: int, options: tuple[linear.Feature, int, bool, bool]
) -> None:
    defines = linear.portable_plan(linear.Options(dtype, width, *options), SHARED_KIB[arch] * 1024).defines()
    cubin, log = nvrtc.compile_cubin(cubins.source_of("linear"), "linear.cu", arch, cubins.flags(defines))
    assert cubin.startswith(b"\x7fELF")
    assert "warning" not in log, log
    assert all(int(spilled) <= MOST_SPILLED_LINEAR for spilled in re.findall(r"(\d+) bytes spill", log)), log


@pytest.mark.parametrize("kib", sorted(set(SHARED_KIB.values())))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [64, 128])
def test_that_chunks_of_linear_fit_the_shared_memory_of_the_card(width: int, dtype: Dtype, kib: int) -> None:
    for options in OPTIONS:
        plan = linear.portable_plan(linear.Options(dtype, width, *options), kib * 1024)
        assert max(plan.shared_bytes, plan.state_shared_bytes) <= kib * 1024
        assert linear.CHUNK % plan.tokens == 0


@pytest.mark.parametrize("arch", ARCHS)
def test_that_the_kernel_that_reorders_compiles(arch: str) -> None:
    _, log = nvrtc.compile_cubin(cubins.source_of("dilated"), "dilated.cu", arch, cubins.flags({"REORDER": 1}))
    assert "warning" not in log, log


def test_that_no_variant_is_without_a_kernel() -> None:
    assert {"chunked", "linear", "prefix", "sliding_window", "softmax_naive", "softmax_tiled"} <= set(STEMS)


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

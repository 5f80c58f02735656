"""The text of the softmax kernels, run on the processor by a small stand-in for the GPU, against float64. Tiny ragged sizes."""

from __future__ import annotations

import numpy as np
import pytest
from attnscope_engine import catalogue, cuda, numerics
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from plain_scores import changed
from portable_on_cpu import COMPILER, EmulatedDevice

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

ROUNDING = {"bf16": 2.0**-8, "fp16": 2.0**-11, "fp32": 2.0**-20}


def random_inputs(shape: tuple[int, int, int, int, int, int], dtype: Dtype, seed: int) -> list[np.ndarray]:
    batch, heads, kv_heads, n, m, head_dim = shape
    rng = np.random.default_rng(seed)
    shapes = ((batch, heads, n, head_dim), (batch, kv_heads, m, head_dim), (batch, kv_heads, m, head_dim))
    return [numerics.rounded(rng.standard_normal(s, np.float32), dtype) for s in shapes]


def check(
    name: str,
    dtype: Dtype,
    arrays: list[np.ndarray],
    causal: bool,
    values: dict[str, int] | None = None,
    shared_kib: int = 99,
) -> tuple[EmulatedDevice, np.ndarray]:
    """Runs one launch, compares out and log-sum-exp with float64; returns the device and out."""
    (batch, heads, n, head_dim), (kv_heads, m) = arrays[0].shape, arrays[1].shape[1:3]
    workload = Workload(
        batch=batch, seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, causal=causal
    )
    variant, device = catalogue.find(name), EmulatedDevice(shared_kib * 1024)
    params = variant.parse(values or {})
    q, k, v = (to_bits(x, dtype) for x in arrays)
    out = np.full(q.shape, np.nan, np.float32) if dtype == "fp32" else np.full(q.shape, 0x7FFF, np.uint16)
    variant.launch(device, q, k, v, out, workload, params)

    seen = variant.visible(workload, params, np.arange(n) + m - n, np.arange(m))
    keys = numerics.expand_heads(arrays[1], heads).astype(np.float64)
    scores = np.where(seen, changed(arrays[0].astype(np.float64) @ keys.swapaxes(-1, -2) * head_dim**-0.5, values or {}), -np.inf)
    top = np.maximum(scores.max(-1), -1e30)
    with np.errstate(divide="ignore"):
        log_sums = np.where(seen.any(-1), top + np.log(np.exp(scores - top[..., None]).sum(-1)), -np.inf)
    truth, got = variant.reference(*arrays, workload, params), from_bits(out, dtype)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    assert np.abs(got - truth).max() <= 3 * ROUNDING[dtype] * np.abs(truth).max()
    lse = next(x for x in device.workspaces if x.shape == out.shape[:3])
    assert np.array_equal(np.isneginf(lse), np.isneginf(log_sums))
    rounded_tanh = 2**-11 * (values or {}).get("softcap", 0) if dtype == "bf16" else 0  # as far off as the instruction may be
    assert np.abs(np.where(np.isneginf(lse), 0, lse - np.where(np.isneginf(lse), 0, log_sums))).max() < 1e-3 + rounded_tanh
    return device, got


@pytest.mark.parametrize(
    ("dtype", "head_dim", "n", "m", "causal"),
    [
        ("bf16", 64, 150, 150, True),
        ("bf16", 64, 70, 203, True),
        ("bf16", 64, 150, 60, True),  # the first 90 queries see nothing
        ("bf16", 64, 33, 129, False),
        ("fp16", 72, 40, 70, True),  # 96 wide
        ("fp16", 256, 65, 35, True),  # 16 rows a warp, one chunk a tile
        ("fp32", 32, 70, 90, True),
    ],
)
def test_that_softmax_is_right(dtype: Dtype, head_dim: int, n: int, m: int, causal: bool) -> None:
    check("softmax_tiled", dtype, random_inputs((1, 2, 1, n, m, head_dim), dtype, n), causal)


@pytest.mark.parametrize("values", [{"window_size": 40, "sinks": 3}, {"window_size": 1}, {"window_size": 70, "sinks": 130}])
@pytest.mark.parametrize("causal", [True, False])
def test_that_a_window_with_sinks_is_right(values: dict[str, int], causal: bool) -> None:
    check("sliding_window", "bf16", random_inputs((1, 1, 1, 200, 230, 64), "bf16", 3), causal, values)


CAPPED, BIASED, BOTH = {"softcap": 3}, {"alibi": True}, {"softcap": 30, "alibi": True}


@pytest.mark.parametrize(
    ("dtype", "head_dim", "n", "m", "causal", "values"),
    [
        ("bf16", 64, 150, 203, True, CAPPED),
        ("fp16", 64, 150, 203, False, CAPPED),
        ("bf16", 64, 70, 203, True, BIASED),
        ("bf16", 96, 33, 129, False, BIASED),
        ("fp16", 64, 150, 60, True, BOTH),  # the first 90 queries see nothing
        ("fp16", 256, 40, 70, False, BOTH),
        ("fp32", 32, 70, 90, True, BOTH),
        ("fp32", 32, 70, 33, False, CAPPED),
        ("bf16", 64, 4, 600, True, BOTH),  # few queries, the keys split
        ("fp16", 64, 3, 300, False, BOTH),
        ("fp32", 64, 5, 400, True, BOTH),
    ],
)
def test_that_capped_and_biased_scores_are_right(
    dtype: Dtype, head_dim: int, n: int, m: int, causal: bool, values: dict[str, int]
) -> None:
    """Scores of up to 16, six heads of which two keep slopes of their own, and two read each key head."""
    q, k, v = random_inputs((1, 6, 3, n, m, head_dim), dtype, n)
    check("softmax_tiled", dtype, [2 * q, 2 * k, v], causal, values)


def test_that_steep_distances_against_rising_scores_are_exact() -> None:
    """Each key's score is as far above the last one's as its distance takes away, or twice as far: maxima move at every tile."""
    q, k, v = random_inputs((1, 3, 1, 64, 300, 64), "fp16", 5)
    q[..., 0] = 8.0
    for rise in (-60, 60, -300):
        k[..., 0] = np.linspace(0, rise, 300)
        for causal in (True, False):
            check("softmax_tiled", "fp16", [numerics.rounded(x, "fp16") for x in (q, k, v)], causal, BIASED)


def test_that_large_tiles_are_right() -> None:
    device, _ = check("softmax_tiled", "bf16", random_inputs((1, 1, 1, 140, 270, 64), "bf16", 6), True, shared_kib=227)
    assert device.launches[0][3] == 64 * 1024


def test_that_chunks_are_right() -> None:
    check("chunked", "bf16", random_inputs((1, 1, 1, 200, 200, 64), "bf16", 4), True, {"chunk_size": 48})


@pytest.mark.parametrize(("n", "m"), [(700, 700), (150, 600), (300, 280), (3, 500), (5, 517), (2, 128)])
@pytest.mark.parametrize("causal", [True, False])
def test_that_listed_blocks_are_right(n: int, m: int, causal: bool) -> None:
    for values in ({"window_blocks": 1, "random_blocks": 1, "global_blocks": 1}, {"window_blocks": 2, "random_blocks": 0}):
        check("block_sparse", "bf16", random_inputs((1, 2, 1, n, m, 64), "bf16", 8), causal, values)


def test_that_listed_blocks_of_fp32_and_wide_heads_are_right() -> None:
    values = {"window_blocks": 1, "random_blocks": 1, "global_blocks": 0}
    check("block_sparse", "fp32", random_inputs((1, 1, 1, 300, 300, 32), "fp32", 8), True, values)
    check("block_sparse", "fp16", random_inputs((1, 1, 1, 300, 300, 256), "fp16", 8), False, values)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (130, 205), (150, 130), (9, 300), (100, 3)])
@pytest.mark.parametrize("values", [{"window_size": 12, "dilation": 3}, {"window_size": 2, "dilation": 70}])
@pytest.mark.parametrize("causal", [True, False])
def test_that_a_window_with_gaps_is_right(values: dict[str, int], n: int, m: int, causal: bool) -> None:
    check("dilated", "bf16", random_inputs((1, 2, 1, n, m, 64), "bf16", 8), causal, values)


@pytest.mark.parametrize(("mean_size", "n", "m"), [(16, 200, 200), (70, 150, 230), (40, 200, 130), (9000, 100, 100)])
@pytest.mark.parametrize("causal", [True, False])
def test_that_documents_are_right(mean_size: int, n: int, m: int, causal: bool) -> None:
    check("document", "bf16", random_inputs((1, 1, 1, n, m, 64), "bf16", 8), causal, {"mean_size": mean_size})


@pytest.mark.parametrize(("n", "m"), [(300, 300), (130, 150), (150, 130), (140, 300)])
@pytest.mark.parametrize("values", [{"window_size": 20, "global_size": 3}, {"window_size": 1, "global_size": 140}])
def test_that_global_tokens_are_right(values: dict[str, int], n: int, m: int) -> None:
    check("global_tokens", "bf16", random_inputs((1, 1, 1, n, m, 64), "bf16", 8), False, values)


def test_that_few_queries_among_global_tokens_are_right() -> None:
    values = {"window_size": 20, "global_size": 5}
    for n, m in ((12, 12), (8, 600), (16, 9)):
        for dtype in ("bf16", "fp32"):
            check("global_tokens", dtype, random_inputs((1, 4, 2, n, m, 32), dtype, 8), False, values)
    check("global_tokens", "bf16", random_inputs((1, 2, 1, 100, 100, 64), "bf16", 8), True, values)


@pytest.mark.parametrize(("prefix_size", "n", "m"), [(1, 150, 150), (90, 150, 200), (170, 200, 150), (500, 100, 130)])
def test_that_a_prefix_is_right(prefix_size: int, n: int, m: int) -> None:
    check("prefix", "bf16", random_inputs((1, 1, 1, n, m, 64), "bf16", 8), True, {"prefix_size": prefix_size})


@pytest.mark.parametrize(("first", "last"), [(0, 60), (60, 0), (-400, -400), (0, 1000)])
def test_that_scores_that_rise_or_lie_far_from_zero_are_exact(first: float, last: float) -> None:
    """The maximum moves by far more than fp16 has room for; or exponentials of the scores themselves would be 0 or infinite."""
    q, k, v = random_inputs((1, 1, 1, 64, 300, 64), "fp16", 5)
    q[..., 0] = 8.0  # √D: what is added to the first element of a key is added to its score
    k[..., 0] = np.linspace(first, last, 300)
    check("softmax_tiled", "fp16", [numerics.rounded(x, "fp16") for x in (q, k, v)], False)


@pytest.mark.parametrize(("heads", "n", "m"), [((8, 1), 1, 1000), ((4, 2), 4, 600), ((8, 1), 16, 200)])
def test_that_few_queries_with_their_keys_split_are_right(heads: tuple[int, int], n: int, m: int) -> None:
    device, _ = check("softmax_tiled", "bf16", random_inputs((1, *heads, n, m, 64), "bf16", n), True)
    tiles = cuda.softmax_tiling("Flash", 64, "bf16", device.shared_bytes, n * heads[0] // heads[1])
    splits = device.launches[0][1][0] // cuda.blocks(n * heads[0] // heads[1], tiles.block_q)
    assert splits == cuda.splits_of(heads[1], cuda.blocks(m, tiles.block_k), device.multiprocessors)
    assert [entry for entry, *_ in device.launches] == ["softmax_tiled"] + ["merge_splits"] * (splits > 1)
    assert sum(x.nbytes for x in device.workspaces[1:]) == (splits > 1) * splits * heads[0] * n * 65 * 4


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("name", ["softmax_naive", "linear"])
def test_that_the_kernels_that_share_tiles_with_softmax_are_right(name: str, dtype: Dtype) -> None:
    arrays = random_inputs((1, 1, 1, 40, 90, 32), dtype, 9)
    variant, device = catalogue.find(name), EmulatedDevice(64 * 1024)
    workload = Workload(seq_len=40, num_heads=1, num_kv_heads=1, head_dim=32, dtype=dtype, causal=True)
    params = variant.resolve(workload, variant.parse({}))
    q, k, v = (to_bits(x, dtype) for x in arrays)
    out = np.full(q.shape, np.nan, np.float32) if dtype == "fp32" else np.full(q.shape, 0x7FFF, np.uint16)
    variant.launch(device, q, k, v, out, workload, params)
    truth = variant.reference(*arrays, workload, params)
    assert np.abs(from_bits(out, dtype) - truth).max() <= 4 * ROUNDING[dtype] * np.abs(truth).max()


def test_that_queries_that_see_nothing_of_few_give_zero() -> None:
    _, out = check("softmax_tiled", "fp16", random_inputs((1, 2, 2, 12, 5, 64), "fp16", 7), True)
    assert (out[:, :, :7] == 0).all()

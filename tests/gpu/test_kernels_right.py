"""Every kernel against float64 by FlashAttention's rule: at most twice the error of the plain steps in its dtype, plus 1e-5."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import plain_scores
import pytest
from attnscope_engine import catalogue, numerics
from attnscope_engine.protocol import Dtype, Workload
from attnscope_engine.variant import Unsupported

pytestmark = pytest.mark.gpu

NAMES = (
    "block_sparse",
    "chunked",
    "dilated",
    "document",
    "global_tokens",
    "linear",
    "prefix",
    "sliding_window",
    "softmax_naive",
    "softmax_tiled",
    "strided",
)
DTYPES: tuple[Dtype, ...] = ("fp16", "bf16", "fp32")
HEADS = ((2, 2), (4, 2), (3, 1))
SMALL = ((1, 1), (17, 17), (63, 63), (64, 64), (65, 65), (113, 113), (257, 257), (113, 203), (203, 113), (1, 300), (65, 1))
LARGE = ((1000, 1000), (1023, 1023), (1023, 1024), (1024, 1023), (64, 1000))
PARAMS: dict[str, tuple[dict[str, int], ...]] = {
    "sliding_window": (
        {"window_size": 1},
        {"window_size": 100, "sinks": 5},
        {"window_size": 7, "sinks": 256},
        {"window_size": 4096},
    ),
    "chunked": ({"chunk_size": 1}, {"chunk_size": 48}, {"chunk_size": 64}, {"chunk_size": 300}, {"chunk_size": 65536}),
    "block_sparse": (
        {"window_blocks": 1, "global_blocks": 0, "random_blocks": 0},
        {"window_blocks": 1, "global_blocks": 1, "random_blocks": 2, "seed": 3},
        {"window_blocks": 2, "global_blocks": 0, "random_blocks": 1},
        {"window_blocks": 64},
    ),
    "dilated": (
        {"window_size": 1, "dilation": 3},
        {"window_size": 40, "dilation": 4},
        {"window_size": 9, "dilation": 100},
        {"window_size": 200, "dilation": 2},
        {"window_size": 4096, "dilation": 7},
    ),
    "document": ({"mean_size": 16}, {"mean_size": 60, "seed": 1}, {"mean_size": 300, "seed": 2}, {"mean_size": 65536}),
    "global_tokens": (
        {"window_size": 1, "global_size": 1},
        {"window_size": 30, "global_size": 70},
        {"window_size": 200, "global_size": 16},
        {"window_size": 4096},
    ),
    "prefix": ({"prefix_size": 1}, {"prefix_size": 50}, {"prefix_size": 192}, {"prefix_size": 700}),
    "strided": (
        {"stride": 2},
        {"stride": 16, "pattern": "fixed"},
        {"stride": 40},
        {"stride": 100, "pattern": "fixed"},
        {"stride": 300},
        {"stride": 65536},
    ),
}


class PoisonedScratch:
    """Workspaces full of NaN: what a kernel reads without having written shows."""

    def restart(self) -> None:
        pass

    def take(self, shape: tuple[int, ...], dtype: str, make: Any) -> Any:
        array = make(shape, dtype)
        array.set(np.full(shape, np.nan, dtype) if dtype == "float32" else np.full(shape, 0x7FFF, dtype))
        return array

    def keep(self, values: np.ndarray, make: Any) -> Any:
        array = make(values.shape, values.dtype.name)
        array.set(values)
        return array


def launched(device: Any, variant: Any, arrays: list[np.ndarray], workload: Workload, params: Any) -> np.ndarray:
    """Output of one launch into NaN-poisoned memory, float32."""
    from attnscope_engine.devices.cuda import from_bits

    with device.stream:
        q, k, v = (device.upload(x, workload.dtype) for x in arrays)
        out = device.upload(np.full(arrays[0].shape, np.nan, np.float32), workload.dtype)
        device.call(variant, q, k, v, out, workload, params, PoisonedScratch())
        return from_bits(out.get(), workload.dtype)


def plain(name: str, arrays: list[np.ndarray], seen: np.ndarray, dtype: Dtype, values: dict[str, int]) -> np.ndarray:
    """The steps as they are written down, every result rounded to the dtype."""
    q, k, v = arrays[0], *(numerics.expand_heads(x, arrays[0].shape[1]) for x in arrays[1:])

    def feature(x: np.ndarray) -> np.ndarray:
        return numerics.rounded(np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))), dtype)

    if name == "linear":
        products = np.where(seen, numerics.rounded(feature(q) @ feature(k).swapaxes(-1, -2), dtype), np.float32(0))
        total = products.sum(-1, keepdims=True)
        weights = products / np.where(total == 0, np.float32(1), total)
    else:
        scores = numerics.rounded(q @ k.swapaxes(-1, -2) * np.float32(q.shape[-1] ** -0.5), dtype)
        scores = numerics.rounded(plain_scores.changed(scores, values), dtype)
        scores = np.where(seen, scores, np.float32(-np.inf))
        top = scores.max(-1, keepdims=True)
        parts = np.exp(scores - np.where(np.isfinite(top), top, np.float32(0)))
        total = parts.sum(-1, keepdims=True)
        weights = parts / np.where(total == 0, np.float32(1), total)
    return numerics.rounded(numerics.rounded(weights, dtype) @ v, dtype)


def random_inputs(shape: tuple[int, int, int, int, int], dtype: Dtype, seed: int, batch: int = 1) -> list[np.ndarray]:
    heads, kv_heads, n, m, head_dim = shape
    rng = np.random.default_rng(seed)
    shapes = ((batch, heads, n, head_dim), (batch, kv_heads, m, head_dim), (batch, kv_heads, m, head_dim))
    return [numerics.rounded(rng.standard_normal(s, np.float32), dtype) for s in shapes]


def errors(
    device: Any, name: str, arrays: list[np.ndarray], dtype: Dtype, causal: bool, values: dict[str, int]
) -> tuple[float, float]:
    """Largest error of the kernel, and of the plain steps."""
    variant = catalogue.find(name)
    (batch, heads, n, head_dim), (kv_heads, m) = arrays[0].shape, arrays[1].shape[1:3]
    workload = Workload(
        batch=batch, seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, causal=causal
    )
    params = variant.parse(values)
    truth = variant.reference(*arrays, workload, params)
    out = launched(device, variant, arrays, workload, params)
    assert np.isfinite(out).all(), "an output was not written, or something unwritten was read"
    seen = variant.visible(workload, params, np.arange(n) + m - n, np.arange(m))
    return float(np.abs(out - truth).max()), float(np.abs(plain(name, arrays, seen, dtype, values) - truth).max())


@pytest.mark.parametrize("head_dim", [32, 64, 80, 96, 128, 192, 256])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_that_errors_are_at_most_twice_those_of_the_plain_steps(device: Any, name: str, dtype: Dtype, head_dim: int) -> None:
    if dtype not in device.facts.dtypes:
        pytest.skip(f"this card has no {dtype}")
    if name == "linear" and head_dim > 128:
        pytest.skip("refused, see below")
    cases = [*itertools.product(HEADS, SMALL), *itertools.product(HEADS[1:2], LARGE)]
    worst = 0.0
    for number, ((heads, shape), causal) in enumerate(itertools.product(cases, (True, False))):
        choices = PARAMS.get(name, ({},))
        values = choices[number // 2 % len(choices)]
        arrays = random_inputs((*heads, *shape, head_dim), dtype, number, batch=2 if shape == (65, 65) else 1)
        got, allowed = errors(device, name, arrays, dtype, causal, values)
        assert got <= 2 * allowed + 1e-5, (heads, shape, causal, values, got, allowed)
        worst = max(worst, got)
    print(f"{name} {dtype} D{head_dim}: {2 * len(cases)} cases, largest error {worst:.2e}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_that_values_far_from_zero_keep_their_digits(device: Any, name: str, dtype: Dtype) -> None:
    """A mean of 4 in v, and scores that reach 40: sums that drift or overflow would show."""
    q, k, v = random_inputs((2, 1, 2048, 2048, 64), dtype, 5)
    arrays = [numerics.rounded(q * 2, dtype), numerics.rounded(k * 2, dtype), numerics.rounded(v + 4, dtype)]
    got, allowed = errors(device, name, arrays, dtype, True, {})
    assert got <= 2 * allowed + 1e-5


@pytest.mark.parametrize("slope", [(1, 6), (6, 1), (60, 1)])
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", DTYPES)
def test_that_maxima_that_grow_along_the_row_are_exact(
    device: Any, dtype: Dtype, head_dim: int, slope: tuple[float, float]
) -> None:
    """Tiles are visited from one end to the other, so that what is summed so far must be rescaled again and again."""
    q, k, v = random_inputs((2, 1, 1152, 1152, head_dim), dtype, 6)
    arrays = [q, numerics.rounded(k * np.linspace(*slope, 1152, dtype=np.float32)[:, None], dtype), v]
    for causal in (True, False):
        got, allowed = errors(device, "softmax_tiled", arrays, dtype, causal, {})
        assert got <= 2 * allowed + 1e-5


CHANGES = ({"softcap": 3}, {"softcap": 30, "alibi": True}, {"alibi": True}, {"softcap": 30})


@pytest.mark.parametrize("head_dim", [64, 96, 128, 192, 256])
@pytest.mark.parametrize("dtype", DTYPES)
def test_that_capped_and_biased_scores_are_right(device: Any, dtype: Dtype, head_dim: int) -> None:
    """Scores as large as the cap, or a quarter of it; heads of which some take slopes between those of a power of two."""
    worst: dict[str, float] = {}
    cases = [
        *itertools.product(((6, 3), (8, 1)), ((65, 65), (203, 113), (113, 203), (1, 300), (257, 257))),
        ((3, 1), (1000, 1000)),
    ]
    for number, ((heads, shape), causal, values) in enumerate(itertools.product(cases, (True, False), CHANGES)):
        q, k, v = random_inputs((*heads, *shape, head_dim), dtype, number)
        size = max(2, values.get("softcap", 2) * (1 if number % 3 else 0.25))
        if dtype == "fp32":  # whose products, truncated by the card, lose digits of large scores whether they are changed or not
            size = min(size, 3 if "softcap" in values else 1)
        arrays = [numerics.rounded(x * np.float32(size**0.5), dtype) for x in (q, k)] + [v]
        got, allowed = errors(device, "softmax_tiled", arrays, dtype, causal, values)
        limit = (3 if "softcap" in values else 2) * allowed + 1e-5
        assert got <= limit, (heads, shape, causal, values, got, allowed)
        worst[str(values)] = max(worst.get(str(values), 0), got / limit)
    print(f"{dtype} D{head_dim}: of what is allowed, {worst}")


@pytest.mark.parametrize("slope", [(1, 6), (60, 1)])
@pytest.mark.parametrize("rise", [-1200, 1200])
@pytest.mark.parametrize("dtype", DTYPES)
def test_that_steep_distances_against_growing_maxima_are_exact(
    device: Any, dtype: Dtype, rise: int, slope: tuple[float, float]
) -> None:
    """Keys whose scores rise or fall along the row by about as much as the steepest head takes away for their distance."""
    q, k, v = random_inputs((8, 2, 1152, 1152, 64), dtype, 6)
    if dtype == "fp32":  # as above
        rise, slope = rise // 40, (1, 2)
    k *= np.linspace(*slope, 1152, dtype=np.float32)[:, None]
    q[..., 0], k[..., 0] = 8.0, np.linspace(0, rise, 1152)
    arrays = [numerics.rounded(x, dtype) for x in (q, k, v)]
    for causal, values in itertools.product((True, False), ({"alibi": True}, {"softcap": 100, "alibi": True})):
        got, allowed = errors(device, "softmax_tiled", arrays, dtype, causal, values)
        assert got <= (3 if "softcap" in values else 2) * allowed + 1e-5, (causal, values, got, allowed)


@pytest.mark.parametrize(("n", "causal"), [(1152, False), (2000, True), (4200, True)])
@pytest.mark.parametrize("head_dim", [64, 96, 128])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_that_long_calls_of_eight_heads_on_one_are_right(device: Any, dtype: Dtype, head_dim: int, n: int, causal: bool) -> None:
    """Lengths at which other tiles are taken than at the short ones above."""
    heads = 8 if n < 4000 else 2
    got, allowed = errors(device, "softmax_tiled", random_inputs((heads, 1, n, n, head_dim), dtype, n), dtype, causal, {})
    assert got <= 2 * allowed + 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_that_the_same_call_gives_the_same_bits(device: Any, name: str, dtype: Dtype) -> None:
    variant = catalogue.find(name)
    arrays = random_inputs((4, 2, 1000, 1000, 64), dtype, 1)
    workload = Workload(seq_len=1000, num_heads=4, num_kv_heads=2, head_dim=64, dtype=dtype)
    first = launched(device, variant, arrays, workload, variant.parse({}))
    for _ in range(3):
        again = launched(device, variant, arrays, workload, variant.parse({}))
        assert np.array_equal(first.view(np.uint32), again.view(np.uint32))


def sampled_error(device: Any, name: str, workload: Workload, values: dict[str, int], batch: int = 1) -> float:
    """Largest error of rows all over a call too large for a float64 truth of all of it, and where int32 would wrap."""
    from attnscope_engine.devices.cuda import Scratch, from_bits

    variant = catalogue.find(name)
    w, params = workload, variant.parse(values)
    n, rng = w.seq_len, np.random.default_rng(2)
    with device.stream:
        heads, keys = (batch, w.num_heads, n, w.head_dim), (batch, w.num_kv_heads, n, w.head_dim)
        q, k, v, out = (device.cupy.empty(shape, "uint16") for shape in (heads, keys, keys, heads))
        for place, array in enumerate((q, k, v)):
            device.fill_normal(array, w.dtype, place)
        device.call(variant, q, k, v, out, w, params, Scratch())
        worst = 0.0
        for b, h in {(0, 0), (batch - 1, w.num_heads - 1)}:
            group = h // (w.num_heads // w.num_kv_heads)
            here = [from_bits(x.get(), w.dtype) for x in (q[b, h], k[b, group], v[b, group], out[b, h])]
            wraps = [2**31 // n + step for step in (-1, 0, 1)] + [2**32 // n + step for step in (-1, 0, 1)]
            rows = np.unique(np.concatenate([rng.integers(0, n, 12), [0, 1, n // 2, n - 2, n - 1], np.minimum(wraps, n - 1)]))
            truth = variant.weights(here[0], here[1], w, params, rows, h) @ here[2].astype(np.float64)
            worst = max(worst, float(np.abs(here[3][rows] - truth).max()))
    device.release()
    return worst


@pytest.mark.parametrize("n", [46341, 65537, 131072])
@pytest.mark.parametrize("name", NAMES)
def test_that_rows_past_two_to_the_31_scores_are_right(device: Any, free_bytes: int, name: str, n: int) -> None:
    heads = (1, 1) if name == "softmax_naive" else (9, 3)
    if name == "softmax_naive" and 6 * n * (n + 8) > free_bytes:
        pytest.skip(f"needs {6 * n * n / 2**30:.1f} GiB")
    for causal in (True, False):
        workload = Workload(seq_len=n, num_heads=heads[0], num_kv_heads=heads[1], head_dim=64, dtype="bf16", causal=causal)
        assert sampled_error(device, name, workload, {}) < 0.01


@pytest.mark.parametrize("name", ["sliding_window", "chunked", "linear", "softmax_tiled"])
def test_that_tensors_past_two_to_the_31_elements_are_right(device: Any, free_bytes: int, name: str) -> None:
    n = 46000
    if 3 * 256 * n * 64 * 2 * 3 > free_bytes:
        pytest.skip("needs 14 GiB")
    workload = Workload(batch=3, seq_len=n, num_heads=256, num_kv_heads=32, head_dim=64, dtype="bf16", causal=True)
    values = {"sliding_window": {"window_size": 256}, "chunked": {"chunk_size": 512}}.get(name, {})
    assert sampled_error(device, name, workload, values, batch=3) < 0.02


@pytest.mark.parametrize(
    ("name", "head_dim", "says"), [("softmax_tiled", 320, "256"), ("linear", 256, "128"), ("chunked", 20, "set 16")]
)
def test_that_a_head_dim_without_a_kernel_is_refused_with_the_nearest(device: Any, name: str, head_dim: int, says: str) -> None:
    variant = catalogue.find(name)
    arrays = random_inputs((1, 1, 64, 64, head_dim), "fp16", 0)
    workload = Workload(seq_len=64, num_heads=1, num_kv_heads=1, head_dim=head_dim, dtype="fp16")
    with pytest.raises(Unsupported, match=says):
        device.run(variant, *arrays, workload, variant.parse({}))

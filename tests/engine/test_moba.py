"""MoBA: what each query chooses, as the paper writes it, on the processor and as a GPU computes it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue, chosen_exact, numerics
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Choice, Dtype, Workload
from attnscope_engine.variants import moba
from hopper_on_cpu import COMPILER, HopperOnCpu, guarded, guards_are_whole
from portable_on_cpu import EmulatedDevice
from writing_device import launched

torch = pytest.importorskip("torch")

VARIANT = catalogue.find("moba")
LARGEST_ERROR: dict[Dtype, float] = {"bf16": 5e-3, "fp16": 8e-4, "fp32": 5e-6}
"""Of the output by norm: what own block and choices gave is rounded to the dtype, and so is what they are merged to."""


def drawn(n: int, m: int, d: int = 16, heads: tuple[int, int] = (4, 2)) -> list[np.ndarray]:
    rng = np.random.default_rng(n + m)
    return [rng.standard_normal((1, h, tokens, d)) for h, tokens in ((heads[0], n), (heads[1], m), (heads[1], m))]


def keys_of(q: np.ndarray, k: np.ndarray, position: int, size: int, top_k: int) -> list[int]:
    """Of one query: its own block up to itself, and the past blocks that it likes best, in the words of the paper."""
    own = position // size
    likes = {block: float(q @ np.mean([k[j] for j in range(block * size, block * size + size)], axis=0)) for block in range(own)}
    best = sorted(likes, key=lambda block: (-likes[block], block))[:top_k]
    chosen = [j for block in sorted(best) for j in range(block * size, block * size + size)]
    return chosen + list(range(own * size, position + 1))


def as_written(params: Any, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    out, n, m, group = np.zeros(q.shape), q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    for h, i in itertools.product(range(q.shape[1]), range(max(0, n - m), n)):
        keys = keys_of(q[0, h, i], k[0, h // group], i + m - n, params.block_size, params.top_k)
        grown = np.exp(k[0, h // group, keys] @ q[0, h, i] / np.sqrt(q.shape[3]))
        out[0, h, i] = grown @ v[0, h // group, keys] / grown.sum()
    return out


@pytest.mark.parametrize("values", [{"block_size": 16, "top_k": 1}, {"block_size": 16, "top_k": 3}, {"block_size": 30}])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (100, 100), (7, 90), (90, 33), (1, 64), (64, 1)])
def test_that_reference_run_and_map_are_the_paper_as_it_is_written(n: int, m: int, values: dict[str, int]) -> None:
    params, (q, k, v) = VARIANT.parse(values), drawn(n, m)
    w, truth = Workload(1, max(n, m), 4, 2, 16, 1, "fp32", True), as_written(params, q, k, v)
    assert np.abs(VARIANT.reference(q, k, v, w, params) - truth).max() <= 1e-12
    single = [x.astype(np.float32) for x in (q, k, v)]
    for library in (np, torch):
        own = [torch.from_numpy(x) for x in single] if library is torch else single
        assert np.abs(np.asarray(VARIANT.run_cpu(*own, w, params, library, lambda: None)) - truth).max() <= 3e-6
    for head in range(4):
        found, seen = VARIANT.rows_of_map(q[0, head], k[0, head // 2], w, params, np.arange(n), head)
        assert np.abs(found @ v[0, head // 2] - truth[0, head]).max() <= 1e-12
        for i in range(max(0, n - m), n):
            chosen = keys_of(q[0, head, i], k[0, head // 2], i + m - n, params.block_size, params.top_k)
            assert np.nonzero(seen[i])[0].tolist() == chosen


@pytest.mark.parametrize("values", [{}, {"block_size": 16, "top_k": 3}, {"block_size": 50, "top_k": 32}, {"block_size": 4096}])
@pytest.mark.parametrize("n", [1, 16, 17, 333, 1024])
def test_that_what_is_counted_is_what_is_seen(n: int, values: dict[str, int]) -> None:
    """Pairs, choices and scores of blocks do not depend on the data; and so a cost is known before."""
    params, (q, k, _) = VARIANT.parse(values), drawn(n, n)
    w, size = Workload(1, n, 4, 2, 16, 1, "fp32", True), params.block_size
    _, seen = VARIANT.rows_of_map(q[0, 0], k[0, 0], w, params, np.arange(n), 0)
    assert chosen_exact.pairs_of_head(w.seq_len, params.block_size, params.top_k) == seen.sum()
    own = np.arange(n) // size
    assert chosen_exact.scores_of_blocks(n, size) == own.sum()
    assert chosen_exact.choices_of(n, size, params.top_k) == np.minimum(own, params.top_k).sum()
    for on in ("cpu", "cuda"):
        cost = catalogue.cost_of(Choice("moba", values), w, on)
        attention = sum(step.flops for step in cost.steps if step.name in ("attention", "own blocks", "chosen blocks"))
        assert attention == 4 * 4 * seen.sum() * 16


def test_that_blocks_that_nobody_chose_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    from attnscope_engine import attend_chosen

    pairs, square = [], attend_chosen.square

    def counted(q: Any, k: Any, v: Any, causal: bool, xp: Any) -> Any:
        pairs.append(q.shape[1] * (q.shape[2] * (q.shape[2] + 1) // 2 if causal else q.shape[2] * k.shape[2]))
        return square(q, k, v, causal, xp)

    monkeypatch.setattr(attend_chosen, "square", counted)
    q, k, v = (x.astype(np.float32) for x in drawn(2100, 2100))
    w, params = Workload(1, 2100, 4, 2, 16, 1, "fp32", True), VARIANT.parse({"block_size": 100, "top_k": 2})
    VARIANT.run_cpu(q, k, v, w, params, np, lambda: None)
    assert sum(pairs) == 4 * chosen_exact.pairs_of_head(w.seq_len, params.block_size, params.top_k)


# ---------------------------------------------------------------- on a GPU


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def check(device: Any, values: dict[str, int], shape: tuple[int, int], d: int, dtype: Dtype, heads: tuple[int, int]) -> None:
    rounded = [numerics.rounded(x, dtype) for x in drawn(*shape, d, heads)]
    q, k, v = (to_bits(x, dtype) for x in rounded)
    w, params, out = Workload(1, shape[0], *heads, d, 1, dtype, True), VARIANT.parse(values), guarded(q.shape, str(q.dtype))
    VARIANT.launch(device, q, k, v, out, w, params)
    assert guards_are_whole(out)
    truth, got = VARIANT.reference(*rounded, w, params), from_bits(out, dtype)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    assert np.linalg.norm(got - truth) <= LARGEST_ERROR[dtype] * np.linalg.norm(truth), (device, shape)


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")
@pytest.mark.parametrize(
    ("values", "shape", "d", "dtype"),
    [
        ({"block_size": 16, "top_k": 2}, (150, 150), 24, "fp32"),
        ({"block_size": 37, "top_k": 3}, (70, 200), 64, "bf16"),
        ({"block_size": 16, "top_k": 32}, (60, 33), 64, "fp16"),
        ({"block_size": 16, "top_k": 1}, (40, 700), 64, "bf16"),
        ({"block_size": 512, "top_k": 2}, (40, 40), 64, "fp16"),
    ],
)
def test_that_a_launch_on_every_card_is_attention_to_what_is_chosen(
    values: dict[str, int], shape: tuple[int, int], d: int, dtype: Dtype
) -> None:
    """Blocks of whole tiles, across tiles, fewer of them than may be chosen, more than are scored at a time, and none before."""
    check(EmulatedDevice(99 * 1024), values, shape, d, dtype, (2, 1))


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed: no kernel text can be run on this CPU")
@pytest.mark.parametrize(("shape", "d", "dtype"), [((150, 150), 64, "bf16"), ((70, 200), 128, "fp16")])
def test_that_a_launch_on_hopper_is_attention_to_what_is_chosen(
    builds: Path, shape: tuple[int, int], d: int, dtype: Dtype
) -> None:
    check(HopperOnCpu(builds), {"block_size": 30, "top_k": 2}, shape, d, dtype, (2, 1))


@pytest.mark.parametrize("values", [{}, {"block_size": 16, "top_k": 32}, {"block_size": 100, "top_k": 1}, {"block_size": 4096}])
@pytest.mark.parametrize("n", [1, 512, 513, 5000])
def test_that_what_is_held_is_what_is_allocated(n: int, values: dict[str, int]) -> None:
    workload = Workload(2, n, 6, 3, 64, 1, "bf16", True)
    device, inputs = launched("moba", workload, (9, 0), values=values)
    held = catalogue.cost_of(Choice("moba", values), workload, "cuda").held_bytes
    assert inputs + sum(array.nbytes for array in device.workspaces) == held


def test_that_groups_hold_the_rows_of_any_choice() -> None:
    """Whoever is chosen how often: every block's rows begin a group of their own."""
    rng, params = np.random.default_rng(0), VARIANT.parse({"block_size": 16, "top_k": 3})
    for n, m in ((400, 400), (300, 1000), (1000, 300)):
        positions = np.arange(max(0, m - n), m)
        for one in (True, False):
            counts = np.zeros(chosen_exact.past_blocks(m, 16), int)
            for own in positions // 16:
                liked = np.arange(min(3, own)) if one else rng.permutation(own)[:3]
                counts[liked] += 1
            assert -(-counts // moba.GROUP).sum() <= moba.groups_of(n, m, params)

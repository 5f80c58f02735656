"""Launches of the recurrent variants, gates and all: their kernels' text run on the processor against the papers' recurrences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue, numerics
from attnscope_engine.devices.cuda import from_bits, to_bits
from attnscope_engine.protocol import Dtype, Workload
from hopper_on_cpu import HopperOnCpu, guarded, guards_are_whole
from paper_recurrences import RECURRENCES, recurrence
from portable_on_cpu import COMPILER, EmulatedDevice

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

LARGEST_ERROR: dict[Dtype, float] = {"bf16": 7e-3, "fp16": 1.5e-3, "fp32": 1e-5}
"""Of the output by norm: keys and queries, scaled values, states, weights and output are rounded to the dtype once each."""

CASES: tuple[tuple[str, dict[str, Any], Dtype], ...] = (
    ("retnet", {"exponent": 2}, "bf16"),
    ("retnet", {}, "fp32"),
    ("simple_gla", {"half_life": 16}, "fp16"),
    ("simple_gla", {"half_life": 1}, "bf16"),
    ("mamba2", {}, "bf16"),
    ("mamba2", {"half_life": 3, "skip": False}, "fp32"),
    ("gla", {}, "bf16"),
    ("gla", {"half_life": 1}, "fp32"),
    ("deltanet", {}, "bf16"),
    ("deltanet", {}, "fp32"),
    ("gated_deltanet", {}, "fp16"),
    ("gated_deltanet", {"half_life": 1}, "fp32"),
    ("kda", {}, "bf16"),
    ("kda", {"half_life": 2}, "fp32"),
)


def check(device: Any, name: str, values: dict[str, Any], dtype: Dtype, shape: tuple[int, int]) -> None:
    (n, m), rng = shape, np.random.default_rng(shape[0])
    shapes = ((1, 4, n, 64), (1, 2, m, 64), (1, 2, m, 64))
    arrays = [numerics.rounded(rng.standard_normal(shape, np.float32), dtype) for shape in shapes]
    workload, variant = Workload(1, max(n, m), 4, 2, 64, 1, dtype, True), catalogue.find(name)
    params = variant.parse(values)
    stored = [to_bits(x, dtype) for x in arrays]
    out = guarded(stored[0].shape, str(stored[0].dtype))
    variant.launch(device, *stored, out, workload, params)
    assert guards_are_whole(out)
    truth, got = recurrence(name, params, *(x.astype(np.float64) for x in arrays)), from_bits(out, dtype)
    assert np.isfinite(got).all(), "an output was not written, or something unwritten was read"
    assert np.linalg.norm(got - truth) <= LARGEST_ERROR[dtype] * np.linalg.norm(truth), shape


def test_that_every_recurrent_variant_is_tried() -> None:
    assert {name for name, _, _ in CASES} == set(RECURRENCES)


@pytest.mark.parametrize(("name", "values", "dtype"), CASES)
def test_that_a_launch_on_every_card_computes_the_recurrence(name: str, values: dict[str, Any], dtype: Dtype) -> None:
    for shape in ((1, 1), (130, 130), (70, 150), (90, 40)):
        check(EmulatedDevice(99 * 1024), name, values, dtype, shape)


@pytest.mark.parametrize(("name", "values", "dtype"), [case for case in CASES if case[2] != "fp32"])
def test_that_a_launch_on_hopper_computes_the_recurrence(
    tmp_path_factory: pytest.TempPathFactory, name: str, values: dict[str, Any], dtype: Dtype
) -> None:
    builds: Path = tmp_path_factory.mktemp(f"kernels-{name}")
    for shape in ((1, 1), (130, 130), (70, 150), (90, 40)):
        check(HopperOnCpu(builds, seed=0), name, values, dtype, shape)

"""One small cell of the benchmark of exact attention, and one of Naive's steps, on the GPU."""

from __future__ import annotations

from typing import Any

import pytest
from attnscope_engine.bench.machine import Machine
from attnscope_engine.bench.results import OURS, Limits
from attnscope_engine.bench_exact.cells import Cell
from attnscope_engine.bench_exact.session import STEMS, Session

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def machine(device: Any) -> Machine:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch is built without CUDA")
    return Machine(torch, 0.05)


@pytest.fixture(scope="module")
def session(machine: Machine) -> Session:
    return Session(machine)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("group", ["GQA", "portable"])
def test_that_a_small_cell_is_timed_beside_torch_and_agrees_with_it(session: Session, group: Any, causal: bool) -> None:
    row = session.row(Cell(group, "bf16", 1, 8, 8, 512, 512, 64, causal))
    print(row)
    assert row.ours is not None
    assert row.ours.time_s > 0
    assert row.ours.extra_bytes >= 8 * 512 * 4
    assert "SDPA flash" in {peer.name for peer in row.peers}
    assert row.difference is not None
    assert not row.wrong
    assert row.input_sets > 1
    assert row.ratio is not None


def test_that_rising_scores_are_exact_too(session: Session) -> None:
    row = session.row(Cell("worst case", "bf16", 1, 2, 2, 2048, 2048, 128, True, 0, "growing"))
    print(row)
    assert row.difference is not None
    assert not row.wrong


def test_that_what_a_peer_can_not_do_is_said(session: Session) -> None:
    row = session.row(Cell("decode", "bf16", 2, 8, 1, 1, 2048, 128, False))
    print(row)
    assert row.ours is not None
    assert {OURS, *(peer.name for peer in row.peers), *(absent.name for absent in row.absent)} >= {"cuDNN", "SDPA efficient"}
    assert all(absent.why for absent in row.absent)


def test_that_each_step_of_naive_is_timed_by_itself(session: Session) -> None:
    found = session.naive(Cell("grid", "bf16", 1, 4, 2, 2048, 2048, 64, True))
    print(found)
    assert [step.name for step in found.steps] == ["scores", "softmax", "weights × v"]
    assert 0.5 < sum(step.time_s for step in found.steps) / found.whole.time_s < 1.5


def test_that_the_provenance_names_what_was_compared(machine: Machine) -> None:
    found = machine.provenance(STEMS)
    print(found)
    assert all(found[name] for name in ("device", "driver", "cuda", "nvrtc", "cublas", "torch", "cudnn", "cupy", "date"))


def test_that_the_machines_limits_are_limits(machine: Machine) -> None:
    limits = machine.limits(machine.limits(Limits()))
    print(limits)
    assert len(limits.gemm_flops_per_s) == len(limits.copy_bytes_per_s) == 2
    assert 1e12 < max(limits.gemm_flops_per_s) < 1e16
    assert all(0 <= share < 0.1 for share in limits.same_twice)
    assert 1e11 < max(limits.copy_bytes_per_s) < 2e13

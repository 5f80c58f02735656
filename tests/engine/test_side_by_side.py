"""Of blocks that are computed side by side on NumPy: all of them, as soon as asked to stop none, and the same numbers."""

from __future__ import annotations

import threading
import warnings
from functools import partial

import numpy as np
import pytest
from attnscope_engine import attend, catalogue, side_by_side
from attnscope_engine.devices import blas_threads
from attnscope_engine.devices.cpu import CpuDevice
from attnscope_engine.protocol import Choice, Measure, Workload


def no_tick() -> None:
    """Nothing interrupts."""


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_that_every_call_is_done_once_and_a_tick_comes_before_each(workers):
    done: list[int] = []
    ticks: list[int] = []
    side_by_side.run((partial(done.append, number) for number in range(50)), lambda: ticks.append(1), workers)
    assert sorted(done) == list(range(50))
    assert len(ticks) == 50


def test_that_calls_overlap_and_ticks_stay_in_the_asking_thread():
    both = threading.Barrier(2, timeout=20)
    asked: set[int] = set()
    side_by_side.run([both.wait, both.wait], lambda: asked.add(threading.get_ident()), 2)
    assert asked == {threading.get_ident()}


class StoppedError(Exception):
    """Raised by a tick."""


def test_that_nothing_is_at_work_any_more_once_a_tick_has_stopped_it():
    gate = threading.Event()
    begun: list[int] = []
    ended: list[int] = []

    def call(number: int) -> None:
        begun.append(number)
        gate.wait(20)
        ended.append(number)

    ticks = iter(range(100))

    def tick() -> None:
        if next(ticks) == 3:
            gate.set()
            raise StoppedError

    with pytest.raises(StoppedError):
        side_by_side.run((partial(call, number) for number in range(50)), tick, 2)
    assert sorted(begun) == sorted(ended)
    assert set(begun) <= {0, 1, 2}


def test_that_what_a_call_raises_arrives():
    def fails() -> None:
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        side_by_side.run([fails, no_tick, no_tick, no_tick, no_tick, no_tick], no_tick, 2)


def test_that_what_numpy_says_of_infinities_is_set_by_the_asking_thread():
    def overflows() -> None:
        np.float32(3e38) * np.float32(10)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(over="ignore"):
            side_by_side.run([overflows] * 4, no_tick, 2)
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            side_by_side.run([overflows] * 4, no_tick, 2)


@pytest.mark.parametrize("variant", ["softmax_tiled", "softmax_naive", "sliding_window", "document", "dilated"])
def test_that_threads_change_no_number(variant, monkeypatch):
    """Blocks write apart from each other, whatever their order."""
    workload = Workload(batch=2, seq_len=700, num_heads=6, num_kv_heads=2, head_dim=16, dtype="fp32")
    found = []
    for count in (1, 4):
        module = __import__(f"attnscope_engine.variants.{variant}", fromlist=["threads"])
        for place in (attend, module):
            if hasattr(place, "threads"):
                monkeypatch.setattr(place, "threads", lambda count=count: count)
        with np.errstate(all="ignore"):
            found.append(CpuDevice("numpy").prepare(Measure(workload, Choice(variant), seed=3)).output(no_tick))
    assert np.array_equal(found[0], found[1])
    assert catalogue.find(variant).name == variant


def test_that_openblas_has_one_thread_inside_and_its_own_number_again_after():
    functions = blas_threads._functions()
    if functions is None:
        pytest.skip("this NumPy has no OpenBLAS of its own")
    get, put = functions
    before = int(get())
    put(2)
    try:
        with blas_threads.one_blas_thread():
            assert get() == 1
        assert get() == 2
    finally:
        put(before)


def test_that_a_library_that_can_not_be_asked_is_left_alone(monkeypatch):
    monkeypatch.setattr(blas_threads, "_functions", lambda: None)
    with blas_threads.one_blas_thread():
        assert (np.ones((2, 2)) @ np.ones((2, 2))).sum() == 8

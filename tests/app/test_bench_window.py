"""The benchmark of the window measures a real window in a process of its own."""

from __future__ import annotations

from attnscope.bench_window import run_child, spread


def test_that_a_start_is_timed_from_the_start_of_the_process() -> None:
    assert 0.05 < float(run_child("start")) < 60


def test_that_ticks_repaint_a_page_with_the_engine_running() -> None:
    times = [float(word) for word in run_child("ticks map 20").split()]
    assert len(times) == 20
    assert all(time > 0 for time in times)


def test_that_the_spread_names_its_parts() -> None:
    assert spread([1.0, 2.0, 4.0]) == "median 2.00 s, min 1.00, max 4.00"

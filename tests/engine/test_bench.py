"""What benchmarks against others share: turns, rows of who ran and who could not, reports."""

from __future__ import annotations

import types
from typing import Any

import msgspec
import numpy as np
import pytest
from attnscope_engine.bench import machine as machines
from attnscope_engine.bench.contenders import Theirs
from attnscope_engine.bench.machine import Machine, commit, reports
from attnscope_engine.bench.peers import CanNotRun
from attnscope_engine.bench.race import LEAST_ROUNDS, MOST_ROUNDS, WARM_ROUNDS, race
from attnscope_engine.bench.results import OURS, Absent, Limits
from attnscope_engine.bench_family.cells import Cell
from attnscope_engine.bench_family.results import Report, Row

CELL = Cell("D128", "linear", 1, 8192, 96, 128)


# ---------------------------------------------------------------- turns


class FakeRunner:
    def __init__(self, name: str, times: list[float], log: list[str]) -> None:
        self.name, self.calls, self.extra_bytes = name, 30, 7
        self._times, self._log, self._count = times, log, 0

    def replay(self) -> tuple[float, int]:
        self._log.append(self.name)
        self._count += 1
        return self._times[self._count % len(self._times)], 1000 if self._count % 2 else 0


def test_that_contenders_take_turns_and_another_begins_each_round() -> None:
    log: list[str] = []
    race([FakeRunner("a", [1.0], log), FakeRunner("b", [2.0], log)], 0.0, now=lambda: 0.0)
    warm, timed = log[: 2 * WARM_ROUNDS], log[2 * WARM_ROUNDS :]
    assert warm == ["a", "b"] * WARM_ROUNDS
    assert timed == ["a", "b", "b", "a", "a", "b"] == (["a", "b", "b", "a"] * LEAST_ROUNDS)[: 2 * LEAST_ROUNDS]


def test_that_a_race_goes_on_until_every_median_is_certain_or_the_budget_ends() -> None:
    steady, noisy = [1.0], [1.0, 2.0, 3.0]
    assert race([FakeRunner("a", steady, []), FakeRunner("b", steady, [])], 1e9)[0].replays == 7
    found = race([FakeRunner("a", steady, []), FakeRunner("b", noisy, [])], 1e9)
    assert found[0].replays == found[1].replays > 7
    assert [timing.time_s for timing in found] == [1.0, 2.0]
    never = race([FakeRunner("c", [2.0**power for power in range(200)], [])], 1e9)
    assert never[0].replays == MOST_ROUNDS
    assert race([FakeRunner("b", noisy, [])], 0.0)[0].replays == LEAST_ROUNDS
    assert race([], 1.0) == []


def test_that_a_timing_knows_the_clocks_that_were_told_and_the_memory() -> None:
    found = race([FakeRunner("a", [1.0, 1.1], [])], 0.0)[0]
    assert (found.clock_mhz, found.extra_bytes, found.calls) == (1000, 7, 30)
    assert found.p20_s <= found.time_s <= found.p80_s


# ---------------------------------------------------------------- rows


class FakeTorch:
    class cuda:
        @staticmethod
        def synchronize() -> None:
            """Nothing runs."""

    @staticmethod
    def set_grad_enabled(_on: bool) -> None:
        """Nothing is differentiated."""


class FakeReplayed:
    times: dict[str, float] = {}  # noqa: RUF012

    def __init__(self, _torch: Any, name: str, _call: Any, sets: int, watch: Any, extra_bytes: int = 0) -> None:
        self.name, self.calls, self.extra_bytes, self._watch = name, sets, extra_bytes, watch

    def replay(self) -> tuple[float, int]:
        return self.times[self.name], self._watch()


class FakeContender:
    def __init__(self, name: str, out: Any) -> None:
        self.name, self._out = name, out

    def call(self, _index: int) -> Any:
        return self._out

    def first(self) -> Any:
        return self._out

    def extra_bytes(self) -> int:
        return 7


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    device = types.SimpleNamespace(throttle_reasons=lambda: 0x4, clock_mhz=lambda: 1700)
    monkeypatch.setattr(machines, "CudaDevice", lambda portable=False: device)
    monkeypatch.setattr(machines, "Replayed", FakeReplayed)
    monkeypatch.setattr(FakeReplayed, "times", {OURS: 1.0, "fla": 3.0, "other": 2.0, "another task": 8.0})
    return Machine(FakeTorch, 0.0)


def refused() -> Any:
    raise CanNotRun("not installed")


def apart(one: float, other: float) -> tuple[float, float]:
    return abs(one - other), 0.5


def test_that_a_row_has_all_who_ran_and_why_the_others_did_not(machine: Machine) -> None:
    peers = [("absent", refused), ("fla", lambda: FakeContender("fla", 1.25)), ("other", lambda: FakeContender("other", 9.0))]
    row = machine.row(CELL, 3, lambda: FakeContender(OURS, 1.0), peers, apart)
    assert row.ours is not None
    assert row.ours.extra_bytes == 7
    assert row.absent == (Absent("absent", "not installed"),)
    assert [peer.name for peer in row.peers] == ["fla", "other"]
    assert (row.against, row.difference, row.allowed, row.wrong) == ("fla", 0.25, 0.5, False)
    assert row.ratio == 2.0
    assert row.throttled == ("power cap",)
    assert row.input_sets == 3


@pytest.mark.parametrize("out", [3.0, float("nan")])
def test_that_an_output_that_is_off_or_no_number_is_wrong(machine: Machine, out: float) -> None:
    row = machine.row(CELL, 1, lambda: FakeContender(OURS, out), [("fla", lambda: FakeContender("fla", 1.0))], apart)
    assert row.wrong
    assert row.difference == (2.0 if out == 3.0 else None)


def test_that_who_computes_something_else_is_timed_but_not_compared(machine: Machine) -> None:
    peers = [("another task", lambda: FakeContender("another task", None)), ("fla", lambda: FakeContender("fla", 1.25))]
    row = machine.row(CELL, 1, lambda: FakeContender(OURS, 1.0), peers, apart)
    assert [peer.name for peer in row.peers] == ["another task", "fla"]
    assert (row.against, row.difference) == ("fla", 0.25)


def test_that_a_row_without_ours_compares_nothing(machine: Machine) -> None:
    row = machine.row(CELL, 1, refused, [("fla", lambda: FakeContender("fla", 1.0))], apart)
    assert row.ours is None
    assert row.absent == (Absent(OURS, "not installed"),)
    assert (row.difference, row.wrong, row.ratio) == (None, False, None)


def test_that_a_peers_output_is_put_into_our_order() -> None:
    out = np.zeros((2, 40, 3, 16))
    theirs = Theirs(None, "fla", lambda _index: types.SimpleNamespace(transpose=out.swapaxes), by_token=True)
    assert theirs.first().shape == (2, 3, 40, 16)


def test_that_reports_come_after_each_part_between_two_readings_of_the_limits() -> None:
    def limits(before: Limits) -> Limits:
        return Limits(copy_bytes_per_s=(*before.copy_bytes_per_s, 1e12))

    def part(report: Report) -> Report:
        return msgspec.structs.replace(report, rows=(*report.rows, Row(CELL, None)))

    found = list(reports(Report({"device": "A card"}), limits, [part, part]))
    assert [len(report.rows) for report in found] == [0, 1, 2, 2]
    assert [len(report.limits.copy_bytes_per_s) for report in found] == [1, 1, 1, 2]
    assert [report.finished for report in found] == [False, False, False, True]


def test_that_the_commit_is_that_of_the_checkout_or_nothing() -> None:
    found = commit()
    assert found == "" or (len(found) >= 12 and set(found) <= set("0123456789abcdef"))

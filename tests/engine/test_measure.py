"""When a measurement ends, what its numbers are, and what it says of their worth; calls take the time they are told to."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Iterator

import pytest
from attnscope_engine.devices import DeviceFault
from attnscope_engine.measure import (
    CERTAIN_SAMPLES,
    LEAST_SAMPLES,
    MOST_SAMPLES,
    Clocks,
    certain,
    half_width,
    measure,
    noise,
    percentiles,
)
from attnscope_engine.protocol import Ceilings, Choice, DeviceFacts, Measure, Measured, Vitals, Workload
from attnscope_engine.variant import Interrupted, Tick, Unsupported

JOB = Measure(Workload(seq_len=64), Choice("softmax_tiled"), budget_s=0.5, seed=7)


class ToldCall:
    """A call whose times are given; its clock moves with them."""

    def __init__(self, times: Iterator[float]) -> None:
        self.times, self.now, self.closed, self.warmed = times, 0.0, False, 0
        self.slept: dict[int, float] = {}
        """Seconds that the machine sleeps during the repeat of this number."""
        self.asleep = 0.0
        self.taken = 0

    def time_once(self, tick: Tick) -> float:
        tick()
        elapsed = next(self.times)
        self.now += elapsed
        self.asleep += self.slept.get(self.taken, 0.0)
        self.taken += 1
        return elapsed

    def peak_bytes(self, tick: Tick) -> int:
        tick()
        self.warmed += 1
        return 123_456

    def provenance(self) -> dict[str, str]:
        return {"library": "told"}

    def close(self) -> None:
        self.closed = True


class ToldDevice:
    def __init__(self, times: Iterator[float], clocks_mhz: Iterator[int] | None = None) -> None:
        self.call = ToldCall(times)
        self._clocks = clocks_mhz or itertools.repeat(0)

    @property
    def facts(self) -> DeviceFacts:
        return DeviceFacts(key="told", kind="cpu", name="told", total_bytes=1)

    def vitals(self) -> Vitals:
        return Vitals(1, 1)

    def clock_mhz(self) -> int:
        return next(self._clocks)

    def calibrate(self, tick: Tick) -> Ceilings:
        raise NotImplementedError

    def prepare(self, job: Measure, tick: Tick) -> ToldCall:
        return self.call


def measured(device: ToldDevice, tick: Tick = lambda: None, job: Measure = JOB, told: list[float] | None = None) -> Measured:
    call = device.call
    clocks = Clocks(now=lambda: call.now, suspended=lambda: call.asleep, date=lambda: 1e9)
    return measure(device, job, tick, lambda done, text="": (told if told is not None else []).append(done), clocks)


def test_that_a_steady_call_ends_as_soon_as_its_median_is_certain() -> None:
    found = measured(ToldDevice(itertools.repeat(1e-4)))
    assert found.samples == CERTAIN_SAMPLES
    assert found.time_s == found.p20_s == found.p80_s == 1e-4
    assert found.noise == ""


def test_that_a_noisy_call_spends_its_budget_and_says_its_spread() -> None:
    rng = random.Random(3)
    device = ToldDevice(iter(lambda: rng.uniform(0.005, 0.015), None))
    found = measured(device)
    assert 0.5 <= device.call.now < 0.52
    assert 0.008 < found.time_s < 0.012
    assert found.noise.startswith("spread ")
    assert found.noise.endswith("% > 5 %")


def test_that_a_slow_call_is_repeated_three_times_and_says_so() -> None:
    found = measured(ToldDevice(itertools.repeat(2.0)))
    assert found.samples == LEAST_SAMPLES
    assert found.noise == "only 3 samples in 0.5 s"


def test_that_a_call_of_no_time_ends() -> None:
    assert measured(ToldDevice(itertools.repeat(0.0))).samples <= MOST_SAMPLES


def test_that_percentiles_are_of_the_samples_themselves() -> None:
    times = [float(t) for t in range(11)]
    random.Random(1).shuffle(times)
    assert percentiles(times) == (2.0, 5.0, 8.0)
    assert percentiles([4.0]) == (4.0, 4.0, 4.0)


def test_that_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    rng = random.Random(11)
    hits = 0
    for _ in range(2000):
        times = [rng.lognormvariate(0, 0.3) for _ in range(25)]
        hits += abs(statistics.median(times) - 1.0) <= 2 * half_width(times)
    assert hits / 2000 > 0.93


def test_that_few_samples_are_never_certain() -> None:
    assert not certain([1.0] * (CERTAIN_SAMPLES - 1))
    assert certain([1.0] * CERTAIN_SAMPLES)


def test_that_a_changing_clock_is_named() -> None:
    clocks = itertools.cycle([1755, 1650])
    found = measured(ToldDevice(itertools.repeat(1e-4), clocks))
    assert found.noise == "clock between 1,650 and 1,755 MHz"
    assert noise([1.0] * 9, [1755, 1740], 0.5) == ""
    assert noise([1.0] * 9, [0, 0], 0.5) == ""


def test_that_an_interruption_keeps_nothing_and_gives_the_memory_back() -> None:
    device = ToldDevice(itertools.repeat(1e-4))
    left = iter([None] * 6)

    def tick() -> None:
        try:
            next(left)
        except StopIteration:
            raise Interrupted from None

    with pytest.raises(Interrupted):
        measured(device, tick)
    assert device.call.closed


@pytest.mark.parametrize("fault", [Unsupported("head_dim 512 is above 256"), DeviceFault("gone", code=700, sticky=True)])
def test_that_a_refusal_or_a_fault_passes_through_and_gives_the_memory_back(fault: Exception) -> None:
    def times() -> Iterator[float]:
        raise fault
        yield 0.0

    device = ToldDevice(times())
    with pytest.raises(type(fault)) as caught:
        measured(device)
    assert caught.value is fault
    assert device.call.closed


def test_that_a_repeat_during_which_the_machine_slept_is_taken_again() -> None:
    times = itertools.chain([1e-4, 1e-4, 60.0], itertools.repeat(1e-4))
    device = ToldDevice(times)
    device.call.slept = {2: 59.0}
    found = measured(device, job=Measure(JOB.workload, JOB.choice, budget_s=100))
    assert found.p80_s == 1e-4
    assert device.call.taken == found.samples + 1


def test_that_the_call_is_warmed_up_once_and_its_provenance_kept() -> None:
    device = ToldDevice(itertools.repeat(1e-4))
    found = measured(device)
    assert device.call.warmed == 1
    assert found.peak_bytes == 123_456
    assert found.provenance["library"] == "told"
    assert found.provenance["seed"] == "7"
    assert found.taken_at == 1e9
    assert (found.workload, found.choice, found.device) == (JOB.workload, JOB.choice, "told")


def test_that_progress_rises_to_its_end() -> None:
    told: list[float] = []
    rng = random.Random(5)
    measured(ToldDevice(iter(lambda: rng.uniform(0.05, 0.15), None)), told=told)
    assert told == sorted(told)
    assert all(0 <= done <= 1 for done in told)

"""Of the main thread's loop: newest wins, the hand wins, and each request is answered exactly once, whatever happens."""

import random

import pytest
from attnscope_engine.devices import DeviceFault
from attnscope_engine.mailbox import SLOTS_BY_PRIORITY, Mailbox
from attnscope_engine.protocol import (
    Calibrate,
    Cancelled,
    Choice,
    Failure,
    Measure,
    Measured,
    Progress,
    ReadRow,
    ReadText,
    Refused,
    Result,
    Run,
    SyntheticSource,
    TextRead,
    TextSource,
    Vitals,
    Workload,
)
from attnscope_engine.sources import Sources
from attnscope_engine.variant import Unsupported
from attnscope_engine.worker import Worker
from fake_device import FakeDevice

TILED = Choice("softmax_tiled")


class Ended(BaseException):
    """In the place of the end of the process."""


class Bench:
    """A worker with a fake device, a clock that stands still, and a list instead of a pipe."""

    def __init__(self, device: FakeDevice | None = None, sources: Sources | None = None) -> None:
        self.device = device or FakeDevice()
        self.mailbox = Mailbox()
        self.sent = []
        self.now = 100.0
        self.sources = sources or Sources()
        self.worker = Worker(
            self.device,
            self.sources,
            self.mailbox,
            self,
            clock=lambda: self.now,
            end_process=self.end,  # type: ignore[arg-type]
        )

    def send(self, message) -> None:
        self.sent.append(message)

    def end(self, code: int):
        raise Ended(code)

    def put(self, *runs: Run) -> None:
        for run in runs:
            self.mailbox.put(run)

    def finish(self) -> None:
        """Step until nothing waits."""
        for _ in range(1000):
            if not self.mailbox.waiting() and not self.mailbox._withdrawn:
                return
            self.worker.step()
        raise AssertionError("the worker never comes to rest")

    def answers(self) -> list[tuple[int, str]]:
        return [(m.id, type(m).__name__) for m in self.sent if isinstance(m, Result | Refused | Cancelled | Failure)]


def measure(id_: int, seq_len: int = 64, choice: Choice = TILED) -> Run:
    return Run(id_, "measure", Measure(Workload(seq_len=seq_len, dtype="fp32"), choice, budget_s=0.001))


def row(id_: int, n: int = 16) -> Run:
    workload = Workload(seq_len=n, num_heads=1, num_kv_heads=1, layers=1, head_dim=16)
    return Run(id_, "row", ReadRow(SyntheticSource(), workload, 0, 0, (TILED,), 3, 1))


def test_that_a_measurement_comes_back_with_its_own_id_and_shape():
    bench = Bench()
    bench.put(measure(7, 128))
    bench.finish()
    (result,) = [m for m in bench.sent if isinstance(m, Result)]
    assert result.id == 7
    assert isinstance(result.payload, Measured)
    assert result.payload.workload.seq_len == 128
    assert result.payload.peak_bytes == 4096


def test_that_of_one_slot_only_the_newest_is_worked_on():
    bench = Bench()
    bench.put(measure(1, 64), measure(2, 128), measure(3, 192))
    bench.finish()
    assert bench.answers() == [(1, "Cancelled"), (2, "Cancelled"), (3, "Result")]
    assert {call for call in bench.device.calls if "prepare" in call} == {"prepare 192"}


def test_that_a_replaced_request_stops_at_the_next_tick():
    bench = Bench()

    def replace_once(job, tick):
        if job.workload.seq_len == 64:
            bench.put(measure(2, 128))
            tick()
            raise AssertionError("the tick did not stop it")

    bench.device.on_call = replace_once
    bench.put(measure(1, 64))
    bench.finish()
    assert bench.answers() == [(1, "Cancelled"), (2, "Result")]
    assert "close" in bench.device.calls[:3]


def test_that_cancelling_stops_what_runs_and_drops_what_waits():
    bench = Bench()

    def cancel_both(job, tick):
        bench.put(Run(2, "calibrate", Calibrate()))
        bench.mailbox.cancel(2)
        bench.mailbox.cancel(1)
        tick()
        raise AssertionError("the tick did not stop it")

    bench.device.on_call = cancel_both
    bench.put(measure(1))
    bench.finish()
    assert sorted(bench.answers()) == [(1, "Cancelled"), (2, "Cancelled")]


def test_that_cancelling_what_was_answered_or_never_asked_changes_nothing():
    bench = Bench()
    bench.put(measure(1))
    bench.finish()
    bench.mailbox.cancel(1)
    bench.mailbox.cancel(99)
    bench.put(measure(2))
    bench.finish()
    assert bench.answers() == [(1, "Result"), (2, "Result")]


def test_that_a_result_already_on_its_way_is_sent_though_it_was_cancelled():
    bench = Bench()
    calibrate = bench.device.calibrate

    def cancelled_at_the_end(tick):
        ceilings = calibrate(tick)
        bench.mailbox.cancel(1)
        return ceilings

    bench.device.calibrate = cancelled_at_the_end
    bench.put(Run(1, "calibrate", Calibrate()))
    bench.finish()
    assert bench.answers() == [(1, "Result")]


def test_that_the_slots_are_served_in_the_order_of_the_hand():
    bench = Bench()
    ids = {slot: id_ for id_, slot in enumerate(SLOTS_BY_PRIORITY)}
    for slot in reversed(SLOTS_BY_PRIORITY):
        bench.put(Run(ids[slot], slot, Calibrate()))
    bench.finish()
    assert bench.answers() == [(id_, "Result") for id_ in range(len(SLOTS_BY_PRIORITY))]


def test_that_a_measurement_makes_way_for_a_row_and_is_done_afterwards():
    bench = Bench()

    def hover_once(job, tick):
        if len(bench.device.calls) == 3:
            bench.put(row(2))
        tick()

    bench.device.on_call = hover_once
    bench.put(measure(1))
    bench.finish()
    assert bench.answers() == [(2, "Result"), (1, "Result")]
    assert bench.device.calls.count("prepare 64") == 2


def test_that_a_row_is_not_stopped_by_a_measurement():
    bench = Bench()
    bench.put(row(1), measure(2))
    bench.finish()
    assert bench.answers() == [(1, "Result"), (2, "Result")]


def test_that_a_measurement_ends_under_a_hand_that_never_rests():
    """Each call takes 0.5 s and each row 50 ms; a new row waits at once. The measurement needs 4.5 s in one piece."""
    bench = Bench()
    ids = iter(range(2, 100_000))

    def call(job, tick):
        bench.now += 0.5
        tick()

    bench.device.on_call = call
    bench.put(measure(1), row(next(ids)))
    for _ in range(100_000):
        bench.worker.step()
        if (1, "Result") in bench.answers():
            break
        bench.now += 0.05
        if not any(run.slot == "row" for run in bench.mailbox.waiting()):
            bench.put(row(next(ids)))
    waited = bench.now - 100
    assert (1, "Result") in bench.answers()
    assert 5 < waited < 120
    rows = [m for m in bench.answers() if m[1] == "Result" and m[0] != 1]
    assert len(rows) * 0.05 > waited / 2


def test_that_cancelling_stops_even_a_measurement_that_is_owed_its_time():
    bench = Bench()
    stopped = []

    def call(job, tick):
        if bench.now > 150:
            bench.put(row(3))
            tick()
            bench.mailbox.cancel(1)
            stopped.append(True)
            tick()
            raise AssertionError("the tick did not stop it")
        bench.put(row(2))
        tick()

    bench.device.on_call = call
    bench.put(measure(1))
    bench.worker.step()
    bench.now = 200.0
    bench.finish()
    assert stopped
    assert (1, "Cancelled") in bench.answers()


def test_that_what_does_not_fit_is_refused_before_it_is_launched():
    bench = Bench(FakeDevice(free_bytes=1 << 28))
    bench.put(Run(1, "measure", Measure(Workload(seq_len=65536, dtype="fp32"), Choice("softmax_naive"))))
    bench.finish()
    (refused,) = [m for m in bench.sent if isinstance(m, Refused)]
    assert refused.refusal.reason == "memory"
    assert refused.refusal.needed_bytes > refused.refusal.free_bytes == 1 << 28
    assert 0 < refused.refusal.largest_seq_len < 65536
    assert bench.device.calls == []


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("quadratic"), ["quadratic", "softmax_tiled"]),
        (Choice("sliding_window", {"window_size": 0}), ["window_size", "1"]),
        (Choice("chunked", {"chunks": 2}), ["chunks"]),
    ],
)
def test_that_a_choice_that_does_not_exist_is_refused_by_name(choice, words):
    bench = Bench()
    bench.put(measure(1, choice=choice))
    bench.finish()
    (refused,) = [m for m in bench.sent if isinstance(m, Refused)]
    assert refused.refusal.reason == "invalid"
    assert all(word in refused.refusal.text for word in words)


def test_that_a_dtype_the_device_lacks_is_refused_with_those_it_has():
    bench = Bench()
    bench.device.facts = type(bench.device.facts)("f", "cpu", "Fake", 1, dtypes=("fp32",))
    bench.put(Run(1, "measure", Measure(Workload(dtype="bf16"), TILED)))
    bench.finish()
    (refused,) = [m for m in bench.sent if isinstance(m, Refused)]
    assert refused.refusal.reason == "unsupported"
    assert "bf16" in refused.refusal.text
    assert "fp32" in refused.refusal.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), "memory"),
        (DeviceFault("out of memory", code=2, kind="memory"), "memory"),
        (DeviceFault("error: expected a ;", kind="compile"), "compile"),
        (DeviceFault("too many resources requested", code=701), "device"),
        (ZeroDivisionError("division by zero"), "internal"),
    ],
)
def test_that_an_error_is_a_typed_failure_and_the_engine_lives(error, kind):
    bench = Bench()

    def fail_first(job, tick):
        if job.workload.seq_len == 64:
            raise error

    bench.device.on_call = fail_first
    bench.put(measure(1, 64))
    bench.finish()
    bench.put(measure(2, 128))
    bench.finish()
    failure = next(m for m in bench.sent if isinstance(m, Failure))
    assert (failure.id, failure.kind, failure.sticky) == (1, kind, False)
    assert "Flash at n = 64" in failure.text
    assert "fail_first" in failure.detail
    assert bench.answers() == [(1, "Failure"), (2, "Result")]


def test_that_what_a_device_can_not_run_is_a_refusal():
    def refuse(job, tick):
        raise Unsupported("Flash takes head dims up to 256 on this card (was 512).")

    bench = Bench(FakeDevice(on_prepare=refuse))
    bench.put(measure(1))
    bench.finish()
    (refused,) = [m for m in bench.sent if isinstance(m, Refused)]
    assert (refused.refusal.reason, refused.refusal.variant) == ("unsupported", "softmax_tiled")
    assert "256" in refused.refusal.text


def test_that_nothing_is_sent_after_a_sticky_fault():
    def break_it(job, tick):
        raise DeviceFault("an illegal memory access was encountered", code=700, sticky=True)

    bench = Bench(FakeDevice(break_it))
    bench.put(measure(1), Run(2, "calibrate", Calibrate()))
    with pytest.raises(Ended) as ended:
        bench.finish()
    assert ended.value.args == (70,)
    assert isinstance(bench.sent[-1], Failure)
    assert bench.sent[-1].text == "GPU fault in Flash at n = 64 (code 700)."
    assert bench.sent[-1].sticky


def test_that_a_device_that_breaks_while_idle_ends_the_engine():
    bench = Bench()

    def broken():
        raise DeviceFault("the launch timed out", code=702, sticky=True)

    bench.device.on_vitals = broken
    with pytest.raises(Ended) as ended:
        bench.worker.step()
    assert ended.value.args == (70,)
    assert bench.sent == [Failure(0, "device", "the launch timed out", 702, True)]


def test_that_vitals_follow_each_answer_and_come_once_a_second_else():
    bench = Bench()
    bench.worker.step()
    assert [type(m) for m in bench.sent] == [Vitals]
    bench.put(measure(1))
    bench.worker.step()
    assert [type(m) for m in bench.sent[1:] if not isinstance(m, Progress)] == [Result, Vitals]
    count = len(bench.sent)
    bench.now += 0.999999
    bench.worker.step()
    assert len(bench.sent) == count
    bench.now += 0.000002
    bench.worker.step()
    assert [type(m) for m in bench.sent[count:]] == [Vitals]


def test_that_progress_comes_at_most_ten_times_a_second():
    bench = Bench()

    def call(job, tick):
        bench.now += 0.04

    bench.device.on_call = call
    bench.put(Run(1, "measure", Measure(Workload(dtype="fp32"), TILED, budget_s=600)))
    bench.finish()
    taken = bench.now - 100
    progress = [m for m in bench.sent if isinstance(m, Progress)]
    assert 0 < len(progress) <= taken * 10
    assert all(m.id == 1 and 0 <= m.done <= 1 for m in progress)


def test_that_every_request_is_answered_exactly_once_whatever_call_fails():
    """The k-th thing that the device is asked for runs out of memory, for every k until all goes well."""
    for k in range(1, 100):
        count = 0

        def counting(job=None, tick=None, k=k):
            nonlocal count
            count += 1
            if count == k:
                raise MemoryError
            if tick:
                tick()

        bench = Bench(FakeDevice(counting, on_prepare=counting))
        bench.put(measure(1), Run(2, "calibrate", Calibrate()), row(3))
        bench.finish()
        assert sorted(id_ for id_, _ in bench.answers()) == [1, 2, 3]
        if all(name == "Result" for _, name in bench.answers()):
            assert count < k
            return
    raise AssertionError("never all went well")


@pytest.mark.parametrize("seed", range(40))
def test_that_every_request_is_answered_exactly_once_in_any_order_of_events(seed):
    rng = random.Random(seed)
    bench = Bench()
    asked: list[int] = []

    def something_happens():
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            if asked and rng.random() < 0.3:
                bench.mailbox.cancel(rng.choice(asked))
            elif len(asked) < 60:
                asked.append(len(asked))
                slot = rng.choice(SLOTS_BY_PRIORITY)
                job = measure(0).job if slot == "measure" else row(0).job if slot == "row" else Calibrate()
                bench.put(Run(asked[-1], slot, job))

    def call(job, tick):
        bench.now += rng.random()
        something_happens()
        if rng.random() < 0.1:
            raise MemoryError
        tick()

    bench.device.on_call = call
    while len(asked) < 60:
        something_happens()
        if bench.mailbox.waiting():
            bench.worker.step()
    bench.finish()
    assert sorted(id_ for id_, _ in bench.answers()) == asked


class SlowReading(Sources):
    """A model that ticks through a text, with something happening in the middle of it."""

    def __init__(self, in_the_middle) -> None:
        super().__init__()
        self._in_the_middle = in_the_middle
        self.read: list[str] = []
        self.kept: set[str] = set()

    def read_text(self, source: TextSource, tick) -> TextRead:
        if source.text not in self.kept:
            self.reading = source
            try:
                self.read.append(source.text)
                self._in_the_middle(source)
                tick()
                self.kept.add(source.text)
            finally:
                self.reading = None
        tick()
        return TextRead(source, ("a",), "toy", 1, 1, 1, 8, 10, ())


def text_run(id_: int, slot: str, text: str) -> Run:
    return Run(id_, slot, ReadText(TextSource(text)))


@pytest.mark.parametrize("slot", ["text", "row"])
def test_that_a_reading_goes_on_when_the_newer_request_needs_the_same_text(slot):
    def newer(source):
        if len(bench.sources.read) == 1:
            bench.put(text_run(2, slot, "one"))

    bench = Bench(sources=SlowReading(newer))
    bench.put(text_run(1, "text", "one"))
    bench.finish()
    assert bench.sources.read == ["one"]
    assert sorted(bench.answers()) == [(1, "Cancelled" if slot == "text" else "Result"), (2, "Result")]


def test_that_a_reading_stops_when_the_newer_request_is_of_another_text():
    def newer(source):
        if source.text == "one":
            bench.put(text_run(2, "text", "two"))

    bench = Bench(sources=SlowReading(newer))
    bench.put(text_run(1, "text", "one"))
    bench.finish()
    assert bench.sources.kept == {"two"}
    assert bench.answers() == [(1, "Cancelled"), (2, "Result")]

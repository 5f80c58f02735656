"""Of the command line's engine: every job is answered once, through whatever the engine does."""

import sys
import time
from dataclasses import replace

import msgspec
import psutil
import pytest
import scripted_engine
from app_states import measured
from attnscope.engine_events import Policy
from attnscope.headless_engine import EngineGoneError, HeadlessEngine
from attnscope.results import Results
from attnscope.state import Settings, choice_of, one_call
from attnscope_engine import protocol as p

FAST = replace(Policy(), delays=(0.0, 0.05, 0.05, 0.05))


def measure(seq_len, variant="linear"):
    return p.Measure(one_call(msgspec.structs.replace(Settings().workload, seq_len=seq_len)), choice_of(Settings(), variant))


def engine(mode="ok", results=None, policy=FAST, **options):
    return HeadlessEngine(scripted_engine.command(mode, **options), results, policy=policy)


def test_that_jobs_are_answered_in_their_order_and_kept():
    results = Results(None)
    with engine(results=results) as running:
        assert running.device == scripted_engine.device()
        replies = list(running.ask(p.Calibrate(), *(measure(n) for n in (64, 128, 256))))
    assert isinstance(replies[0].payload, p.Ceilings)
    assert [reply.payload.workload.seq_len for reply in replies[1:]] == [64, 128, 256]
    assert len(results.load("fake")) == 3
    assert results.ceilings("fake") == replies[0].payload


def test_that_progress_is_told_with_its_job():
    told = []
    with engine(delay=0.3) as running:
        job = measure(64)
        list(running.ask(job, on_progress=lambda job, done, text: told.append((job, done, text))))
    assert told
    assert all(job_ is job and 0 <= done <= 1 and text == "half way" for job_, done, text in told)


def test_that_an_engine_that_falls_is_started_again_and_asked_again(tmp_path):
    notices = []
    command = scripted_engine.command("dies", first=(tmp_path / "count", 1))
    with HeadlessEngine(command, on_notice=notices.append, policy=FAST) as running:
        (reply,) = running.ask(measure(65536, "sliding_window"))
    assert reply.payload.workload.seq_len == 65536
    assert notices[0].startswith("The engine stopped (Window, n = 65,536) and restarted in ")


def test_that_the_job_that_ends_it_twice_is_answered_by_a_failure_and_the_next_one_is_measured():
    with engine("dies", on="linear") as running:
        failed, good = running.ask(measure(64, "linear"), measure(64, "softmax_tiled"))
    assert failed == p.Failure(0, "device", "The engine stopped twice in Linear, n = 64: this setting is set aside.")
    assert isinstance(good.payload, p.Measured)


def test_that_a_sticky_failure_is_the_answer_and_nothing_after_it_is_believed():
    results = Results(None)
    with engine("sticky", results, on="linear") as running:
        failed, good = running.ask(measure(64, "linear"), measure(64, "softmax_tiled"))
    assert (failed.code, failed.sticky) == (700, True)
    assert good.payload.choice.variant == "softmax_tiled"
    assert len(results.load("fake")) == 1


def test_that_a_refusal_is_an_answer():
    with engine("refuses", on="linear") as running:
        (reply,) = running.ask(measure(64, "linear"))
    assert reply.refusal.reason == "memory"


@pytest.mark.parametrize("mode", ["polluting", "garbage", "huge", "no_hello", "stale"])
def test_that_garbled_output_does_not_reach_the_answer(mode, tmp_path):
    with engine(mode, first=(tmp_path / "count", 1)) as running:
        (reply,) = running.ask(measure(64))
    assert isinstance(reply.payload, p.Measured)


@pytest.mark.parametrize("mode", ["half", "silent", "mute"])
def test_that_a_hanging_engine_is_replaced(mode, tmp_path):
    impatient = replace(FAST, frame=0.5, unknown_deadline=-29.0, hello=2.0)
    with engine(mode, first=(tmp_path / "count", 1), policy=impatient) as running:
        (reply,) = running.ask(measure(64))
    assert isinstance(reply.payload, p.Measured)


def test_that_an_engine_that_can_not_start_is_an_error_with_its_last_words():
    begin = time.monotonic()
    with pytest.raises(EngineGoneError, match=r"five times in 3 minutes.*No module named 'attention'"), engine("dies_on_hello"):
        pass
    assert time.monotonic() - begin < 15


def test_that_a_program_that_does_not_exist_is_an_error_that_names_it():
    with pytest.raises(EngineGoneError, match="/no/such/engine"), HeadlessEngine(("/no/such/engine",), policy=FAST):
        pass


def test_that_another_protocol_is_an_error_at_once():
    with pytest.raises(EngineGoneError, match="protocol 999"), engine("wrong_protocol"):
        pass


def test_that_a_job_outside_the_protocol_is_a_failure_and_costs_no_engine():
    with engine() as running:
        pid = running._process.pid
        bad, good = running.ask(msgspec.structs.replace(measure(64), budget_s=-1.0), measure(64))
        assert running._process.pid == pid
    assert bad.kind == "invalid"
    assert isinstance(good.payload, p.Measured)


def test_that_no_process_is_left_after_the_block_even_when_it_raises():
    pids = []

    def interrupted():
        with engine("silent") as running:
            pids.append(running._process.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not psutil.pid_exists(pids[0])


def test_that_an_engine_whose_output_floods_is_read_no_faster_than_it_is_used():
    with engine("flood") as running:
        time.sleep(0.5)
        assert running._arrived.qsize() <= 64


def test_that_the_default_is_this_installations_engine():
    assert HeadlessEngine().command == (sys.executable, "-m", "attnscope_engine", "--device", "auto")


def test_that_asking_outside_the_block_says_so():
    with pytest.raises(RuntimeError, match="use `with`"):
        next(HeadlessEngine().ask(measure(64)))


def test_that_ceilings_known_from_before_are_used():
    results = Results(None)
    known = p.Ceilings("fake", {"fp32": 1.0}, 1.0, 1.0, 1.0, 1.0)
    results.add_ceilings(known)
    results.add(measured())
    with engine(results=results) as running:
        assert running.live.ceilings == known


def test_that_a_measurement_that_spans_a_sleep_of_the_computer_is_taken_again():
    slept, notices = [0.0], []
    command = scripted_engine.command(delay=0.5)
    with HeadlessEngine(command, on_notice=notices.append, policy=FAST, sleep_clock=lambda: slept[0]) as running:

        def sleep_once(_job, _done, _text):
            slept[0] = 3600.0

        (reply,) = running.ask(measure(64), on_progress=sleep_once)
    assert isinstance(reply.payload, p.Measured)
    assert notices[0].startswith("The computer slept; the engine restarted in ")

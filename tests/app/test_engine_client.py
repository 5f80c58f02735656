"""Of the engine's client, with real processes that misbehave: the window lives, says why, and loses nothing measured."""

import os
import sys
import time
from dataclasses import replace

import msgspec
import psutil
import pytest
import scripted_engine
from attnscope.engine_client import NICENESS, EngineClient
from attnscope.engine_events import Policy
from attnscope.requests import measure_all_queue, sweep_queue, wanted
from attnscope.results import Results
from attnscope.state import Settings
from attnscope.store import Store
from attnscope_engine import protocol as p

QUIET = Settings(measure_idle=False, source=p.SyntheticSource(), checked=("softmax_tiled", "linear"), page="scaling", params={})
FAST = replace(Policy(), delays=(0.0, 0.05, 0.05, 0.05))


class Rig:
    """A store, results in memory and a client; everything that a window would have."""

    def __init__(self, qtbot) -> None:
        self.qtbot = qtbot
        self.results = Results(None)
        self.clients: list[EngineClient] = []

    def start(self, command, settings=QUIET, policy=FAST, **options) -> EngineClient:
        self.store = Store(settings)
        self.client = EngineClient(self.store, self.results, command, policy=policy, **options)
        self.clients.append(self.client)
        self.client.start()
        return self.client

    @property
    def live(self):
        return self.store.state.live

    def until(self, condition, timeout=20_000):
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=timeout)

    def ready(self):
        self.until(lambda: self.live.phase in ("ready", "measuring"))

    def notices(self):
        return [notice.text for notice in self.live.notices]

    def sweep(self):
        self.until(lambda: self.live.ceilings is not None)
        self.client.measure(sweep_queue(self.store.state))
        return self.live.queue

    def fresh(self, *slots):
        wish = wanted(self.store.state)
        return all(slot in self.live.answers and self.live.answers[slot].job == wish.get(slot) for slot in slots)


@pytest.fixture
def rig(qtbot):
    made = Rig(qtbot)
    yield made
    for client in made.clients:
        client.stop()


def command(mode="ok", **options):
    return scripted_engine.command(mode, **options)


def test_that_an_engine_is_greeted_and_its_ceilings_are_kept(rig):
    rig.start(command())
    rig.until(lambda: rig.live.ceilings is not None and rig.live.vitals is not None)
    assert rig.live.device == scripted_engine.device()
    assert rig.results.ceilings("fake") == rig.live.ceilings


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="no priorities of processes")
def test_that_an_engine_on_the_processor_goes_behind_the_window(rig):
    rig.start(command())
    rig.ready()
    assert rig.live.device.kind == "cpu"
    rig.until(lambda: psutil.Process(rig.client.pid).nice() == NICENESS)


def test_that_ceilings_are_measured_again_on_demand(rig):
    rig.start(command())
    rig.until(lambda: rig.live.ceilings is not None)
    rig.client.calibrate()
    assert rig.live.ceilings is None
    assert rig.results.ceilings("fake") is not None
    rig.until(lambda: rig.live.ceilings is not None)
    assert rig.results.ceilings("fake") == rig.live.ceilings


def test_that_a_text_leads_to_tokens_then_to_map_row_and_heads(rig):
    rig.start(command(), Settings(measure_idle=False))
    rig.until(lambda: rig.fresh("text", "map", "row", "heads"))
    answer = rig.live.answers["map"]
    assert answer.payload.job == answer.job
    assert len(answer.payload.pictures) == 2


def test_that_idle_measuring_fills_in_what_is_missing(rig):
    rig.start(command(), msgspec.structs.replace(QUIET, measure_idle=True))
    rig.until(lambda: len(rig.live.measurements) == 2 and rig.live.phase == "ready")
    assert len(rig.results.load("fake")) == 2


def test_that_a_sweep_measures_every_point_and_says_so(rig):
    rig.start(command())
    queue = rig.sweep()
    rig.until(lambda: not rig.live.queue)
    assert set(rig.live.measurements) == set(queue) == set(rig.results.load("fake"))
    assert rig.live.status == f"{len(queue)} points done."


def test_that_a_measurement_is_on_disk_before_it_is_on_the_screen(rig, monkeypatch):
    rig.start(command())
    rig.ready()
    missing = []

    def look(old, new):
        if len(rig.results.load("fake")) < len(new.live.measurements):
            missing.append(new)

    rig.store.changed.connect(look)
    queue = rig.sweep()
    rig.until(lambda: not rig.live.queue)
    assert queue
    assert missing == []


def test_that_cancelling_keeps_the_finished_points(rig):
    rig.start(command(delay=0.05))
    queue = rig.sweep()
    rig.until(lambda: len(rig.live.measurements) >= 2)
    kept = len(queue) - len(rig.live.queue)
    rig.client.cancel()
    assert rig.live.status == f"Stopped. {kept} of {len(queue)} points kept."
    rig.until(lambda: rig.live.phase == "ready")
    assert len(rig.live.measurements) in (kept, kept + 1)  # the one in work may just have been done


def test_that_only_the_newest_of_many_wishes_is_asked_for(rig):
    rig.start(command(delay=0.03), msgspec.structs.replace(QUIET, page="map"))
    rig.until(lambda: rig.fresh("map"))
    first_id = rig.client._next_id
    for n in range(64, 2064):
        rig.store.update(seq_len=n)
    rig.until(lambda: rig.fresh("map"))
    assert rig.live.answers["map"].payload.seq_len == 2063
    assert rig.client._next_id - first_id <= 3


def test_that_a_superseded_slow_request_is_cancelled(rig):
    rig.start(command(delay=10, on="map"), msgspec.structs.replace(QUIET, page="map"))
    rig.until(lambda: "map" in rig.client._flights)
    old = rig.client._flights["map"].id
    rig.store.update(seq_len=128)
    begin = time.monotonic()
    rig.until(lambda: "map" in rig.client._flights and rig.client._flights["map"].id != old)
    assert time.monotonic() - begin < 3


def test_that_answers_to_nobodys_request_are_dropped(rig):
    rig.start(command("stale", on="calibrate"))
    rig.until(lambda: rig.live.ceilings is not None)
    assert rig.live.ceilings.device == "fake"


def test_that_an_engine_that_is_killed_comes_back_and_the_sweep_goes_on(rig):
    rig.start(command(delay=0.05))
    queue = rig.sweep()
    rig.until(lambda: len(rig.live.measurements) >= 2)
    begin = time.monotonic()
    os.kill(rig.client.pid, 9)
    rig.until(lambda: rig.live.restarts == 1)
    assert time.monotonic() - begin < 0.5
    rig.until(lambda: not rig.live.queue)
    assert set(rig.results.load("fake")) == set(queue)
    assert any(
        text.startswith("The engine stopped (") and text.endswith(". Nothing measured is lost.") and " and restarted in " in text
        for text in rig.notices()
    )


def test_that_an_answer_given_with_the_last_breath_counts(rig, tmp_path):
    rig.start(command("answer_then_die", on="linear", first=(tmp_path / "count", 1)))
    rig.until(lambda: rig.live.ceilings is not None)
    rig.client.measure([key for key in sweep_queue(rig.store.state) if '"linear"' in key][:1])
    rig.until(lambda: rig.live.restarts == 1)
    assert len(rig.live.measurements) == 1


def test_that_the_setting_that_ends_it_twice_is_set_aside_and_the_rest_is_measured(rig):
    rig.start(command("dies", on="linear"))
    rig.until(lambda: rig.live.ceilings is not None)
    queue = measure_all_queue(rig.store.state)
    rig.client.measure(queue)
    rig.until(lambda: not rig.live.queue)
    assert {key for key in queue if '"linear"' in key} == rig.live.set_aside
    assert {key for key in queue if '"softmax_tiled"' in key} == set(rig.live.measurements)
    assert any(text.startswith("The engine stopped (Linear, n = 4,096)") for text in rig.notices())


def test_that_trying_again_asks_for_what_was_set_aside(rig, tmp_path):
    rig.start(command("dies", on="linear", first=(tmp_path / "count", 2)), msgspec.structs.replace(QUIET, checked=("linear",)))
    rig.until(lambda: rig.live.ceilings is not None)
    rig.client.measure(measure_all_queue(rig.store.state))
    rig.until(lambda: rig.live.set_aside)
    rig.until(lambda: rig.live.phase == "ready")
    assert measure_all_queue(rig.store.state) == ()
    rig.client.try_again()
    rig.client.measure(measure_all_queue(rig.store.state))
    rig.until(lambda: len(rig.live.measurements) == 1)


def test_that_an_engine_that_can_not_start_is_given_up_with_its_last_words(rig):
    rig.start(command("dies_on_hello"))
    rig.until(lambda: rig.live.phase == "gave_up")
    (notice,) = rig.live.notices
    assert notice.text.startswith("The engine stopped five times in 3 minutes.")
    assert "No module named 'attention'" in notice.text
    assert [action for _, action in notice.actions] == ["restart_engine", "use_cpu", "show_log"]


def test_that_starting_again_after_giving_up_works(rig, tmp_path):
    rig.start(command("dies_on_hello", first=(tmp_path / "count", 5)))
    rig.until(lambda: rig.live.phase == "gave_up")
    rig.client.restart()
    rig.ready()
    assert rig.live.notices == ()


def test_that_a_program_that_does_not_exist_is_given_up(rig):
    rig.start(("/no/such/engine",))
    rig.until(lambda: rig.live.phase == "gave_up")
    assert "/no/such/engine" in rig.live.notices[0].text


def test_that_another_protocol_is_said_once_and_not_tried_again(rig):
    rig.start(command("wrong_protocol"))
    rig.until(lambda: rig.live.phase == "gave_up")
    assert rig.notices() == ["The engine speaks protocol 999, this window 1: install both from the same release."]
    assert rig.live.restarts == 0


@pytest.mark.parametrize(
    ("mode", "words"),
    [("polluting", "sent invalid data"), ("no_hello", "before its hello"), ("garbage", "sent invalid data"), ("huge", "limit")],
)
def test_that_an_engine_that_garbles_is_replaced_and_the_cause_told(rig, tmp_path, mode, words):
    rig.start(command(mode, first=(tmp_path / "count", 1)))
    rig.until(lambda: rig.live.ceilings is not None and rig.notices())
    assert words in rig.notices()[0]
    assert rig.live.restarts == 1


@pytest.mark.parametrize(
    ("mode", "words"), [("half", "in the middle of a message"), ("silent", "was silent for"), ("mute", "did not answer within")]
)
def test_that_an_engine_that_hangs_is_replaced_and_the_cause_told(rig, tmp_path, mode, words):
    impatient = replace(FAST, frame=0.5, unknown_deadline=-29.0, hello=2.0)  # allowed 1 s with what a first time may take
    rig.start(command(mode, first=(tmp_path / "count", 1)), policy=impatient)
    rig.until(lambda: rig.live.ceilings is not None and rig.notices())
    assert words in rig.notices()[0]


def test_that_nothing_a_lost_device_says_is_believed(rig):
    rig.start(command("sticky", on="linear"))
    rig.until(lambda: rig.live.ceilings is not None)
    queue = measure_all_queue(rig.store.state)
    rig.client.measure(queue)
    rig.until(lambda: not rig.live.queue and rig.live.phase == "ready")
    (key,) = (key for key in queue if '"linear"' in key)
    assert key in rig.live.set_aside
    assert key not in rig.live.measurements
    assert key not in rig.results.load("fake")
    fault = next(notice for notice in rig.live.notices if notice.key == "fault")
    assert fault.text == "GPU fault in Window at n = 128 (code 700). This setting is set aside."
    assert [button for button, _ in fault.actions] == ["Try again", "Report"]


def test_that_a_refusal_is_kept_as_the_answer_and_not_asked_again(rig):
    rig.start(command("refuses", on="map"), msgspec.structs.replace(QUIET, page="map"))
    rig.until(lambda: rig.fresh("map"))
    assert rig.live.answers["map"].refusal.text == "It does not fit"
    ids = rig.client._next_id
    rig.qtbot.wait(100)
    assert rig.client._next_id == ids


def test_that_a_flood_leaves_the_window_alive_and_small(rig):
    rig.start(command("flood"))
    rig.until(lambda: rig.live.vitals is not None)
    process = psutil.Process()
    rig.qtbot.wait(500)
    before, beats = process.memory_info().rss, 0
    until = time.monotonic() + 2
    while time.monotonic() < until:
        rig.qtbot.wait(1)
        beats += 1
    assert beats > 50
    assert process.memory_info().rss - before < 16 << 20


def test_that_a_stopped_engine_is_not_written_to_without_end(rig):
    rig.start(command(), msgspec.structs.replace(QUIET, page="map"))
    rig.until(lambda: rig.fresh("map"))
    process = psutil.Process(rig.client.pid)
    process.suspend()
    before = psutil.Process().memory_info().rss
    for n in range(64, 3064):
        rig.store.update(seq_len=n)
        if n % 10 == 0:
            rig.qtbot.wait(1)
    assert psutil.Process().memory_info().rss - before < 8 << 20
    process.resume()
    rig.until(lambda: rig.fresh("map"))
    assert rig.live.answers["map"].payload.seq_len == 3063


def test_that_no_process_is_left_when_the_client_stops(rig):
    rig.start(command())
    rig.ready()
    pid = rig.client.pid
    rig.client.stop()
    assert not psutil.pid_exists(pid)


def test_that_using_the_cpu_changes_the_command_and_restarts(rig):
    rig.start((*command(), "--device", "auto"))
    rig.ready()
    pid = rig.client.pid
    rig.client.use_cpu()
    rig.until(lambda: rig.client.pid not in (0, pid) and rig.live.phase == "ready")
    assert "cpu" in psutil.Process(rig.client.pid).cmdline()


def test_that_a_new_engines_other_device_has_its_own_measurements(rig, tmp_path):
    rig.start(command())
    rig.sweep()
    rig.until(lambda: not rig.live.queue)
    rig.client._process.command = command("other_device", on="another")
    rig.client.restart()
    rig.until(lambda: rig.live.device.key == "another" and rig.live.phase == "ready")
    assert rig.live.measurements == {}


def test_that_a_slow_request_is_shown_as_work_with_its_place_in_the_list(rig):
    rig.start(command(delay=1.0, on="linear"), msgspec.structs.replace(QUIET, checked=("linear",)))
    rig.sweep()
    rig.until(lambda: rig.live.busy is not None)
    assert rig.live.busy.text == "Linear, n = 256 · 1 of 7"
    assert rig.live.phase == "measuring"
    rig.until(lambda: rig.live.busy.done > 0.5)


def test_that_a_sleep_of_the_computer_restarts_the_engine(rig):
    slept = [0.0]
    rig.start(command(), sleep_clock=lambda: slept[0])
    rig.ready()
    slept[0] = 3600.0
    rig.until(lambda: any("slept" in text for text in rig.notices()))
    assert rig.live.phase == "ready"


def test_that_the_engines_stderr_is_in_the_log_file(rig, tmp_path):
    log = tmp_path / "logs" / "engine.log"
    rig.start(command("dies_on_hello"), log_path=log)
    rig.until(lambda: rig.live.phase == "gave_up")
    assert log.read_text().count("No module named 'attention'") == 5


def test_that_a_problem_with_the_results_file_is_said(rig, tmp_path):
    path = tmp_path / "results.sqlite3"
    path.write_bytes(b"this is no database, it is a letter to somebody " * 100)
    rig.results = Results(path)
    rig.start(command())
    assert rig.notices()[0].startswith("results.sqlite3 was damaged. It is kept as results.sqlite3.damaged-1")
    rig.results.close()


def test_that_a_job_outside_the_protocol_is_answered_here(rig):
    rig.start(command(), msgspec.structs.replace(QUIET, page="map"))
    rig.ready()
    rig.store.update(source=p.SyntheticSource(seed=-5))
    rig.until(lambda: "map" in rig.live.answers and rig.live.answers["map"].refusal is not None)
    assert "can not be asked" in rig.live.answers["map"].refusal.text
    assert rig.live.restarts == 0


def test_that_a_failure_is_said_logged_and_the_list_goes_on(rig):
    rig.start(command("fails", on="linear"))
    rig.until(lambda: rig.live.ceilings is not None)
    queue = measure_all_queue(rig.store.state)
    rig.client.measure(queue)
    rig.until(lambda: not rig.live.queue)
    assert "Linear at n = 4,096 did not compile." in rig.notices()
    assert "ptxas: no such register" in rig.client.log.text()
    assert {key for key in queue if '"linear"' in key} == rig.live.set_aside
    assert len(rig.live.measurements) == 1


def test_that_memory_taken_by_another_program_is_said_for_a_gpu_alone(rig):
    rig.start(command())
    rig.until(lambda: rig.live.ceilings is not None and rig.live.vitals is not None and rig.live.phase == "ready")
    rig.client.on_reply(p.Vitals(4 << 30, 8 << 30))
    rig.client.on_tick()
    assert rig.live.status == ""
    gpu = msgspec.structs.replace(rig.live.device, kind="cuda")
    rig.store.update_live(device=gpu, vitals=p.Vitals(6 << 30, 8 << 30))
    rig.client.on_reply(p.Vitals(4 << 30, 8 << 30))
    rig.client.on_tick()
    assert rig.live.status == "Another program took 2.0 GiB meanwhile: free now 4.0 GiB."


def test_that_what_the_preferences_say_is_used_at_the_next_start(rig):
    rig.start(command())
    rig.ready()
    rig.client.set_device("cpu")
    assert rig.client._process.command[-2:] == ("--device", "cpu")
    rig.client.set_device("auto")
    assert rig.client._process.command == (sys.executable, "-m", "attnscope_engine", "--device", "auto")


@pytest.mark.parametrize(
    ("mode", "actions"),
    [("no_driver", (("Why?", "diagnostics"),)), ("no_parts", (("Get them", "addons"), ("Why?", "diagnostics")))],
)
def test_that_why_there_is_no_gpu_offers_the_parts_that_would_help(rig, mode, actions):
    rig.start(command(mode))
    rig.until(lambda: rig.live.notices)
    assert rig.live.notices[-1].actions == actions

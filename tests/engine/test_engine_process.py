"""Of the engine as a process: its first frame, its pipes, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from attnscope_engine import __version__
from attnscope_engine.protocol import (
    PROTOCOL,
    Cancel,
    Cancelled,
    Choice,
    DrawMap,
    Failure,
    Hello,
    Measure,
    ReadRow,
    Refused,
    Result,
    Run,
    Shutdown,
    SyntheticSource,
    Vitals,
    Workload,
    frame,
)
from engine_at_hand import FAKE, REAL, EngineAtHand
from fake_engine import Does

posix = pytest.mark.skipif(os.name != "posix", reason="signals and /proc")
PROC = Path("/proc")
TILED = Choice("softmax_tiled")


def asks_for(does: int, id_: int = 1) -> Run:
    return Run(id_, "measure", Measure(Workload(seq_len=int(does), dtype="fp32"), TILED, budget_s=0.01))


def small_map(id_: int, n: int = 17) -> Run:
    workload = Workload(seq_len=n, num_heads=2, num_kv_heads=1, layers=1, head_dim=16)
    return Run(id_, "map", DrawMap(SyntheticSource(), workload, 0, 0, (TILED, Choice("chunked")), (0, n), (0, n)))


def answers(engine: EngineAtHand) -> list[tuple[int, str]]:
    kinds = (Result, Refused, Cancelled, Failure)
    return [(reply.id, type(reply).__name__) for reply in engine.replies if isinstance(reply, kinds)]


@pytest.mark.parametrize("command", [REAL, FAKE], ids=["real", "fake"])
def test_that_hello_is_the_first_frame_and_short(command):
    with EngineAtHand(command) as engine:
        hello = engine.until(lambda reply: True)
        assert isinstance(hello, Hello)
        assert hello.protocol == PROTOCOL
        assert hello.engine_version == __version__
        assert hello.pid == engine.process.pid
        assert len(frame(hello)) < 4096


def test_that_nothing_heavy_is_imported_before_hello():
    script = (
        "import sys\n"
        "from attnscope_engine import __main__ as engine, pipes\n"
        "def send(self, message):\n"
        "    heavy = {'torch', 'cupy', 'numpy', 'attnscope_engine.worker'} & set(sys.modules)\n"
        "    sys.stderr.write(f'heavy: {sorted(heavy)}')\n"
        "    sys.stderr.flush()\n"
        "    raise SystemExit\n"
        "pipes.FrameWriter.send = send\n"
        "sys.argv = ['engine', '--device', 'cpu']\n"
        "engine.main()\n"
    )
    with EngineAtHand([sys.executable, "-c", script]) as engine:
        engine.ended()
        assert "heavy: []" in engine.stderr()


def test_that_a_map_and_a_row_come_from_the_real_engine_without_torch():
    workload = small_map(1).job.workload
    with EngineAtHand(REAL) as engine:
        engine.send(small_map(1), Run(2, "row", ReadRow(SyntheticSource(), workload, 0, 0, (TILED,), 5, 5)))
        drawn = engine.until(lambda reply: isinstance(reply, Result) and reply.id == 1).payload
        read = engine.until(lambda reply: isinstance(reply, Result) and reply.id == 2).payload
        assert [picture.codes.shape for picture in drawn.pictures] == [(17, 17)] * 2
        assert read.rows[0].row_sum == pytest.approx(1)
        if PROC.exists():
            assert "torch" not in (PROC / str(engine.process.pid) / "maps").read_text()


def test_that_a_measurement_comes_from_the_real_engine():
    with EngineAtHand(REAL) as engine:
        engine.send(asks_for(256))
        measured = engine.until(lambda reply: isinstance(reply, Result), 60).payload
        assert measured.time_s > 0
        assert measured.samples >= 3
        assert measured.peak_bytes > 0


@pytest.mark.parametrize("does", [Does.PRINTS, Does.SPAWNS])
def test_that_what_others_write_to_standard_output_lands_on_stderr(does):
    with EngineAtHand(FAKE) as engine:
        engine.send(asks_for(does))
        engine.until(lambda reply: isinstance(reply, Result) and reply.id == 1)
        engine.send(asks_for(Does.TICK, 2), Shutdown()) if does == Does.SPAWNS else engine.send(Shutdown())
        engine.rest()
        assert engine.ended() == 0
        assert ("a library says hello" if does == Does.PRINTS else "from a child") in engine.stderr()


@pytest.mark.parametrize("does", [None, Does.BLAS, Does.SLOW])
@pytest.mark.parametrize("how", ["eof", "shutdown"])
def test_that_the_engine_ends_within_200_ms_whatever_it_is_doing(does, how):
    with EngineAtHand(FAKE) as engine:
        engine.until(lambda reply: isinstance(reply, Vitals))
        if does:
            engine.send(asks_for(does))
            engine.until_started()
        began = time.monotonic()
        if how == "eof":
            engine.process.stdin.close()
        else:
            engine.send(Shutdown())
        assert engine.ended() == 0
        assert time.monotonic() - began < 0.2


@posix
def test_that_no_engine_outlives_a_window_that_was_killed():
    """The parent here is a small process that starts an engine busy in BLAS and is then killed."""
    script = (
        "import subprocess, sys, time\n"
        "from engine_at_hand import FAKE, EngineAtHand\n"
        "from test_engine_process import asks_for, Does\n"
        "engine = EngineAtHand(FAKE)\n"
        "engine.until(lambda reply: True)\n"
        "engine.send(asks_for(Does.BLAS))\n"
        "engine.until_started()\n"
        "print(engine.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{path}"}
    window = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    engine = psutil.Process(int(window.stdout.readline()))
    assert runs(engine)
    window.kill()
    began = time.monotonic()
    while runs(engine) and time.monotonic() - began < 10:
        time.sleep(0.002)
    assert time.monotonic() - began < 0.2
    window.communicate()


def runs(process: psutil.Process) -> bool:
    """False for a zombie too: whoever inherited it may be slow to collect it."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_that_a_sticky_fault_is_said_and_ends_the_engine_with_70():
    with EngineAtHand(FAKE) as engine:
        engine.send(asks_for(Does.STICKY), asks_for(Does.STICKY, 2))
        engine.rest()
        assert engine.ended() == 70
        last = engine.replies[-1]
        assert isinstance(last, Failure)
        assert (last.code, last.sticky) == (700, True)


def test_that_a_running_request_is_cancelled_and_the_next_one_served():
    with EngineAtHand(FAKE) as engine:
        engine.send(asks_for(Does.SLOW, 1))
        engine.until_started()
        engine.send(Cancel(1), asks_for(Does.TICK, 2))
        engine.until(lambda reply: isinstance(reply, Result) and reply.id == 2, 5)
        assert answers(engine) == [(1, "Cancelled"), (2, "Result")]


def test_that_a_map_overtakes_a_slow_measurement():
    with EngineAtHand(FAKE) as engine:
        engine.send(asks_for(Does.SLOW, 1))
        engine.until_started()
        engine.send(small_map(2))
        engine.until(lambda reply: isinstance(reply, Result) and reply.id == 2, 5)


def test_that_of_a_storm_of_requests_the_last_is_answered_and_every_one_settled():
    count = 500
    with EngineAtHand(FAKE) as engine:
        for id_ in range(1, count + 1):
            engine.send(small_map(id_))
        engine.until(lambda reply: isinstance(reply, Result) and reply.id == count)
        settled = answers(engine)
        assert sorted(id_ for id_, _ in settled) == list(range(1, count + 1))
        shown = [id_ for id_, kind in settled if kind == "Result"]
        assert shown == sorted(shown)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "GET / HTTP"),
        (frame(Cancel(1))[:-1] + b"\x05", "checksum"),
        (frame(Vitals(1, 1)), "not a request"),
    ],
    ids=["no frame", "damaged", "a reply"],
)
def test_that_input_that_is_no_request_ends_the_engine_with_65(data, words):
    with EngineAtHand(FAKE) as engine:
        engine.until(lambda reply: True)
        engine.send_bytes(data)
        assert engine.ended() == 65
        assert words in engine.stderr()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "x"], "-m"),
        (["--port", "80"], "--port"),
        (["--device"], "needs a value"),
        (["--device", "tpu"], "tpu"),
        (["serve"], "serve"),
    ],
)
def test_that_arguments_it_does_not_know_end_it_with_a_sentence_and_2(arguments, words):
    done = subprocess.run([*REAL[:3], *arguments], stdin=subprocess.PIPE, capture_output=True, timeout=20)
    assert done.returncode == 2
    assert done.stdout == b""
    assert words in done.stderr.decode()
    assert "usage: attnscope-engine" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_that_the_version_can_be_asked_for():
    done = subprocess.run([*REAL[:3], "--version"], capture_output=True, timeout=20, text=True)
    assert (done.returncode, done.stdout) == (0, f"attnscope-engine {__version__}\n")


@posix
def test_that_ctrl_c_in_the_terminal_is_left_to_the_window():
    with EngineAtHand(FAKE) as engine:
        engine.until(lambda reply: isinstance(reply, Vitals))
        engine.process.send_signal(signal.SIGINT)
        engine.send(asks_for(Does.TICK))
        engine.until(lambda reply: isinstance(reply, Result))


@pytest.mark.skipif(not PROC.exists(), reason="Linux")
def test_that_linux_takes_the_engine_first_when_memory_ends():
    with EngineAtHand(FAKE) as engine:
        engine.until(lambda reply: isinstance(reply, Vitals))
        assert int((PROC / str(engine.process.pid) / "oom_score_adj").read_text()) == 500


@posix
def test_that_an_engine_killed_again_and_again_is_ready_again():
    times = []
    for _ in range(10):
        began = time.monotonic()
        with EngineAtHand(FAKE) as engine:
            engine.until(lambda reply: isinstance(reply, Hello))
            times.append(time.monotonic() - began)
            engine.send(asks_for(Does.BLAS))
            engine.process.kill()
            assert engine.ended() == -signal.SIGKILL
    print(f"ready again in {min(times):.2f} to {max(times):.2f} s")

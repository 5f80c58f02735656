"""The engine for the command line: the same process, protocol and supervisor, one job after the other, no Qt.

    with HeadlessEngine() as engine:
        for reply in engine.ask(*jobs, on_progress=show):
            ...

Three threads: this one, and two that read the engine's pipes. An engine that ends is started again and asked again, as in
the window; a job that ends it twice is answered by a `Failure`.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from attnscope_engine.protocol import (
    Cancelled,
    Ceilings,
    DeviceFacts,
    Failure,
    Hello,
    Job,
    Measured,
    Progress,
    ProtocolFault,
    Receiver,
    Refused,
    Reply,
    Result,
    Run,
    Vitals,
    decode_reply,
)

from attnscope import engine_events, jobs, supervisor
from attnscope.engine_events import Begin, Event, Exited, Fault, Heard, Launched, Policy, Suspended, Tick, WrongProtocol
from attnscope.engine_log import EngineLog
from attnscope.engine_wire import SLEPT_S, default_command, fault_words, slept_s, wrong_protocol
from attnscope.results import Results
from attnscope.state import Live, State

OnProgress = Callable[[Job, float, str], None]
"""The job, how far it is (0 to 1), and the engine's word for it."""
Outcome = Result | Refused | Failure

TICK_S = 0.1
READ_BYTES = 1 << 16


class EngineGoneError(Exception):
    """There is no engine, and starting one again does not help. The text is a sentence with the cause."""


class HeadlessEngine:
    """An engine for a `with` block."""

    def __init__(
        self,
        command: Sequence[str] | None = None,
        results: Results | None = None,
        *,
        on_notice: Callable[[str], None] | None = None,
        log_path: Path | None = None,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep_clock: Callable[[], float] = slept_s,
    ) -> None:
        """`results`: where measurements are kept before they are handed out. `on_notice`: told each sentence for the person."""
        self.command = tuple(command or default_command())
        self.log = EngineLog(log_path)
        self.live = Live()
        """Device, vitals and ceilings as they are known."""
        self._results = results
        self._on_notice = on_notice
        self._clock = clock
        self._sleep_clock = sleep_clock
        self._slept = sleep_clock()
        self._ticked_at = clock()
        self._supervisor = supervisor.Supervisor(policy=policy or Policy())
        self._process: subprocess.Popen[bytes] | None = None
        self._arrived: queue.Queue[tuple[subprocess.Popen[bytes], bytes]] = queue.Queue(maxsize=64)
        self._receiver = Receiver()
        self._greeted = False
        self._start_at: float | None = None
        self._replies: list[Reply] = []
        self._set_aside: set[str] = set()
        self._sent: Run | None = None
        self._next_id = 1
        self._answered_kinds: set[str] = set()
        self._last_words = ""

    @property
    def device(self) -> DeviceFacts:
        """What the engine computes on; known inside the `with` block."""
        if self.live.device is None:
            raise RuntimeError("the engine has not been started: use `with`")
        return self.live.device

    def __enter__(self) -> Self:
        """Start, and wait for the hello. Raises: EngineGoneError."""
        self._tell(Begin())
        try:
            while self._supervisor.phase != "ready":
                self._turn()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the engine."""
        if self._process is not None:
            self._process.kill()
            self._reap(self._process)
            self._process = None
        self.log.close()

    def ask(self, *asked: Job, on_progress: OnProgress | None = None) -> Iterator[Outcome]:
        """The answer of each job, in their order, as they come.

        Raises:
            EngineGoneError: the engine fell too often, or can not be started.
        """
        for job in asked:
            yield self.ask_one(job, on_progress=on_progress)

    def ask_one(self, job: Job, *, on_progress: OnProgress | None = None) -> Outcome:
        """Ask, and wait for the answer through restarts of the engine. Raises: EngineGoneError."""
        key = jobs.job_key(self.device.key, job)
        self._set_aside.discard(key)
        self._sent = None
        while True:
            if key in self._set_aside:
                return Failure(0, "device", f"The engine stopped twice in {jobs.describe(job)}: this setting is set aside.")
            if self._sent is None and self._supervisor.phase == "ready":
                self._send(job)
            self._turn()
            outcome = self._outcome(job, on_progress)
            if outcome is not None:
                return outcome

    def _outcome(self, job: Job, on_progress: OnProgress | None) -> Outcome | None:
        replies, self._replies = self._replies, []
        for reply in replies:
            if self._sent is None or getattr(reply, "id", 0) != self._sent.id:
                continue
            key = jobs.job_key(self.device.key, job)
            match reply:
                case Progress(done=done, text=text):
                    self._tell(engine_events.Began(key))
                    if on_progress:
                        on_progress(job, done, text)
                case Failure(sticky=True):
                    self.log.note(f"{reply.text}\n{reply.detail}")
                    self._tell(engine_events.DeviceLost(key, reply.text))
                    return reply
                case Result() | Refused() | Failure():
                    self._answered_kinds.add(jobs.kind_of(job))
                    self._tell(engine_events.Answered(key))
                    self._keep(reply)
                    return reply
                case Cancelled():
                    self._tell(engine_events.Answered(key))
                    self._sent = None
        return None

    def _keep(self, reply: Result | Refused | Failure) -> None:
        payload = reply.payload if isinstance(reply, Result) else None
        if isinstance(payload, Ceilings):
            self.live = msgspec.structs.replace(self.live, ceilings=payload)
            if self._results:
                self._results.add_ceilings(payload)
        elif isinstance(payload, Measured) and self._results:
            self._results.add(payload)

    def _send(self, job: Job) -> None:
        slot = jobs.SLOTS[type(job)]
        self._sent = run = Run(self._next_id, slot, job)
        self._next_id += 1
        try:
            data = jobs.checked_frame(run)
        except ValueError as error:
            self._replies.append(Failure(run.id, "invalid", f"This can not be asked: {error}."))
            return
        first = jobs.kind_of(job) not in self._answered_kinds
        self._tell(jobs.asked(State(live=self.live), slot, job, first=first))
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has just ended: its exit is on the way
                self._process.stdin.write(data)
                self._process.stdin.flush()

    # ------------------------------------------------------------ the process

    def _turn(self) -> None:
        """Wait a moment for bytes or the time of a start. Raises: EngineGoneError."""
        if self._supervisor.phase == "gave_up":
            raise EngineGoneError(self._last_words or "The engine could not be started.")
        if self._start_at is not None and self._clock() >= self._start_at:
            self._start_at = None
            self._start()
        try:
            process, data = self._arrived.get(timeout=TICK_S)
        except queue.Empty:
            process, data = None, b""
        self._tick()
        if process is None or process is not self._process:
            return
        if data:
            self._take(data)
        else:
            self._process = None
            self._tell(Exited(self._reap(process), self.log.last_words()))

    def _tick(self) -> None:
        """Before what has arrived is believed: it may have been measured across a sleep."""
        slept = self._sleep_clock()
        if slept - self._slept > SLEPT_S:
            self._tell(Suspended())
        self._slept = slept
        if self._clock() - self._ticked_at >= TICK_S:
            self._ticked_at = self._clock()
            self._tell(Tick())

    def _start(self) -> None:
        self._receiver, self._greeted = Receiver(), False
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        except OSError as error:
            self._tell(Exited(127, f"{self.command[0]}: {error.strerror}"))
            return
        self._process = process
        self._tell(Launched())
        threading.Thread(target=self._read_replies, args=(process,), daemon=True).start()
        threading.Thread(target=self._read_errors, args=(process,), daemon=True).start()

    def _read_replies(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # closed under us: the same as its end
            while data := process.stdout.read(READ_BYTES):
                self._arrived.put((process, data))
        self._arrived.put((process, b""))

    def _read_errors(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while data := process.stderr.read(READ_BYTES):
                self.log.feed(data)

    @staticmethod
    def _reap(process: subprocess.Popen[bytes]) -> int:
        """The exit code of a process that has closed its pipes or was killed."""
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return code

    def _take(self, data: bytes) -> None:
        if self._supervisor.phase not in ("starting", "ready"):
            return
        try:
            payloads = self._receiver.feed(data)
            for payload in payloads:
                self._reply(payload)
        except ProtocolFault as fault:
            self.log.note(f"engine: {fault}")
            self._tell(Fault(fault_words(fault)))
            return
        self._tell(Heard(len(payloads), self._receiver.waiting > 0))

    def _reply(self, payload: bytes) -> None:
        """Raises: ProtocolFault."""
        if not self._greeted:
            sentence = wrong_protocol(payload)
            if sentence:
                self._tell(WrongProtocol(sentence))
                return
        reply: Any = decode_reply(payload)
        if isinstance(reply, Hello) == self._greeted:
            raise ProtocolFault("a second hello" if self._greeted else f"{type(reply).__name__} before its hello")
        match reply:
            case Hello(device=device, why_no_gpu=why):
                self._greeted = True
                self._answered_kinds.clear()
                ceilings = self._results.ceilings(device.key) if self._results else self.live.ceilings
                self.live = msgspec.structs.replace(self.live, device=device, why_no_gpu=why, ceilings=ceilings)
                self._tell(engine_events.Hello())
            case Vitals():
                self.live = msgspec.structs.replace(self.live, vitals=reply)
            case _:
                self._replies.append(reply)

    def _tell(self, event: Event) -> None:
        before = self._supervisor.phase
        self._supervisor, actions = supervisor.step(self._supervisor, event, self._clock())
        for action in actions:
            self._do(action)
        if before == "ready" != self._supervisor.phase:
            self._sent = None

    def _do(self, action: object) -> None:
        match action:
            case engine_events.Start(after_s=after_s):
                self._start_at = self._clock() + after_s
            case engine_events.Kill() if self._process is not None:
                self._process.kill()
            case engine_events.Abandon():
                self._process = None
            case engine_events.SetAside(key=key):
                self._set_aside.add(key)
            case engine_events.Notice(text=text):
                self._last_words = text
                self.log.note(text)
                if self._on_notice:
                    self._on_notice(text)

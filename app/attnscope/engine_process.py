"""The engine's process on Qt's event loop: its pipes, its life (`supervisor`), and nothing of what is asked of it.

No threads and no blocking reads: what has arrived is cut into frames, each frame becomes a reply. QProcess itself would
buffer without end, so nothing is written while more than `MAX_UNSENT` bytes wait for the engine to read them.

A QProcess that has ended is started again, never deleted: deleteLater on one whose connections keep its Python wrapper
deletes it twice now and then (PySide6 6.11.3), and the window with it. Slots ask `sender` which process they are of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attnscope_engine import protocol
from attnscope_engine.protocol import ProtocolFault, Receiver, Reply, decode_reply
from PySide6.QtCore import QObject, QProcess, QTimer, Signal

from attnscope import supervisor
from attnscope.engine_events import (
    Abandon,
    Begin,
    Event,
    Exited,
    Fault,
    Heard,
    Hello,
    Kill,
    Launched,
    Phase,
    Policy,
    Start,
    Suspended,
    Tick,
    UserRestart,
    WrongProtocol,
)
from attnscope.engine_log import EngineLog
from attnscope.engine_wire import SLEPT_S, fault_words, slept_s, wrong_protocol

MAX_UNSENT = 64 * 1024
TICK_MS = 200


class Listener(Protocol):
    """Who is told what comes of the engine."""

    def on_reply(self, reply: Reply) -> None: ...

    def on_action(self, action: object) -> None:
        """`Replay`, `SetAside`, `Notice` or `Status`."""
        ...

    def on_phase(self, phase: Phase) -> None: ...

    def on_tick(self) -> None: ...


class EngineProcess(QObject):
    """Starts the engine, restarts it, kills it, as the supervisor says."""

    writable = Signal()
    """The engine has read what was written."""

    def __init__(
        self,
        command: Sequence[str],
        listener: Listener,
        log: EngineLog,
        *,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep_clock: Callable[[], float] = slept_s,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.command = tuple(command)
        """Takes effect at the next start."""
        self._listener = listener
        self._log = log
        self._clock = clock
        self._sleep_clock = sleep_clock
        self._slept = sleep_clock()
        self._supervisor = supervisor.Supervisor(policy=policy or Policy())
        self._process: QProcess | None = None
        self._idle: QProcess | None = None
        """One that has ended, for the next start."""
        self._receiver = Receiver()
        self._greeted = False
        self._start_timer = QTimer(self, singleShot=True)
        self._start_timer.timeout.connect(self._start)
        self._tick_timer = QTimer(self, interval=TICK_MS)
        self._tick_timer.timeout.connect(self._tick)

    @property
    def phase(self) -> Phase:
        return self._supervisor.phase

    @property
    def pid(self) -> int:
        """0 when there is no process."""
        return self._process.processId() if self._process else 0

    def begin(self) -> None:
        self._tick_timer.start()
        self.tell(Begin())

    def restart(self) -> None:
        """A new engine, whatever state this one is in."""
        self._tick_timer.start()
        self.tell(UserRestart())

    def stop(self) -> None:
        """End the engine and start no other. The engine has nothing to clean up, so it is killed."""
        self._tick_timer.stop()
        self._start_timer.stop()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.waitForFinished(1000)

    def send(self, data: bytes) -> bool:
        """Write a whole frame, unless the engine is not ready or has not read the earlier ones."""
        if self.phase != "ready" or self._process is None or self._process.bytesToWrite() > MAX_UNSENT:
            return False
        self._process.write(data)
        return True

    def tell(self, event: Event) -> None:
        """One step of the supervisor, and what it says to do."""
        before = self._supervisor.phase
        self._supervisor, actions = supervisor.step(self._supervisor, event, self._clock())
        for action in actions:
            self._do(action)
        if self._supervisor.phase != before:
            self._log.note(f"engine: {before} → {self._supervisor.phase}")
            self._listener.on_phase(self._supervisor.phase)

    def _do(self, action: object) -> None:
        match action:
            case Start(after_s=after_s):
                self._start_timer.start(round(after_s * 1000))
            case Kill():
                if self._process is not None:
                    self._process.kill()
            case Abandon():
                self._process = None
            case _:
                self._listener.on_action(action)

    # ------------------------------------------------------------ one process

    def _start(self) -> None:
        process, self._idle = self._idle or self._made(), None
        self._process, self._receiver, self._greeted = process, Receiver(), False
        process.start(self.command[0], list(self.command[1:]))

    def _made(self) -> QProcess:
        process = QProcess(self)
        process.started.connect(self._started)
        process.readyReadStandardOutput.connect(self._readable)
        process.readyReadStandardError.connect(self._complained)
        process.bytesWritten.connect(self._wrote)
        process.finished.connect(self._finished)
        process.errorOccurred.connect(self._failed)
        return process

    def _sender(self) -> QProcess:
        """Of the signal that is being heard."""
        sender = self.sender()
        assert isinstance(sender, QProcess)
        return sender

    def _started(self) -> None:
        if self._sender() is self._process:
            self.tell(Launched())

    def _wrote(self, _bytes: int) -> None:
        self.writable.emit()

    def _complained(self) -> None:
        self._log_errors(self._sender())

    def _log_errors(self, process: QProcess) -> None:
        self._log.feed(bytes(process.readAllStandardError().data()))

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        process = self._sender()
        self._log_errors(process)
        current = process is self._process
        if current:
            self._read(process)  # an answer that came before the end counts
            self._process = None
        self._idle = process
        if current:
            self.tell(Exited(-code if status == QProcess.ExitStatus.CrashExit else code, self._log.last_words()))

    def _failed(self, error: QProcess.ProcessError) -> None:
        process = self._sender()
        if error == QProcess.ProcessError.FailedToStart and process is self._process:
            self._process, self._idle = None, process
            self.tell(Exited(127, f"{self.command[0]}: {process.errorString()}"))

    def _readable(self) -> None:
        self._read(self._sender())

    def _read(self, process: QProcess) -> None:
        self._note_sleep()  # before what has arrived is believed: it may have been measured across a sleep
        data = bytes(process.readAllStandardOutput().data())
        if not data or process is not self._process or self.phase not in ("starting", "ready"):
            return
        try:
            payloads = self._receiver.feed(data)
            for payload in payloads:
                self._take(payload)
        except ProtocolFault as fault:
            self._log.note(f"engine: {fault}")
            self.tell(Fault(fault_words(fault)))
            return
        self.tell(Heard(len(payloads), self._receiver.waiting > 0))

    def _take(self, payload: bytes) -> None:
        """Raises: ProtocolFault."""
        if not self._greeted:
            sentence = wrong_protocol(payload)
            if sentence:
                self.tell(WrongProtocol(sentence))
                return
        if self.phase not in ("starting", "ready"):
            return
        reply: Any = decode_reply(payload)
        if isinstance(reply, protocol.Hello) == self._greeted:
            raise ProtocolFault("a second hello" if self._greeted else f"{type(reply).__name__} before its hello")
        self._greeted = True
        self._listener.on_reply(reply)
        if isinstance(reply, protocol.Hello):
            self.tell(Hello())

    def _tick(self) -> None:
        self._note_sleep()
        self.tell(Tick())
        self._listener.on_tick()

    def _note_sleep(self) -> None:
        slept = self._sleep_clock()
        if slept - self._slept > SLEPT_S:
            self.tell(Suspended())
        self._slept = slept

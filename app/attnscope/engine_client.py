"""Asks the engine for what the state wants, and puts the answers into the state.

One request in flight a slot and one wish beside it, of which the newest wins: there is no queue and no timer, the engine's
own speed sets the rate. However often the state changes, `_pass` runs once a turn of the event loop. A measurement is
written to disk before it is put into the state, so that what was on the screen can not be lost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from attnscope_engine.addons.fitting import is_offer
from attnscope_engine.protocol import (
    Cancel,
    Cancelled,
    Ceilings,
    Failure,
    Hello,
    Job,
    Measured,
    Payload,
    Progress,
    Refusal,
    Refused,
    Reply,
    Result,
    Run,
    Vitals,
    frame,
)
from PySide6.QtCore import QObject, QTimer

from attnscope import engine_events, jobs
from attnscope.answers import settled
from attnscope.engine_events import Phase, Policy
from attnscope.engine_log import EngineLog
from attnscope.engine_process import EngineProcess
from attnscope.engine_wire import default_command, on_cpu, slept_s
from attnscope.requests import wanted
from attnscope.results import Results
from attnscope.state import Answer, Busy, Live, Notice, Slot
from attnscope.store import Store

CANCEL_AFTER_S = 0.15
"""A superseded request younger than this may finish: while a slider is dragged, quick answers keep coming."""
BUSY_AFTER_S = 0.3
MAX_NOTICES = 20
TAKEN_BYTES = 1 << 30
"""What another program must have taken of a GPU's memory for the status bar to say so."""

PHASES: dict[Phase, tuple[str, str]] = {
    "stopped": ("stopped", "stopped"),
    "waiting": ("starting", "restarting"),
    "starting": ("starting", "restarting"),
    "ready": ("ready", "ready"),
    "killing": ("restarting", "restarting"),
    "gave_up": ("gave_up", "gave_up"),
}
"""The supervisor's phase → the person's, before and after the first hello."""


@dataclass(slots=True)
class Flight:
    """A request that the engine has and has not answered."""

    id: int
    slot: Slot
    job: Job
    key: str
    sent_at: float
    withdrawn: bool = False
    done: float = 0.0
    text: str = ""


NICENESS = 5
"""A third of a normal process' share of a busy core; all of an idle one."""


def yield_to_windows(pid: int) -> None:
    """A measurement on the processor keeps every core busy: below normal priority, so that the hand at the slider goes first."""
    if hasattr(os, "setpriority") and pid:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, NICENESS)


class EngineClient(QObject):
    """The window's only tie to the engine. Views do not know it: they read the state and change it through the store."""

    def __init__(
        self,
        store: Store,
        results: Results,
        command: Sequence[str] | None = None,
        *,
        log_path: Path | None = None,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep_clock: Callable[[], float] = slept_s,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._store = store
        self._results = results
        self._clock = clock
        self.log = EngineLog(log_path)
        self._process = EngineProcess(
            command or default_command(),
            self,
            self.log,
            policy=policy,
            clock=clock,
            sleep_clock=sleep_clock,
            parent=self,
        )
        self._flights: dict[Slot, Flight] = {}
        self._next_id = 1
        self._starts = 0
        self._answered_kinds: set[str] = set()
        self._vitals: Vitals | None = None
        self._said = ""
        """The supervisor's line in the status bar."""
        self._pass_timer = QTimer(self, singleShot=True, interval=0)
        self._pass_timer.timeout.connect(self._pass)
        store.changed.connect(self._wake)
        self._process.writable.connect(self._wake)

    # ------------------------------------------------------------ what the window may ask

    @property
    def pid(self) -> int:
        """Of the engine; 0 when there is none."""
        return self._process.pid

    def start(self) -> None:
        self._tell_problem()
        self._process.begin()

    def stop(self) -> None:
        """End the engine for good; to be called before the window goes."""
        self._process.stop()
        self._results.flush()
        self.log.close()

    def restart(self) -> None:
        self._process.restart()

    def use_cpu(self) -> None:
        """Restart on the processor, for this session."""
        self._process.command = on_cpu(self._process.command)
        self._process.restart()

    def set_device(self, device: str) -> None:
        """Restart on what the preferences say: `auto` or `cpu`."""
        self._process.command = on_cpu(self._process.command) if device == "cpu" else default_command(device)
        self._process.restart()

    def calibrate(self) -> None:
        """Measure the device's ceilings anew; there are no predicted times until then. On disk the old ones stand meanwhile."""
        answers = {slot: answer for slot, answer in self._live.answers.items() if slot != "calibrate"}
        self._store.update_live(ceilings=None, answers=answers)

    def measure(self, keys: Sequence[str]) -> None:
        """Measure these keys one after the other, in place of what is left of an earlier list."""
        fresh = self._live.set_aside - set(keys)
        self._store.update_live(queue=tuple(keys), queue_total=len(keys), set_aside=fresh, status="")

    def cancel(self) -> None:
        """Stop measuring; finished points are kept."""
        left, total = len(self._live.queue), self._live.queue_total
        if left:
            self._store.update_live(queue=(), queue_total=0, status=f"Stopped. {total - left:,} of {total:,} points kept.")

    def try_again(self) -> None:
        """Ask once more for what failed or was set aside."""
        answers = {slot: answer for slot, answer in self._live.answers.items() if answer.failure is None}
        notices = tuple(notice for notice in self._live.notices if notice.key != "fault")
        self._store.update_live(set_aside=frozenset(), answers=answers, notices=notices)

    # ------------------------------------------------------------ requests

    @property
    def _live(self) -> Live:
        return self._store.state.live

    def _wake(self) -> None:
        if not self._pass_timer.isActive():
            self._pass_timer.start()

    def _pass(self) -> None:
        """Bring what the engine has been asked in line with what the state wants."""
        if self._process.phase != "ready":
            return
        wish = wanted(self._store.state)
        for slot in jobs.URGENCY:
            job, flight = wish.get(slot), self._flights.get(slot)
            if flight is not None:
                if flight.job != job:
                    self._withdraw(flight)
            elif job is not None and not self._is_answered(slot, job):
                self._ask(slot, job)

    def _is_answered(self, slot: Slot, job: Job) -> bool:
        """Measurements are not: `requests` asks for one only while it is missing or queued."""
        answer = self._live.answers.get(slot)
        return slot != "measure" and answer is not None and answer.job == job

    def _ask(self, slot: Slot, job: Job) -> None:
        run = Run(self._next_id, slot, job)
        first = jobs.kind_of(job) not in self._answered_kinds
        try:
            data = jobs.checked_frame(run)
        except ValueError as error:
            self._settle(slot, Answer(job, refusal=Refusal("invalid", f"This can not be asked: {error}.")))
            return
        if not self._process.send(data):
            return  # `writable` wakes us
        self._next_id += 1
        asked = jobs.asked(self._store.state, slot, job, first=first)
        self._flights[slot] = Flight(run.id, slot, job, asked.key, self._clock())
        self._process.tell(asked)
        self._show_phase()

    def _withdraw(self, flight: Flight) -> None:
        if flight.withdrawn:
            return
        wait_s = CANCEL_AFTER_S - (self._clock() - flight.sent_at)
        if wait_s > 0:
            QTimer.singleShot(round(wait_s * 1000) + 1, self._wake)
        elif self._process.send(frame(Cancel(flight.id))):
            flight.withdrawn = True

    # ------------------------------------------------------------ replies

    def on_reply(self, reply: Reply) -> None:
        """A message of the engine."""
        match reply:
            case Hello():
                self._greet(reply)
            case Vitals():
                self._vitals = reply  # shown at the next tick, however many come
            case Progress():
                self._progress(reply)
            case Failure(sticky=True):
                self._device_lost(reply)
            case Result() | Refused() | Failure() | Cancelled():
                self._answer(reply)

    def _greet(self, hello: Hello) -> None:
        device = hello.device
        if device.kind == "cpu":
            yield_to_windows(self._process.pid)
        self._flights.clear()
        self._answered_kinds.clear()
        self._vitals = None
        notices = tuple(notice for notice in self._live.notices if notice.key != "engine")
        changes: dict[str, object] = {"device": device, "why_no_gpu": hello.why_no_gpu, "notices": notices}
        if self._live.device != device:
            changes |= {
                "measurements": self._results.load(device.key),
                "ceilings": self._results.ceilings(device.key),
                "vitals": None,
                "queue": (),
                "queue_total": 0,
            }
        self._store.update_live(**changes)
        if hello.why_no_gpu and hello.why_no_gpu != self._live.told_no_gpu:
            self._store.update_live(told_no_gpu=hello.why_no_gpu)
            get = (("Get them", "addons"),) if is_offer(hello.why_no_gpu) else ()
            self._post(Notice("info", hello.why_no_gpu, (*get, ("Why?", "diagnostics")), key="no_gpu"))

    def _progress(self, progress: Progress) -> None:
        for flight in self._flights.values():
            if flight.id == progress.id:
                flight.done, flight.text = progress.done, progress.text
                self._process.tell(engine_events.Began(flight.key))

    def _answer(self, reply: Result | Refused | Failure | Cancelled) -> None:
        flight = next((flight for flight in self._flights.values() if flight.id == reply.id), None)
        if flight is None:
            return  # of an engine or a request that is gone
        del self._flights[flight.slot]
        self._answered_kinds.add(jobs.kind_of(flight.job))
        self._process.tell(engine_events.Answered(flight.key))
        job = flight.job
        match reply:
            case Result(payload=payload):
                self._keep(payload)
                self._settle(flight.slot, Answer(job, payload))
            case Refused(refusal=refusal):
                self._settle(flight.slot, Answer(job, refusal=refusal))
            case Failure():
                self.log.note(f"{jobs.describe(job)}: {reply.text}\n{reply.detail}")
                self._settle(flight.slot, Answer(job, failure=reply))
        self._show_phase()
        self._wake()

    def _keep(self, payload: Payload) -> None:
        """To disk, before anybody sees it."""
        if isinstance(payload, Measured):
            self._results.add(payload)
        elif isinstance(payload, Ceilings):
            self._results.add_ceilings(payload)
        else:
            return
        self._tell_problem()

    def _settle(self, slot: Slot, answer: Answer) -> None:
        """Put an answer into the state, and what follows from it, in one change."""
        self._store.update_live(**settled(self._live, slot, answer))
        if answer.failure is not None:
            self._post(Notice("warn", answer.failure.text, (("Show log", "show_log"),), key=f"failure {slot}"))

    def _device_lost(self, failure: Failure) -> None:
        """Nothing that this engine says from now on is true: not even wait for its end."""
        flight = next((flight for flight in self._flights.values() if flight.id == failure.id), None)
        self.log.note(f"{failure.text} (code {failure.code})\n{failure.detail}")
        text = f"{failure.text} This setting is set aside." if flight else failure.text
        self._process.tell(engine_events.DeviceLost(flight.key if flight else "", text))

    # ------------------------------------------------------------ the engine's life

    def on_action(self, action: object) -> None:
        """What the supervisor wants done that is not the process's."""
        match action:
            case engine_events.Replay():
                self._wake()
            case engine_events.SetAside(key=key):
                self._set_aside(key)
            case engine_events.Notice(level=level, text=text, actions=actions):
                self._post(Notice(level, text, actions, key="fault" if actions[0][1] == "try_again" else "engine"))
            case engine_events.Status(text=text):
                if self._live.status in ("", self._said):
                    self._store.update_live(status=text)
                self._said = text

    def on_phase(self, phase: Phase) -> None:
        """The engine's life went on."""
        if phase != "ready":
            self._flights.clear()
        if phase == "starting":
            self._store.update_live(restarts=self._starts)
            self._starts += 1
        self._show_phase()
        self._show_busy()
        self._wake()

    def on_tick(self) -> None:
        """A few times a second."""
        if self._vitals is not None and is_news(self._live.vitals, self._vitals):
            self._note_taken(self._live.vitals, self._vitals)
            self._store.update_live(vitals=self._vitals)
        self._show_busy()

    def _set_aside(self, key: str) -> None:
        flight = next((flight for flight in self._flights.values() if flight.key == key), None)
        if flight is None:
            return
        del self._flights[flight.slot]
        text = f"The engine stopped twice in {jobs.describe(flight.job)}: this setting is set aside."
        self._settle(flight.slot, Answer(flight.job, failure=Failure(flight.id, "device", text)))

    def _show_phase(self) -> None:
        phase = PHASES[self._process.phase][self._live.device is not None]
        if phase == "ready" and "measure" in self._flights:
            phase = "measuring"
        self._store.update_live(phase=phase)

    def _show_busy(self) -> None:
        """The request in work, once it has taken long enough to be worth a word."""
        now = self._clock()
        slow = [self._flights[slot] for slot in jobs.URGENCY if slot in self._flights]
        slow = [flight for flight in slow if now - flight.sent_at >= BUSY_AFTER_S]
        if not slow:
            self._store.update_live(busy=None)
            return
        flight = slow[0]
        text = jobs.describe(flight.job)
        if flight.slot == "measure" and self._live.queue:
            text += f" · {self._live.queue_total - len(self._live.queue) + 1:,} of {self._live.queue_total:,}"
        elif flight.text:
            text += f" · {flight.text}"
        self._store.update_live(busy=Busy(text, flight.done, flight.sent_at))

    def _note_taken(self, before: Vitals | None, now: Vitals) -> None:
        device = self._live.device
        if before is None or device is None or device.kind != "cuda" or self._flights:
            return
        taken = before.free_bytes - now.free_bytes
        if taken >= TAKEN_BYTES:
            text = f"Another program took {taken / 2**30:.1f} GiB meanwhile: free now {now.free_bytes / 2**30:.1f} GiB."
            self._store.update_live(status=text)

    def _tell_problem(self) -> None:
        if self._results.problem and all(notice.text != self._results.problem for notice in self._live.notices):
            self._post(Notice("warn", self._results.problem, key="results"))

    def _post(self, notice: Notice) -> None:
        """A newer notice of the same key replaces the older."""
        others = tuple(other for other in self._live.notices if other.key != notice.key)
        self._store.update_live(notices=(*others, notice)[-MAX_NOTICES:])


def is_news(before: Vitals | None, now: Vitals) -> bool:
    """Whether the memory or the clock changed by more than it always does: each change redraws what depends on what is free."""
    if before is None or before.total_bytes != now.total_bytes:
        return True
    return abs(now.free_bytes - before.free_bytes) >= now.total_bytes >> 9 or abs(now.clock_mhz - before.clock_mhz) >= 50

"""The engine's main thread: takes the most urgent request, works on it in chunks, and answers it exactly once.

Latest wins in each slot, the hand wins over measurements. Between two chunks `_tick` looks for newer work:

- the running request was cancelled or replaced: it is answered `Cancelled` and dropped;
- a request of a higher priority waits: the running one goes back to the mailbox and starts again afterwards, unless
  `fairness` owes it some undisturbed time, so that hovering over a map can not hold a measurement off for ever;
- while the model reads a text that a waiting request needs as well, the reading goes on for that one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NoReturn

from attnscope_engine import catalogue, failures, maps
from attnscope_engine.devices import Device, DeviceFault
from attnscope_engine.fairness import Fairness
from attnscope_engine.head_maps import MapCache
from attnscope_engine.mailbox import Mailbox, rank
from attnscope_engine.measure import measure
from attnscope_engine.pipes import EXIT_FAULT, EndProcess, FrameWriter
from attnscope_engine.protocol import (
    Calibrate,
    Cancelled,
    DrawHeads,
    DrawMap,
    Failure,
    Job,
    Measure,
    Measured,
    Payload,
    Progress,
    ReadRow,
    ReadText,
    Refused,
    Reply,
    Result,
    Run,
    Source,
)
from attnscope_engine.refusals import JobRefused, invalid, unsupported
from attnscope_engine.sources import Sources
from attnscope_engine.variant import Interrupted

VITALS_EVERY_S = 1.0
PROGRESS_EVERY_S = 0.1

Clock = Callable[[], float]


class Worker:
    """Serves one device."""

    def __init__(
        self,
        device: Device,
        sources: Sources,
        mailbox: Mailbox,
        writer: FrameWriter,
        *,
        clock: Clock = time.monotonic,
        end_process: EndProcess = os._exit,
    ) -> None:
        self._device = device
        self._sources = sources
        self._mailbox = mailbox
        self._writer = writer
        self._clock = clock
        self._end_process = end_process
        self._maps = MapCache()
        self._fairness = Fairness()
        self._next_vitals = clock()
        # Of the running request:
        self._run: Run | None = None
        self._answered = False
        self._undisturbed_until = 0.0
        self._next_progress = 0.0
        self._changes_seen = -1

    def step(self) -> None:
        """Serve one request, or wait for one until vitals are due."""
        self._answer_withdrawn()
        now = self._clock()
        self._fairness.note(self._mailbox.waiting(), now)
        run = self._mailbox.take(max(0.0, self._next_vitals - now), self._fairness.first(now))
        self._answer_withdrawn()
        if run is not None:
            self._serve(run)
        if run is not None or self._clock() >= self._next_vitals:
            self._send_vitals()

    # ------------------------------------------------------------ one request

    def _serve(self, run: Run) -> None:
        now = self._clock()
        self._run, self._answered, self._changes_seen = run, False, -1
        self._undisturbed_until = self._fairness.start(run, now)
        self._next_progress = now + PROGRESS_EVERY_S
        reply = self._outcome(run)
        if reply is None:
            self._fairness.displaced(run, self._clock())
            self._mailbox.put_back()
        else:
            self._mailbox.done()
            self._answer(reply)
        self._run = None
        if isinstance(reply, Failure) and reply.sticky:
            self._end_process(EXIT_FAULT)

    def _outcome(self, run: Run) -> Reply | None:
        """The one answer of `run`; None when it made way for a request of a higher priority."""
        try:
            return Result(run.id, self._do(run.job))
        except Interrupted:
            return Cancelled(run.id) if self._answered or self._mailbox.running_withdrawn else None
        except JobRefused as refused:
            return Refused(run.id, refused.refusal)
        except Exception as error:  # noqa: BLE001 the one place where an engine outlives what it did not expect
            return failures.answer_to(error, run)

    def _do(self, job: Job) -> Payload:
        match job:
            case Calibrate():
                return self._device.calibrate(self._tick)
            case Measure():
                return self._measure(job)
            case ReadText(source=source):
                return self._sources.read_text(source, self._tick)
            case DrawMap():
                return maps.draw_map(job, self._sources, self._maps, self._fits(), self._tick)
            case ReadRow():
                return maps.read_row(job, self._sources, self._tick)
            case DrawHeads():
                return maps.draw_heads(job, self._sources, self._fits(), self._tick, self._progress)

    def _fits(self) -> maps.Fits:
        vitals = self._device.vitals()
        return maps.Fits(self._device.facts.kind, vitals.free_bytes, vitals.total_bytes)

    def _measure(self, job: Measure) -> Measured:
        facts = self._device.facts
        if job.workload.dtype not in facts.dtypes:
            raise unsupported(f"{facts.name} does not compute in {job.workload.dtype}; it does in {', '.join(facts.dtypes)}.")
        try:
            vitals = self._device.vitals()
            refusal = catalogue.admission(job.choice, job.workload, facts.kind, vitals.free_bytes, vitals.total_bytes)
        except ValueError as error:
            raise invalid(str(error)) from error
        if refusal is not None:
            raise JobRefused(refusal)
        return measure(self._device, job, self._tick, self._progress)

    # ------------------------------------------------------------ between two chunks

    def _tick(self) -> None:
        """Raises: Interrupted, when the running request is to stop here."""
        changes = self._mailbox.changes
        if changes == self._changes_seen or self._run is None:
            return
        self._answer_withdrawn()
        waiting = self._mailbox.waiting()
        if self._mailbox.running_withdrawn:
            self._answer(Cancelled(self._run.id))
            if not any(self._shares_reading(run) for run in waiting):
                raise Interrupted
            return
        if not waiting or rank(waiting[0].slot) >= rank(self._run.slot):
            self._changes_seen = changes
        elif self._clock() >= self._undisturbed_until and not self._shares_reading(waiting[0]):
            raise Interrupted

    def _shares_reading(self, run: Run) -> bool:
        """True when `run` needs the text that the model is reading right now."""
        return self._sources.reading is not None and source_of(run.job) == self._sources.reading

    def _progress(self, done: float, text: str = "") -> None:
        """At most ten a second, none within the first tenth."""
        now = self._clock()
        if self._run is None or self._answered or now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_EVERY_S
        self._send(Progress(self._run.id, min(1.0, max(0.0, done)), text))

    # ------------------------------------------------------------ replies

    def _answer_withdrawn(self) -> None:
        for id_ in self._mailbox.withdrawn():
            self._send(Cancelled(id_))

    def _answer(self, reply: Reply) -> None:
        """Answer the running request, unless that was done."""
        if self._answered:
            return
        self._answered = True
        try:
            self._send(reply)
        except ValueError as error:
            if self._run is not None:
                self._send(Failure(self._run.id, "internal", f"The answer is too large to send: {error}."))

    def _send(self, reply: Reply) -> None:
        self._writer.send(reply)

    def _send_vitals(self) -> None:
        self._next_vitals = self._clock() + VITALS_EVERY_S
        try:
            self._send(self._device.vitals())
        except DeviceFault as fault:
            self._send(Failure(0, "device", str(fault), fault.code, fault.sticky))
            if fault.sticky:
                self._end_process(EXIT_FAULT)


def source_of(job: Job) -> Source | None:
    """Where the job's q and k come from; None for a measurement."""
    match job:
        case ReadText() | DrawMap() | ReadRow() | DrawHeads():
            return job.source
        case _:
            return None


def serve(device: Device, sources: Sources, mailbox: Mailbox, writer: FrameWriter) -> NoReturn:
    """Answer what arrives in `mailbox`. Never returns: the thread that fills it ends the process."""
    worker = Worker(device, sources, mailbox, writer)
    while True:
        worker.step()

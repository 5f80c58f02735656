"""What the window's side knows of a job before it is asked: its name in a sentence, its identity, how long it should take."""

from __future__ import annotations

import hashlib

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import HEADER as FRAME_HEADER
from attnscope_engine.protocol import (
    Calibrate,
    DrawHeads,
    DrawMap,
    Job,
    Measure,
    ProtocolFault,
    ReadRow,
    ReadText,
    Run,
    decode_request,
    frame,
)

from attnscope.engine_events import Asked
from attnscope.predictions import predict_call
from attnscope.state import Slot, State, measurement_key

URGENCY: tuple[Slot, ...] = ("row", "map", "text", "heads", "calibrate", "measure")
"""The order in which the engine serves slots: the hand before the stop watch."""

SLOTS: dict[type, Slot] = {
    Calibrate: "calibrate",
    ReadText: "text",
    DrawMap: "map",
    ReadRow: "row",
    DrawHeads: "heads",
    Measure: "measure",
}
"""Where each kind of job is asked."""

FIRST_TIME_S = 30.0
"""Allowed once in an engine's life for each kind of job: torch is imported, or a kernel compiled."""
INPUT_BYTES_PER_S = 2e8
"""How fast seeded inputs are made, at the least."""
CALLS = 4
"""Calls of one measurement, at the least: one to warm up, three that count."""

_encoder = msgspec.msgpack.Encoder()


def describe(job: Job) -> str:
    """As a notice or the status bar names it: "Window, n = 65,536"."""
    match job:
        case Measure(workload=workload, choice=choice):
            return f"{_title(choice.variant)}, n = {workload.seq_len:,}"
        case ReadText():
            return "reading the text"
        case DrawMap(panels=panels):
            return "map of " + " and ".join(_title(choice.variant) for choice in panels)
        case ReadRow(row=row):
            return f"row {row:,} of the map"
        case DrawHeads():
            return "all heads"
        case Calibrate():
            return "calibration"


def job_key(device: str, job: Job) -> str:
    """Identity of a job: the measurement's key, or a hash of what is asked."""
    if isinstance(job, Measure):
        return measurement_key(device, job.workload, job.choice)
    return hashlib.blake2b(_encoder.encode(job), digest_size=16).hexdigest()


def kind_of(job: Job) -> str:
    """What a first time is first of."""
    variant = f" {job.choice.variant}" if isinstance(job, Measure) else ""
    return type(job).__name__ + variant


def asked(state: State, slot: Slot, job: Job, *, first: bool) -> Asked:
    """What the supervisor is to know of a job that is being sent."""
    device = state.live.device.key if state.live.device else ""
    return Asked(
        key=job_key(device, job),
        what=describe(job),
        expected_s=expected_s(state, job),
        urgency=URGENCY.index(slot),
        allowance_s=FIRST_TIME_S if first else 0.0,
    )


def expected_s(state: State, job: Job) -> float | None:
    """Seconds that a measurement should take in all; None for jobs that no formula predicts."""
    if not isinstance(job, Measure):
        return None
    time_s, _ = predict_call(state, job.workload, job.choice)
    if time_s is None:
        return None
    kind = state.live.device.kind if state.live.device else "cpu"
    held = catalogue.cost_of(job.choice, job.workload, kind).held_bytes
    return max(CALLS * time_s, time_s + job.budget_s) + held / INPUT_BYTES_PER_S


def checked_frame(run: Run) -> bytes:
    """The frame of a request that the engine will not take for a fault of ours.

    Raises:
        ValueError: a value is outside what the protocol allows; the text names it.
    """
    try:
        data = frame(run)
        decode_request(data[FRAME_HEADER.size :])
    except (ProtocolFault, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
    return data


def _title(variant: str) -> str:
    found = catalogue.variants().get(variant)
    return found.title if found else variant

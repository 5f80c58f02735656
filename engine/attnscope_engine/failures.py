"""What the window is told when a request could not be answered: one typed failure for each kind of exception."""

from __future__ import annotations

import traceback

from attnscope_engine import catalogue
from attnscope_engine.devices import DeviceFault
from attnscope_engine.protocol import (
    Calibrate,
    DrawHeads,
    DrawMap,
    Failure,
    Job,
    Measure,
    ReadRow,
    Refusal,
    Refused,
    Reply,
    Run,
)
from attnscope_engine.variant import Unsupported

TORCH_OUT_OF_MEMORY = "DefaultCPUAllocator"
"""In the text of the plain RuntimeError with which torch says that the processor's memory is full."""


def answer_to(error: Exception, run: Run) -> Reply:
    """The reply to `run` that `error` stands for."""
    what = describe(run.job)
    detail = "".join(traceback.format_exception(error))
    match error:
        case Unsupported():
            return Refused(run.id, Refusal("unsupported", str(error), variant=variant_of(run.job)))
        case DeviceFault(kind="memory"):
            return Failure(run.id, "memory", f"{what} ran out of memory: {error}", error.code, error.sticky, detail)
        case DeviceFault(kind="compile"):
            return Failure(run.id, "compile", f"{what} did not compile.", error.code, error.sticky, f"{error}\n{detail}")
        case DeviceFault():
            text = f"GPU fault in {what} (code {error.code})." if error.code else f"{what} failed: {error}"
            return Failure(run.id, "device", text, error.code, error.sticky, detail)
        case _ if isinstance(error, MemoryError) or TORCH_OUT_OF_MEMORY in str(error):
            return Failure(run.id, "memory", f"{what} ran out of memory.", detail=detail)
        case _:
            return Failure(run.id, "internal", f"{what} failed: {type(error).__name__}: {error}", detail=detail)


def variant_of(job: Job) -> str:
    """Name of the one variant that the job is about, else empty."""
    return job.choice.variant if isinstance(job, Measure | DrawHeads) else ""


def describe(job: Job) -> str:
    """The job as the subject of a sentence."""
    match job:
        case Measure(workload=workload, choice=choice):
            variant = catalogue.variants().get(choice.variant)
            return f"{variant.title if variant else choice.variant} at n = {workload.seq_len:,}"
        case Calibrate():
            return "The calibration"
        case DrawMap():
            return f"The map of layer {job.layer}, head {job.head}"
        case ReadRow():
            return f"Row {job.row:,} of layer {job.layer}, head {job.head}"
        case DrawHeads():
            return "The picture of all heads"
        case _:
            return "Reading the text"

"""Tool tips of a variant's row: what it is, the formula, the numbers put in, the key. Pure: no Qt; all text is escaped."""

from __future__ import annotations

import html
import time

from attnscope_engine import catalogue
from attnscope_engine.cost import Step
from attnscope_engine.protocol import Ceilings, Measured

from attnscope.predictions import Prediction
from attnscope.quantities import bytes_text, count, moment_text, rate_text, time_parts, time_text
from attnscope.state import State


def tip(*lines: str) -> str:
    """Escaped lines as rich text, at most 320 px wide where they wrap."""
    body = "<br>".join(html.escape(line) for line in lines if line)
    return f"<html><body>{body.replace('ᵀ', '<sup>T</sup>').replace('^-½', '<sup>−½</sup>')}</body></html>"


def name_tip(name: str) -> str:
    variant = catalogue.find(name)
    return tip(
        f"{variant.title}: {variant.source}",
        variant.formula,
        "Click: its parameters · Space: on or off · double click: only this · drag: its place on the map",
    )


def time_tip(name: str, state: State, prediction: Prediction) -> str:
    title, ceilings = catalogue.find(name).title, state.live.ceilings
    if ceilings is None or prediction.time_s is None:
        return tip(f"Time predicted for {title}", "known once the engine has measured what this device reaches")
    dtype = state.settings.workload.dtype
    flops_per_s = ceilings.flops_per_s.get(dtype, min(ceilings.flops_per_s.values()))
    parts = [f"{step.name} {_bound(step, flops_per_s, ceilings)}" for step in prediction.cost.steps]
    launches = sum(step.launches for step in prediction.cost.steps)
    return tip(
        f"Time predicted for {title}",
        f"each step the longest of FLOP / {rate_text(flops_per_s)}, bytes / {rate_text(ceilings.bytes_per_s, 'B/s')} "
        f"and exponentials / {rate_text(ceilings.exps_per_s, 'exp/s')}, plus {time_text(ceilings.launch_s)} a launch",
        f"{' + '.join(parts)} + {launches} × {time_text(ceilings.launch_s)} = {time_text(prediction.time_s)}",
    )


def memory_tip(name: str, prediction: Prediction) -> str:
    terms = [term for term in prediction.cost.held if term.bytes_]
    return tip(
        f"Memory held by {catalogue.find(name).title}",
        " + ".join(term.formula for term in terms),
        f"{' + '.join(bytes_text(term.bytes_) for term in terms)} = {bytes_text(prediction.held_bytes)}",
    )


def refusal_tip(prediction: Prediction) -> str:
    refusal = prediction.refusal
    if refusal is None:
        return ""
    if refusal.reason != "memory":
        return tip(refusal.text)
    largest = f"The largest n that fits here is {count(refusal.largest_seq_len)}." if refusal.largest_seq_len else ""
    terms = [term for term in refusal.terms if term.bytes_]
    return tip(
        refusal.text,
        " + ".join(f"{term.name} {bytes_text(term.bytes_)}" for term in terms),
        f"needs {bytes_text(refusal.needed_bytes)}, free {bytes_text(refusal.free_bytes)}",
        largest,
    )


def measured_tip(measured: Measured, now: float | None = None) -> str:
    """`now`: Unix seconds, for "today"."""
    low, (high, unit) = time_parts(measured.p20_s), time_parts(measured.p80_s)
    spread = f"{low[0]}–{high}" if low[1] == unit else f"{time_text(measured.p20_s)}–{time_text(measured.p80_s)}"
    clock = f", {count(measured.clock_mhz)} MHz" if measured.clock_mhz else ""
    moment = moment_text(measured.taken_at, time.time() if now is None else now)
    return tip(
        f"{time_text(measured.time_s)}, p20–p80 {spread}, {count(measured.samples)} replays{clock}, {moment}",
        f"Peak memory {bytes_text(measured.peak_bytes)}",
        f"at n = {count(measured.workload.seq_len)}",
        f"≈ {measured.noise}" if measured.noise else "",
    )


def _bound(step: Step, flops_per_s: float, ceilings: Ceilings) -> str:
    return time_text(max(step.flops / flops_per_s, step.exps / ceilings.exps_per_s, step.bytes_moved / ceilings.bytes_per_s))

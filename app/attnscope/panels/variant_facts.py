"""What a variant's row says, as plain values: a row repaints only what differs. Pure: no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import Measure, Measured

from attnscope.predictions import Prediction, predict
from attnscope.quantities import NOTHING, Parts, bytes_parts, bytes_text, count, time_parts
from attnscope.requests import wanted
from attnscope.state import Live, State, choice_of, effective_workload, measurement_key, one_call

EMPTY: Parts = (NOTHING, "")


@dataclass(frozen=True, slots=True)
class VariantFacts:
    """One row at one state."""

    title: str
    summary: str
    checked: bool
    opened: bool
    predicted: tuple[Parts, Parts] = (EMPTY, EMPTY)
    """Time over memory."""
    refused: str = ""
    """First line of a refusal: "does not fit"."""
    refusal: str = ""
    """Its second: "needs 385 GiB"."""
    measured: tuple[Parts, Parts] | None = None
    word: str = ""
    """Stands for a missing measurement; beside a stale one it says of what it is, or that a new one is coming."""
    stale: bool = False
    noisy: bool = False

    @property
    def spoken(self) -> str:
        """For a screen reader."""
        if self.refusal:
            return f"{self.summary}; {self.refused}, {self.refusal}"
        predicted = " and ".join(" ".join(part for part in parts if part) for parts in self.predicted)
        measured = self.word
        if self.measured and not self.stale:
            measured = " and ".join(" ".join(parts) for parts in self.measured)
        return f"{self.summary}; predicted {predicted}; measured {measured}"


class Latest:
    """The newest measurement of each variant, looked up again only when the measurements are others."""

    def __init__(self) -> None:
        self._seen: Mapping[str, Measured] = {}
        self._newest: dict[str, Measured] = {}

    def of(self, live: Live, variant: str) -> Measured | None:
        if live.measurements is not self._seen:
            self._seen = live.measurements
            self._newest = {}
            for measured in live.measurements.values():
                name = measured.choice.variant
                if name not in self._newest or measured.taken_at > self._newest[name].taken_at:
                    self._newest[name] = measured
        return self._newest.get(variant)


def facts(state: State, latest: Latest) -> dict[str, VariantFacts]:
    """Every variant's row at this state."""
    predictions = predict(state)
    job = wanted(state).get("measure")
    return {
        name: _facts(state, name, predictions[name], latest, job if isinstance(job, Measure) else None) for name in predictions
    }


def _facts(state: State, name: str, prediction: Prediction, latest: Latest, job: Measure | None) -> VariantFacts:
    variant, settings = catalogue.find(name), state.settings
    row = VariantFacts(
        title=variant.title,
        summary=variant.summary(variant.parse(settings.params.get(name, {}))),
        checked=name in settings.checked,
        opened=settings.opened == name,
        predicted=(EMPTY if prediction.time_s is None else time_parts(prediction.time_s), bytes_parts(prediction.held_bytes)),
    )
    if prediction.refusal:
        if prediction.refusal.reason == "memory":
            why = f"needs {bytes_text(prediction.refusal.needed_bytes)}"
        else:
            why = "causal only"
        return _replaced(row, refused=prediction.refused, refusal=why)
    if prediction.measured:
        return _replaced(row, measured=_numbers(prediction.measured), noisy=bool(prediction.measured.noise))
    coming = _coming(state, name, job)
    old = latest.of(state.live, name)
    if old is None:
        return _replaced(row, word=coming or "not measured")
    return _replaced(row, measured=_numbers(old), stale=True, noisy=bool(old.noise), word=coming or _of_what(state, old))


def _replaced(row: VariantFacts, **changes: object) -> VariantFacts:
    values = {name: getattr(row, name) for name in VariantFacts.__slots__}
    return VariantFacts(**(values | changes))


def _numbers(measured: Measured) -> tuple[Parts, Parts]:
    return time_parts(measured.time_s), bytes_parts(measured.peak_bytes)


def _coming(state: State, name: str, job: Measure | None) -> str:
    """Whether this variant at this workload is being measured or waits for it."""
    live = state.live
    if live.device is None:
        return ""
    workload, choice = one_call(effective_workload(state)), choice_of(state.settings, name)
    if job and live.phase == "measuring" and job.choice == choice and one_call(job.workload) == workload:
        return "measuring"
    return "queued" if live.queue and measurement_key(live.device.key, workload, choice) in live.queue else ""


def _of_what(state: State, old: Measured) -> str:
    """What a stale number is of: its n when all else is the same."""
    now = one_call(effective_workload(state))
    same_shape = msgspec.structs.replace(one_call(old.workload), seq_len=now.seq_len) == now
    if same_shape and old.workload.seq_len != now.seq_len and old.choice == choice_of(state.settings, old.choice.variant):
        return f"n = {count(old.workload.seq_len)}"
    return "other settings"

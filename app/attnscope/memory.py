"""What the Memory page says, as plain values: peaks of one call, and how long a sequence the whole model could take. No Qt."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.cost import RESERVE_FRACTION, largest_seq_len
from attnscope_engine.protocol import MAX_SEQ_LEN, Choice, DeviceKind, Measured, Refusal, Term, Workload
from attnscope_engine.variant import Params, Variant

from attnscope import predictions
from attnscope.quantities import bytes_text, count
from attnscope.state import State, choice_of, effective_workload, measurement_key, one_call

Progress = Literal["", "queued", "measuring"]


@dataclass(frozen=True, slots=True)
class Peak:
    """One variant's peak of one call at the present n."""

    variant: str
    title: str
    predicted: int
    terms: tuple[Term, ...]
    """Largest first."""
    measured: Measured | None
    refusal: Refusal | None
    progress: Progress

    @property
    def difference(self) -> float | None:
        """Measured over predicted, less one."""
        return self.measured.peak_bytes / self.predicted - 1 if self.measured and self.predicted else None


@dataclass(frozen=True, slots=True)
class Fit:
    """How far one variant gets in the whole model: one layer's call alive at a time, and what every layer keeps."""

    variant: str
    title: str
    summary: str
    binding: str
    """The term that takes most at the largest n."""
    grows: str
    largest: int
    """A multiple of 64; 0 when not even 64 fits; MAX_SEQ_LEN when no n looked at is too long."""
    ran_at: int
    """Largest n at which one layer's call was measured here with these settings; 0: none."""

    @property
    def is_open(self) -> bool:
        """True when the program's longest n fits."""
        return self.largest >= MAX_SEQ_LEN

    @property
    def checked(self) -> str:
        """What is known from measurements: of one layer, since one layer is what is run."""
        if not self.ran_at:
            return "by formula only"
        return "one layer ran at this n" if self.ran_at >= self.largest else f"one layer ran at {count(self.ran_at)}"


def peaks(state: State) -> tuple[Peak, ...]:
    """A row for each checked variant that has a form at this workload."""
    found = predictions.predict(state)
    rows = []
    for name in with_a_form(state):
        prediction = found[name]
        terms = tuple(sorted(prediction.cost.held, key=lambda term: -term.bytes_))
        title = catalogue.find(name).title
        rows.append(
            Peak(name, title, prediction.held_bytes, terms, prediction.measured, prediction.refusal, _progress(state, name))
        )
    return tuple(rows)


def with_a_form(state: State) -> tuple[str, ...]:
    """The checked variants that exist at this workload, whatever memory there is."""
    workload = effective_workload(state)
    return tuple(name for name in state.settings.checked if catalogue.impossible(catalogue.find(name), workload) is None)


def _progress(state: State, name: str) -> Progress:
    live = state.live
    if not live.queue or live.device is None:
        return ""
    key = measurement_key(live.device.key, one_call(effective_workload(state)), choice_of(state.settings, name))
    return "measuring" if live.queue[0] == key else "queued" if key in live.queue else ""


# ---------------------------------------------------------------- what fits


def budget_of(state: State) -> int | None:
    """Bytes that "What fits" plans with: those chosen, less the reserve, or those free now; None while not known."""
    chosen = state.settings.fits_budget
    return int(chosen * (1 - RESERVE_FRACTION)) if chosen else predictions.memory_budget(state)


def fits(state: State) -> tuple[Fit, ...]:
    """A row for each checked variant that has a form at this workload; none while the budget is not known."""
    budget = budget_of(state)
    if budget is None:
        return ()
    workload, kind = effective_workload(state), predictions.device_kind(state)
    shape = msgspec.structs.replace(workload, seq_len=1)
    ran: dict[str, int] = {}
    for row in state.live.measurements.values():
        name = row.choice.variant
        if (
            name in state.settings.checked
            and row.choice == choice_of(state.settings, name)
            and _same_call(row.workload, workload)
        ):
            ran[name] = max(ran.get(name, 0), row.workload.seq_len)
    rows = []
    for name in with_a_form(state):
        variant, params = catalogue.resolved(choice_of(state.settings, name), workload)
        largest, binding, grows = _largest(msgspec.json.encode(choice_of(state.settings, name)), shape, kind, budget)
        rows.append(Fit(name, variant.title, variant.summary(params), binding, grows, largest, ran.get(name, 0)))
    return tuple(rows)


def model_terms(choice: Choice, workload: Workload, kind: DeviceKind) -> tuple[Term, ...]:
    """What a whole model holds at the workload's n: one layer's call, and the cache or state of the other layers."""
    variant, params = catalogue.resolved(choice, workload)
    return (*variant.cost(workload, params, kind).held, kept_term(variant, params, workload))


def kept_term(variant: Variant, params: Params, workload: Workload) -> Term:
    """What all layers keep for the tokens to come: a cache, or a state of fixed size."""
    one = variant.kept_bytes(workload, params)
    growth: Literal["n", "constant"] = "constant" if keeps_a_constant(variant, params, workload) else "n"
    whole = variant.state_bytes is None
    formula = f"2·L·B·G·n·D·{workload.item_bytes}" if whole else f"L·{bytes_text(one)}"
    return Term("state, all layers" if variant.family == "linear" else "KV cache", formula, workload.layers * one, growth)


def keeps_a_constant(variant: Variant, params: Params, workload: Workload) -> bool:
    """Whether what is kept stops growing with the length: a state's does at once, a window's when it is full."""
    ends = (MAX_SEQ_LEN // 2, MAX_SEQ_LEN)
    one, other = (variant.kept_bytes(msgspec.structs.replace(workload, seq_len=n), params) for n in ends)
    return one == other


@functools.lru_cache(maxsize=256)
def _largest(wish: bytes, shape: Workload, kind: DeviceKind, budget: int) -> tuple[int, str, str]:
    """Largest n, the binding term there, and how the sum grows there."""
    choice = msgspec.json.decode(wish, type=Choice)

    def terms(n: int) -> tuple[Term, ...]:
        return model_terms(choice, msgspec.structs.replace(shape, seq_len=n), kind)

    def held(n: int) -> int:
        return sum(term.bytes_ for term in terms(n))

    largest = largest_seq_len(held, budget, MAX_SEQ_LEN)
    at = min(max(largest, 128), MAX_SEQ_LEN)
    binding = max(terms(at), key=lambda term: term.bytes_)
    if binding.growth == "n2":
        square = sum(term.bytes_ for term in terms(at) if term.growth == "n2") / at**2
        grows = f"n² × {_plain(square)} B"
    else:
        grows = f"{bytes_text((held(at) - held(at - 64)) / 64)} per token"
    name = f"{binding.name}, one layer" if binding.growth == "n2" else binding.name
    return largest, name, grows


def _plain(value: float) -> str:
    return count(round(value)) if value >= 100 else f"{value:.3g}"


def _same_call(one: Workload, other: Workload) -> bool:
    return msgspec.structs.replace(one_call(one), seq_len=1) == msgspec.structs.replace(one_call(other), seq_len=1)


_BYTES = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)(?:iB|B)?", re.IGNORECASE)
_SIZES = {"": 1 << 30, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
LEAST_BUDGET, MOST_BUDGET = 1 << 20, 1 << 46


def parse_bytes(text: str) -> int | None:
    """Such as "78.4 GiB", "512 MiB", "40" (GiB) as bytes; None when it is none of these or not within 1 MiB to 64 TiB."""
    match = _BYTES.fullmatch(text.replace("\u202f", " ").replace(",", "").strip())
    if match is None:
        return None
    value = float(match["number"]) * _SIZES[match["unit"].lower()]
    return int(value) if math.isfinite(value) and LEAST_BUDGET <= value <= MOST_BUDGET else None


def term_groups(rows: Sequence[Peak]) -> dict[str, list[Term]]:
    """Terms that occur, once each, by growth in the order n2, n, constant; largest first."""
    groups: dict[str, dict[str, Term]] = {"n2": {}, "n": {}, "constant": {}}
    for row in rows:
        for term in row.terms:
            groups[term.growth].setdefault(term.name, term)
    return {growth: list(terms.values()) for growth, terms in groups.items() if terms}

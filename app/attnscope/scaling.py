"""The curves of the Scaling page as plain values: per variant its prediction over n, its measured points, fit and crossovers.

No Qt: the page, its table and exported figures draw the same values. A curve does not depend on the slider's n, so that
moving it needs no new curve.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import MAX_SEQ_LEN, MIN_SEQ_LEN, Choice, DeviceKind, Measured, Workload

from attnscope import predictions
from attnscope.loglog import PowerLaw, Sample, crossing, power_law
from attnscope.state import State, choice_of, effective_workload

Quantity = Literal["time", "tokens", "flops"]

STEPS_AN_OCTAVE = 8
_OCTAVES = (MAX_SEQ_LEN // MIN_SEQ_LEN).bit_length() - 1
SEQ_LENS = tuple(round(MIN_SEQ_LEN * 2 ** (step / STEPS_AN_OCTAVE)) for step in range(STEPS_AN_OCTAVE * _OCTAVES + 1))
"""Where predictions are computed: 64 to 1,048,576."""

PREDICTION_TOLERANCE = 0.02
"""Two predictions closer than this are not said to cross."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One variant at the present settings, over n. All sequences ascend in n."""

    variant: str
    title: str
    summary: str
    choice: Choice
    workload: Workload
    """Its `seq_len` says nothing."""
    kind: DeviceKind
    times: tuple[float, ...]
    """Predicted seconds at `SEQ_LENS`; empty while the device's ceilings are unknown."""
    held: tuple[int, ...]
    """Predicted bytes at `SEQ_LENS`."""
    points: tuple[Measured, ...]
    """Measured with the present settings."""
    earlier: tuple[Measured, ...]
    """Of the newest other settings that were measured: at each n until the present settings are measured there."""
    earlier_words: str
    """What was different then."""
    pinned: tuple[Measured, ...]

    def scale(self, quantity: Quantity, n: int) -> float:
        """What one call at n does, in the quantity's own count: tokens or FLOP; 1 for the time itself."""
        if quantity == "time":
            return 1.0
        if quantity == "tokens":
            return float(self.workload.batch * n)
        return float(flops(self.choice, self.workload, n, self.kind))

    def value(self, quantity: Quantity, n: int, seconds: float) -> float:
        """Seconds of a call at n as the quantity shown: s, tokens/s or FLOP/s."""
        return seconds if quantity == "time" else self.scale(quantity, n) / seconds

    def predicted(self, quantity: Quantity) -> tuple[float, ...]:
        """At `SEQ_LENS`; empty while the ceilings are unknown."""
        return (
            tuple(self.value(quantity, n, seconds) for n, seconds in zip(SEQ_LENS, self.times, strict=True)) if self.times else ()
        )

    def sample(self, quantity: Quantity, row: Measured) -> Sample:
        """A measured point with its p20 and p80, in the quantity shown."""
        n = row.workload.seq_len
        ends = sorted((self.value(quantity, n, row.p20_s), self.value(quantity, n, row.p80_s)))
        return Sample(n, self.value(quantity, n, row.time_s), *ends)

    def point_at(self, n: int) -> Measured | None:
        """The point measured with the present settings at exactly n."""
        return next((row for row in self.points if row.workload.seq_len == n), None)

    def fit(self) -> PowerLaw | None:
        """Time = a·nᵇ through the upper half of the measured points."""
        rows = plottable(self.points)
        return power_law([row.workload.seq_len for row in rows], [row.time_s for row in rows])


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where a variant and the first one change places."""

    variant: str
    """The one that is not the first."""
    faster: str
    """Title of the faster one beyond n."""
    slower: str
    n: float
    time_s: float
    measured: bool
    """False: where the predictions cross."""

    @property
    def text(self) -> str:
        return f"{self.faster} overtakes {self.slower}"


def plottable(rows: Sequence[Measured]) -> list[Measured]:
    """Those with a place on a log axis."""
    return [row for row in rows if math.isfinite(row.time_s) and row.time_s > 0]


def shape_of(workload: Workload) -> Workload:
    """The workload without what does not shape the curve of one call: its n and the number of layers."""
    return msgspec.structs.replace(workload, seq_len=1, layers=1)


def curves(state: State) -> tuple[Curve, ...]:
    """A curve for each checked variant, in the order of checking.

    Its parts are kept from call to call: one that did not change is the same object.
    """
    settings, live = state.settings, state.live
    kind = predictions.device_kind(state)
    workload = effective_workload(state)
    shape = shape_of(workload)
    found = []
    for name in settings.checked:
        choice = choice_of(settings, name)
        variant, params = catalogue.resolved(choice, workload)
        times, held = predictions.curve(state, name, SEQ_LENS)
        wish = msgspec.json.encode(choice)
        points, earlier, words = _measured(_Same(live.measurements), shape, wish)
        pinned = _pinned(_Same(live.pinned), name)
        curve = Curve(
            name, variant.title, variant.summary(params), choice, shape, kind, times, held, points, earlier, words, pinned
        )
        found.append(curve)
    return tuple(found)


def crossovers(found: Sequence[Curve]) -> tuple[Crossover, ...]:
    """Each curve against the first, in ascending n: as measured, or where nothing crosses in the measured points, as predicted.

    Predicted ones are told only while the two have not been measured together.
    """
    if not found:
        return ()
    first, result = found[0], []
    for curve in found[1:]:
        measured = bool(first.points and curve.points)
        met = crossing(_samples(curve), _samples(first)) if measured else crossing(_forecast(curve), _forecast(first))
        if met is not None:
            faster, slower = (curve, first) if met.falls_below else (first, curve)
            result.append(Crossover(curve.variant, faster.title, slower.title, met.n, met.value, measured))
    return tuple(sorted(result, key=lambda item: item.n))


def _samples(curve: Curve) -> list[Sample]:
    return [curve.sample("time", row) for row in plottable(curve.points)]


def _forecast(curve: Curve) -> list[Sample]:
    low, high = 1 - PREDICTION_TOLERANCE / 2, 1 + PREDICTION_TOLERANCE / 2
    return [Sample(n, time, time * low, time * high) for n, time in zip(SEQ_LENS, curve.times, strict=False)]


def flops(choice: Choice, workload: Workload, n: int, kind: DeviceKind) -> int:
    """Operations of one call at n."""
    return _flops(msgspec.json.encode(choice), shape_of(workload), n, kind)


@functools.lru_cache(maxsize=4096)
def _flops(wish: bytes, shape: Workload, n: int, kind: DeviceKind) -> int:
    choice = msgspec.json.decode(wish, type=Choice)
    return catalogue.cost_of(choice, msgspec.structs.replace(shape, seq_len=n), kind).flops


class _Same:
    """A key that is equal only to the very same object, which it keeps alive."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


Rows = tuple[Measured, ...]


@functools.lru_cache(maxsize=2)
def _by_variant(measurements: _Same) -> dict[str, list[Measured]]:
    rows: Mapping[str, Measured] = measurements.value
    found: dict[str, list[Measured]] = {}
    for row in rows.values():
        found.setdefault(row.choice.variant, []).append(row)
    return found


@functools.lru_cache(maxsize=64)
def _measured(measurements: _Same, shape: Workload, wish: bytes) -> tuple[Rows, Rows, str]:
    """Points of the present settings, of the newest other ones, and what was different in those."""
    choice = msgspec.json.decode(wish, type=Choice)
    others: dict[tuple[Workload, object], list[Measured]] = {}
    present: list[Measured] = []
    for row in _by_variant(measurements).get(choice.variant, ()):
        if _is_present(row, shape, choice):
            present.append(row)
        else:
            others.setdefault((shape_of(row.workload), catalogue.find(choice.variant).parse(row.choice.params)), []).append(row)
    if not others:
        return _ascending(present), (), ""
    newest = max(others.values(), key=lambda rows: max(row.taken_at for row in rows))
    taken = {row.workload.seq_len for row in present}
    earlier = _ascending([row for row in newest if row.workload.seq_len not in taken])
    return _ascending(present), earlier, difference(newest[-1], shape, choice) if earlier else ""


@functools.lru_cache(maxsize=64)
def _pinned(pinned: _Same, variant: str) -> Rows:
    """The pinned rows of this variant, whatever their settings: a baseline is there to be compared with."""
    return _ascending([row for row in pinned.value if row.choice.variant == variant])


def _is_present(row: Measured, shape: Workload, choice: Choice) -> bool:
    return shape_of(row.workload) == shape and (
        row.choice.params == choice.params
        or catalogue.resolved(row.choice, row.workload)[1] == catalogue.resolved(choice, row.workload)[1]
    )


def _ascending(rows: Sequence[Measured]) -> Rows:
    return tuple(sorted(rows, key=lambda row: (row.workload.seq_len, row.taken_at)))


_WORDS = {
    "batch": "batch {}",
    "num_heads": "{} heads",
    "num_kv_heads": "{} KV heads",
    "head_dim": "head dim {}",
    "dtype": "{}",
}


def difference(row: Measured, shape: Workload, choice: Choice) -> str:
    """How the settings of a measured row differ from the present ones: "16 heads, w 4,096"."""
    words = [
        text.format(getattr(row.workload, field))
        for field, text in _WORDS.items()
        if getattr(row.workload, field) != getattr(shape, field)
    ]
    if row.workload.causal != shape.causal:
        words.append("causal" if row.workload.causal else "full")
    variant, params = catalogue.resolved(row.choice, row.workload)
    if params != catalogue.resolved(choice, row.workload)[1]:
        words.append(variant.summary(params))
    return ", ".join(words)

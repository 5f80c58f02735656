"""What the formulas say of this state: pure, cached, fast enough for a slider.

Costs are exact integers from each variant's own file; times are the roofline of this device's measured ceilings.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.cost import RESERVE_FRACTION, Cost, admit, largest_seq_len, predict_time_s
from attnscope_engine.protocol import (
    MAX_SEQ_LEN,
    MIN_SEQ_LEN,
    Ceilings,
    Choice,
    DeviceKind,
    Dtype,
    Measured,
    ParamValue,
    Refusal,
    Workload,
)

from attnscope.state import State, choice_of, effective_workload, measurement_key, one_call

CURVE_SEQ_LENS = tuple(round(MIN_SEQ_LEN * 2 ** (step / 4)) for step in range(4 * 14 + 1))
"""Where a prediction line is drawn: four points an octave, 64 to 1,048,576."""

Values = tuple[tuple[str, ParamValue], ...]
Rates = tuple[tuple[tuple[Dtype, float], ...], float, float, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One variant at the present workload."""

    cost: Cost
    time_s: float | None
    """None until the device's ceilings are known, and where the variant has no such form."""
    held_bytes: int
    refusal: Refusal | None
    """Set when the variant has no such form, or does not fit into what is free now; None as well while that is not known."""
    measured: Measured | None
    """The newest measurement at exactly this workload and these parameters."""
    fits_up_to: int
    """Largest n that fits with all else unchanged, a multiple of 64; 1,048,576 while the free memory is not known."""

    @property
    def refused(self) -> str:
        """In two or three words; empty when it is possible."""
        if self.refusal is None:
            return ""
        return "does not fit" if self.refusal.reason == "memory" else "no full form"


_latest: list[tuple[tuple[object, ...], Mapping[str, Prediction]]] = []
"""The last answer of `predict`: every view of one change asks for the same."""


def predict(state: State) -> Mapping[str, Prediction]:
    """Every variant of the catalogue at this state, in the order of lists."""
    live, settings = state.live, state.settings
    question = (settings.workload, settings.params, live.device, live.vitals, live.ceilings, live.measurements)
    if _latest and all(new is old for new, old in zip(question, _latest[0][0], strict=True)):
        return _latest[0][1]
    workload = one_call(effective_workload(state))
    answer = MappingProxyType({name: _prediction(state, name, workload) for name in catalogue.variants()})
    _latest[:] = [(question, answer)]
    return answer


def predict_call(state: State, workload: Workload, choice: Choice) -> tuple[float | None, bool]:
    """Predicted seconds of any call on the present device (None without ceilings), and whether it is possible and fits now."""
    cost = _cost(choice.variant, _values(choice), one_call(workload), device_kind(state))
    budget = memory_budget(state)
    ceilings = state.live.ceilings
    time_s = predict_time_s(cost, ceilings, workload.dtype) if ceilings else None
    fits = budget is None or cost.held_bytes <= budget
    return time_s, fits and catalogue.impossible(catalogue.find(choice.variant), workload) is None


def curve(state: State, variant: str, seq_lens: tuple[int, ...] = CURVE_SEQ_LENS) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Predicted seconds (none while the ceilings are not known) and held bytes at each n.

    Both empty where the variant has no such form. Cached by everything but the present n, so that a slider's tick recomputes
    nothing.
    """
    workload = msgspec.structs.replace(one_call(effective_workload(state)), seq_len=MIN_SEQ_LEN)
    ceilings = state.live.ceilings
    rates = _rates(ceilings) if ceilings else None
    return _curve(variant, _values(choice_of(state.settings, variant)), workload, device_kind(state), rates, seq_lens)


def wall(state: State, variant: str) -> int:
    """Largest n of the variant that fits into what is free now, a multiple of 64; 0 when not even 64 does."""
    return predict(state)[variant].fits_up_to


def device_kind(state: State) -> DeviceKind:
    """Where costs are counted for; the processor until the engine has said what it runs on."""
    return state.live.device.kind if state.live.device else "cpu"


def memory_budget(state: State) -> int | None:
    """Bytes that a call may hold now, None while not known."""
    vitals = state.live.vitals
    return max(0, vitals.free_bytes - int(vitals.total_bytes * RESERVE_FRACTION)) if vitals else None


def _prediction(state: State, name: str, workload: Workload) -> Prediction:
    live, kind, budget = state.live, device_kind(state), memory_budget(state)
    choice = choice_of(state.settings, name)
    cost = _cost(name, _values(choice), workload, kind)
    shape = msgspec.structs.replace(workload, seq_len=MIN_SEQ_LEN)
    fits_up_to = MAX_SEQ_LEN if budget is None else _fits_up_to(name, _values(choice), shape, kind, budget)
    refusal = catalogue.impossible(catalogue.find(name), workload)
    has_a_form = refusal is None
    if has_a_form and live.vitals and budget is not None and cost.held_bytes > budget:
        title = catalogue.find(name).title
        room = budget

        def held(seq_len: int) -> int:
            return room if seq_len <= fits_up_to else room + 1  # the same wall, already searched for

        refusal = admit(title, name, workload, cost, held, live.vitals.free_bytes, live.vitals.total_bytes)
    return Prediction(
        cost=cost,
        time_s=predict_time_s(cost, live.ceilings, workload.dtype) if live.ceilings and has_a_form else None,
        held_bytes=cost.held_bytes,
        refusal=refusal,
        measured=live.measurements.get(measurement_key(live.device.key, workload, choice)) if live.device else None,
        fits_up_to=fits_up_to,
    )


@functools.lru_cache(maxsize=4096)
def _cost(variant: str, values: Values, workload: Workload, kind: DeviceKind) -> Cost:
    return catalogue.cost_of(Choice(variant, dict(values)), workload, kind)


@functools.lru_cache(maxsize=256)
def _fits_up_to(variant: str, values: Values, shape: Workload, kind: DeviceKind, budget: int) -> int:
    choice = Choice(variant, dict(values))

    def held(seq_len: int) -> int:
        return catalogue.cost_of(choice, msgspec.structs.replace(shape, seq_len=seq_len), kind).held_bytes

    return largest_seq_len(held, budget, MAX_SEQ_LEN)


@functools.lru_cache(maxsize=128)
def _curve(
    variant: str, values: Values, shape: Workload, kind: DeviceKind, rates: Rates | None, seq_lens: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    choice = Choice(variant, dict(values))
    if catalogue.impossible(catalogue.find(variant), shape):
        return (), ()
    costs = [catalogue.cost_of(choice, msgspec.structs.replace(shape, seq_len=n), kind) for n in seq_lens]
    times: tuple[float, ...] = ()
    if rates is not None:
        ceilings = Ceilings("", dict(rates[0]), rates[1], rates[2], rates[3], 0.0)
        times = tuple(predict_time_s(cost, ceilings, shape.dtype) for cost in costs)
    return times, tuple(cost.held_bytes for cost in costs)


def _values(choice: Choice) -> Values:
    return tuple(sorted(choice.params.items()))


def _rates(ceilings: Ceilings) -> Rates:
    return tuple(sorted(ceilings.flops_per_s.items())), ceilings.bytes_per_s, ceilings.exps_per_s, ceilings.launch_s

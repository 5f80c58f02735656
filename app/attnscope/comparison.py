"""The variants side by side at the slider's n: the rows of the Scaling page's table. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnscope_engine.protocol import Measured

from attnscope import predictions
from attnscope.loglog import local_slope
from attnscope.scaling import SEQ_LENS, Curve, plottable
from attnscope.state import State


@dataclass(frozen=True, slots=True)
class Value:
    """A number and whether it was measured."""

    number: float
    measured: bool


@dataclass(frozen=True, slots=True)
class AtN:
    """One variant at n. What is not known is None."""

    variant: str
    title: str
    time_s: Value | None
    point: Measured | None
    spread: float | None
    """(p80 − p20) / median."""
    ratio: Value | None
    """Time over that of the first variant, or over the pinned one."""
    slope: Value | None
    """Exponent of the time in n, round n."""
    refused: str
    """In words, why it is not possible; empty when it is."""


def rows_at(state: State, curves: Sequence[Curve]) -> tuple[AtN, ...]:
    """One row a curve. Measured numbers where this n was measured with the present settings, else predicted ones."""
    n = state.settings.workload.seq_len
    forecast = predictions.predict(state)
    times = {curve.variant: forecast[curve.variant].time_s for curve in curves}
    points = {curve.variant: _plottable(curve.point_at(n)) for curve in curves}
    rows = []
    for curve in curves:
        point, predicted = points[curve.variant], times[curve.variant]
        rows.append(
            AtN(
                variant=curve.variant,
                title=curve.title,
                time_s=Value(point.time_s, True) if point else Value(predicted, False) if predicted else None,
                point=point,
                spread=(point.p80_s - point.p20_s) / point.time_s if point else None,
                ratio=_ratio(state, curve, curves[0], points, times, n),
                slope=slope_at(curve, n),
                refused=forecast[curve.variant].refused,
            )
        )
    return tuple(rows)


def reference_words(state: State, curves: Sequence[Curve]) -> str:
    """What the ratios are relative to."""
    if state.live.pinned:
        return "relative to the pinned"
    return f"relative to {curves[0].title}" if curves else ""


def slope_at(curve: Curve, n: int) -> Value | None:
    """Local exponent of time: from the measured neighbours of n, else from the prediction."""
    rows = plottable(curve.points)
    slope = local_slope([row.workload.seq_len for row in rows], [row.time_s for row in rows], n)
    if slope is not None:
        return Value(slope, True)
    slope = local_slope(SEQ_LENS, curve.times, n) if curve.times else None
    return None if slope is None else Value(slope, False)


def _plottable(row: Measured | None) -> Measured | None:
    return row if row and plottable([row]) else None


def _ratio(
    state: State,
    curve: Curve,
    first: Curve,
    points: dict[str, Measured | None],
    times: dict[str, float | None],
    n: int,
) -> Value | None:
    """Of two measured times, else of two predicted ones: never of one of each."""
    point = points[curve.variant]
    if state.live.pinned:
        rows = plottable([row for row in curve.pinned if row.workload.seq_len == n])
        return Value(point.time_s / rows[-1].time_s, True) if point and rows else None
    other = points[first.variant]
    if point and other:
        return Value(point.time_s / other.time_s, True)
    mine, its = times[curve.variant], times[first.variant]
    return Value(mine / its, False) if mine and its else None

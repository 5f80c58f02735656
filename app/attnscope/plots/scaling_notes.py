"""What the plots of the Scaling page say besides their curves: walls, crossovers, slopes, doubts, empty states."""

from __future__ import annotations

from attnscope_engine.protocol import MIN_SEQ_LEN

from attnscope.loglog import rounded_n
from attnscope.plots.annotations import Note, Notes, Ring
from attnscope.plots.traces import Trace
from attnscope.quantities import count
from attnscope.scaling import Curve, crossovers
from attnscope.state import State

NOTHING_MEASURED = "Lines are predictions. Press F5 to measure here."
NO_CEILINGS = "No times yet: the engine is measuring this machine's ceilings."


def time_notes(state: State, found: tuple[Curve, ...], traces: list[Trace]) -> Notes:
    """Of the upper plot."""
    quantity = state.settings.time_quantity
    by_name = {curve.variant: curve for curve in found}
    rings = tuple(
        Ring(
            item.n,
            by_name[item.variant].value(quantity, max(1, round(item.n)), item.time_s),
            f"{item.text}, n = {count(rounded_n(item.n))}",
            item.measured,
        )
        for item in crossovers(found)
        if (state.settings.show_measured if item.measured else state.settings.show_predicted)
    )
    ends = tuple(
        Note(trace.wall, value, f"memory ends at {count(trace.wall)}")
        for trace in traces
        if trace.refused and trace.wall >= MIN_SEQ_LEN and (value := trace.at(trace.wall))
    )
    noisy = tuple(Note(m.n, m.value) for trace in traces for m in trace.points if m.row.noise and m.plottable)
    corner = []
    measured = any(trace.points for trace in traces)
    if not measured and found and state.settings.show_predicted and state.live.ceilings:
        corner.append(NOTHING_MEASURED)
    corner += _left_out(traces)
    message = NO_CEILINGS if found and state.live.ceilings is None and not measured else ""
    return Notes(ends, rings, noisy, legend=not message, corner=tuple(corner), message=message)


def memory_notes(traces: list[Trace]) -> Notes:
    """Of the lower plot."""
    ends = tuple(Note(t.wall, value) for t in traces if t.refused and t.wall >= MIN_SEQ_LEN and (value := t.at(t.wall)))
    return Notes(ends=ends, corner=tuple(_left_out(traces)))


def earlier_hint(found: tuple[Curve, ...]) -> str:
    """Of what the dimmed points are: said once, by variant where they differ."""
    words = {curve.title: curve.earlier_words for curve in found if curve.earlier_words}
    if not words:
        return ""
    if len(set(words.values())) == 1:
        return f"dimmed: measured at {next(iter(words.values()))}"
    return "dimmed: " + "; ".join(f"{title} at {text}" for title, text in words.items())


def _left_out(traces: list[Trace]) -> list[str]:
    found = sum(trace.left_out for trace in traces)
    return [f"{count(found)} {'point' if found == 1 else 'points'} not on a log axis"] if found else []

"""The figure of the page on the screen, from the state. No Qt."""

from __future__ import annotations

from attnscope_engine.protocol import MapDrawn, RowRead

from attnscope.figures.data import map_figure, memory_figure, provenance, scaling_figure, source_words
from attnscope.figures.job import FigureJob
from attnscope.predictions import CURVE_SEQ_LENS
from attnscope.state import State, choice_of, effective_workload, one_call, shown_head, text_read


class NothingToShowError(Exception):
    """The page has nothing on it yet. The text is the sentence to show."""


def page_figure(state: State) -> FigureJob:
    """What the page shows, as a figure with its provenance.

    Raises:
        NothingToShowError: no variant is checked, or no map has come yet.
    """
    settings, live = state.settings, state.live
    if not settings.checked:
        raise NothingToShowError("Choose a variant on the left: there is nothing to export yet.")
    if settings.page == "map":
        return _map(state)
    workload = one_call(effective_workload(state))
    choices = [choice_of(settings, name) for name in settings.checked]
    rows = tuple(live.measurements.values()) if settings.show_measured else ()
    free = live.vitals.free_bytes if live.vitals else 0
    total = live.vitals.total_bytes if live.vitals else 0
    on = live.device.kind if live.device else "cpu"
    if settings.page == "memory":
        figure = memory_figure(workload, choices, rows, on=on, free_bytes=free)
        shown = [row for row in rows if row.workload == workload and row.choice in choices]
        return FigureJob(figure, provenance=provenance(workload, live.device, shown))
    seq_lens = [n for n in CURVE_SEQ_LENS if settings.sweep_low <= n <= settings.sweep_high]
    scaling = scaling_figure(
        workload,
        choices,
        rows,
        seq_lens,
        on=on,
        ceilings=live.ceilings if settings.show_predicted else None,
        free_bytes=free,
        total_bytes=total,
        quantity=settings.time_quantity,
    )
    drawn = {(curve.variant, point.seq_len) for curve in scaling.time for point in curve.measured}
    shown = [row for row in rows if row.choice in choices and (row.choice.variant, row.workload.seq_len) in drawn]
    return FigureJob(scaling, provenance=provenance(workload, live.device, shown))


def _map(state: State) -> FigureJob:
    answers, settings = state.live.answers, state.settings
    answer = answers.get("map")
    drawn = answer.payload if answer else None
    if not isinstance(drawn, MapDrawn):
        raise NothingToShowError("The map has not been drawn yet.")
    read = text_read(state)
    row = answers.get("row")
    cell = row.payload if row else None
    figure = map_figure(
        drawn,
        tokens=read.tokens if read else (),
        colours=settings.colours,
        read=cell if isinstance(cell, RowRead) else None,
    )
    layer, head = shown_head(state)
    said = provenance(
        drawn.job.workload, state.live.device, head=f"layer {layer}, head {head}", source=source_words(settings.source)
    )
    return FigureJob(figure, provenance=said)

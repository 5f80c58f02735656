"""Which answers a state asks of the engine: pure, no Qt, no engine.

`wanted` gives at most one job a slot. An answer is stale when the job that it answers is no longer the one wanted.
"""

from __future__ import annotations

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import (
    Calibrate,
    Choice,
    DrawHeads,
    DrawMap,
    FileSource,
    Job,
    Measure,
    ReadRow,
    ReadText,
    SyntheticSource,
    TextSource,
    Workload,
)

from attnscope.predictions import predict_call
from attnscope.state import (
    Settings,
    Slot,
    State,
    choice_of,
    effective_workload,
    key_parts,
    map_seq_len,
    measurement_key,
    one_call,
    shown_cell,
    shown_head,
    text_read,
)

MAX_PANELS = 4
MAX_PIXELS = 2048
"""Pixels on a side of one picture: what a screen can show, and a frame that travels in milliseconds."""
LINEAR_UP_TO = 256
"""Maps of at most this many tokens have a linear scale of weights, longer or pooled ones a logarithmic one."""
STRIP_UP_TO = 64
"""Texts of at most this many tokens have all their heads drawn at once."""
IDLE_LIMIT_S = 10.0
"""Nothing that one call of is predicted to take longer is measured unasked."""


def wanted(state: State) -> dict[Slot, Job]:
    """The jobs whose answers this state shows."""
    jobs: dict[Slot, Job] = {}
    if state.live.device is None:
        return jobs
    if state.live.ceilings is None:
        jobs["calibrate"] = Calibrate()
    if isinstance(state.settings.source, TextSource):
        jobs["text"] = ReadText(state.settings.source)
    if state.settings.page == "map":
        jobs.update(_map_jobs(state))
    measure = _measure(state)
    if measure:
        jobs["measure"] = measure
    return jobs


def sweep_queue(state: State) -> tuple[str, ...]:
    """Measurement keys of every checked variant at each power of two from `sweep_low` to `sweep_high`, cheapest first.

    What is predicted not to fit, or was set aside, is left out.
    """
    low, high = state.settings.sweep_low, state.settings.sweep_high
    seq_lens = [1 << power for power in range(21) if low <= 1 << power <= high]
    return _queue(state, seq_lens)


def measure_all_queue(state: State) -> tuple[str, ...]:
    """Measurement keys of every checked variant at the present n, cheapest first."""
    return _queue(state, [state.settings.workload.seq_len])


def measure_job(state: State, key: str) -> Measure:
    """The job that measures a key."""
    _, workload, choice = key_parts(key)
    return Measure(workload, choice, state.live.measure_budget_s)


# ---------------------------------------------------------------- maps


def map_panels(settings: Settings) -> tuple[Choice, ...]:
    """The variants on the map, in the order of its panels."""
    return tuple(choice_of(settings, name) for name in settings.checked[:MAX_PANELS])


def drawn_panels(settings: Settings) -> tuple[Choice, ...]:
    """Those of `map_panels` that have a map: the others stand there with the reason why not."""
    return tuple(choice for choice in map_panels(settings) if not catalogue.find(choice.variant).why_no_map)


def map_workload(state: State) -> Workload:
    """Shape of what the map is of. A text or a file decides its own: then only `causal` is the person's."""
    workload = effective_workload(state)
    seq_len = map_seq_len(state) or 1
    read = text_read(state)
    if read:
        return Workload(1, seq_len, read.num_heads, read.num_kv_heads, read.head_dim, 1, "fp32", workload.causal)
    if isinstance(state.settings.source, SyntheticSource):
        return msgspec.structs.replace(one_call(workload), batch=1)
    return Workload(1, seq_len, 1, 1, 64, 1, "fp32", workload.causal)


def map_rectangle(view: tuple[int, int, int, int] | None, seq_len: int) -> tuple[tuple[int, int], tuple[int, int], int]:
    """(rows, columns, factor) of the picture to ask for when `view` is on the screen.

    A picture is larger than the view where it can be, and begins at a multiple of an eighth of itself, so that panning
    asks for another one only now and then.
    """
    row0, row1, column0, column1 = view or (0, seq_len, 0, seq_len)
    rows = _within(row0, row1, seq_len)
    columns = _within(column0, column1, seq_len)
    extent = max(rows[1] - rows[0], columns[1] - columns[0])
    factor = 1
    while extent > MAX_PIXELS * factor:
        factor *= 2
    span = min(seq_len, MAX_PIXELS * factor)
    return _padded(*rows, span, seq_len), _padded(*columns, span, seq_len), factor


def _within(first: int, end: int, seq_len: int) -> tuple[int, int]:
    first = min(first, seq_len - 1)
    return first, min(max(end, first + 1), seq_len)


def _padded(first: int, end: int, span: int, seq_len: int) -> tuple[int, int]:
    step = max(1, span // 8)
    start = ((first + end - span) // 2) // step * step
    start = min(max(start, end - span), first)
    start = min(max(start, 0), seq_len - span)
    return start, start + span


def _map_jobs(state: State) -> dict[Slot, Job]:
    settings, seq_len = state.settings, map_seq_len(state)
    panels = drawn_panels(settings)
    if not panels:
        return {}
    if not seq_len:
        return {"map": _corner(state, panels)} if isinstance(settings.source, FileSource) else {}
    jobs: dict[Slot, Job] = {"map": _draw_map(state, panels, seq_len)}
    workload = map_workload(state)
    cell = shown_cell(state)
    if cell:
        layer, head = shown_head(state)
        jobs["row"] = ReadRow(settings.source, workload, layer, head, panels, *cell)
    if settings.compare == "heads" or (isinstance(settings.source, TextSource) and seq_len <= STRIP_UP_TO):
        jobs["heads"] = DrawHeads(settings.source, workload, panels[0], size=min(24, max(4, seq_len)))
    return jobs


def _draw_map(state: State, panels: tuple[Choice, ...], seq_len: int) -> DrawMap:
    settings = state.settings
    layer, head = shown_head(state)
    rows, columns, factor = map_rectangle(settings.view, seq_len)
    difference = settings.compare == "difference" and len(panels) >= 2
    scale = settings.scale
    if scale == "auto":
        scale = "linear" if difference or (seq_len <= LINEAR_UP_TO and factor == 1) else "log"
    return DrawMap(
        source=settings.source,
        workload=map_workload(state),
        layer=layer,
        head=head,
        panels=panels[:2] if difference else panels,
        rows=rows,
        columns=columns,
        factor=factor,
        pool=settings.pool,
        scale=scale,
        difference=difference,
    )


def _corner(state: State, panels: tuple[Choice, ...]) -> DrawMap:
    """One cell of a file that has not been opened yet: its answer tells how long the file's q and k are."""
    layer, head = shown_head(state)
    return DrawMap(state.settings.source, map_workload(state), layer, head, panels[:1], (0, 1), (0, 1))


# ---------------------------------------------------------------- measurements


def _measure(state: State) -> Measure | None:
    if state.live.queue:
        return measure_job(state, state.live.queue[0])
    key = _idle_key(state) if state.settings.measure_idle else None
    return measure_job(state, key) if key else None


def _idle_key(state: State) -> str | None:
    """The first checked variant that has no measurement at exactly this workload, if one may be had in short time."""
    live = state.live
    if live.device is None or live.ceilings is None:
        return None
    workload = one_call(effective_workload(state))
    for name in state.settings.checked:
        choice = choice_of(state.settings, name)
        key = measurement_key(live.device.key, workload, choice)
        if key in live.measurements or key in live.set_aside:
            continue
        time_s, fits = predict_call(state, workload, choice)
        if fits and time_s is not None and time_s <= IDLE_LIMIT_S:
            return key
    return None


def _queue(state: State, seq_lens: list[int]) -> tuple[str, ...]:
    live = state.live
    if live.device is None:
        return ()
    base = one_call(effective_workload(state))
    found: list[tuple[float, int, str]] = []
    for seq_len in seq_lens:
        workload = msgspec.structs.replace(base, seq_len=seq_len)
        for name in state.settings.checked:
            choice = choice_of(state.settings, name)
            key = measurement_key(live.device.key, workload, choice)
            time_s, fits = predict_call(state, workload, choice)
            if fits and key not in live.set_aside:
                cost = catalogue.cost_of(choice, workload, live.device.kind)
                found.append((time_s or 0.0, cost.flops + cost.bytes_moved, key))
    return tuple(key for _, _, key in sorted(found))

"""Figures from results: pure functions from workload, predictions and measured rows to the plain rows of `job`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from attnscope_engine.catalogue import cost_of, find, resolved
from attnscope_engine.cost import RESERVE_FRACTION, largest_seq_len, predict_time_s
from attnscope_engine.protocol import (
    Ceilings,
    Choice,
    DeviceFacts,
    DeviceKind,
    FileSource,
    MapDrawn,
    Measured,
    RowRead,
    Source,
    TextSource,
    Workload,
)

from attnscope.build_facts import build_facts
from attnscope.figures.job import Bar, Curve, MapFigure, MapPanel, MemoryFigure, Point, ScalingFigure
from attnscope.quantities import count

TIME_AXES = {"time": "time of one forward call", "tokens": "tokens per second", "flops": "FLOP per second"}


def at(workload: Workload, seq_len: int) -> Workload:
    return msgspec.structs.replace(workload, seq_len=seq_len)


def same_call(measured: Measured, workload: Workload, choice: Choice) -> bool:
    """Whether the point belongs to the curve of this shape and these parameters, at whatever n."""
    return measured.choice == choice and at(measured.workload, 1) == at(workload, 1)


def summary_of(choice: Choice, workload: Workload) -> str:
    variant, params = resolved(choice, workload)
    return variant.summary(params)


def fits_up_to(choice: Choice, workload: Workload, on: DeviceKind, free_bytes: int, total_bytes: int) -> int:
    """Largest n that fits in what is free, 0 when unknown."""
    if not free_bytes:
        return 0
    budget = free_bytes - int(total_bytes * RESERVE_FRACTION)
    return largest_seq_len(lambda n: cost_of(choice, at(workload, n), on).held_bytes, budget)


def convert(quantity: str, workload: Workload, flops: int, seconds: float) -> float:
    """Seconds to the quantity of the time axis."""
    if quantity == "tokens":
        return workload.batch * workload.seq_len / seconds
    return flops / seconds if quantity == "flops" else seconds


def time_point(quantity: str, choice: Choice, on: DeviceKind, measured: Measured) -> Point:
    flops = cost_of(choice, measured.workload, on).flops
    middle, one, two = (convert(quantity, measured.workload, flops, s) for s in (measured.time_s, measured.p20_s, measured.p80_s))
    return Point(measured.workload.seq_len, middle, min(one, two), max(one, two), bool(measured.noise), measured.samples)


def scaling_figure(
    workload: Workload,
    choices: Sequence[Choice],
    measured: Iterable[Measured],
    seq_lens: Sequence[int],
    *,
    on: DeviceKind,
    ceilings: Ceilings | None = None,
    free_bytes: int = 0,
    total_bytes: int = 0,
    quantity: str = "time",
) -> ScalingFigure:
    """Curves of time (or a rate) and memory over `seq_lens`, with the measured points of the same shape and parameters."""
    rows = sorted(measured, key=lambda row: row.workload.seq_len)
    times, memories = [], []
    for choice in choices:
        mine = [row for row in rows if same_call(row, workload, choice)]
        costs = [(at(workload, n), cost_of(choice, at(workload, n), on)) for n in seq_lens]
        lines: list[tuple[int, float]] = []
        if ceilings:
            lines = [(w.seq_len, convert(quantity, w, c.flops, predict_time_s(c, ceilings, w.dtype))) for w, c in costs]
        points = tuple(time_point(quantity, choice, on, row) for row in mine)
        held = tuple(Point(row.workload.seq_len, row.peak_bytes, row.peak_bytes, row.peak_bytes) for row in mine)
        title, summary = find(choice.variant).title, summary_of(choice, workload)
        fits = fits_up_to(choice, workload, on, free_bytes, total_bytes)
        times.append(Curve(choice.variant, title, summary, tuple(lines), points, fits))
        memories.append(
            Curve(choice.variant, title, summary, tuple((w.seq_len, float(c.held_bytes)) for w, c in costs), held, fits)
        )
    return ScalingFigure(tuple(times), tuple(memories), TIME_AXES[quantity], workload.seq_len, free_bytes)


def memory_figure(
    workload: Workload, choices: Sequence[Choice], measured: Iterable[Measured], *, on: DeviceKind, free_bytes: int = 0
) -> MemoryFigure:
    """Named terms of each variant at the workload's n, with the measured peak where there is one."""
    rows = [row for row in measured if row.workload == workload]
    bars = []
    for choice in choices:
        peak = next((row.peak_bytes for row in rows if row.choice == choice), 0)
        held = cost_of(choice, workload, on).held
        bars.append(Bar(choice.variant, find(choice.variant).title, summary_of(choice, workload), held, peak))
    return MemoryFigure(workload.seq_len, tuple(bars), free_bytes)


def map_figure(
    drawn: MapDrawn, *, tokens: Sequence[str] = (), colours: str = "inferno", read: RowRead | None = None
) -> MapFigure:
    """The pictures as drawn; refused panels are left out."""
    workload = at(drawn.job.workload, drawn.seq_len)
    panels = []
    names = []
    shown = drawn.job.panels[:1] if drawn.job.difference else drawn.job.panels
    for choice, picture in zip(shown, drawn.pictures, strict=False):
        if picture.refusal is not None:
            continue
        title = find(choice.variant).title
        if drawn.job.difference:
            title = f"{title} − {find(drawn.job.panels[1].variant).title}"
        names.append(title)
        detail = "" if drawn.job.difference else summary_of(choice, workload)
        panels.append(
            MapPanel(choice.variant, title, detail, picture.codes, picture.low, picture.high, picture.scale, picture.signed)
        )
    weights: tuple[tuple[str, tuple[float, ...]], ...] = ()
    if read is not None:
        weights = tuple(
            (find(c.variant).title, floats(row.weights.data)) for c, row in zip(read.job.panels, read.rows, strict=False)
        )
    return MapFigure(
        panels=tuple(panels),
        rows=drawn.job.rows,
        columns=drawn.job.columns,
        tokens=tuple(tokens),
        colours=colours,
        row=read.job.row if read else -1,
        column=read.job.column if read else -1,
        weights=weights,
    )


def floats(data: bytes) -> tuple[float, ...]:
    """Little-endian float32 bytes to numbers, without numpy."""
    import struct

    return struct.unpack(f"<{len(data) // 4}f", data)


def workload_text(workload: Workload, *, with_seq_len: bool = True) -> str:
    """The shape in words: `n 4,096 · batch 1 · 9 heads · 3 KV heads · head dim 64 · bf16 · causal`."""
    w = workload
    parts = [f"n {count(w.seq_len)}"] if with_seq_len else []
    parts += [f"batch {w.batch}", f"{w.num_heads} heads", f"{w.num_kv_heads} KV heads", f"head dim {w.head_dim}"]
    return " · ".join([*parts, w.dtype, "causal" if w.causal else "full"])


def provenance(workload: Workload, device: DeviceFacts | None, measured: Iterable[Measured] = (), **more: str) -> dict[str, str]:
    """What every file says about where its numbers come from."""
    rows = list(measured)
    said = {"program": build_facts().program(), "workload": workload_text(workload, with_seq_len=not rows)}
    if device is not None:
        said |= {"device": device.name, "driver": f"driver {device.driver}" if device.driver else "", "library": device.library}
    if rows:
        newest = max(rows, key=lambda row: row.taken_at)
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(newest.taken_at))
        said["measured"] = f"{len(rows)} points, {day}"
        said |= {f"method {key}": value for key, value in newest.provenance.items()}
    return {key: value for key, value in {**said, **more}.items() if value}


def source_words(source: Source) -> str:
    """Where q and k came from, in one line."""
    if isinstance(source, TextSource):
        words = " ".join(source.text.split())
        return words if len(words) <= 80 else f"{words[:79]}…"
    return f"file {Path(source.path).name}" if isinstance(source, FileSource) else f"synthetic {source.kind}, seed {source.seed}"

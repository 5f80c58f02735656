"""Answers the jobs that look at maps: a picture of a rectangle, one exact row, a thumbnail of every head."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import catalogue, pictures
from attnscope_engine.head_maps import (
    MAX_MAP_LEN,
    HeadMap,
    MapCache,
    difference_map,
    inputs_of,
    mass_cut,
    softmax_map,
    variant_map,
    variant_weights,
)
from attnscope_engine.pictures import View
from attnscope_engine.protocol import (
    MAX_PAYLOAD,
    Choice,
    DeviceKind,
    DrawHeads,
    DrawMap,
    HeadsDrawn,
    MapDrawn,
    Picture,
    ReadRow,
    Refusal,
    Row,
    RowRead,
    Workload,
)
from attnscope_engine.refusals import JobRefused, invalid, too_long, unsupported
from attnscope_engine.sources import Heads, Sources
from attnscope_engine.variant import Params, Tick, Variant

MAX_ROW_LEN = 1 << 17
MAX_PIXELS = MAX_PAYLOAD // 2
PATCH = 21
"""Cells of a side of the patch round the pointer."""

Report = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Fits:
    """What the variants of a map must fit into: the device that the window measures on."""

    kind: DeviceKind
    free_bytes: int
    total_bytes: int

    def refusal(self, choice: Choice, workload: Workload) -> Refusal | None:
        """Why the variant can not run at this shape here; None when it can. Raises: JobRefused."""
        try:
            return catalogue.admission(choice, workload, self.kind, self.free_bytes, self.total_bytes)
        except ValueError as error:
            raise invalid(str(error)) from error


def draw_map(job: DrawMap, sources: Sources, cache: MapCache, fits: Fits, tick: Tick) -> MapDrawn:
    """A picture of each panel, or of the difference of the first two.

    Raises:
        JobRefused: the source can not be opened, is longer than a whole map may be, or a number is out of range.
        Interrupted: from `tick`.
    """
    began = time.perf_counter()
    heads = sources.open(job.source, job.workload, tick)
    check_head(heads, job.layer, job.head)
    check_length(heads.seq_len)
    workload = shape_of(heads, job.workload)
    view = view_of(job, heads.seq_len)
    if job.difference and len(job.panels) < 2:
        raise invalid("A difference needs two variants: choose one more.")
    panels = [Panel.of(choice, workload) for choice in (job.panels[:2] if job.difference else job.panels)]
    drawing = Drawing(job, heads, workload, view, cache, fits, tick)
    drawn = (drawing.difference(*panels),) if job.difference else tuple(drawing.picture(panel) for panel in panels)
    return MapDrawn(job, heads.seq_len, drawn, time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Panel:
    """A variant with the parameters that are possible."""

    choice: Choice
    variant: Variant
    params: Params

    @classmethod
    def of(cls, choice: Choice, workload: Workload) -> Panel:
        """Raises: JobRefused, also of a variant that has no map."""
        try:
            panel = cls(choice, *catalogue.resolved(choice, workload))
        except ValueError as error:
            raise invalid(str(error)) from error
        if panel.variant.why_no_map:
            raise unsupported(panel.variant.why_no_map)
        return panel

    @property
    def signed(self) -> bool:
        """Whether its weights can be negative."""
        return self.variant.is_signed(self.params)


@dataclass(frozen=True, slots=True)
class Drawing:
    """One `DrawMap` job under way."""

    job: DrawMap
    heads: Heads
    workload: Workload
    view: View
    cache: MapCache
    fits: Fits
    tick: Tick

    def picture(self, panel: Panel) -> Picture:
        """The panel's own map."""
        refusal = self.fits.refusal(panel.choice, self.workload)
        if refusal is not None:
            return pictures.refused(refusal, self.job.scale)
        found = self._map(panel)
        cut = None
        if panel.variant.family == "restricted":
            full = softmax_map(self.heads, self.job.layer, self.job.head, self.workload.causal, self.cache, self.tick)
            cut = mass_cut(full, found, self.view.rows)
        return pictures.picture(found, self.view, self.job.pool, self.job.scale, cut)

    def difference(self, first: Panel, second: Panel) -> Picture:
        """First minus second."""
        for panel in (first, second):
            refusal = self.fits.refusal(panel.choice, self.workload)
            if refusal is not None:
                return pictures.refused(refusal, "linear")
        key = (self._key(), "minus", first.choice.variant, repr(first.params), second.choice.variant, repr(second.params))
        found = self.cache.get(key, lambda: difference_map(self._map(first), self._map(second)))
        return pictures.picture(found, self.view, self.job.pool, "linear", None)

    def _map(self, panel: Panel) -> HeadMap:
        job = self.job
        return variant_map(panel.variant, panel.params, self.heads, job.layer, job.head, self.workload, self.cache, self.tick)

    def _key(self) -> tuple[str, int, int, bool]:
        return self.heads.key, self.job.layer, self.job.head, self.workload.causal


# ---------------------------------------------------------------- one row


def read_row(job: ReadRow, sources: Sources, tick: Tick) -> RowRead:
    """Exact weights of one query in each panel. Raises: as `draw_map`."""
    heads = sources.open(job.source, job.workload, tick)
    check_head(heads, job.layer, job.head)
    if heads.seq_len > MAX_ROW_LEN:
        raise too_long(
            f"A row of {heads.seq_len:,} tokens is longer than {MAX_ROW_LEN:,}: lower n to {MAX_ROW_LEN:,}.",
            heads.seq_len,
            MAX_ROW_LEN,
        )
    for name, value in (("row", job.row), ("column", job.column)):
        if value >= heads.seq_len:
            raise invalid(f"{name} must be 0 to {heads.seq_len - 1:,} (was {value:,}).")
    workload = shape_of(heads, job.workload)
    panels = [Panel.of(choice, workload) for choice in job.panels]
    where = job.head, job.row, job.column
    inputs = [inputs_of(panel.variant, heads, job.layer, job.head) for panel in panels]
    return RowRead(job, tuple(_row(panel, q, k, workload, where, tick) for panel, (q, k) in zip(panels, inputs, strict=True)))


def _row(
    panel: Panel,
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    workload: Workload,
    where: tuple[int, int, int],
    tick: Tick,
) -> Row:
    """`where`: query head, query, key."""
    tick()
    head, row, column = where
    half = PATCH // 2
    rows = np.arange(max(0, row - half), min(len(q), row + half + 1))
    with np.errstate(all="ignore"):
        weights, seen = panel.variant.rows_of_map(q, k, workload, panel.params, rows, head)
    shown = np.where(seen, weights, np.nan)
    own = row - int(rows[0])
    patch = np.full((PATCH, PATCH), np.nan)
    first, last = max(0, column - half), min(k.shape[-2], column + half + 1)
    patch[rows[0] - row + half : rows[-1] - row + half + 1, first - column + half : last - column + half] = shown[:, first:last]
    cut = _row_mass_cut(q[row], k, row, seen[own], workload.causal) if panel.variant.family == "restricted" else 0.0
    entropy, support, distance = spread(weights[own], row)
    return Row(
        weights=pictures.array(shown[own]),
        patch=pictures.array(patch),
        entropy_bits=entropy,
        support=support,
        sink=float(weights[own, 0]),
        distance=distance,
        row_sum=float(weights[own].sum()),
        mass_cut=cut,
    )


def spread(weights: NDArray[np.float64], row: int) -> tuple[float, float, float]:
    """Entropy in bits, effective support in keys, mean distance in tokens. Signed weights count by size; an empty row is 0."""
    sizes = np.abs(weights)
    total = float(sizes.sum())
    if total == 0.0:
        return 0.0, 0.0, 0.0
    shares = sizes / total
    positive = shares[shares > 0]
    entropy = max(0.0, float(-(positive * np.log2(positive)).sum())) if np.isfinite(total) else float("nan")
    distance = float((shares * np.abs(row - np.arange(len(shares)))).sum())
    return entropy, 2.0**entropy, distance


def _row_mass_cut(query: NDArray[np.float32], k: NDArray[np.float32], row: int, seen: NDArray[np.bool_], causal: bool) -> float:
    """Share of the full softmax of one row, float64, on keys that are not seen."""
    keys = k[: row + 1] if causal else k
    with np.errstate(all="ignore"):
        scores = keys.astype(np.float64) @ query.astype(np.float64) * query.shape[0] ** -0.5
        parts = np.exp(scores - scores.max())
        return float(parts[~seen[: len(keys)]].sum() / parts.sum())


# ---------------------------------------------------------------- all heads


def draw_heads(job: DrawHeads, sources: Sources, fits: Fits, tick: Tick, report: Report) -> HeadsDrawn:
    """A thumbnail of every head, each on its own linear scale. Raises: as `draw_map`, and when the variant does not fit."""
    heads = sources.open(job.source, job.workload, tick)
    check_length(heads.seq_len)
    workload = shape_of(heads, job.workload)
    refusal = fits.refusal(job.choice, workload)
    if refusal is not None:
        raise JobRefused(refusal)
    panel = Panel.of(job.choice, workload)
    thumbs = np.empty((heads.layers, heads.num_heads, job.size, job.size), np.uint8)
    starts = [pixel * heads.seq_len // job.size for pixel in range(job.size)]
    for layer in range(heads.layers):
        for head in range(heads.num_heads):
            tick()
            report((layer * heads.num_heads + head) / (heads.layers * heads.num_heads))
            q, k = inputs_of(panel.variant, heads, layer, head)
            weights, visible = variant_weights(panel.variant, panel.params, q, k, workload, head, tick)
            thumbs[layer, head] = thumb(weights, visible, starts, signed=panel.signed)
    return HeadsDrawn(job, pictures.array(thumbs))


def thumb(weights: NDArray[np.float32], visible: NDArray[np.bool_], starts: list[int], *, signed: bool) -> pictures.Codes:
    """One head's map, each cell the weight in it that is farthest from 0, on a linear scale of its own."""
    least = pictures.by_starts(np.minimum, weights, starts) if signed else None
    values = pictures.farthest(pictures.by_starts(np.maximum, weights, starts), least)
    seen = pictures.by_starts(np.logical_or, visible, starts)
    high = float(np.abs(values).max(initial=0, where=np.isfinite(values)))
    return pictures.quantised(values, seen, -high if signed else 0.0, high, "linear")


# ---------------------------------------------------------------- what a job must satisfy


def shape_of(heads: Heads, asked: Workload) -> Workload:
    """The workload that the source has; batch, dtype and causal are the person's."""
    return Workload(
        batch=asked.batch,
        seq_len=heads.seq_len,
        num_heads=heads.num_heads,
        num_kv_heads=heads.num_kv_heads,
        head_dim=heads.head_dim,
        layers=heads.layers,
        dtype=asked.dtype,
        causal=asked.causal,
    )


def check_head(heads: Heads, layer: int, head: int) -> None:
    """Raises: JobRefused."""
    for name, value, count in (("layer", layer, heads.layers), ("head", head, heads.num_heads)):
        if value >= count:
            raise invalid(f"{name} must be 0 to {count - 1} (was {value}).")


def check_length(seq_len: int) -> None:
    """Raises: JobRefused."""
    if seq_len > MAX_MAP_LEN:
        side = f"{MAX_MAP_LEN:,}"
        text = f"A map of {seq_len:,} tokens is larger than {side} × {side}: set n to {side} or shorten the text."
        raise too_long(text, seq_len, MAX_MAP_LEN)


def view_of(job: DrawMap, seq_len: int) -> View:
    """The rectangle asked for, less what reaches past the map. Raises: JobRefused."""
    sides = []
    for name, (first, end) in (("rows", job.rows), ("columns", job.columns)):
        if not 0 <= first < min(end, seq_len):
            raise invalid(f"{name} must begin at 0 to {seq_len - 1:,} and end after that (was {first:,} to {end:,}).")
        sides.append(slice(first, min(end, seq_len)))
    view = View(sides[0], sides[1], job.factor)
    pixels = view.size[0] * view.size[1] * max(1, len(job.panels))
    if pixels > MAX_PIXELS:
        raise invalid(f"A picture of {pixels:,} pixels is larger than {MAX_PIXELS:,}: raise factor above {job.factor}.")
    return view

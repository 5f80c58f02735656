"""Stores with real maps of made-up q and k: a small softmax in numpy answers what the map page wants."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from app_states import READY
from attnscope.requests import wanted
from attnscope.state import Answer, Settings
from attnscope.store import Store
from attnscope_engine import catalogue
from attnscope_engine import protocol as p
from numpy.typing import NDArray

WORDS = (
    "The",
    " CEO",
    " announced",
    " the",
    " merger",
    " on",
    " Monday",
    ",",
    " and",
    " by",
    " Friday",
    " she",
    " resigned",
    ".",
)
LAYERS, HEADS = 3, 4


def read_of(source: p.TextSource, tokens: tuple[str, ...] = WORDS) -> p.TextRead:
    """Every head has a link of its own strength from the 12th token to the 2nd; the last head's is the largest."""
    query, key = min(11, len(tokens) - 1), 1
    facts = tuple(
        p.HeadFacts(
            layer, head, 0.5 - 0.01 * head, 0.1, 0.01 * layer, 1.0 + layer, 2.0 + head, 0.1 * layer + 0.02 * head, query, key
        )
        for layer in range(LAYERS)
        for head in range(HEADS)
    )
    return p.TextRead(source, tokens, "small", LAYERS, HEADS, 2, 8, 100, facts, "word to word", len(tokens) - 1)


def weights_of(choice: p.Choice, workload: p.Workload, n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The exact map of one head by the variant's own file, and what it sees."""
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((n, 16)) * 2, rng.standard_normal((n, 16))
    variant, params = catalogue.resolved(choice, workload)
    rows = np.arange(n)
    return variant.rows_of_map(q, k, workload, params, rows, 0)


def picture_of(
    weights: NDArray[np.float64],
    seen: NDArray[np.bool_],
    job: p.DrawMap,
    cut: NDArray[np.float64] | None = None,
    *,
    signed: bool = False,
) -> p.Picture:
    """Quantised as the engine does: limits of all of the map, `factor` × `factor` weights pooled by their maximum."""
    (row0, row1), (column0, column1), factor = job.rows, job.columns, job.factor
    high = float(np.abs(weights).max()) or 1.0
    low = -high if signed else 0.0 if job.scale == "linear" else high * 1e-5
    part, mask = weights[row0:row1, column0:column1], seen[row0:row1, column0:column1]
    if factor > 1:
        rows, columns = part.shape[0] // factor, part.shape[1] // factor
        part = part[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).max(axis=(1, 3))
        mask = mask[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).any(axis=(1, 3))
    place = (part - low) / (high - low)
    if job.scale == "log" and not signed:
        place = np.log(np.maximum(part, low) / low) / np.log(high / low)
    codes = np.where(mask, np.rint(np.clip(place, 0, 1) * p.MAX_CODE), p.MASKED).astype(np.uint8)
    array = p.Array("u1", codes.shape, codes.tobytes())
    mass = None if cut is None else f4(cut[row0:row1])
    scale = "linear" if signed else job.scale
    return p.Picture(array, low, high, scale, signed, mass_cut=mass, max_abs=float(np.abs(weights).max()))


def f4(values: NDArray[Any]) -> p.Array:
    return p.Array("f4", values.shape, values.astype("<f4").tobytes())


def draw(job: p.DrawMap, n: int, seed: int = 0) -> p.MapDrawn:
    """What the engine would answer."""
    maps = [weights_of(choice, job.workload, n, seed) for choice in job.panels]
    full, _ = weights_of(p.Choice("softmax_tiled", {}), job.workload, n, seed)
    if job.difference:
        return p.MapDrawn(job, n, (picture_of(maps[0][0] - maps[1][0], maps[0][1] | maps[1][1], job, signed=True),))
    pictures = []
    for choice, (weights, seen) in zip(job.panels, maps, strict=True):
        variant, params = catalogue.resolved(choice, job.workload)
        restricted = variant.family == "restricted"
        cut = np.where(seen, 0.0, full).sum(axis=1) if restricted else None
        pictures.append(picture_of(weights, seen, job, cut, signed=variant.is_signed(params)))
    return p.MapDrawn(job, n, tuple(pictures))


def read_row(job: p.ReadRow, n: int, seed: int = 0) -> p.RowRead:
    """One exact row a panel."""
    rows = []
    full, _ = weights_of(p.Choice("softmax_tiled", {}), job.workload, n, seed)
    for choice in job.panels:
        weights, seen = weights_of(choice, job.workload, n, seed)
        shown = np.where(seen, weights, np.nan)
        padded = np.pad(shown, 10, constant_values=np.nan)
        patch = padded[job.row : job.row + 21, job.column : job.column + 21]
        row = weights[job.row]
        shares = np.abs(row) / (np.abs(row).sum() or 1.0)
        bits = float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())
        distance = float((shares * np.abs(job.row - np.arange(n))).sum())
        cut = float(full[job.row][~seen[job.row]].sum())
        rows.append(p.Row(f4(shown[job.row]), f4(patch), bits, 2**bits, float(row[0]), distance, float(row.sum()), cut))
    return p.RowRead(job, tuple(rows))


def heads(job: p.DrawHeads) -> p.HeadsDrawn:
    """Thumbnails whose first pixel tells the head: code = layer · 10 + head."""
    codes = np.full((LAYERS, HEADS, job.size, job.size), p.MASKED, np.uint8)
    for layer in range(LAYERS):
        for head in range(HEADS):
            codes[layer, head] = layer * 10 + head
    return p.HeadsDrawn(job, p.Array("u1", codes.shape, codes.tobytes()))


def answer(store: Store, tokens: tuple[str, ...] = WORDS) -> None:
    """Answer everything that the page wants, as often as answers make it want more."""
    for _ in range(5):
        before = store.state.live.answers
        for slot, job in wanted(store.state).items():
            have = store.state.live.answers.get(slot)
            if have and have.job == job:
                continue
            payload: p.Payload
            if isinstance(job, p.ReadText):
                payload = read_of(job.source, tokens)
            elif isinstance(job, p.DrawMap):
                payload = draw(job, job.workload.seq_len)
            elif isinstance(job, p.ReadRow):
                payload = read_row(job, job.workload.seq_len)
            elif isinstance(job, p.DrawHeads):
                payload = heads(job)
            else:
                continue
            store.update_live(answers={**store.state.live.answers, slot: Answer(job, payload)})
        if store.state.live.answers is before:
            return


def replace_picture(store: Store, index: int, **changes: Any) -> p.Picture:
    """Put a changed picture in the place of one that has been answered."""
    answer_ = store.state.live.answers["map"]
    drawn = answer_.payload
    assert isinstance(drawn, p.MapDrawn)
    picture = msgspec.structs.replace(drawn.pictures[index], **changes)
    pictures = (*drawn.pictures[:index], picture, *drawn.pictures[index + 1 :])
    payload = msgspec.structs.replace(drawn, pictures=pictures)
    store.update_live(answers={**store.state.live.answers, "map": Answer(answer_.job, payload)})
    return picture


def store_of(**changes: Any) -> Store:
    """A store with an engine that has not been asked yet; `changes` of settings or workload."""
    store = Store(Settings(), msgspec.structs.replace(READY, tour_done=True))
    if changes:
        store.update(**changes)
    return store


def synthetic(n: int, **changes: Any) -> Store:
    """A store that shows a synthetic map of n tokens, answered."""
    defaults: dict[str, Any] = {
        "source": p.SyntheticSource("needle", 3),
        "seq_len": n,
        "num_heads": 4,
        "num_kv_heads": 4,
        "layers": 1,
    }
    store = store_of(**defaults | {"checked": ("softmax_tiled", "sliding_window")} | changes)
    answer(store)
    return store

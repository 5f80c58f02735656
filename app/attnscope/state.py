"""Everything that is on the screen, as one frozen value. No Qt, no engine, no clock.

`Settings` is what the person chose: undoable, saved in a session. `Live` is what came from the engine. Views draw a
`State` and never change one: `store.Store.update` is the only way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import (
    Ceilings,
    Choice,
    DeviceFacts,
    Dtype,
    Failure,
    FileSource,
    HeadFacts,
    Job,
    Measured,
    ParamValues,
    Payload,
    Refusal,
    Source,
    TextRead,
    TextSource,
    Vitals,
    Workload,
)
from attnscope_engine.variant import Family
from msgspec import Struct

SAMPLE_TEXT = "The CEO announced the merger on Monday, and by Friday she resigned from the board."

Page = Literal["map", "scaling", "memory"]
Slot = Literal["calibrate", "text", "row", "map", "heads", "measure"]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """What the person chose."""

    workload: Workload = Workload()
    checked: tuple[str, ...] = ("softmax_tiled", "chunked")
    """Variants that are on, in the order of the map's panels."""
    opened: str = ""
    """The variant whose parameters are unfolded."""
    groups: tuple[Family, ...] = ()
    """Groups of the list of variants that are unfolded."""
    params: dict[str, ParamValues] = msgspec.field(default_factory=lambda: {"chunked": {"chunk_size": 8}})
    """Parameters that differ from their default, by variant."""
    page: Page = "map"
    source: Source = TextSource(SAMPLE_TEXT)
    layer: int = -1
    """-1: the program picks the head with the strongest link."""
    head: int = -1
    compare: Literal["side", "difference", "heads"] = "side"
    pool: Literal["max", "mean"] = "max"
    colours: Literal["inferno", "cividis", "ink"] = "inferno"
    scale: Literal["auto", "log", "linear"] = "auto"
    row: int = -1
    """The query whose row is fixed; -1: none, the pointer decides."""
    column: int = -1
    view: tuple[int, int, int, int] | None = None
    """Rows and columns on screen (row0, row1, column0, column1); None: all."""
    time_quantity: Literal["time", "tokens", "flops"] = "time"
    show_predicted: bool = True
    show_measured: bool = True
    show_fit: bool = False
    show_memory: bool = True
    """The Scaling page's lower plot."""
    fits_budget: float = 0.0
    """Bytes that "What fits" on the Memory page plans with; 0: what is free now."""
    memory_bars: Literal["log", "card"] = "log"
    sweep_low: int = 256
    sweep_high: int = 16384
    measure_idle: bool = True


class Notice(Struct, frozen=True):
    """One strip above the page."""

    level: Literal["info", "warn", "danger"]
    text: str
    actions: tuple[tuple[str, str], ...] = ()
    """(button text, id in `actions.py`), at most two."""
    key: str = ""
    """A newer notice of the same key replaces the older."""


class Answer(Struct, frozen=True):
    """The newest answer of a slot, with the job that it answers: stale when another job is wanted now."""

    job: Job
    payload: Payload | None = None
    refusal: Refusal | None = None
    failure: Failure | None = None


class Busy(Struct, frozen=True):
    """What the engine is doing."""

    text: str
    done: float
    since: float
    """Monotonic seconds."""


class Live(Struct, frozen=True):
    """What came from the engine or from disk; never undone, never saved in a session."""

    phase: Literal["starting", "ready", "measuring", "restarting", "gave_up", "stopped"] = "starting"
    restarts: int = 0
    device: DeviceFacts | None = None
    why_no_gpu: str = ""
    told_no_gpu: str = ""
    """The reason that the person has been told: said once, not at every start."""
    vitals: Vitals | None = None
    ceilings: Ceilings | None = None
    answers: Mapping[Slot, Answer] = {}
    measurements: Mapping[str, Measured] = {}
    """By `measurement_key`; the newest of each, of this device."""
    set_aside: frozenset[str] = frozenset()
    """Measurement keys that were refused, failed, or ended the engine twice: not tried again unless asked."""
    queue: tuple[str, ...] = ()
    """Measurement keys still to do of the sweep or of "measure all"."""
    queue_total: int = 0
    busy: Busy | None = None
    notices: tuple[Notice, ...] = ()
    status: str = ""
    """One passing line at the right of the status bar."""
    pinned: tuple[Measured, ...] = ()
    hover: tuple[int, int] | None = None
    """Cell under the pointer on a map."""
    file_seq_len: Mapping[str, int] = {}
    """Tokens of each file of q and k that the engine has opened, by path: how a map of a file learns its size."""
    measure_budget_s: float = 0.5
    """From the preferences: wall time for the repeats of one measurement."""
    session_path: str = ""
    tour_done: bool = False
    """Whether the card "First look" has been seen or skipped."""
    saved: Settings | None = None
    """Settings as they are on disk; differs from the present ones when there is something to save."""


class State(Struct, frozen=True):
    """What the window shows."""

    settings: Settings = Settings()
    live: Live = Live()


# ---------------------------------------------------------------- what a state means


def effective_workload(state: State) -> Workload:
    """The workload that is computed: the dtype wished for, or the nearest that the device has."""
    workload, device = state.settings.workload, state.live.device
    if device is None or workload.dtype in device.dtypes:
        return workload
    order: tuple[Dtype, ...] = ("bf16", "fp16", "fp32")
    return msgspec.structs.replace(workload, dtype=next(dtype for dtype in order if dtype in device.dtypes))


def text_read(state: State) -> TextRead | None:
    """What the model made of the present text, None while it has not been read."""
    answer = state.live.answers.get("text")
    payload = answer.payload if answer else None
    return payload if isinstance(payload, TextRead) and payload.source == state.settings.source else None


def map_seq_len(state: State) -> int:
    """Tokens on a side of the map; 0 while not known (the text or the file has not been read)."""
    source = state.settings.source
    if isinstance(source, TextSource):
        read = text_read(state)
        return len(read.tokens) if read else 0
    if isinstance(source, FileSource):
        return state.live.file_seq_len.get(source.path, 0)
    return state.settings.workload.seq_len


def strongest_head(state: State) -> HeadFacts | None:
    """The head with the strongest link in the text, of those that the chosen layer and head leave open."""
    read, wish = text_read(state), state.settings
    facts = read.heads if read else ()
    open_ = [fact for fact in facts if wish.layer in (-1, fact.layer) and wish.head in (-1, fact.head)]
    return max(open_, key=lambda fact: fact.link, default=None)


def shown_head(state: State) -> tuple[int, int]:
    """Layer and head of the map."""
    found = strongest_head(state)
    if found:
        return found.layer, found.head
    read, wish = text_read(state), state.settings
    layers, heads = (read.layers, read.num_heads) if read else (wish.workload.layers, wish.workload.num_heads)
    return min(max(wish.layer, 0), layers - 1), min(max(wish.head, 0), heads - 1)


def shown_cell(state: State) -> tuple[int, int] | None:
    """Query and key that are read out: the cell under the pointer, else the fixed one, else the head's strongest link.

    A fixed row stays: then the pointer moves the key alone.
    """
    seq_len, settings = map_seq_len(state), state.settings
    if not seq_len:
        return None
    if settings.row >= 0:
        row = min(settings.row, seq_len - 1)
        column = state.live.hover[1] if state.live.hover else settings.column
        return row, min(column, seq_len - 1) if column >= 0 else row
    if state.live.hover:
        row, column = state.live.hover
        return min(max(row, 0), seq_len - 1), min(max(column, 0), seq_len - 1)
    found = strongest_head(state)
    return (found.link_query, found.link_key) if found else None


def choice_of(settings: Settings, variant: str) -> Choice:
    """The variant with every parameter written out, so that a default of another release is not taken for this one's.

    Raises:
        ValueError: no such variant.

    """
    found = catalogue.find(variant)
    return found.choice(found.parse(settings.params.get(variant, {})))


def one_call(workload: Workload) -> Workload:
    """The workload of one measured call, which knows nothing of the number of layers."""
    return msgspec.structs.replace(workload, layers=1)


_encoder = msgspec.json.Encoder(order="sorted")
_key_decoder = msgspec.json.Decoder(tuple[str, Workload, Choice])


def measurement_key(device: str, workload: Workload, choice: Choice) -> str:
    """Identity of a measured point: same device, same shape, same parameters."""
    return _encoder.encode([device, one_call(workload), choice]).decode()


def key_parts(key: str) -> tuple[str, Workload, Choice]:
    """Device, workload and choice of a `measurement_key`."""
    return _key_decoder.decode(key)

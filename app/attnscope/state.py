"""Everything that is on the screen, as one frozen value. No Qt, no engine, no clock.

`Settings` is what the person chose: undoable, saved in a session. `Live` is what came from the engine. Views draw a
`State` and never change one: `store.Store.update` is the only way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from attnscope_engine.protocol import (
    Ceilings,
    Choice,
    DeviceFacts,
    Failure,
    Job,
    Measured,
    ParamValues,
    Payload,
    Refusal,
    Source,
    TextSource,
    Vitals,
    Workload,
)

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
    session_path: str = ""
    saved: Settings | None = None
    """Settings as they are on disk; differs from the present ones when there is something to save."""


class State(Struct, frozen=True):
    """What the window shows."""

    settings: Settings = Settings()
    live: Live = Live()


def choice_of(settings: Settings, variant: str) -> Choice:
    """The variant with the parameters that the person set."""
    return Choice(variant, settings.params.get(variant, {}))


_encoder = msgspec.json.Encoder(order="sorted")


def measurement_key(device: str, workload: Workload, choice: Choice) -> str:
    """Identity of a measured point: same device, same shape, same parameters."""
    return _encoder.encode([device, workload, choice]).decode()

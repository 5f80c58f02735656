"""What a figure is made of: plain rows, so that window and command line draw the same picture, in a child process or here."""

from __future__ import annotations

from typing import Annotated, Literal

from attnscope_engine.protocol import Array, Term
from msgspec import Meta, Struct

Format = Literal["png", "svg", "pdf", "csv", "json"]
Preset = Literal["one_column", "two_columns", "slide", "screen"]

FORMATS: tuple[Format, ...] = ("png", "svg", "pdf", "csv", "json")
PRESET_SIZE_MM: dict[Preset, tuple[float, float]] = {
    "one_column": (84, 84),
    "two_columns": (174, 110),
    "slide": (254, 142.9),
    "screen": (230, 150),
}
"""Width and height of the page that the figure fills, in millimetres."""


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parts."""


class Point(Strict, frozen=True):
    """One measured point."""

    seq_len: int
    value: float
    low: float
    """20th percentile."""
    high: float
    """80th percentile."""
    noisy: bool = False
    samples: int = 0


class Curve(Strict, frozen=True):
    """One variant's line and points in one plot."""

    variant: str
    title: str
    summary: str
    predicted: tuple[tuple[int, float], ...] = ()
    measured: tuple[Point, ...] = ()
    fits_up_to: int = 0
    """Largest n that fits here; 0 when unknown."""


class ScalingFigure(Strict, frozen=True, tag="scaling"):
    """Time and memory against n."""

    time: tuple[Curve, ...]
    memory: tuple[Curve, ...]
    time_axis: str = "time of one forward call"
    seq_len: int = 0
    free_bytes: int = 0


class Bar(Strict, frozen=True):
    """One variant's memory."""

    variant: str
    title: str
    summary: str
    terms: tuple[Term, ...]
    measured_bytes: int = 0
    """0 when not measured."""


class MemoryFigure(Strict, frozen=True, tag="memory"):
    """Memory by named term at one n."""

    seq_len: int
    bars: tuple[Bar, ...]
    free_bytes: int = 0


class MapPanel(Strict, frozen=True):
    """One picture of a map."""

    variant: str
    title: str
    detail: str
    codes: Array
    low: float
    high: float
    scale: Literal["log", "linear"]
    signed: bool = False


class MapFigure(Strict, frozen=True, tag="map"):
    """Maps side by side, rows `rows[0] … rows[1]` against columns."""

    panels: tuple[MapPanel, ...]
    rows: tuple[int, int]
    columns: tuple[int, int]
    tokens: tuple[str, ...] = ()
    """All tokens of the text, or empty."""
    colours: str = "inferno"
    row: int = -1
    column: int = -1
    weights: tuple[tuple[str, tuple[float, ...]], ...] = ()
    """Title and exact weights of the chosen row, a variant each: what the table holds."""


Figure = ScalingFigure | MemoryFigure | MapFigure


class FigureJob(Strict, frozen=True):
    """A figure and how to write it."""

    figure: Figure
    format: Format = "png"
    preset: Preset = "two_columns"
    dpi: Annotated[int, Meta(ge=50, le=1200)] = 300
    dark: bool = False
    legend: bool = True
    caption: bool = True
    """Whether the provenance line is drawn under the figure; it is inside the file always."""
    title: str = ""
    provenance: dict[str, str] = {}
    """Device, driver, versions, workload, day: written into every format."""


class Copies(Strict, frozen=True):
    """What goes onto the clipboard at once."""

    png: bytes
    svg: bytes
    table: str


def provenance_line(provenance: dict[str, str]) -> str:
    """The one line under a figure."""
    order = ("source", "head", "workload", "device", "driver", "library", "measured")
    return " · ".join(provenance[key] for key in order if provenance.get(key))

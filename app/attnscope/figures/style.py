"""How figures look: the bundled faces, thin lines, the variant's own colour, marker and dash, axes in powers of two."""

from __future__ import annotations

import functools
import math
from importlib import resources
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from attnscope.figures.job import PRESET_SIZE_MM, FigureJob
from attnscope.looks import DARK, LIGHT, Look, Tokens, look
from attnscope.quantities import bytes_parts, joined, short_count, time_parts

MARKERS: dict[str, Any] = {
    "square": "s",
    "circle": "o",
    "pentagon": "p",
    "triangle_up": "^",
    "triangle_down": "v",
    "triangle_right": ">",
    "triangle_left": "<",
    "diamond": "D",
    "plus": "P",
    "cross": "X",
    "star": "*",
    "bar": ((-1.35, -0.62), (1.35, -0.62), (1.35, 0.62), (-1.35, 0.62)),
    "hourglass": ((-1, 1), (1, 1), (-1, -1), (1, -1)),
    "bow_tie": ((-1, 1), (1, -1), (1, 1), (-1, -1)),
}
"""The window's marker names to matplotlib's, or to the corners of a polygon."""


def tokens_of(job: FigureJob) -> Tokens:
    return DARK if job.dark else LIGHT


@functools.cache
def load_fonts() -> None:
    """The faces that the window uses, so that a figure looks the same on every machine."""
    for file in resources.files("attnscope_assets").joinpath("fonts").iterdir():
        if file.name.endswith(".ttf"):
            with resources.as_file(file) as path:
                font_manager.fontManager.addfont(str(path))


def settings(tokens: Tokens, preset: str) -> dict[str, Any]:
    """Settings of matplotlib for one figure; text stays text in SVG and PDF."""
    size = 7.0 if preset == "one_column" else 8.0 if preset == "two_columns" else 11.0
    return {
        "font.family": ["IBM Plex Sans", "DejaVu Sans"],
        "font.size": size,
        "axes.titlesize": size,
        "axes.labelsize": size,
        "xtick.labelsize": size - 0.5,
        "ytick.labelsize": size - 0.5,
        "legend.fontsize": size - 0.5,
        "svg.fonttype": "none",
        "svg.hashsalt": "attnscope",
        "pdf.fonttype": 42,
        "axes.linewidth": 0.6,
        "axes.edgecolor": tokens.edge,
        "axes.labelcolor": tokens.text2,
        "axes.facecolor": tokens.plot,
        "figure.facecolor": tokens.plot,
        "savefig.facecolor": tokens.plot,
        "text.color": tokens.text1,
        "xtick.color": tokens.edge,
        "ytick.color": tokens.edge,
        "xtick.labelcolor": tokens.text2,
        "ytick.labelcolor": tokens.text2,
        "grid.color": tokens.grid,
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.1,
        "axes.unicode_minus": True,
        "hatch.linewidth": 0.4,
        "hatch.color": tokens.danger,
    }


def new_figure(job: FigureJob) -> MplFigure:
    """An empty page of the preset's size."""
    width, height = PRESET_SIZE_MM[job.preset]
    return MplFigure(figsize=(width / 25.4, height / 25.4), layout="constrained")


def marker_of(variant: Look) -> Any:
    """What matplotlib calls this marker; a polygon is closed."""
    marker = MARKERS[variant.marker]
    return marker if isinstance(marker, str) else [*marker, marker[0]]


def marker_face(variant: Look, tokens: Tokens) -> dict[str, Any]:
    """How a marker is filled: with its colour and a rim of the ground, or hollow with a rim of its colour."""
    colour = variant.colour(tokens)
    if variant.hollow:
        return {"markerfacecolor": tokens.plot, "markeredgecolor": colour, "markeredgewidth": 0.9}
    return {"markerfacecolor": colour, "markeredgecolor": tokens.plot, "markeredgewidth": 0.5}


def line_width(variant: Look) -> float:
    """Points; half of it beside the parent."""
    width = float(mpl.rcParams["lines.linewidth"])
    return width / 2 if variant.thin else width


def line_style(variant: Look) -> Any:
    """Solid, or the family's dash."""
    return (0, tuple(variant.dash_pattern(1.75 / 2 if variant.thin else 1.75))) if variant.dash else "-"


def colour_of(variant: str, tokens: Tokens) -> str:
    return look(variant).colour(tokens)


def log2_axis(axes: Axes, low: float, high: float) -> None:
    """Sequence length: a tick at every power of two, a label at every second."""
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
    powers = [2**power for power in range(first, last + 1)]
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(powers))
    skip = 2 if len(powers) > 6 else 1
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: short_count(int(n)) if round(math.log2(n)) % skip == 0 else ""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("sequence length n (tokens, 1k = 1,024)")


def tick_text(parts: tuple[str, str]) -> str:
    """A round value without the zeros that make a column of numbers align: "1 ms", not "1.00 ms"."""
    number, unit = parts
    return joined((number.rstrip("0").rstrip(".") if "." in number else number, unit))


def time_axis(axes: Axes) -> None:
    """Decades of seconds, labelled as times."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: tick_text(time_parts(seconds))))
    axes.yaxis.set_minor_formatter(NullFormatter())


def bytes_axis(axes: Axes, low: float, high: float, *, vertical: bool) -> None:
    """Powers of eight, in binary units."""
    first, last = math.floor(math.log2(max(low, 1)) / 3), math.ceil(math.log2(max(high, 2)) / 3)
    ticks = [8**power for power in range(first, last + 1)]
    axis = axes.yaxis if vertical else axes.xaxis
    (axes.set_yscale if vertical else axes.set_xscale)("log", base=2)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda bytes_, _: tick_text(bytes_parts(bytes_))))
    axis.set_minor_locator(NullLocator())


def legend_above(figure: MplFigure, handles: list[Any], columns: int) -> None:
    """Outside the axes, where it covers no data."""
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, handlelength=2.4, columnspacing=1.4)


def caption(figure: MplFigure, job: FigureJob, line: str) -> None:
    """The provenance line under everything."""
    if job.caption and line:
        size = mpl.rcParams["font.size"] - 1.5
        figure.supxlabel(line, fontsize=size, color=tokens_of(job).text3, x=0.01, ha="left")
    if job.title:
        figure.suptitle(job.title, fontsize=mpl.rcParams["font.size"] + 1, color=tokens_of(job).text1, x=0.01, ha="left")

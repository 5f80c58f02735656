"""Maps side by side, each at its own pixels: a weight is never smoothed away."""

from __future__ import annotations

import numpy as np
from attnscope_engine.protocol import MAX_CODE
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from attnscope.figures import style
from attnscope.figures.job import FigureJob, MapFigure, MapPanel
from attnscope.looks import Tokens, colour_table
from attnscope.quantities import short_count, weight

TOKENS_SHOWN = 64
"""Longest text whose tokens are written on the axes."""


def draw(figure: MplFigure, job: FigureJob, data: MapFigure) -> None:
    """One row of panels, with one colour bar below each scale that differs."""
    tokens = style.tokens_of(job)
    many = len(data.panels) > 2
    grid = figure.subplots(2 if many else 1, 2 if many else max(1, len(data.panels)), squeeze=False)
    spaces: list[Axes] = list(grid.flat)
    for axes, panel in zip(spaces, data.panels, strict=False):
        draw_panel(axes, panel, data, tokens)
    for axes in spaces[len(data.panels) :]:
        axes.set_axis_off()
    if data.panels and job.legend:
        colour_bar(figure, spaces[: len(data.panels)], data.panels[0], data, tokens)


def draw_panel(axes: Axes, panel: MapPanel, data: MapFigure, tokens: Tokens) -> None:
    codes: NDArray[np.uint8] = np.frombuffer(panel.codes.data, np.uint8).reshape(panel.codes.shape)
    table = np.array(colour_table("signed" if panel.signed else data.colours, tokens), np.uint32)
    colours = table[codes]
    rgb = np.stack([(colours >> 16) & 255, (colours >> 8) & 255, colours & 255], axis=-1).astype(np.uint8)
    (row0, row1), (column0, column1) = data.rows, data.columns
    axes.imshow(rgb, interpolation="nearest", extent=(column0 - 0.5, column1 - 0.5, row1 - 0.5, row0 - 0.5), aspect="equal")
    axes.set_title(f"{panel.title}  {panel.detail}", loc="left")
    axes.set_xlabel("key" if data.tokens else "key position (tokens, 1k = 1,024)")
    axes.set_ylabel("query" if data.tokens else "query position (tokens, 1k = 1,024)")
    if 0 < len(data.tokens) <= TOKENS_SHOWN:
        axes.set_xticks(range(column0, column1), [label.strip() for label in data.tokens[column0:column1]], rotation=90)
        axes.set_yticks(range(row0, row1), [label.strip() for label in data.tokens[row0:row1]])
        axes.tick_params(length=0)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 4, 8], integer=True))
            axis.set_major_formatter(FuncFormatter(lambda n, _: short_count(int(n))))
    if row0 <= data.row < row1 and column0 <= data.column < column1:
        axes.plot(
            data.column,
            data.row,
            marker="s",
            markersize=7,
            markerfacecolor="none",
            markeredgecolor=tokens.accent,
            linestyle="none",
        )


def colour_bar(figure: MplFigure, spaces: list[Axes], panel: MapPanel, data: MapFigure, tokens: Tokens) -> Colorbar:
    """What the colours mean; a signed map says so."""
    table = colour_table("signed" if panel.signed else data.colours, tokens)[: MAX_CODE + 1]
    colours = ListedColormap([((c >> 16 & 255) / 255, (c >> 8 & 255) / 255, (c & 255) / 255) for c in table])
    logarithmic = panel.scale == "log" and panel.low > 0 and not panel.signed
    norm = LogNorm(panel.low, panel.high) if logarithmic else Normalize(panel.low, panel.high)
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(norm, colours), ax=spaces, orientation="horizontal", fraction=0.04, aspect=50, pad=0.03)
    bar.set_label("score (signed)" if panel.signed else f"weight, {panel.scale} scale")
    if not logarithmic:
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: weight(value) if value >= 0 else f"−{weight(-value)}"))
    return bar


def table(data: MapFigure) -> list[list[str]]:
    """The chosen row's exact weights when there is one, else the picture's own pixels as codes."""
    if data.weights:
        rows = [["key", "token", *(title for title, _ in data.weights)]]
        for key in range(len(data.weights[0][1])):
            token = data.tokens[key] if key < len(data.tokens) else ""
            rows.append([str(key), token, *(repr(values[key]) for _, values in data.weights)])
        return rows
    rows = [["variant", "query", "key", "code_0_to_249"]]
    for panel in data.panels:
        height, width = panel.codes.shape
        step = max(1, (data.rows[1] - data.rows[0]) // max(1, height))
        codes = np.frombuffer(panel.codes.data, np.uint8).reshape(height, width)
        rows += [
            [panel.variant, str(data.rows[0] + i * step), str(data.columns[0] + j * step), str(codes[i, j])]
            for i in range(height)
            for j in range(width)
        ]
    return rows

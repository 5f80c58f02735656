"""Time and memory against n: a line is a prediction, a marker a measurement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D

from attnscope.figures import style
from attnscope.figures.job import Curve, FigureJob, ScalingFigure
from attnscope.looks import Tokens, look
from attnscope.quantities import bytes_text, count


def draw(figure: MplFigure, job: FigureJob, data: ScalingFigure) -> None:
    """Two plots over one abscissa; on one column they stand under each other, else side by side."""
    tokens = style.tokens_of(job)
    stacked = job.preset == "one_column"
    rows, columns = (2, 1) if stacked else (1, 2)
    above, below = figure.subplots(rows, columns, sharex=stacked)
    low, high = seq_len_limits((*data.time, *data.memory))
    for axes, curves, name in ((above, data.time, data.time_axis), (below, data.memory, "bytes held at the peak")):
        axes.grid(visible=True, which="major")
        axes.set_axisbelow(True)
        axes.set_ylabel(name)
        style.log2_axis(axes, low, high)
        for curve in curves:
            draw_curve(axes, curve, tokens, [other.variant for other in curves])
    if data.time_axis.startswith("time"):
        style.time_axis(above)
    else:
        above.set_yscale("log")
    set_limits(above, data.time)
    set_limits(below, data.memory)
    bottom, top = below.get_ylim()
    style.bytes_axis(below, bottom, top, vertical=True)
    below.set_ylim(bottom, top)
    if stacked:
        above.set_xlabel("")
    if data.free_bytes:
        free_line(below, data.free_bytes, tokens)
    if job.legend:
        legend(figure, job, data, tokens)


def seq_len_limits(curves: Iterable[Curve]) -> tuple[float, float]:
    lengths = [n for curve in curves for n, _ in curve.predicted] + [
        point.seq_len for curve in curves for point in curve.measured
    ]
    if not lengths:
        return 64, 1 << 20
    return min(lengths) / 1.1, max(lengths) * 1.1


def set_limits(axes: Axes, curves: tuple[Curve, ...]) -> None:
    """Limits from what can be reached here: predictions beyond the last fitting n do not stretch the plot."""
    values = [v for curve in curves for n, v in curve.predicted if v > 0 and (not curve.fits_up_to or n <= curve.fits_up_to)]
    values += [value for curve in curves for point in curve.measured for value in (point.low, point.high) if value > 0]
    if values:
        axes.set_ylim(min(values) / 1.6, max(values) * 1.6)


def draw_curve(axes: Axes, curve: Curve, tokens: Tokens, beside: Collection[str] = ()) -> None:
    variant = look(curve.variant, beside)
    colour, width = variant.colour(tokens), style.line_width(variant)
    inside = [(n, v) for n, v in curve.predicted if v > 0 and (not curve.fits_up_to or n <= curve.fits_up_to)]
    beyond = [(n, v) for n, v in curve.predicted if v > 0 and curve.fits_up_to and n > curve.fits_up_to]
    if inside:
        axes.plot(*zip(*inside, strict=True), color=colour, linewidth=width, linestyle=style.line_style(variant), zorder=2)
    if beyond and inside:
        line = {"color": colour, "linewidth": width, "linestyle": style.line_style(variant)}
        axes.plot(*zip(inside[-1], *beyond, strict=True), alpha=0.3, zorder=1, **line)
        axes.plot(*inside[-1], marker="x", color=tokens.danger, markersize=5, zorder=4, linestyle="none")
    if curve.measured:
        lengths = [point.seq_len for point in curve.measured]
        values = [point.value for point in curve.measured]
        spread = [[max(0.0, p.value - p.low) for p in curve.measured], [max(0.0, p.high - p.value) for p in curve.measured]]
        axes.errorbar(
            *(lengths, values),
            yerr=spread,
            marker=style.marker_of(variant),  # not `fmt`, which takes no polygon
            linestyle="none",
            color=colour,
            markersize=4.5,
            **style.marker_face(variant, tokens),
            elinewidth=0.7,
            capsize=1.5,
            zorder=5,
        )


def free_line(axes: Axes, free_bytes: int, tokens: Tokens) -> None:
    """The wall: what is free on the device now."""
    bottom, top = axes.get_ylim()
    if free_bytes >= top:
        return
    axes.axhline(free_bytes, color=tokens.danger, linewidth=0.8)
    axes.axhspan(free_bytes, top, facecolor="none", hatch="////", edgecolor=tokens.danger, alpha=0.25, linewidth=0)
    axes.annotate(
        f"free now {bytes_text(free_bytes)}",
        (0.02, free_bytes),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=tokens.danger,
    )
    axes.set_ylim(bottom, top)


def legend(figure: MplFigure, job: FigureJob, data: ScalingFigure, tokens: Tokens) -> None:
    """Names with line and marker, and once what line and marker mean."""
    handles = []
    curves = data.time or data.memory
    for curve in curves:
        variant = look(curve.variant, [other.variant for other in curves])
        line = {"color": variant.colour(tokens), "linestyle": style.line_style(variant), "linewidth": style.line_width(variant)}
        marker = {"marker": style.marker_of(variant), "markersize": 4, **style.marker_face(variant, tokens)}
        handles.append(Line2D([], [], label=f"{curve.title}, {curve.summary}", **line, **marker))
    handles.append(Line2D([], [], color=tokens.text2, label="line: predicted"))
    handles.append(
        Line2D([], [], color=tokens.text2, marker="o", linestyle="none", markersize=4, label="marker: measured, p20 to p80")
    )
    style.legend_above(figure, handles, 2 if job.preset == "one_column" else 4)


def header(data: ScalingFigure) -> list[str]:
    unit = "s" if data.time_axis.startswith("time") else "per_s"
    return ["quantity", "variant", "parameters", "kind", "seq_len", f"value_{unit}_or_bytes", "p20", "p80", "samples", "noisy"]


def table(data: ScalingFigure) -> list[list[str]]:
    """Every point and every predicted value, a row each."""
    kinds: tuple[tuple[str, tuple[Curve, ...], Callable[[float], str]], ...] = (
        (data.time_axis.split(" ")[0], data.time, repr),
        ("peak_bytes", data.memory, lambda value: count(int(value)).replace(",", "")),
    )
    rows = [header(data)]
    for name, curves, text in kinds:
        for curve in curves:
            start = [name, curve.variant, curve.summary]
            rows += [
                [*start, "measured", str(p.seq_len), text(p.value), text(p.low), text(p.high), str(p.samples), str(int(p.noisy))]
                for p in curve.measured
            ]
            rows += [[*start, "predicted", str(n), text(value), "", "", "", ""] for n, value in curve.predicted]
    return rows

"""Memory by named term: predicted parts as a stack, the measured peak as the variant's marker."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Patch

from attnscope.figures import style
from attnscope.figures.job import Bar, FigureJob, MemoryFigure
from attnscope.looks import Tokens, look, term_colour
from attnscope.quantities import bytes_text


def draw(figure: MplFigure, job: FigureJob, data: MemoryFigure) -> None:
    """Left: totals on a log axis, a line for predicted and a marker for measured. Right: what each is made of, as shares."""
    tokens = style.tokens_of(job)
    totals, parts = figure.subplots(1, 2, sharey=True)
    places = list(range(len(data.bars)))[::-1]
    for place, bar in zip(places, data.bars, strict=True):
        draw_total(totals, place, bar, tokens)
        draw_parts(parts, place, bar, tokens)
    totals.set_yticks(places, [bar.title for bar in data.bars])
    totals.set_ylim(-0.6, len(data.bars) - 0.4)
    everything = [sum(term.bytes_ for term in bar.terms) for bar in data.bars] + [
        bar.measured_bytes for bar in data.bars if bar.measured_bytes
    ]
    low, high = min(everything, default=1), max([*everything, data.free_bytes], default=2)
    style.bytes_axis(totals, low, high, vertical=False)
    totals.set_xlim(low / 2, high * 2)
    totals.set_xlabel("peak of one forward call (line predicted, marker measured)")
    totals.grid(visible=True, axis="x")
    totals.set_axisbelow(True)
    if data.free_bytes:
        totals.axvline(data.free_bytes, color=tokens.danger, linewidth=0.8)
        totals.axvspan(
            data.free_bytes, high * 2, facecolor="none", hatch="////", edgecolor=tokens.danger, alpha=0.25, linewidth=0
        )
    parts.set_xlim(0, 100)
    parts.set_xlabel("made of (% of the predicted peak)")
    if job.legend:
        names = {term.name: term_colour(term.name, term.growth, tokens) for bar in data.bars for term in bar.terms}
        handles = [Patch(facecolor=colour, edgecolor=tokens.edge, linewidth=0.4, label=name) for name, colour in names.items()]
        style.legend_above(figure, handles, 3 if job.preset == "one_column" else 6)


def draw_total(axes: Axes, place: int, bar: Bar, tokens: Tokens) -> None:
    variant = look(bar.variant)
    total = sum(term.bytes_ for term in bar.terms)
    axes.plot([1, total], [place, place], color=variant.colour(tokens), linewidth=0.8, alpha=0.6)
    axes.plot([total, total], [place - 0.2, place + 0.2], color=variant.colour(tokens), linewidth=1.4)
    if bar.measured_bytes:
        axes.plot(bar.measured_bytes, place, marker=style.marker_of(variant), **style.marker_face(variant, tokens), markersize=5)
    axes.annotate(bytes_text(total), (total, place), xytext=(6, 5), textcoords="offset points", color=tokens.text2)


def draw_parts(axes: Axes, place: int, bar: Bar, tokens: Tokens) -> None:
    total = sum(term.bytes_ for term in bar.terms) or 1
    left = 0.0
    for term in sorted(bar.terms, key=lambda term: -term.bytes_):
        share = 100 * term.bytes_ / total
        colour = term_colour(term.name, term.growth, tokens)
        axes.barh(place, share, left=left, height=0.5, color=colour, edgecolor=tokens.edge, linewidth=0.4)
        left += share


def table(data: MemoryFigure) -> list[list[str]]:
    """A row a term, then the measured peak."""
    rows = [["variant", "parameters", "seq_len", "kind", "term", "formula", "bytes"]]
    for bar in data.bars:
        start = [bar.variant, bar.summary, str(data.seq_len)]
        rows += [[*start, "predicted", term.name, term.formula, str(term.bytes_)] for term in bar.terms]
        if bar.measured_bytes:
            rows.append([*start, "measured", "peak", "", str(bar.measured_bytes)])
    return rows

"""A figure job to the bytes of one file, provenance inside."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec

from attnscope import __version__
from attnscope.figures.job import Copies, Figure, FigureJob, MapFigure, MemoryFigure, provenance_line


def render(job: FigureJob) -> bytes:
    """The file's bytes.

    Raises:
        ValueError: there is nothing to draw.
    """
    if job.format == "csv":
        return as_csv(job).encode()
    if job.format == "json":
        return as_json(job)
    return as_picture(job)


def copies(job: FigureJob) -> Copies:
    """Picture, vectors and table of one figure."""
    png = render(msgspec.structs.replace(job, format="png"))
    svg = render(msgspec.structs.replace(job, format="svg"))
    return Copies(png, svg, as_text_table(job.figure))


def table_of(figure: Figure) -> list[list[str]]:
    """Header and rows."""
    from attnscope.figures import attention_map, memory, scaling

    if isinstance(figure, MapFigure):
        return attention_map.table(figure)
    if isinstance(figure, MemoryFigure):
        return memory.table(figure)
    return scaling.table(figure)


def as_text_table(figure: Figure) -> str:
    """Tab-separated, as spreadsheets take it from the clipboard."""
    return "\n".join("\t".join(cell.replace("\t", " ") for cell in row) for row in table_of(figure))


def as_csv(job: FigureJob) -> str:
    """Comment lines with the provenance, then the table."""
    out = io.StringIO()
    out.write(f"# {program(job)}\n")
    for key, value in sorted(job.provenance.items()):
        out.write(f"# {key}: {value}\n".replace("\r", " "))
    csv.writer(out, lineterminator="\n").writerows(table_of(job.figure))
    return out.getvalue()


def as_json(job: FigureJob) -> bytes:
    """Provenance and rows by column name."""
    header, *rows = table_of(job.figure)
    document = {
        "program": program(job),
        "provenance": job.provenance,
        "rows": [dict(zip(header, row, strict=True)) for row in rows],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def as_picture(job: FigureJob) -> bytes:
    """PNG, SVG or PDF through matplotlib, which is slow to import and so only imported here."""
    import matplotlib as mpl

    mpl.use("agg")
    from attnscope.figures import attention_map, memory, scaling, style

    style.load_fonts()
    figure_data = job.figure
    line = provenance_line(job.provenance)
    settings: Any = style.settings(style.tokens_of(job), job.preset)  # rc_context knows its keys as literals only
    with mpl.rc_context(settings):
        figure = style.new_figure(job)
        if isinstance(figure_data, MapFigure):
            attention_map.draw(figure, job, figure_data)
        elif isinstance(figure_data, MemoryFigure):
            memory.draw(figure, job, figure_data)
        else:
            scaling.draw(figure, job, figure_data)
        style.caption(figure, job, line)
        out = io.BytesIO()
        figure.savefig(out, format=job.format, dpi=job.dpi, metadata=metadata(job))
    return out.getvalue()


def program(job: FigureJob) -> str:
    """What made the numbers: the job says it, since the child that draws need not ask git."""
    return job.provenance.get("program", f"Attnscope {__version__}")


def metadata(job: FigureJob) -> dict[str, str]:
    """Provenance where each format keeps such things."""
    made_by = program(job)
    text = "; ".join(f"{key}: {value}" for key, value in sorted(job.provenance.items()))
    title = job.title or "Attnscope figure"
    if job.format == "png":
        return {"Title": title, "Description": text, "Software": made_by}
    if job.format == "svg":
        return {"Title": title, "Description": text, "Creator": made_by}
    return {"Title": title, "Subject": text, "Creator": made_by}

"""`attnscope report`: the job of the window without one: a comparison and the maps of a text, as one page."""

from __future__ import annotations

import argparse
import html
import time
from pathlib import Path
from string import Template

import msgspec
from attnscope_engine.catalogue import find

from attnscope.cli import compare, map, shape  # noqa: A004 (the command is called map)
from attnscope.engine_wire import default_command
from attnscope.figures.data import provenance, workload_text
from attnscope.figures.job import FigureJob
from attnscope.figures.render import render
from attnscope.files import atomic_write, data_folder
from attnscope.headless_engine import HeadlessEngine
from attnscope.quantities import bytes_text, count, time_text
from attnscope.results import Results


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "report", help="compare the variants and draw a text's maps; one page with PNG, SVG, CSV", description=__doc__
    )
    shape.add_variant_options(parser, shape.DEFAULT_VARIANTS)
    parser.add_argument("--seq-len", default="256:4096", metavar="N", help="as in compare (default 256:4096)")
    shape.add_shape_options(parser)
    parser.add_argument("--text", metavar="TEXT", help="the text whose maps are drawn (default: the sample sentence)")
    parser.add_argument("--budget", type=float, default=0.25, metavar="S", help="seconds of repeats a point (default 0.25)")
    parser.add_argument(
        "--device", choices=("auto", "cpu"), default="auto", help="what to compute on (default: a GPU when there is one)"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder of the report (default: out)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 1 when nothing could be measured; a missing model only leaves the maps out."""
    began = time.monotonic()
    choices = shape.choices_of(arguments)
    seq_lens = shape.seq_lens(arguments.seq_len)
    shape.workload_of(arguments, seq_lens[0], "fp32")
    with (
        Results(data_folder() / "results.sqlite") as results,
        HeadlessEngine(default_command(arguments.device), results) as engine,
    ):
        device = engine.device
        print(f"Measuring on {device.name} ({device.library}) …", flush=True)
        workload = shape.workload_of(arguments, seq_lens[-1], shape.dtype_of(arguments, device.kind, device.dtypes))
        maps = map_figure_of(engine, arguments)
        sweep = compare.measure_all(engine, workload, choices, seq_lens, arguments.budget)
    jobs = {**({"map": maps[0]} if isinstance(maps, tuple) else {}), **compare.figures(sweep)}
    write(arguments.out, jobs)
    page = page_of(sweep, jobs, maps[1] if isinstance(maps, tuple) else maps)
    atomic_write(arguments.out / "report.html", page.encode())
    print(compare.as_table(sweep))
    print(f"\nReport: {(arguments.out / 'report.html').resolve()}  ({time.monotonic() - began:.0f} s)")
    return 0 if sweep.measured else 1


def map_figure_of(engine: HeadlessEngine, arguments: argparse.Namespace) -> tuple[FigureJob, str] | str:
    """The maps and what the program found in them; a sentence when there are none."""
    words = ["map", *(["--text", arguments.text] if arguments.text else [])]
    options = _map_parser().parse_args(words)
    try:
        source = map.source_of(options)
        job, said = map.draw(engine, source, shape.workload_of(options, 64, "fp32"), map.DEFAULT, options)
    except map.MapError as error:
        return str(error)
    device = provenance(shape.workload_of(options, 64, "fp32"), engine.device, head=said["head"])
    device.pop("workload")
    return msgspec.structs.replace(job, provenance=device), said["link"].strip()


def _map_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    map.add(parser.add_subparsers())
    return parser


def write(folder: Path, jobs: dict[str, FigureJob]) -> None:
    """Every figure in every format. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, job in jobs.items():
        for format_ in compare.FORMATS:
            atomic_write(folder / f"{stem}.{format_}", render(msgspec.structs.replace(job, format=format_, dpi=200)))


PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Attnscope report</title>
<style>
 body { font: 14px/1.5 "IBM Plex Sans", system-ui, sans-serif; color: #12161b;
   max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
 h1 { font-size: 20px } h2 { font-size: 16px; margin-top: 2.2rem }
 img { width: 100%; height: auto } figure { margin: 0 }
 table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
 th, td { border-bottom: 1px solid #d3d9df; padding: 3px 12px 3px 0; text-align: right }
 th:first-child, td:first-child { text-align: left }
 p.note, figcaption { color: #57616c; font-size: 12px }
</style>
<h1>Attention on this machine</h1>
<p>$device. $shape.</p>
$map
<h2>Time and memory against n</h2>
<figure><img src="scaling.svg" alt="Time and peak memory of each variant against sequence length">
<figcaption>Line: predicted from the formula. Marker: measured here, p20 to p80. $links_scaling</figcaption></figure>
$table
<h2>What the memory is made of at n = $n</h2>
<figure><img src="memory.svg" alt="Peak memory of each variant by named term"><figcaption>$links_memory</figcaption></figure>
$problems
<p class="note">$provenance</p>
</html>
""")


def page_of(sweep: compare.Sweep, jobs: dict[str, FigureJob], map_words: str) -> str:
    """The page; every text that came from outside is escaped."""
    links = {stem: ", ".join(f'<a href="{stem}.{format_}">{format_.upper()}</a>' for format_ in compare.FORMATS) for stem in jobs}
    if "map" in jobs:
        picture = '<figure><img src="map.svg" alt="Attention maps of one head under two variants">'
        map_part = (
            f"<h2>One head, two ways</h2><p>{html.escape(map_words)}</p>{picture}<figcaption>{links['map']}</figcaption></figure>"
        )
    else:
        map_part = f"<h2>Maps</h2><p>{html.escape(map_words)}</p>"
    problems = "".join(
        f"<li>{html.escape(find(v).title)}, n = {count(n)}: {html.escape(text)}</li>" for v, n, text in sweep.problems
    )
    said = provenance(sweep.workload, sweep.device, sweep.measured)
    return PAGE.substitute(
        device=html.escape(f"{sweep.device.name}, {sweep.device.library}"),
        shape=html.escape(workload_text(sweep.workload, with_seq_len=False)),
        map=map_part,
        table=html_table(sweep),
        n=count(sweep.workload.seq_len),
        links_scaling=links["scaling"],
        links_memory=links["memory"],
        problems=f"<h2>Not launched</h2><ul>{problems}</ul>" if problems else "",
        provenance=html.escape("; ".join(f"{key}: {value}" for key, value in said.items())),
    )


def html_table(sweep: compare.Sweep) -> str:
    """Measured time and peak, a row a sequence length."""
    titles = [html.escape(find(choice.variant).title) for choice in sweep.choices]
    head = "<tr><th>n" + "".join(f"<th>{title}, time<th>peak" for title in titles) + "</tr>"
    body = []
    for n in sweep.seq_lens:
        cells = [f"<td>{count(n)}"]
        for choice in sweep.choices:
            row = next((m for m in sweep.measured if m.workload.seq_len == n and m.choice.variant == choice.variant), None)
            cells.append(f"<td>{time_text(row.time_s)}<td>{bytes_text(row.peak_bytes)}" if row else "<td>–<td>–")
        body.append("<tr>" + "".join(cells) + "</tr>")
    return f"<table>{head}{''.join(body)}</table>"

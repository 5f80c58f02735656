"""`attnscope compare`: sweep variants over sequence lengths on this machine; a table here, figures and CSV in a folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from attnscope_engine.catalogue import find
from attnscope_engine.protocol import (
    Calibrate,
    Ceilings,
    Choice,
    DeviceFacts,
    Failure,
    Job,
    Measure,
    Measured,
    Refused,
    Result,
    Vitals,
    Workload,
)

from attnscope.cli import shape
from attnscope.cli.terminal import ProgressBar, table
from attnscope.engine_wire import default_command
from attnscope.figures.data import at, memory_figure, provenance, scaling_figure
from attnscope.figures.job import FigureJob, Format
from attnscope.figures.render import render
from attnscope.files import atomic_write, data_folder
from attnscope.headless_engine import HeadlessEngine
from attnscope.quantities import bytes_text, count, time_text
from attnscope.results import Results

FORMATS: tuple[Format, ...] = ("png", "svg", "csv")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found."""

    workload: Workload
    choices: tuple[Choice, ...]
    seq_lens: tuple[int, ...]
    device: DeviceFacts
    ceilings: Ceilings | None
    vitals: Vitals | None
    measured: tuple[Measured, ...]
    problems: tuple[tuple[str, int, str], ...]
    """(variant, n, sentence) of each point that was refused or failed."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compare", help="measure time and memory of variants over n, on this machine", description=__doc__
    )
    shape.add_variant_options(parser, shape.DEFAULT_VARIANTS)
    parser.add_argument(
        "--seq-len", default="512:8192", metavar="N", help="4096, or 512,1000,2k, or 512:8192 (powers of two; the default)"
    )
    shape.add_shape_options(parser)
    parser.add_argument("--budget", type=float, default=0.5, metavar="S", help="seconds of repeats a point (default 0.5)")
    parser.add_argument(
        "--device", choices=("auto", "cpu"), default="auto", help="what to compute on (default: a GPU when there is one)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write scaling and memory as PNG, SVG and CSV into this folder")
    parser.add_argument("--json", action="store_true", help="print every measured row as JSON instead of the table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 1 when not one point could be measured."""
    choices = shape.choices_of(arguments)
    seq_lens = shape.seq_lens(arguments.seq_len)
    if not 0.05 <= arguments.budget <= 600:
        raise shape.UsageError(f"--budget must be 0.05 to 600 seconds (was {arguments.budget:g}).")
    shape.workload_of(arguments, seq_lens[0], "fp32")  # wrong options are told before an engine is started
    with (
        Results(data_folder() / "results.sqlite") as results,
        HeadlessEngine(default_command(arguments.device), results) as engine,
    ):
        device = engine.device
        workload = shape.workload_of(arguments, seq_lens[-1], shape.dtype_of(arguments, device.kind, device.dtypes))
        sweep = measure_all(engine, workload, choices, seq_lens, arguments.budget)
    print(as_json(sweep) if arguments.json else as_table(sweep))
    if arguments.out:
        for path in write(sweep, arguments.out):
            print(f"wrote {path}") if not arguments.json else None
    return 0 if sweep.measured else 1


def measure_all(
    engine: HeadlessEngine, workload: Workload, choices: Sequence[Choice], seq_lens: Sequence[int], budget_s: float
) -> Sweep:
    """Ceilings, then each variant at each n, shortest first so that something is known early."""
    ceilings = engine.ask_one(Calibrate())
    jobs = [Measure(at(workload, n), choice, budget_s) for n in seq_lens for choice in choices]
    measured: list[Measured] = []
    problems: list[tuple[str, int, str]] = []
    with ProgressBar(len(jobs)) as bar:
        for number, job in enumerate(jobs):
            title = find(job.choice.variant).title
            where = f"{title}, n = {count(job.workload.seq_len)}"
            bar.show(number, where)

            def on_progress(_job: Job, done: float, _text: str, number: int = number, where: str = where) -> None:
                bar.show(number + done, where)

            reply = engine.ask_one(job, on_progress=on_progress)
            if isinstance(reply, Result) and isinstance(reply.payload, Measured):
                measured.append(reply.payload)
            elif isinstance(reply, Refused):
                problems.append((job.choice.variant, job.workload.seq_len, refusal_text(reply)))
            elif isinstance(reply, Failure):
                problems.append((job.choice.variant, job.workload.seq_len, reply.text))
    return Sweep(
        workload=workload,
        choices=tuple(choices),
        seq_lens=tuple(seq_lens),
        device=engine.device,
        ceilings=ceilings.payload if isinstance(ceilings, Result) and isinstance(ceilings.payload, Ceilings) else None,
        vitals=engine.live.vitals,
        measured=tuple(measured),
        problems=tuple(problems),
    )


def refusal_text(reply: Refused) -> str:
    """The refusal in one line: what, how much, what is free, the way out."""
    said = reply.refusal
    if said.reason != "memory":
        return said.text
    terms = ", ".join(f"{term.name} {bytes_text(term.bytes_)}" for term in said.terms[:3])
    return (
        f"{said.text}: needs {bytes_text(said.needed_bytes)} ({terms}); free {bytes_text(said.free_bytes)}; "
        f"largest n that fits {count(said.largest_seq_len)}."
    )


def as_table(sweep: Sweep) -> str:
    """One row a sequence length, time and peak a variant; then what was refused."""
    header = ["n", *(f"{find(choice.variant).title} {what}" for choice in sweep.choices for what in ("time", "peak"))]
    rows = []
    for n in sweep.seq_lens:
        cells = [count(n)]
        for choice in sweep.choices:
            found = next(
                (row for row in sweep.measured if row.workload.seq_len == n and row.choice.variant == choice.variant), None
            )
            cells += (
                [f"{'≈ ' if found.noise else ''}{time_text(found.time_s)}", bytes_text(found.peak_bytes)] if found else ["–", "–"]
            )
        rows.append(cells)
    lines = [f"{sweep.device.name}, {sweep.device.library}", "", table(header, rows)]
    if any(row.noise for row in sweep.measured):
        lines.append("≈: the spread of the repeats is larger than the criterion; the CSV and --json say why.")
    lines += [f"{find(variant).title}, n = {count(n)}: {text}" for variant, n, text in sweep.problems]
    return "\n".join(lines)


def as_json(sweep: Sweep) -> str:
    document = {
        "device": msgspec.to_builtins(sweep.device),
        "ceilings": msgspec.to_builtins(sweep.ceilings),
        "measured": msgspec.to_builtins(sweep.measured),
        "problems": [{"variant": variant, "seq_len": n, "text": text} for variant, n, text in sweep.problems],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def figures(sweep: Sweep) -> dict[str, FigureJob]:
    """The two figures of a sweep, by file stem."""
    free = sweep.vitals.free_bytes if sweep.vitals else 0
    total = sweep.vitals.total_bytes if sweep.vitals else 0
    lines = sorted({n * m // 4 for n in sweep.seq_lens for m in (4, 5, 6, 7) if n * m // 4 <= sweep.seq_lens[-1]})
    scaling = scaling_figure(
        sweep.workload,
        sweep.choices,
        sweep.measured,
        lines,
        on=sweep.device.kind,
        ceilings=sweep.ceilings,
        free_bytes=free,
        total_bytes=total,
    )
    memory = memory_figure(sweep.workload, sweep.choices, sweep.measured, on=sweep.device.kind, free_bytes=free)
    said = provenance(sweep.workload, sweep.device, sweep.measured)
    return {"scaling": FigureJob(scaling, provenance=said), "memory": FigureJob(memory, provenance=said)}


def write(sweep: Sweep, folder: Path) -> list[Path]:
    """Each figure in each format. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for stem, job in figures(sweep).items():
        for format_ in FORMATS:
            path = folder / f"{stem}.{format_}"
            atomic_write(path, render(msgspec.structs.replace(job, format=format_, dpi=200)))
            written.append(path)
    return written

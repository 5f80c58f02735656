"""Runs the benchmark: `python -m attnscope_engine.bench_exact`. Exit code 1 without a GPU or when an output is wrong."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from attnscope_engine.bench_exact import printing
from attnscope_engine.bench_exact.cells import GROUPS, cells
from attnscope_engine.bench_exact.results import Report, write
from attnscope_engine.devices import DeviceFault
from attnscope_engine.devices.pick import why_no_gpu

BUDGET_S, QUICK_BUDGET_S = 1.5, 0.4
"""Of one cell's timed rounds."""


def arguments_of(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="attnscope bench exact", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, with provenance, after each cell")
    parser.add_argument("--quick", action="store_true", help="about a minute: a few cells of each kind")
    parser.add_argument(
        "--groups", default=",".join(GROUPS), metavar="NAMES", help=f"only these kinds of cells: {','.join(GROUPS)}"
    )
    arguments = parser.parse_args(words)
    arguments.groups = tuple(arguments.groups.split(","))
    unknown = [name for name in arguments.groups if name not in GROUPS]
    if unknown:
        parser.error(f"no such kind of cells: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    return arguments


def main(words: list[str] | None = None) -> int:
    arguments = arguments_of(words)
    torch, why = torch_with_gpu()
    if why:
        return _failed(why)
    if arguments.json and not arguments.json.resolve().parent.is_dir():
        return _failed(f"There is no folder {arguments.json.resolve().parent} to write {arguments.json.name} to.")
    from attnscope_engine.bench_exact.session import Session, reports

    try:
        session = Session(torch, QUICK_BUDGET_S if arguments.quick else BUDGET_S)
        report = Report({})
        for report in reports(session, cells(arguments.groups, arguments.quick), arguments.quick):
            _show(report)
            if arguments.json:
                write(report, arguments.json)
    except (DeviceFault, RuntimeError) as fault:  # torch's errors of CUDA are RuntimeErrors
        return _failed(f"The GPU failed: {str(fault).partition(chr(10))[0]}")
    except OSError as error:
        return _failed(f"{arguments.json} could not be written: {error.strerror or error}.")
    except KeyboardInterrupt:
        return 130
    return 1 if any(row.wrong for row in report.rows) else 0


def torch_with_gpu() -> tuple[Any, str]:
    """The torch module and "", or None and the sentence that says what is missing."""
    why = why_no_gpu()
    if why:
        return None, f"bench exact times GPU kernels, and there is none to time. {why}"
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None, "bench exact compares with torch, which is not installed: pip install torch, the build with CUDA."
    if not torch.cuda.is_available():
        return (
            None,
            f"bench exact compares with torch on the GPU, and torch {torch.__version__} sees none: install its CUDA build.",
        )
    return torch, ""


def _show(report: Report) -> None:
    """What is new in this report."""
    if report.finished:
        lines = ["", printing.limits_line(report.limits), *printing.summary(report), f"{report.seconds:.0f} s"]
    elif report.naive:
        lines = [printing.steps_line(report.naive[-1])]
    elif report.rows:
        lines = printing.row_lines(report.rows[-1])
    else:
        lines = [printing.head(report.provenance), printing.limits_line(report.limits)]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _failed(sentence: str) -> int:
    sys.stderr.write(f"attnscope: {sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

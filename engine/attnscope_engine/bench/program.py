"""The command of a benchmark: its options, what must be there first, its reports as text and as a file."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnscope_engine.bench.results import Report, write
from attnscope_engine.devices import DeviceFault
from attnscope_engine.devices.pick import why_no_gpu

BUDGET_S, QUICK_BUDGET_S = 1.5, 0.4
"""Of one cell's timed rounds."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark against others."""

    name: str
    """As on the command line."""
    description: str
    groups: Sequence[str]
    """Kinds of cells that can be asked for."""
    reports: Callable[[Any, float, Sequence[str], bool], Iterator[Report[Any]]]
    """`(torch, seconds for a cell's rounds, groups, quick)` → the report after each part."""
    news: Callable[[Any], list[str]]
    """Lines that say what is new in a report."""


def arguments_of(benchmark: Benchmark, words: list[str] | None) -> argparse.Namespace:
    """Raises: SystemExit."""
    parser = argparse.ArgumentParser(prog=f"attnscope bench {benchmark.name}", description=benchmark.description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, with provenance, after each cell")
    parser.add_argument("--quick", action="store_true", help="a few cells of each kind, each for a shorter time")
    named = ",".join(benchmark.groups)
    parser.add_argument("--groups", default=named, metavar="NAMES", help=f"only these kinds of cells: {named}")
    arguments = parser.parse_args(words)
    arguments.groups = tuple(arguments.groups.split(","))
    unknown = [name for name in arguments.groups if name not in benchmark.groups]
    if unknown:
        parser.error(f"no such kind of cells: {', '.join(unknown)}; there are {', '.join(benchmark.groups)}")
    return arguments


def run(benchmark: Benchmark, words: list[str] | None = None) -> int:
    """Exit code 1 without a GPU or when an output is wrong."""
    arguments = arguments_of(benchmark, words)
    torch, why = torch_with_gpu(benchmark.name)
    if why:
        return _failed(why)
    if arguments.json and not arguments.json.resolve().parent.is_dir():
        return _failed(f"There is no folder {arguments.json.resolve().parent} to write {arguments.json.name} to.")
    budget_s = QUICK_BUDGET_S if arguments.quick else BUDGET_S
    wrong: list[str] = []
    try:
        for report in benchmark.reports(torch, budget_s, arguments.groups, arguments.quick):
            sys.stdout.write("\n".join(benchmark.news(report)) + "\n")
            sys.stdout.flush()
            if arguments.json:
                write(report, arguments.json)
            wrong = report.wrong
    except (DeviceFault, RuntimeError) as fault:  # torch's errors of CUDA are RuntimeErrors
        return _failed(f"The GPU failed: {str(fault).partition(chr(10))[0]}")
    except OSError as error:
        return _failed(f"{arguments.json} could not be written: {error.strerror or error}.")
    except KeyboardInterrupt:
        return 130
    return 1 if wrong else 0


def torch_with_gpu(name: str) -> tuple[Any, str]:
    """The torch module and "", or None and the sentence that says what the benchmark `name` lacks."""
    why = why_no_gpu()
    if why:
        return None, f"bench {name} times GPU kernels, and there is none to time. {why}"
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None, f"bench {name} compares with torch, which is not installed: pip install torch, the build with CUDA."
    if not torch.cuda.is_available():
        sees = f"torch {torch.__version__} sees none: install its CUDA build."
        return None, f"bench {name} compares with torch on the GPU, and {sees}"
    return torch, ""


def _failed(sentence: str) -> int:
    sys.stderr.write(f"attnscope: {sentence}\n")
    return 1

"""Runs the benchmark: `python -m attnscope_engine.bench_exact`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from attnscope_engine.bench import program
from attnscope_engine.bench_exact import printing
from attnscope_engine.bench_exact.cells import GROUPS
from attnscope_engine.bench_exact.results import Report


def reports(torch: Any, budget_s: float, groups: Sequence[str], quick: bool) -> Iterator[Report]:
    """The report after each part. Raises: DeviceFault."""
    from attnscope_engine.bench_exact.session import run

    return run(torch, budget_s, groups, quick)


BENCHMARK = program.Benchmark(
    name="exact",
    description="Our exact attention on an NVIDIA GPU beside every other that this machine has.",
    groups=GROUPS,
    reports=reports,
    news=printing.news,
)

if __name__ == "__main__":
    sys.exit(program.run(BENCHMARK))

"""Runs the benchmark: `python -m attnscope_engine.bench_family`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from attnscope_engine.bench import program
from attnscope_engine.bench_family import printing
from attnscope_engine.bench_family.cells import GROUPS
from attnscope_engine.bench_family.results import Report


def reports(torch: Any, budget_s: float, groups: Sequence[str], quick: bool) -> Iterator[Report]:
    """The report after each part. Raises: DeviceFault."""
    from attnscope_engine.bench_family.session import run

    return run(torch, budget_s, groups, quick)


BENCHMARK = program.Benchmark(
    name="family",
    description="Our linear, recurrent and masked attention on an NVIDIA GPU beside fla, FlexAttention and torch.",
    groups=GROUPS,
    reports=reports,
    news=printing.news,
)

if __name__ == "__main__":
    sys.exit(program.run(BENCHMARK))

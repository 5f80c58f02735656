"""What a run of exact attention found beside ratios, and its file. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from attnscope_engine.bench import results
from attnscope_engine.bench.results import Timing
from attnscope_engine.bench_exact.cells import Cell

UNIT: dict[str, float] = {"bf16": 2.0**-8, "fp16": 2.0**-11}
ALLOWED_UNITS = 4
"""Two right results differ by a few roundings of the largest output: more is an error, not noise."""

Row = results.Row[Cell]
"""`difference` is the largest absolute one of two outputs."""


class Steps(Struct, frozen=True):
    """Naive attention: the whole call, and each of its steps by itself."""

    cell: Cell
    whole: Timing
    steps: tuple[Timing, ...]


class Report(results.Report[Cell], frozen=True):
    """A run, whole or so far."""

    naive: tuple[Steps, ...] = ()


def growing_share(report: Report) -> list[tuple[Cell, float]]:
    """Of each worst case: our rate as a share of that on normal numbers."""
    normal = {row.cell: row.ours for row in report.rows}
    found = []
    for row in report.rows:
        twin = normal.get(msgspec.structs.replace(row.cell, numbers="normal"))
        if row.cell.numbers == "growing" and row.ours and twin:
            found.append((row.cell, twin.time_s / row.ours.time_s))
    return found


def gemm_share(report: Report, seq_len: int = 16_384) -> float | None:
    """Our rate at D128 full of this n in bf16, as a share of the machine's own matrix product."""
    for row in report.rows:
        cell = row.cell
        if (cell.group, cell.dtype, cell.head_dim, cell.causal, cell.keys) == ("grid", "bf16", 128, False, seq_len) and row.ours:
            rates = report.limits.gemm_flops_per_s
            return cell.flops / row.ours.time_s / max(rates) if rates else None
    return None


def decoded(data: bytes) -> Report:
    """Raises: msgspec.ValidationError, msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Report)

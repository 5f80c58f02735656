"""A run of exact attention as lines of text. Pure."""

from __future__ import annotations

from attnscope_engine.bench import printing
from attnscope_engine.bench.printing import milliseconds
from attnscope_engine.bench.results import Timing
from attnscope_engine.bench_exact.cells import GROUPS, Cell
from attnscope_engine.bench_exact.results import Report, Row, Steps, gemm_share, growing_share


def news(report: Report) -> list[str]:
    """What is new in this report."""
    if report.finished:
        return printing.finished_lines(report, summary(report))
    if report.naive:
        return [steps_line(report.naive[-1])]
    if report.rows:
        return row_lines(report.rows[-1])
    return [head(report.provenance), printing.limits_line(report.limits)]


def head(provenance: dict[str, str]) -> str:
    """Device and versions, then how to read a line."""
    return (
        f"{printing.head(provenance)}\n"
        "Medians of graph replays, contenders in turns. FLOPs: 4·B·H·pairs·D, only pairs that the mask lets through.\n"
        "Ratio: time of the best peer over ours. Extra memory: beside q, k, v and out."
    )


def rate(cell: Cell, timing: Timing) -> str:
    """TFLOP/s, or for a decode TB/s of k and v."""
    if cell.group == "decode":
        return f"{cell.key_bytes / timing.time_s / 1e12:.2f} TB/s"
    return f"{cell.flops / timing.time_s / 1e12:.0f} TFLOP/s"


def row_lines(row: Row) -> list[str]:
    """The cell and ours, then each peer, then what speaks against the numbers."""
    cell = row.cell
    if row.ours is None:
        first = f"{cell.name}: ours did not run"
    else:
        first = f"{cell.name}: {milliseconds(row.ours)}, {rate(cell, row.ours)}, {printing.against_best(row)}"
    peers = [f"    {peer.name}: {milliseconds(peer)}, {rate(cell, peer)}{printing.memory(peer)}" for peer in row.peers]
    return [first, *peers, *printing.absent_lines(row), printing.facts_line(row)]


def steps_line(found: Steps) -> str:
    parts = ", ".join(f"{step.name} {1e3 * step.time_s:.3f}" for step in found.steps)
    return f"Naive {found.cell.name}: {parts}; all three {1e3 * found.whole.time_s:.3f} ms, {rate(found.cell, found.whole)}"


def summary(report: Report) -> list[str]:
    """Least and median ratio of each group, and the other figures that a cell alone does not show."""
    lines = printing.ratio_lines(report, GROUPS)
    share = gemm_share(report)
    if share is not None:
        lines.append(f"D128 full at 16k: {share:.3f} of this machine's 8192³ product")
    lines += [f"worst case {cell.name}: {share:.3f} of the rate on normal numbers" for cell, share in growing_share(report)]
    return lines + printing.wrong_lines(report)

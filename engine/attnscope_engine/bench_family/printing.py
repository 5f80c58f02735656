"""A run of the family as lines of text. Pure."""

from __future__ import annotations

from attnscope_engine.bench import printing
from attnscope_engine.bench.printing import milliseconds
from attnscope_engine.bench.results import Limits, Timing
from attnscope_engine.bench_family.cells import GROUPS
from attnscope_engine.bench_family.results import DENSE_NAME, Report, Row, multiple, worst_and_median


def news(report: Report) -> list[str]:
    """What is new in this report."""
    if report.finished:
        return printing.finished_lines(report, summary(report))
    if report.rows:
        return row_lines(report.rows[-1], report.limits)
    return [head(report.provenance), printing.limits_line(report.limits)]


def head(provenance: dict[str, str]) -> str:
    """Device and versions, then how to read a line."""
    return (
        f"{printing.head(provenance, ('triton', 'fla-core'))}\n"
        "Medians of graph replays, contenders in turns. Floor: bytes of inputs and output once, at this run's rate of a copy.\n"
        "Features, gates, β and unit keys are made before and given to all. Ratio: time of the best peer over ours.\n"
        f"Masks: FLOPs of the pairs that are seen; × dense: time over that of {DENSE_NAME} for so many pairs.\n"
        "Difference: root mean square, over that of the peer's output. Extra memory: beside inputs and output."
    )


def rate(row: Row, timing: Timing, limits: Limits) -> str:
    """The multiple of the byte floor, or under a mask TFLOP/s."""
    if row.cell.masked:
        return "" if row.flops is None else f", {row.flops / timing.time_s / 1e12:.0f} TFLOP/s"
    found = multiple(row.cell, timing, limits)
    return "" if found is None else f", {found:.2f} × floor"


def row_lines(row: Row, limits: Limits) -> list[str]:
    """The cell and ours, then each peer, then what speaks against the numbers."""
    name = row.cell.name if row.density is None else f"{row.cell.name}, density {row.density:.3f}"
    if row.ours is None:
        first = f"{name}: ours did not run"
    else:
        of_dense = "" if row.of_dense is None else f", {row.of_dense:.2f} × dense"
        first = f"{name}: {milliseconds(row.ours)}{rate(row, row.ours, limits)}{of_dense}, {printing.against_best(row)}"
    lines = [first]
    lines += [f"    {peer.name}: {milliseconds(peer)}{rate(row, peer, limits)}{printing.memory(peer)}" for peer in row.peers]
    if row.dense is not None:
        dense_rate = f"{row.cell.dense_flops / row.dense.time_s / 1e12:.0f} TFLOP/s"
        lines.append(f"    {row.dense.name}: {milliseconds(row.dense)}, {dense_rate}{printing.memory(row.dense)}")
    return [*lines, *printing.absent_lines(row), printing.facts_line(row)]


def summary(report: Report) -> list[str]:
    """Ratios, multiples of the floor and of dense attention, the worst and the median of each group."""
    lines = printing.ratio_lines(report, GROUPS)
    for group in GROUPS:
        rows = [row for row in report.rows if row.cell.group == group and row.ours is not None]
        floors = [multiple(row.cell, row.ours, report.limits) for row in rows if not row.cell.masked and row.ours]
        lines += _worst(group, "× floor", [value for value in floors if value is not None])
        lines += _worst(group, "× dense", [row.of_dense for row in rows if row.of_dense is not None])
    return lines + printing.wrong_lines(report)


def _worst(group: str, unit: str, values: list[float]) -> list[str]:
    found = worst_and_median(values)
    return [f"{group}: at most {found[0]:.2f} {unit}, median {found[1]:.2f} ({len(values)} cells)"] if found else []

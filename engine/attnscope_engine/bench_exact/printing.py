"""A run as lines of text. Pure."""

from __future__ import annotations

from attnscope_engine.bench_exact.cells import GROUPS, Cell
from attnscope_engine.bench_exact.results import (
    OURS,
    Limits,
    Report,
    Row,
    Steps,
    Timing,
    gemm_share,
    growing_share,
    least_and_median,
    ratios,
)

LONGEST_REASON = 60


def head(provenance: dict[str, str]) -> str:
    """Device and versions, then how to read a line."""
    parts = ("device", "driver", "cuda", "nvrtc", "torch", "cudnn", "cupy", "commit", "date")
    known = [f"{part} {provenance[part]}" for part in parts if provenance.get(part)]
    return (
        f"{', '.join(known)}\n"
        "Medians of graph replays, contenders in turns. FLOPs: 4·B·H·pairs·D, only pairs that the mask lets through.\n"
        "Ratio: time of the best peer over ours. Extra memory: beside q, k, v and out."
    )


def limits_line(limits: Limits) -> str:
    rates = ", ".join(f"{rate / 1e12:.0f}" for rate in limits.gemm_flops_per_s)
    copies = ", ".join(f"{rate / 1e12:.2f}" for rate in limits.copy_bytes_per_s)
    twice = ", ".join(f"{100 * share:.1f}" for share in limits.same_twice)
    return f"This machine: 8192³ bf16 product {rates} TFLOP/s (the same twice: {twice} % apart), copy {copies} TB/s"


def rate(cell: Cell, timing: Timing) -> str:
    """TFLOP/s, or for a decode TB/s of k and v."""
    if cell.group == "decode":
        return f"{cell.key_bytes / timing.time_s / 1e12:.2f} TB/s"
    return f"{cell.flops / timing.time_s / 1e12:.0f} TFLOP/s"


def milliseconds(timing: Timing) -> str:
    return f"{1e3 * timing.time_s:.3f} ms ({1e3 * timing.p20_s:.3f}–{1e3 * timing.p80_s:.3f}, {timing.replays})"


def row_lines(row: Row) -> list[str]:
    """The cell and ours, then each peer, then what speaks against the numbers."""
    cell = row.cell
    if row.ours is None:
        first = f"{cell.name}: ours did not run"
    else:
        best = f"{row.ratio:.3f} × {row.best.name}" if row.ratio is not None and row.best else "no peer"
        first = f"{cell.name}: {milliseconds(row.ours)}, {rate(cell, row.ours)}, {best}"
    lines = [first]
    lines += [f"    {peer.name}: {milliseconds(peer)}, {rate(cell, peer)}{_memory(peer)}" for peer in row.peers]
    reasons = dict.fromkeys(absent.why for absent in row.absent)
    for why in reasons:
        names = ", ".join(absent.name for absent in row.absent if absent.why == why)
        lines.append(f"    {names}: – {short(why)}")
    lines.append(f"    {_facts(row)}")
    return lines


def _facts(row: Row) -> str:
    facts = []
    if row.ours is not None:
        facts.append(f"{OURS}:{_memory(row.ours).replace(',', '')}" if row.ours.extra_bytes else f"{OURS}: no extra memory")
    if row.wrong:
        facts.append(f"WRONG: differs from {row.against} by {row.difference}, allowed {row.allowed:.1e}")
    elif row.difference is not None:
        facts.append(f"differs from {row.against} by {row.difference:.1e} (allowed {row.allowed:.1e})")
    else:
        facts.append("compared with nothing")
    clocks = sorted({timing.clock_mhz for timing in (row.ours, *row.peers) if timing and timing.clock_mhz})
    if clocks:
        facts.append(f"{clocks[0]:,} MHz" if len(clocks) == 1 else f"{clocks[0]:,} to {clocks[-1]:,} MHz")
    if row.clocks_differ:
        facts.append("clocks more than 3 % apart")
    if row.throttled:
        facts.append(f"throttled: {', '.join(row.throttled)}")
    facts.append(f"{row.input_sets} input sets")
    return "; ".join(facts)


def _memory(timing: Timing) -> str:
    if not timing.extra_bytes:
        return ""
    kibi = timing.extra_bytes / 1024
    return f", {kibi / 1024:.2f} MiB extra" if kibi >= 1024 else f", {kibi:.3g} KiB extra"


def short(why: str) -> str:
    """The first line, cut."""
    first = why.strip().splitlines()[0] if why.strip() else "no reason given"
    return first if len(first) <= LONGEST_REASON else first[: LONGEST_REASON - 1] + "…"


def steps_line(found: Steps) -> str:
    parts = ", ".join(f"{step.name} {1e3 * step.time_s:.3f}" for step in found.steps)
    return f"Naive {found.cell.name}: {parts}; all three {1e3 * found.whole.time_s:.3f} ms, {rate(found.cell, found.whole)}"


def summary(report: Report) -> list[str]:
    """Least and median ratio of each group, and the other figures that a cell alone does not show."""
    lines = []
    for group in GROUPS:
        values = ratios(report, group)
        found = least_and_median(values)
        if found:
            lines.append(f"{group}: ratio to the best peer at least {found[0]:.3f}, median {found[1]:.3f} ({len(values)} cells)")
    share = gemm_share(report)
    if share is not None:
        lines.append(f"D128 full at 16k: {share:.3f} of this machine's 8192³ product")
    lines += [f"worst case {cell.name}: {share:.3f} of the rate on normal numbers" for cell, share in growing_share(report)]
    wrong = [row.cell.name for row in report.rows if row.wrong]
    lines += [f"WRONG: {name}" for name in wrong]
    return lines

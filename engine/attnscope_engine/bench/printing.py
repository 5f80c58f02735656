"""What is common to runs as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from attnscope_engine.bench.results import OURS, Cell, Limits, Report, Row, Timing, least_and_median, ratios

LONGEST_REASON = 60


def head(provenance: dict[str, str], packages: Sequence[str] = ()) -> str:
    """Device and versions, those of `packages` too."""
    parts = ("device", "driver", "cuda", "nvrtc", "torch", "cudnn", "cupy", *packages, "commit", "date")
    return ", ".join(f"{part} {provenance[part]}" for part in parts if provenance.get(part))


def limits_line(limits: Limits) -> str:
    rates = ", ".join(f"{rate / 1e12:.0f}" for rate in limits.gemm_flops_per_s)
    copies = ", ".join(f"{rate / 1e12:.2f}" for rate in limits.copy_bytes_per_s)
    twice = ", ".join(f"{100 * share:.1f}" for share in limits.same_twice)
    return f"This machine: 8192³ bf16 product {rates} TFLOP/s (the same twice: {twice} % apart), copy {copies} TB/s"


def milliseconds(timing: Timing) -> str:
    return f"{1e3 * timing.time_s:.3f} ms ({1e3 * timing.p20_s:.3f}–{1e3 * timing.p80_s:.3f}, {timing.replays})"


def against_best(row: Row[Cell]) -> str:
    """Such as "1.250 × cuDNN"."""
    return f"{row.ratio:.3f} × {row.best.name}" if row.ratio is not None and row.best else "no peer"


def absent_lines(row: Row[Cell]) -> list[str]:
    """Who could not run, those with one reason together."""
    lines = []
    for why in dict.fromkeys(absent.why for absent in row.absent):
        names = ", ".join(absent.name for absent in row.absent if absent.why == why)
        lines.append(f"    {names}: – {short(why)}")
    return lines


def facts_line(row: Row[Cell]) -> str:
    """Memory of ours, and what speaks against the numbers."""
    facts = []
    if row.ours is not None:
        facts.append(f"{OURS}:{memory(row.ours).replace(',', '')}" if row.ours.extra_bytes else f"{OURS}: no extra memory")
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
    return f"    {'; '.join(facts)}"


def memory(timing: Timing) -> str:
    """Such as ", 1.50 MiB extra", empty for none."""
    if not timing.extra_bytes:
        return ""
    kibi = timing.extra_bytes / 1024
    return f", {kibi / 1024:.2f} MiB extra" if kibi >= 1024 else f", {kibi:.3g} KiB extra"


def short(why: str) -> str:
    """The first line, cut."""
    first = why.strip().splitlines()[0] if why.strip() else "no reason given"
    return first if len(first) <= LONGEST_REASON else first[: LONGEST_REASON - 1] + "…"


def ratio_lines(report: Report[Cell], groups: Sequence[str]) -> list[str]:
    """Least and median ratio of each group."""
    lines = []
    for group in groups:
        values = ratios(report, group)
        found = least_and_median(values)
        if found:
            lines.append(f"{group}: ratio to the best peer at least {found[0]:.3f}, median {found[1]:.3f} ({len(values)} cells)")
    return lines


def wrong_lines(report: Report[Cell]) -> list[str]:
    return [f"WRONG: {name}" for name in report.wrong]


def finished_lines(report: Report[Cell], summary: Sequence[str]) -> list[str]:
    return ["", limits_line(report.limits), *summary, f"{report.seconds:.0f} s"]

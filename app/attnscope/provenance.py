"""How numbers were had, in words: of one point for its tool tip, of many for the Scaling page. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from attnscope_engine.protocol import Ceilings, Dtype, Measured

from attnscope.quantities import NARROW_SPACE, count, rate_text, time_parts, time_text


def when(taken_at: float, now: float) -> str:
    """Such as "today 14:02", "21 Nov 14:02", "21 Nov 2025": local time."""
    then, today = datetime.fromtimestamp(taken_at), datetime.fromtimestamp(now)
    if then.date() == today.date():
        return f"today {then:%H:%M}"
    return f"{then.day} {then:%b %H:%M}" if then.year == today.year else f"{then.day} {then:%b %Y}"


def spread_text(row: Measured, text: Callable[[float], tuple[str, str]] = time_parts) -> str:
    """Such as "1.64–1.66", in the unit of the median where all three share it, else each with its own."""
    low, middle, high = (text(value) for value in (row.p20_s, row.time_s, row.p80_s))
    if low[1] == middle[1] == high[1]:
        return f"{low[0]}–{high[0]}"
    return f"{low[0]}{NARROW_SPACE}{low[1]}–{high[0]}{NARROW_SPACE}{high[1]}"


def repeats_word(row: Measured) -> str:
    """What one sample was."""
    return "replays" if "graph" in row.provenance.get("method", "").lower() else "runs"


def point_text(row: Measured, now: float) -> str:
    """Such as "1.65 ms, p20–p80 1.64–1.66, 31 replays, 1,755 MHz, today 14:02", then the reason for doubt."""
    parts = [time_text(row.time_s), f"p20–p80 {spread_text(row)}", f"{count(row.samples)} {repeats_word(row)}"]
    if row.clock_mhz:
        parts.append(f"{count(row.clock_mhz)} MHz")
    parts.append(when(row.taken_at, now))
    return ", ".join(parts) + (f"; uncertain: {row.noise}" if row.noise else "")


def how_measured(rows: Sequence[Measured]) -> str:
    """Method, number of points, repeats, clocks and doubts of the points shown; empty without any."""
    if not rows:
        return ""
    methods = list(dict.fromkeys(row.provenance.get("method", "") for row in rows))
    sentences = [f"Timing: {method.rstrip('.')}." for method in methods if method]
    counts = sorted(row.samples for row in rows)
    each = f"{count(counts[0])}" if counts[0] == counts[-1] else f"{count(counts[0])} to {count(counts[-1])}"
    points = "1 point" if len(rows) == 1 else f"{count(len(rows))} points"
    sentences.append(f"{points}, {each} {repeats_word(rows[0])} each; the number is the median, the whisker p20 to p80.")
    clocks = sorted(row.clock_mhz for row in rows if row.clock_mhz)
    if clocks:
        same = clocks[0] == clocks[-1]
        sentences.append(
            f"Clock {count(clocks[0])} MHz throughout." if same else f"Clock {count(clocks[0])} to {count(clocks[-1])} MHz."
        )
    doubtful = sum(bool(row.noise) for row in rows)
    if doubtful:
        sentences.append("1 point is uncertain (≈)." if doubtful == 1 else f"{count(doubtful)} points are uncertain (≈).")
    return " ".join(sentences)


def formula_text(ceilings: Ceilings | None, dtype: Dtype) -> str:
    """What the predicted lines are, with this device's ceilings put in."""
    if ceilings is None:
        return "The formula needs this machine's ceilings; the engine is measuring them."
    flops = ceilings.flops_per_s.get(dtype, min(ceilings.flops_per_s.values()))
    return (
        f"The formula is a bound: in each pass the largest of FLOP over {rate_text(flops)}, "
        f"exponentials over {rate_text(ceilings.exps_per_s, 'exp/s')} and bytes over {rate_text(ceilings.bytes_per_s, 'B/s')}, "
        f"all measured here, plus {time_text(ceilings.launch_s)} a launch."
    )

"""Numbers as people read them, and as people type them. No Qt, no state.

A number and its unit are two strings, because lists put them in two aligned columns; the joined forms have a narrow
no-break space between them. Bytes held are always binary (MiB), rates always SI (GB/s): the two never meet in one column.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

NARROW_SPACE = "\u202f"
MINUS = "\u2212"
NOTHING = "\u2013"
"""Shown where there is no number."""

Parts = tuple[str, str]
"""(number, unit)"""

_TIMES = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # not the system's language
_SI = ("", "k", "M", "G", "T", "P", "E")


def three_digits(value: float) -> str:
    """Three significant digits of a value in [0.001, 9999], trailing zeros kept: 1.00, 25.2, 831, 1010."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    if decimals and len(text.replace(".", "").lstrip("-0")) > 3:  # 9.999 was rounded up to 10.00
        text = f"{value:.{decimals - 1}f}"
    return text.replace("-", MINUS)


def time_parts(seconds: float) -> Parts:
    """`("25.2", "ms")`; minutes above 600 s."""
    if not math.isfinite(seconds):
        return NOTHING, ""
    if seconds > 600:
        return three_digits(seconds / 60), "min"
    size, unit = next(((size, unit) for size, unit in _TIMES[:-1] if abs(seconds) < 999.5 * size), _TIMES[-1])
    value = seconds / size
    if size > _TIMES[0][0] and abs(value) < 1:  # the 999.5 of the smaller unit, which rounds to 1.00 of this one
        value = math.copysign(1.0, value)
    return three_digits(value), unit


def bytes_parts(count_: float) -> Parts:
    """`("24.2", "GiB")`: bytes held. Between 1,000 and 1,023 of a unit all four digits are kept."""
    value, step = float(count_), 0
    while abs(value) >= 1023.5 and step < len(_BYTES) - 1:
        value, step = value / 1024, step + 1
    return three_digits(value) if step and abs(value) < 999.5 else f"{value:.0f}".replace("-", MINUS), _BYTES[step]


def rate_parts(per_second: float, unit: str = "FLOP/s") -> Parts:
    """`("702", "TFLOP/s")`, `("2.98", "TB/s")`: SI, three digits."""
    value, step = float(per_second), 0
    while abs(value) >= 999.5 and step < len(_SI) - 1:
        value, step = value / 1000, step + 1
    return three_digits(value) if step or value != int(value) else f"{value:.0f}", _SI[step] + unit


def joined(parts: Parts) -> str:
    """Number and unit in running text."""
    number, unit = parts
    return number + NARROW_SPACE + unit if unit else number


def time_text(seconds: float) -> str:
    return joined(time_parts(seconds))


def bytes_text(count_: float) -> str:
    return joined(bytes_parts(count_))


def rate_text(per_second: float, unit: str = "FLOP/s") -> str:
    return joined(rate_parts(per_second, unit))


def count(n: int) -> str:
    """65,536: exact, with commas, for fields, readouts and sentences."""
    return f"{n:,}".replace("-", MINUS)


def short_count(n: int) -> str:
    """64k: for ticks and ranges only; 1k is 1,024."""
    for size, unit in ((1 << 20, "M"), (1 << 10, "k")):
        if n >= size:
            return f"{n / size:.4g}{unit}"
    return str(n)


def weight(value: float) -> str:
    """Three significant digits; below 0.001 a mantissa and a power of ten; exactly 0 is said to be underflow elsewhere."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Inf" if value > 0 else f"{MINUS}Inf"
    if value == 0:
        return "0"
    if abs(value) >= 0.0009995:
        return three_digits(value) if abs(value) < 9999 else count(round(value))
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def weight_html(value: float) -> str:
    """As `weight`, the power of ten raised, for labels that show rich text."""
    mantissa, power, exponent = weight(value).partition("e")
    return f"{mantissa}·10<sup>{exponent}</sup>" if power else mantissa


def ratio(value: float) -> str:
    """Two decimals from 1 on, three below."""
    return f"{value:.2f}" if abs(value) >= 0.9995 else f"{value:.3f}"


def percent(share: float) -> str:
    """0.004 → "0.4 %"."""
    text = f"{share * 100:.1f}"
    return joined(("0.0" if text == "-0.0" else text.replace("-", MINUS), "%"))


_COUNT = re.compile(r"(?:(?P<base>\d+)\^(?P<power>\d{1,3})|(?P<digits>\d+(?:\.\d+)?)(?P<unit>[kKmM]?))")


def parse_count(text: str) -> int | None:
    """65536, 65,536, 64k, 2^16, 1M (k is 1,024) as a whole number; None when it is none of these."""
    compact = re.sub(r"[\s,_\u202f]", "", text)
    match = _COUNT.fullmatch(compact)
    if match is None:
        return None
    if match["base"]:
        return int(match["base"]) ** int(match["power"]) if len(match["base"]) <= 7 else None
    value = float(match["digits"]) * {"": 1, "k": 1 << 10, "m": 1 << 20}[match["unit"].lower()]
    return int(value) if value == int(value) else None


def moment_text(taken_at: float, now: float) -> str:
    """When a thing was measured, in local time: "today 14:02", "yesterday 14:02", "12 Nov 14:02", "12 Nov 2026".

    Both are Unix seconds.
    """
    then, today = datetime.fromtimestamp(taken_at), datetime.fromtimestamp(now).date()
    clock = f"{then:%H:%M}"
    if then.date() == today:
        return f"today {clock}"
    if then.date() == today - timedelta(days=1):
        return f"yesterday {clock}"
    day = f"{then.day} {_MONTHS[then.month - 1]}"
    return f"{day} {clock}" if then.year == today.year else f"{day} {then.year}"

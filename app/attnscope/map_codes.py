"""Weights and the codes of a picture's pixels, both ways. No Qt."""

from __future__ import annotations

import math
from collections.abc import Iterable

from attnscope_engine.protocol import INF, MASKED, MAX_CODE, Picture


def codes_of(values: Iterable[float], picture: Picture) -> bytes:
    """Codes of weights on the scale of a picture; NaN is masked, as in `protocol.Row`."""
    return bytes(_code(value, picture) for value in values)


def _code(value: float, picture: Picture) -> int:
    if math.isnan(value):
        return MASKED
    if math.isinf(value):
        return INF
    return round(place_of(value, picture) * MAX_CODE)


def place_of(value: float, picture: Picture) -> float:
    """Where a weight lies on a picture's colour bar, 0 to 1."""
    low, high = picture.low, picture.high
    if high <= low:
        return 0.0
    if picture.scale == "log":
        if value <= low or low <= 0:
            return 0.0
        return min(math.log(value / low) / math.log(high / low), 1.0)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def bar_ticks(picture: Picture) -> tuple[tuple[float, str, str], ...]:
    """Ticks of a colour bar: (place 0 to 1, label, exponent of a power of ten or empty)."""
    low, high = picture.low, picture.high
    if picture.scale == "log" and 0 < low < high:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        return tuple((place_of(10.0**exponent, picture), *_power(exponent)) for exponent in range(first, last + 1))
    middle = (low + high) / 2
    return tuple((place, _short(value), "") for place, value in ((0.0, low), (0.5, middle), (1.0, high)))


def _power(exponent: int) -> tuple[str, str]:
    plain = {0: "1", -1: "0.1", -2: "0.01"}.get(exponent)
    return (plain, "") if plain else ("10", str(exponent).replace("-", "\u2212"))


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "\u2212")

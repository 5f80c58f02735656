"""Soft cap and ALiBi as their papers write them, float64, pair by pair: what the engine's own are compared with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def slopes(num_heads: int) -> list[float]:
    """A geometric series from 2^(−8/H); where H is no power of two, the one below, then every other of the one above."""
    power = 1
    while 2 * power <= num_heads:
        power *= 2
    if power == num_heads:
        return [(2 ** (-8 / num_heads)) ** (head + 1) for head in range(num_heads)]
    return slopes(power) + slopes(2 * power)[::2][: num_heads - power]


def changed(scores: np.ndarray, values: Mapping[str, object]) -> np.ndarray:
    """`(…, H, N, M)` scaled scores → what a variant with these parameters takes the softmax of."""
    heads, n, m = scores.shape[-3:]
    result = scores.astype(np.float64)
    if cap := values.get("softcap"):
        result = cap * np.tanh(result / cap)
    if values.get("alibi"):
        away = abs(np.arange(n)[:, None] + m - n - np.arange(m))
        result = result - np.array(slopes(heads))[:, None, None] * away
    return result

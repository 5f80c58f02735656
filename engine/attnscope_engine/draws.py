"""Random numbers that are a pure function of seed and place: the first ones stay when more are asked for, on any machine.

Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators" (SplitMix64), the place being its counter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def bits(seed: int, places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random bits for each place, all of them ≥ 0."""
    start = _mixed(np.full(1, seed, np.uint64))
    found: NDArray[np.uint64] = _mixed(start + (places.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return found


def uniforms(seed: int, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """A number for each place, evenly spread over the open interval from 0 to 1."""
    found: NDArray[np.float64] = ((bits(seed, places) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return found


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

"""Projections of latent attention, and rotation by position: what stands for a trained layer's matrices in `variants/mla.py`.

Synthetic: a workload has q, k and v, no token and no matrix. Each matrix is one of ±1, fixed by its number (SplitMix64 of number
and place), and divided by the root of its inputs. With k_t and v_t of all key heads side by side, L the latent and R the rope,

    c_t = [v_t W₁, k_t W₂]            L/2 numbers of each: the output stays linear in v, and q and k alone decide the map
    r_t = rotated(k_t W₃, t)          R numbers
    key of head h    [second half of c_t · W₄ʰ, r_t]        value of head h    first half of c_t · W₅ʰ
    query of head h  [q, rotated(q · W₆ʰ, t)]               scores are divided by √(D + R)

Rotation: Su et al. 2021, "RoFormer", section 3.2.2, arXiv 2104.09864, neighbouring numbers being a pair.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import draws
from attnscope_engine.protocol import Dtype

Floats = NDArray[np.float64]
Signs = NDArray[np.float32]

BASE = 10_000.0
"""Of the rotation's frequencies, BASE^(−2i/R)."""

FINE = 256
"""Positions of the finer of the two tables that a rotation on a GPU is made of, as in `mla.cu`."""

ONE = {"fp32": np.float32(1), "bf16": np.uint16(0x3F80), "fp16": np.uint16(0x3C00)}
MINUS_ONE = {"fp32": np.float32(-1), "bf16": np.uint16(0xBF80), "fp16": np.uint16(0xBC00)}
"""As a dtype stores them: exact in each."""


@dataclass(frozen=True, slots=True)
class Projections:
    """Matrices of ±1, to be multiplied by the scales; D is the head dim."""

    values_down: Signs
    """W₁ `(1, G·D, L/2)`."""
    keys_down: Signs
    """[W₂, W₃] `(1, G·D, L/2 + R)`."""
    queries: Signs
    """[W₄ transposed, W₆] `(H, D, L/2 + R)`."""
    values_up: Signs
    """W₅ `(H, L/2, D)`."""
    down: float
    up: float
    turned: float
    """Scales of W₁ to W₃, of W₄ and W₅, of W₆."""

    @property
    def half(self) -> int:
        """L/2."""
        return int(self.values_up.shape[1])

    @property
    def rope(self) -> int:
        """R."""
        return int(self.queries.shape[2]) - self.half

    @property
    def numbers(self) -> int:
        """Of all matrices."""
        return sum(x.size for x in (self.values_down, self.keys_down, self.queries, self.values_up))


@functools.lru_cache(maxsize=4)
def projections(half: int, rope: int, heads: int, kv_heads: int, head_dim: int) -> Projections:
    """Of a latent of twice `half` numbers."""

    def signs(number: int, *shape: int) -> Signs:
        count = int(np.prod(shape))
        return np.where(draws.bits(number, np.arange(count)) & np.uint64(1), np.float32(-1), np.float32(1)).reshape(shape)

    wide, tokens = half + rope, kv_heads * head_dim
    matrices = (
        signs(1, 1, tokens, half),
        signs(2, 1, tokens, wide),
        signs(3, heads, head_dim, wide),
        signs(4, heads, half, head_dim),
    )
    return Projections(*matrices, tokens**-0.5, half**-0.5, head_dim**-0.5)


def angles(positions: NDArray[Any], rope: int) -> Floats:
    """`(len(positions), R/2)` in radians."""
    frequencies: Floats = BASE ** (-2.0 * np.arange(rope // 2) / rope)
    return positions[:, None] * frequencies


def rotated(x: Any, cosines: Any, sines: Any, xp: Any) -> Any:
    """X `(…, T, R)`, whose neighbours are pairs, by angles `(T, R/2)`."""
    even, odd, turned = x[..., 0::2], x[..., 1::2], xp.empty_like(x)
    turned[..., 0::2] = even * cosines - odd * sines
    turned[..., 1::2] = even * sines + odd * cosines
    return turned


def _turned(x: Floats, first: int, rope: int) -> Floats:
    """In float64, of tokens from position `first` on."""
    turn = angles(np.arange(x.shape[-2]) + first, rope)
    return rotated(x, np.cos(turn), np.sin(turn), np)  # type: ignore[no-any-return]


def _by_token(x: NDArray[Any]) -> Floats:
    """`(…, G, M, D)` → `(…, M, G·D)`."""
    moved = np.moveaxis(x, -3, -2).astype(np.float64)
    return moved.reshape(*moved.shape[:-2], -1)


def keys_of(k: NDArray[Any], found: Projections, heads: slice) -> Floats:
    """Keys of some query heads in float64, k `(…, G, M, D)` of all key heads → `(…, heads, M, D + R)`."""
    low = _by_token(k) @ found.keys_down[0] * found.down
    content = low[..., None, :, : found.half] @ found.queries[heads, :, : found.half].swapaxes(-1, -2) * found.up
    shared = _turned(low[..., None, :, found.half :], 0, found.rope)
    return np.concatenate([content, np.broadcast_to(shared, (*content.shape[:-1], found.rope))], axis=-1)


def queries_of(q: NDArray[Any], found: Projections, heads: slice, first: int) -> Floats:
    """Queries in float64, q `(…, heads, N, D)` from position `first` on → `(…, heads, N, D + R)`."""
    wide = q.astype(np.float64)
    turned = _turned(wide @ found.queries[heads, :, found.half :] * found.turned, first, found.rope)
    return np.concatenate([wide, turned], axis=-1)


def values_of(v: NDArray[Any], found: Projections, heads: slice) -> Floats:
    """Values of some query heads in float64, v `(…, G, M, D)` of all key heads → `(…, heads, M, D)`."""
    low = _by_token(v) @ found.values_down[0] * found.down
    made: Floats = low[..., None, :, :] @ found.values_up[heads] * found.up
    return made


# ---------------------------------------------------------------- for kernels


@functools.lru_cache(maxsize=8)
def stored_projections(
    half: int, rope: int, heads: int, kv_heads: int, head_dim: int, dtype: Dtype
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The four matrices as a dtype stores them; ±1 is exact in each."""
    found, one = projections(half, rope, heads, kv_heads, head_dim), np.asarray(ONE[dtype])
    minus = np.asarray(MINUS_ONE[dtype])
    first, second, third, fourth = (
        np.where(x > 0, one, minus) for x in (found.values_down, found.keys_down, found.queries, found.values_up)
    )
    return first, second, third, fourth


@functools.lru_cache(maxsize=4)
def rotations(positions: int, rope: int) -> tuple[Signs, Signs]:
    """Cosines and sines `(…, R/2, 2)` of every FINE-th position, and of the first FINE."""
    turns = angles(np.arange(-(-positions // FINE)) * FINE, rope), angles(np.arange(FINE), rope)
    coarse, fine = (np.stack([np.cos(turn), np.sin(turn)], axis=-1).astype(np.float32) for turn in turns)
    return coarse, fine

"""Gates, write strengths and time steps for methods that need them: synthetic, each a fixed function of one key.

In a trained layer these are learnt functions of the token. A workload has q, k and v only, so here they come from the key, by
formulas that anyone can repeat: x_t = Σ_c s_c·k_tc / ‖k_t‖, where the signs s = ±1 depend on nothing but the key head and the
channel. For keys in random directions x is nearly a standard normal number, whatever their length; it is never beyond √D. Then

    log α_t = −softplus(x_t) / τ    the form of arXiv 2312.06635, α = σ(−x)^(1/τ): a gate at x = 0 halves the state in τ tokens
    log α_tc                        the same of x_tc = s_c·√D·k_tc' / ‖k_t‖, where c' is half of the channels further on
    Δ_t = softplus(x_t)             the form of arXiv 2405.21060; with A = −1/τ its decay exp(Δ A) is the α above
    β_t = σ(x'_t)                   the form of arXiv 2406.06484, with signs of its own

`xp` is torch or numpy; the arithmetic is of the keys' own type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnscope_engine.variant import param

Purpose = Literal["decay", "write"]
STREAMS: dict[Purpose, int] = {"decay": 0, "write": 1}
"""Signs of one purpose have nothing to do with those of another."""

HALF_LIFE = param(
    1,
    1_048_576,
    unit="tokens",
    help="Tokens in which a middling gate halves the state. The gates are synthetic: a fixed function of each key, not learnt",
    label="half-life",
    scale="log2",
)
"""τ of the formulas above."""


def signs(purpose: Purpose, heads: Sequence[int] | NDArray[Any], head_dim: int) -> NDArray[np.float64]:
    """`(len(heads), D)` of ±1, a hash of (purpose, key head, channel): what a kernel computes in a few integer operations."""
    mixed = np.arange(head_dim, dtype=np.uint32)[None, :] + (np.asarray(heads, dtype=np.uint32)[:, None] << np.uint32(10))
    mixed += np.uint32((STREAMS[purpose] + 1) << 24)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    return np.where(mixed & np.uint32(1), -1.0, 1.0)


def along(k: Any, signs: Any, xp: Any) -> Any:
    """x_t. K `(A, T, D)`, signs `(A, D)` → `(A, T, 1)`; a key of zeros gives 0."""
    return xp.matmul(k, signs[..., None]) / _length(k, xp)


def by_channel(k: Any, signs: Any, xp: Any) -> Any:
    """x_tc. K `(A, T, D)`, signs `(A, D)` → `(A, T, D)`."""
    d = k.shape[-1]
    turned = xp.roll(k, -(d // 2), -1)
    turned *= signs[:, None] * d**0.5
    turned /= _length(k, xp)
    return turned


def log_decay(x: Any, half_life: int, xp: Any) -> Any:
    """Natural logarithm of the gate, below 0. x is used up."""
    return softplus(x, xp) * (-1.0 / half_life)


def softplus(x: Any, xp: Any) -> Any:
    """log(1 + eˣ); x is never large here, being within ±√D. x is used up."""
    xp.exp(x, out=x)
    return xp.log1p(x)


def write_strength(x: Any, xp: Any) -> Any:
    """σ(x), above 0 and below 1. x is used up."""
    xp.exp(-x, out=x)
    x += 1
    return 1 / x


def unit(x: Any, xp: Any) -> Any:
    """Each vector divided by its length; zeros stay."""
    return x / _length(x, xp)


def _length(x: Any, xp: Any) -> Any:
    """`(…, T, 1)`, 1 for a vector of zeros."""
    squares = (x * x).sum(-1)[..., None]
    return xp.sqrt(squares + (squares == 0))


# ---------------------------------------------------------------- in float64, for references and maps


def decays_of(k: NDArray[Any], heads: Sequence[int] | NDArray[Any], half_life: int) -> NDArray[np.float64]:
    """Log α. K `(…, G, M, D)` of the key heads `heads` → `(…, G, M)`."""
    return log_decay(_along_of(k, "decay", heads), half_life, np)[..., 0]  # type: ignore[no-any-return]


def channel_decays_of(k: NDArray[Any], heads: Sequence[int] | NDArray[Any], half_life: int) -> NDArray[np.float64]:
    """Log α of each channel. K `(…, G, M, D)` → the same shape."""
    wide = k.astype(np.float64)
    return log_decay(by_channel(wide, signs("decay", heads, k.shape[-1]), np), half_life, np)  # type: ignore[no-any-return]


def steps_of(k: NDArray[Any], heads: Sequence[int] | NDArray[Any]) -> NDArray[np.float64]:
    """Δ. K `(…, G, M, D)` → `(…, G, M)`."""
    return softplus(_along_of(k, "decay", heads), np)[..., 0]  # type: ignore[no-any-return]


def write_strengths_of(k: NDArray[Any], heads: Sequence[int] | NDArray[Any]) -> NDArray[np.float64]:
    """β. K `(…, G, M, D)` → `(…, G, M)`."""
    return write_strength(_along_of(k, "write", heads), np)[..., 0]  # type: ignore[no-any-return]


def unit_of(k: NDArray[Any]) -> NDArray[np.float64]:
    """Each key divided by its length."""
    return unit(k.astype(np.float64), np)  # type: ignore[no-any-return]


def _along_of(k: NDArray[Any], purpose: Purpose, heads: Sequence[int] | NDArray[Any]) -> Any:
    return along(k.astype(np.float64), signs(purpose, heads, k.shape[-1]), np)

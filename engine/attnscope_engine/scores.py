"""What may be done to scores before their softmax: a soft cap, and a penalty on distance. Both: the cap first.

Soft cap: Gemma Team 2024, "Gemma 2", section 2, arXiv 2408.00118. ALiBi: Press et al. 2021, section 3, arXiv 2108.12409.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoreChange:
    """Which changes, with their values. False when there is none."""

    softcap: int = 0
    """c of s ← c·tanh(s / c), s being scaled by D^-½ already; 0 for none."""
    alibi: bool = False
    """Whether s ← s − slope·|i − j| with the query head's slope; the query i stands at key i + M − N."""

    def __bool__(self) -> bool:
        return self.softcap > 0 or self.alibi

    def apply(self, scores: Any, distance: Any, slopes: Any, xp: Any) -> None:
        """Scores `(…, rows, keys)` in place; `distance` |i − j| and `slopes` broadcast to them. `xp` is torch or numpy."""
        if self.softcap:
            scores *= 1 / self.softcap
            xp.tanh(scores, out=scores)
            scores *= self.softcap
        if self.alibi and xp.__name__ == "torch":
            scores.addcmul_(slopes, distance, value=-1)
        elif self.alibi:
            scores -= slopes * distance

    def defines(self) -> dict[str, int]:
        """Constants of the kernels, none where nothing changes; the values themselves are arguments."""
        return {"SOFTCAP": int(self.softcap > 0), "ALIBI": int(self.alibi)} if self else {}


UNCHANGED = ScoreChange()


def slopes(num_heads: int) -> NDArray[np.float64]:
    """`(H,)`: ALiBi's slope of each query head, 2^(−8/H) and its powers.

    Of a number that is no power of two: those of the next smaller one, then every second slope of twice as many.
    """
    import numpy as np  # here: the engine greets before it imports numpy

    power = 1 << (num_heads.bit_length() - 1)
    own = -8.0 * np.arange(1, power + 1) / power
    between = -4.0 * np.arange(1, 2 * (num_heads - power), 2) / power
    steps: NDArray[np.float64] = np.exp2(np.concatenate([own, between]))
    return steps

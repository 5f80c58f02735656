"""Softmax attention on the processor where scores are changed before their softmax: a block of them is made, and the plain steps.

No fused call knows such a change, so a block's scores are stored, never all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnscope_engine.protocol import Term, Workload
from attnscope_engine.regions import Limits, Part, Strip
from attnscope_engine.scores import ScoreChange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIMITS = Limits(pairs=1 << 20, queries=1 << 12, rows=256)
"""What one call of torch may do: 4 MiB of scores, which stay in a cache."""


def workspace(workload: Workload, change: ScoreChange) -> Term:
    """What `attend` holds beside q, k, v and out on torch, at most: a block's scores, distances or what hides the future."""
    w = workload
    pairs = min(w.batch * w.num_heads * w.seq_len**2, LIMITS.pairs)
    rows = min(w.batch * w.num_heads * w.seq_len, max(LIMITS.rows, pairs // w.seq_len))
    keys = min(w.seq_len, max(LIMITS.rows, pairs // rows))
    score = 4 + 4 * change.alibi + w.causal
    widened = 2 * keys if w.item_bytes < 4 else 0  # keys and values of the block in fp32
    bytes_ = pairs * score + 4 * w.head_dim * (4 * rows + widened)
    return Term("workspace", f"{pairs:,}·{score} + 4·D·{4 * rows + widened:,}", bytes_, "constant")


def slopes_by_group(slopes: NDArray[np.float64], groups: int, kv_heads: int, xp: Any) -> Any:
    """`(H,)` → `(groups, H / kv_heads)` fp32: of the query heads that read each key head of each sequence."""
    import numpy as np  # here: the engine greets before it imports numpy

    return xp.asarray(np.tile(slopes.reshape(kv_heads, -1), (groups // kv_heads, 1)), dtype=xp.float32)


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """The rows of one call, whose scores are changed."""

    change: ScoreChange
    slopes: Any
    """`(groups, heads)` of the call."""
    strip: Strip
    key_bias: Any = None
    """`(groups, M)` of the call, float64: what each key adds to all scores with it."""

    def over(self, part: Part, xp: Any) -> ChangedPart:
        """The change of their scores with the keys of one part."""
        strip = self.strip
        shape = (-1, 1) if strip.repeat > 1 else self.slopes.shape
        distance = self._distance(part, xp) if self.change.alibi else None
        return ChangedPart(self.change, self.slopes.reshape(*shape, 1, 1), distance, self._bias(part, xp))

    def _bias(self, part: Part, xp: Any) -> Any:
        """`(groups, 1, 1, size)` fp32, less what the strip's first own key adds: the same to all scores of a row cancels.

        What is left of keys near the query is as exact as their difference.
        """
        if self.key_bias is None:
            return None
        own = min(max(self.strip.first, 0), self.key_bias.shape[1] - 1)
        added = self.key_bias[:, part.first : part.first + part.size] - self.key_bias[:, own : own + 1]
        return (added.to(xp.float32) if xp.__name__ == "torch" else added.astype(xp.float32))[:, None, None]

    def _distance(self, part: Part, xp: Any) -> Any:
        """`(blocks or 1, rows, size)`: how far each query stands from each key."""
        strip = self.strip
        blocks = 1 if part.moves else strip.repeat  # blocks that move are each as far from their keys as the first
        rows = xp.arange(strip.first, strip.first + strip.rows * blocks, dtype=xp.float32).reshape(blocks, strip.rows, 1)
        away = rows - xp.arange(part.first, part.first + part.size, dtype=xp.float32)
        return xp.abs(away, out=away)


@dataclass(frozen=True, slots=True)
class ChangedPart:
    """What is done to the scores `(A, B, rows, size)` of one rectangle or triangle."""

    change: ScoreChange
    slopes: Any
    distance: Any
    bias: Any = None

    def turned(self, xp: Any) -> ChangedPart:
        """The same of a triangle that is turned round, without its last row, which sees nothing."""
        turned = None if self.distance is None else xp.flip(self.distance[:, :-1], (1, 2))
        return ChangedPart(self.change, self.slopes, turned, None if self.bias is None else xp.flip(self.bias, (3,)))

    def square(self, q: Any, k: Any, v: Any, causal: bool, xp: Any) -> tuple[Any, Any]:
        """softmax(changed q kᵀ·D^-½) v in fp32 and its log-sum-exp, top-left causal or full."""
        scores = _multiply(_fp32(q, xp), _fp32(k, xp).swapaxes(-1, -2), xp)
        scores *= q.shape[-1] ** -0.5
        self.change.apply(scores, self.distance, self.slopes, xp)
        if self.bias is not None:
            scores += self.bias
        if causal:
            _hide(scores, xp.arange(scores.shape[2])[:, None] < xp.arange(scores.shape[3]), xp)
        top = xp.amax(scores, -1)[..., None]
        scores -= top
        xp.exp(scores, out=scores)
        total = scores.sum(-1)[..., None]
        out = _multiply(scores, _fp32(v, xp), xp)
        out /= total
        return out, (top + xp.log(total))[..., 0]


def _hide(scores: Any, hidden: Any, xp: Any) -> None:
    if xp.__name__ == "torch":
        scores.masked_fill_(hidden, -xp.inf)
    else:
        xp.copyto(scores, -xp.inf, where=hidden)


def _multiply(x: Any, y: Any, xp: Any) -> Any:
    """X `(A, B, r, c)` · y `(A or 1, B or 1, c, d)`. torch would copy what it repeats: rows that share it are made one matrix."""
    if xp.__name__ == "torch" and y.shape[1] == 1:
        return xp.matmul(x.reshape(y.shape[0], -1, x.shape[3]), y[:, 0]).reshape(*x.shape[:3], y.shape[3])
    return xp.matmul(x, y)


def _fp32(x: Any, xp: Any) -> Any:
    return x.to(xp.float32) if xp.__name__ == "torch" else x.astype(xp.float32, copy=False)

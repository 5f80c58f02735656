"""Softmax attention on the processor, block by block: each block's parts are attended to apart and merged by their log-sum-exp.

`xp` is torch or numpy; this file imports neither of them for the arithmetic, so a window may import the variants that use it.
Merging: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", section 3, arXiv 1805.02867.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attnscope_engine.regions import Limits, Part, Strip
from attnscope_engine.variant import Tick

Block = tuple[Any, Any]
"""`(out, lse)` of some rows: out `(A, B, rows, D)`, lse `(A, B, rows)` in fp32."""


def limits(head_dim: int, xp: Any) -> Limits:
    """What one call may do. torch: about 4 GFLOP, under 0.1 s on two cores. numpy stores a block's scores, so it gets less."""
    if xp.__name__ == "torch":
        return Limits(pairs=(1 << 30) // head_dim, queries=1 << 14, rows=256)
    return Limits(pairs=1 << 18, queries=1 << 12, rows=128)


def attend(q: Any, k: Any, v: Any, strips: Iterable[Strip], xp: Any, tick: Tick) -> Any:
    """Q `(B, H, N, D)`, k v `(B, G, M, D)` → out `(B, H, N, D)` in q's dtype, over the pairs of `strips`; rows without any are 0.

    Raises: Interrupted, from `tick`, which is called before each block.
    """
    batch, _, n, head_dim = q.shape
    groups, m = batch * k.shape[1], k.shape[2]
    queries = q.reshape(groups, -1, n, head_dim)
    keys, values = k.reshape(groups, 1, m, head_dim), v.reshape(groups, 1, m, head_dim)
    allowed = limits(head_dim, xp)
    out = xp.empty_like(queries)
    for strip in strips:
        first = strip.first + n - m
        end = first + strip.rows * strip.repeat
        if not strip.parts:
            out[:, :, first:end] = 0
            continue
        for group, head in _heads(strip, queries.shape[:2], allowed):
            tick()
            into = out[group, head, first:end]
            here = queries[group, head, first:end]
            if strip.repeat > 1:  # blocks take the place of the groups, of which there is one
                into, here = (x.reshape(-1, strip.repeat, strip.rows, head_dim) for x in (into, here))
            into[...] = _rows(here, keys[group], values[group], strip, allowed, xp)
    return out.reshape(q.shape)


def _heads(strip: Strip, shape: tuple[int, int], allowed: Limits) -> Iterator[tuple[slice, slice]]:
    """Slices of key heads and of the query heads that read each, as many a call as the limits allow."""
    groups, heads = shape
    room = max(1, min(allowed.pairs // strip.pairs, allowed.queries // (strip.rows * strip.repeat)))
    group_step = 1 if strip.repeat > 1 else max(1, room // heads)
    head_step = min(room, heads)
    for group in range(0, groups, group_step):
        for head in range(0, heads, head_step):
            yield slice(group, group + group_step), slice(head, head + head_step)


def _rows(q: Any, k: Any, v: Any, strip: Strip, allowed: Limits, xp: Any) -> Any:
    """The finished rows of one strip. q `(A, B, rows, D)` → the same shape."""
    out: Any = None
    lse: Any = None
    for part in _pieces(strip, allowed):
        partial = _part(q, _blocks(k, part, strip, xp), _blocks(v, part, strip, xp), part.shape, xp)
        if lse is None:
            out, lse = partial
            continue
        if out.dtype != xp.float32:
            out = _widened(out, xp)
        reach = slice(0, partial[1].shape[-1])
        _merge((out[:, :, reach], lse[:, :, reach]), partial, xp)
    return out


def _pieces(strip: Strip, allowed: Limits) -> Iterator[Part]:
    """The strip's parts, long rectangles cut so that each call stays within its pairs."""
    most = max(1, allowed.pairs // (strip.rows * strip.repeat))
    for part in strip.parts:
        step = most if part.shape == "full" else part.size
        for first in range(part.first, part.first + part.size, step):
            yield Part(first, min(step, part.first + part.size - first), part.shape, part.moves)


def _blocks(x: Any, part: Part, strip: Strip, xp: Any) -> Any:
    """The part as a view of x `(A, 1, M, D)` → `(A, 1, size, D)`, or `(1, repeat, size, D)` for blocks that differ."""
    if strip.repeat == 1 or not part.moves:
        return x[:, :, part.first : part.first + part.size]
    span = x[0, :, part.first : part.first + part.size + strip.rows * (strip.repeat - 1)]
    if xp.__name__ == "torch":
        return span.unfold(1, part.size, strip.rows).swapaxes(-1, -2)
    windows = xp.lib.stride_tricks.sliding_window_view(span, part.size, axis=1)
    return windows[:, :: strip.rows].swapaxes(-1, -2)


def _part(q: Any, k: Any, v: Any, shape: str, xp: Any) -> Block:
    """Attention of q over one rectangle or triangle. A triangle `upper` turned round is a `lower` one."""
    if shape != "upper":
        return _square(q, k, v, shape == "lower", xp)
    last_first = [xp.flip(x, (2,)) for x in (q[:, :, :-1], k, v)]
    out, lse = _square(last_first[0], last_first[1], last_first[2], True, xp)
    return xp.flip(out, (2,)), xp.flip(lse, (2,))


def _square(q: Any, k: Any, v: Any, causal: bool, xp: Any) -> Block:
    """softmax(q kᵀ·D^-½) v and its log-sum-exp, top-left causal or full."""
    if xp.__name__ == "torch":
        shape = (*q.shape[:2], *k.shape[2:])
        # What scaled_dot_product_attention calls on a processor; only this form also returns the log-sum-exp.
        out, lse = xp.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k.expand(shape), v.expand(shape), 0.0, causal)
        return out, lse
    scores = xp.matmul(q.astype(xp.float32), k.astype(xp.float32).swapaxes(-1, -2))
    scores *= xp.float32(q.shape[-1] ** -0.5)
    if causal:
        xp.copyto(scores, -xp.inf, where=~xp.tri(*scores.shape[-2:], dtype=bool))
    top = scores.max(axis=-1, keepdims=True)
    scores -= top
    xp.exp(scores, out=scores)
    total = scores.sum(axis=-1, keepdims=True)
    out = xp.matmul(scores, v.astype(xp.float32))
    out /= total
    return out, (top + xp.log(total))[..., 0]


def _widened(x: Any, xp: Any) -> Any:
    return x.to(xp.float32) if xp.__name__ == "torch" else x.astype(xp.float32)


def _merge(into: Block, other: Block, xp: Any) -> None:
    """Adds the softmax over other keys to `into`, in place."""
    out, lse = into
    both = xp.logaddexp(lse, other[1])
    out *= xp.exp(lse - both)[..., None]
    out += other[0] * xp.exp(other[1] - both)[..., None]
    lse[...] = both

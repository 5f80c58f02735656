"""Softmax attention on the processor, block by block: each block's parts are attended to apart and merged by their log-sum-exp.

`xp` is torch or numpy; this file imports neither of them for the arithmetic, so a window may import the variants that use it.
Merging: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", section 3, arXiv 1805.02867.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil

from attnscope_engine import attend_changed, side_by_side
from attnscope_engine.attend_changed import ChangedPart, ChangedRows
from attnscope_engine.protocol import Term, Workload
from attnscope_engine.regions import Limits, Part, Strip
from attnscope_engine.scores import UNCHANGED, ScoreChange, slopes
from attnscope_engine.variant import Tick

Block = tuple[Any, Any]
"""`(out, lse)` of some rows: out `(A, B, rows, D)`, lse `(A, B, rows)` in fp32."""


KERNEL_KEYS = 512
KERNEL_ROWS = ((768, 256), (192, 64), (0, 32))
"""Tile of torch's fused kernel, of which each thread keeps one: (queries from which, rows)."""


@functools.cache
def threads() -> int:
    """Threads that the arithmetic runs on: one a core that this process may use, or as few as OMP_NUM_THREADS says."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    most = int(wanted) if wanted.isdecimal() and int(wanted) else allowed
    return min(allowed, psutil.cpu_count(logical=False) or allowed, most)


def limits(head_dim: int, xp: Any, *, changes: bool = False) -> Limits:
    """What one call may do. torch: 4 GFLOP a thread, about 0.1 s. Where a block's scores are stored it gets less."""
    if xp.__name__ == "torch":
        return attend_changed.LIMITS if changes else torch_limits(head_dim)
    return Limits(pairs=1 << 18, queries=1 << 10, rows=128)


def torch_limits(head_dim: int) -> Limits:
    """Enough rows that every thread has some."""
    return Limits(pairs=threads() * (1 << 30) // head_dim, queries=threads() * 4096, rows=256)


def whole_workspace(workload: Workload, span: int) -> Term:
    """What `attend` holds beside q, k, v and out on torch, where queries see up to `span` keys before or all round them."""
    w, allowed = workload, torch_limits(workload.head_dim)
    block = min(span, max(allowed.rows, allowed.pairs // span))
    block = block if block == span else max(block, KERNEL_ROWS[0][0])  # of blocks that shorten as n grows, the largest tile
    if not w.causal:
        return _workspace(w, block, span, merged=allowed.rows * span > allowed.pairs)
    merged = block < span
    return _workspace(w, block, 2 * block if merged else span, merged=merged)


def band_workspace(workload: Workload, window_size: int, sinks: int) -> Term:
    """As `whole_workspace`, where the key that is seen first moves along: one of the parts is turned round."""
    w, window = workload, min(window_size, workload.seq_len)
    if window == w.seq_len:
        return whole_workspace(w, window)
    turned = 5 * w.item_bytes if sinks == 0 else 4 + 4 * w.item_bytes  # q, k, v and their output turned, and what was there
    return _workspace(w, window, 2 * window, merged=True, least=turned)


def _workspace(w: Workload, block: int, keys: int, *, merged: bool, least: int = 0) -> Term:
    """The rows of one call, of which each block has `block` and sees `keys`, and a tile for each of the kernel's threads.

    `least`: bytes an element of the output, where a part needs more than merging does.
    """
    allowed = torch_limits(w.head_dim)
    heads = w.num_heads // w.num_kv_heads
    groups = 1 if heads > 1 and 2 * block <= w.seq_len else w.batch * w.num_kv_heads
    rows = min(groups * heads * w.seq_len, allowed.queries, max(allowed.rows, allowed.pairs // keys))
    return _call_term(w, rows, block, keys, merged=merged, least=least)


def strip_workspace(workload: Workload, *candidates: Strip) -> Term:
    """What `attend` holds beside q, k, v and out on torch, where the largest call is the first of one of these strips."""
    return max((_strip_term(workload, strip) for strip in candidates), key=lambda term: term.bytes_)


def _strip_term(w: Workload, strip: Strip) -> Term:
    """The heads that the first call takes together, through the parts of the strip in turn: the fullest moment of them."""
    allowed = torch_limits(w.head_dim)
    group, head = next(_heads(strip, (w.batch * w.num_kv_heads, w.num_heads // w.num_kv_heads), allowed))
    key_heads = (group.stop - group.start) * strip.repeat
    rows = key_heads * (head.stop - head.start) * strip.rows
    terms = (
        _rows_and_tiles(rows, row, _tile(w, strip.rows, tile_keys), key_heads * turned * 2 * w.head_dim * w.item_bytes)
        for place, part in enumerate(_pieces(strip, allowed))
        for row, tile_keys, turned in _moments(w, place, part)
    )
    return max(terms, key=lambda term: term.bytes_)


def _moments(w: Workload, place: int, part: Part) -> tuple[tuple[int, int, int], ...]:
    """Bytes a row, keys of the kernel's tile and keys turned round, while a part is computed, turned back and merged."""
    item, upper = w.item_bytes, part.shape == "upper"
    before = 0 if place == 0 else item if place == 1 else 4  # of an element of what the parts before gave
    computed = before + (2 if upper else 1) * item  # the output, and queries turned round
    during = (w.head_dim * computed + (4 if place == 0 else 8), part.size, part.size if upper else 0)
    merging = (w.head_dim * (8 if item == 4 else 8 + item) + 20, 0, 0)
    back = (w.head_dim * (before + 2 * item) + 20, 0, 0)  # the output, and it turned
    return (during,) if place == 0 else (during, back, merging) if upper else (during, merging)


def _call_term(w: Workload, rows: int, block: int, keys: int, *, merged: bool, least: int) -> Term:
    """`rows` rows of a call, of which each block has `block` and sees `keys`, and a tile for each of the kernel's threads."""
    item = w.item_bytes
    element = item if not merged else 8 if item == 4 else 8 + item
    return _rows_and_tiles(rows, w.head_dim * max(element, least) + (20 if merged else 4), _tile(w, block, keys))


def call_tiles(workload: Workload, rows: int, keys: int) -> int:
    """Bytes that torch's fused kernel keeps for all its threads, in a call of `square` of so many rows and keys."""
    return threads() * _tile(workload, rows, keys)


def _tile(w: Workload, block: int, keys: int) -> int:
    """Bytes that a thread of the kernel keeps for blocks of `block` rows that see `keys` keys; 0 outside the kernel."""
    if keys == 0:
        return 0
    rows = next(size for least, size in KERNEL_ROWS if block >= least)
    score = 4 if w.item_bytes == 4 else 4 + w.item_bytes
    return min(rows, block) * (min(KERNEL_KEYS, keys) * score + 8 + 4 * w.head_dim)


def _rows_and_tiles(rows: int, row: int, tile: int, turned: int = 0) -> Term:
    """`turned`: bytes of keys and values in another order."""
    formula = f"{rows:,}·{row:,}" + (f" + {threads()}·{tile:,}" if tile else "") + (f" + {turned:,}" if turned else "")
    return Term("workspace", formula, rows * row + threads() * tile + turned, "constant")


def biased_workspace(workload: Workload, candidates: Iterable[Strip]) -> Term:
    """What `attend` holds beside q, k, v and out on torch with a `key_bias`, where the largest call is of one of these strips."""
    largest = max(max(_biased_moments(workload, strip)) for strip in candidates)
    return Term("workspace", f"{largest:,}", largest, "constant")


def _biased_moments(w: Workload, strip: Strip) -> Iterator[int]:
    """Bytes at each moment of the first call: scores with what made them or what they multiply, and with what hides some."""
    group, head = next(_heads(strip, (w.batch * w.num_kv_heads, w.num_heads // w.num_kv_heads), attend_changed.LIMITS))
    groups = group.stop - group.start
    rows = groups * (head.stop - head.start) * strip.rows
    of_rows, wide = 4 * w.head_dim * rows, 4 * w.head_dim if w.item_bytes < 4 else 0
    for place, part in enumerate(_pieces(strip, attend_changed.LIMITS)):
        scores = 4 * rows * part.size + (of_rows if place else 0) + 4 * groups * part.size + 16 * rows
        yield scores + of_rows + wide * groups * part.size
        yield scores + (strip.rows * (part.size + 8) if part.shape != "full" else 0)


def attend(
    q: Any,
    k: Any,
    v: Any,
    strips: Iterable[Strip],
    xp: Any,
    tick: Tick,
    into: Any = None,
    change: ScoreChange = UNCHANGED,
    log_sums: Any = None,
    key_bias: Any = None,
) -> Any:
    """Q `(B, H, N, D)`, k v `(B, G, M, D)` → out `(B, H, N, D)` in q's dtype, over the pairs of `strips`; rows without any are 0.

    Rows may lie apart, as of a view with steps. `into`: where out is written, a view like q; a new array unless said.
    `change` is done to the scores of each block. `log_sums`: where each row's log-sum-exp is written, `(B, H, N)` fp32, −∞ for a
    row without pairs; it is not kept unless said. `key_bias` `(B, G, M)` float64 is added to all scores with a key; the
    keys of no part may move along then.

    Raises: Interrupted, from `tick`, which is called before each block.
    """
    batch, _, n, head_dim = q.shape
    groups, m = batch * k.shape[1], k.shape[2]
    queries = q.reshape(groups, -1, n, head_dim)
    keys, values = k.reshape(groups, 1, m, head_dim), v.reshape(groups, 1, m, head_dim)
    changes = bool(change) or key_bias is not None
    allowed = limits(head_dim, xp, changes=True) if changes else limits(head_dim, xp)
    by_group: Any = attend_changed.slopes_by_group(slopes(q.shape[1]), groups, k.shape[1], xp) if changes else None
    of_keys = None if key_bias is None else key_bias.reshape(groups, m)
    out = xp.empty_like(queries) if into is None else into.reshape(queries.shape)
    sums = None if log_sums is None else log_sums.reshape(queries.shape[:3])

    def rows_of(strip: Strip) -> slice:
        first = strip.first + n - m
        return slice(first, first + strip.rows * strip.repeat)

    def finish(strip: Strip, group: slice, head: slice) -> None:
        """These heads' rows of the strip."""
        mine = rows_of(strip)
        there, here = out[group, head, mine], queries[group, head, mine]
        if strip.repeat > 1:  # the groups, or the heads of one group, then the blocks
            there, here = (x.reshape(-1, strip.repeat, strip.rows, head_dim) for x in (there, here))
        changed = None
        if changes:
            changed = ChangedRows(change, by_group[group, head], strip, None if of_keys is None else of_keys[group])
        rows, lse = _rows(here, keys[group], values[group], strip, allowed, xp, changed)
        there[...] = rows
        if sums is not None:
            sums[group, head, mine] = lse.reshape(sums[group, head, mine].shape)

    def calls() -> Iterator[Callable[[], None]]:
        for strip in strips:
            if strip.parts:
                for group, head in _heads(strip, queries.shape[:2], allowed):
                    yield functools.partial(finish, strip, group, head)
                continue
            out[:, :, rows_of(strip)] = 0
            if sums is not None:
                sums[:, :, rows_of(strip)] = -xp.inf

    # torch has threads of its own in each call
    side_by_side.run(calls(), tick, 1 if xp.__name__ == "torch" else threads())
    return out.reshape(q.shape)


def _heads(strip: Strip, shape: tuple[int, int], allowed: Limits) -> Iterator[tuple[slice, slice]]:
    """Slices of key heads and of the query heads that read each, as many a call as the limits allow."""
    groups, heads = shape
    room = max(1, min(allowed.pairs // strip.pairs, allowed.queries // (strip.rows * strip.repeat)))
    if strip.repeat > 1 and heads > 1:
        wide = 1  # blocks that differ take the place of the groups
    elif room >= groups * heads:
        wide = groups
    else:  # a causal head's second half is three times its first: a whole head a thread is what keeps all of them at work
        wide = min(groups, room, max(threads(), room // heads // threads() * threads()))
    for group in range(0, groups, wide):
        together = min(wide, groups - group)
        step = max(1, min(heads, room // together))
        for head in range(0, heads, step):
            yield slice(group, group + together), slice(head, head + step)


def _rows(q: Any, k: Any, v: Any, strip: Strip, allowed: Limits, xp: Any, changed: ChangedRows | None) -> Block:
    """The finished rows of one strip. q `(A, B, rows, D)` → the same shape, and their log-sum-exps."""
    out: Any = None
    lse: Any = None
    for part in _pieces(strip, allowed):
        change = None if changed is None else changed.over(part, xp)
        partial = _part(q, _blocks(k, part, strip, xp), _blocks(v, part, strip, xp), part.shape, xp, change)
        if lse is None:
            out, lse = partial
        else:
            out = widened(out, xp)
            reach = slice(0, partial[1].shape[-1])
            merge((out[:, :, reach], lse[:, :, reach]), partial, xp)
        del partial  # before the next one is made
    return out, lse


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
    span = x[:, 0, part.first : part.first + part.size + strip.rows * (strip.repeat - 1)]
    if xp.__name__ == "torch":
        return span.unfold(1, part.size, strip.rows).swapaxes(-1, -2)
    windows = xp.lib.stride_tricks.sliding_window_view(span, part.size, axis=1)
    return windows[:, :: strip.rows].swapaxes(-1, -2)


def _part(q: Any, k: Any, v: Any, shape: str, xp: Any, change: ChangedPart | None) -> Block:
    """Attention of q over one rectangle or triangle. A triangle `upper` turned round is a `lower` one."""
    if shape == "upper":
        q, k, v = xp.flip(q[:, :, :-1], (2,)), xp.flip(k, (2,)), xp.flip(v, (2,))
        change = None if change is None else change.turned(xp)
    found = square if change is None else change.square
    out, lse = found(q, k, v, shape != "full", xp)
    del q, k, v  # what was turned round, before the output is
    return (xp.flip(out, (2,)), xp.flip(lse, (2,))) if shape == "upper" else (out, lse)


def square(q: Any, k: Any, v: Any, causal: bool, xp: Any) -> Block:
    """softmax(q kᵀ·D^-½) v and its log-sum-exp, top-left causal or full. q `(A, B, rows, D)`, k v `(A or 1, B or 1, size, D)`."""
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


MERGED_ROWS = 1024
"""Rows of one head that `merge_by_rows` widens at a time."""


def merge_workspace(workload: Workload) -> Term:
    """What `merge_by_rows` holds beside its arguments: some rows of both in fp32, and a few numbers a row."""
    w, rows = workload, min(workload.seq_len, MERGED_ROWS)
    row = 16 + (8 * w.head_dim if w.item_bytes < 4 else 0)
    return Term("workspace", f"{rows:,}·{row:,}", rows * row, "constant")


def merge_by_rows(into: Block, other: Block, xp: Any, tick: Tick) -> None:
    """Adds the softmax over other keys to `into`, in place: of each an output `(B, H, N, D)` and log-sum-exps `(B, H, N)` fp32.

    A row without pairs has −∞ for its log-sum-exp. `other` is used up.

    Raises: Interrupted, from `tick`.
    """
    out, lse = into
    for first in range(0, out.shape[2], MERGED_ROWS):
        for batch, head in itertools.product(*map(range, out.shape[:2])):
            tick()
            rows = (batch, head, slice(first, first + MERGED_ROWS))
            both = xp.logaddexp(lse[rows], other[1][rows])
            both[both == -xp.inf] = 0  # their outputs are 0 already
            merged, added = widened(out[rows], xp), widened(other[0][rows], xp)
            merged *= xp.exp(lse[rows] - both)[:, None]
            added *= xp.exp(other[1][rows] - both)[:, None]
            merged += added
            out[rows] = merged
            lse[rows] = both
            del merged, added  # before the next ones are made


def widened(x: Any, xp: Any) -> Any:
    """In fp32; itself if it is."""
    return x.to(xp.float32) if xp.__name__ == "torch" else x.astype(xp.float32, copy=False)


def merge(into: Block, other: Block, xp: Any) -> None:
    """Adds the softmax over other keys to `into`, in place; `other` is used up."""
    out, lse = into
    both = xp.logaddexp(lse, other[1])
    out *= xp.exp(lse - both)[..., None]
    added = widened(other[0], xp)
    added *= xp.exp(other[1] - both)[..., None]
    out += added
    lse[...] = both

"""Softmax attention on the processor where each query sees its own block of keys and some whole blocks before it, which it chose.

Queries are taken some at a time. For each block before them, the rows that chose it are gathered and attend to it in one call,
and what they find is merged by log-sum-exp: nothing that was not chosen is multiplied, and no n×n array is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attnscope_engine.attend import Block, call_tiles, merge, square, widened
from attnscope_engine.protocol import Term, Workload
from attnscope_engine.variant import Tick

ROWS = 2048
"""Rows (queries of all heads of a key head) taken together: enough for a full product, few enough for small workspaces."""

ROWS_OF_CALL = 512
"""Rows of one call with one block of keys."""

CHOICE_BYTES = 6
"""Of a row and block while it chooses: a score, whether it is hidden, whether it is chosen."""

KEYS_TOGETHER = 8192
"""Whose means are made at a time on the processor."""

Choose = Callable[[Any, Any, Any], Any]
"""`(queries (rows, D), key head's index among all, own blocks (rows,))` → bool `(rows, blocks)`: what each row chose.

Blocks from a row's own on are never chosen.
"""


def attend_chosen(q: Any, k: Any, v: Any, block_size: int, choose: Choose, xp: Any, tick: Tick) -> Any:
    """Q `(B, H, N, D)`, k v `(B, G, M, D)` → out `(B, H, N, D)` in q's dtype: causal, a query stands at key i + M − N.

    Rows that stand before all keys are 0. Raises: Interrupted, from `tick`, which is called before each step.
    """
    n, m, d = q.shape[2], k.shape[2], q.shape[3]
    groups = q.shape[0] * k.shape[1]
    queries, keys, values = q.reshape(groups, -1, n, d), k.reshape(groups, m, d), v.reshape(groups, m, d)
    out = xp.zeros(queries.shape, dtype=q.dtype)
    for group in range(groups):
        for first, end in stretches(max(0, m - n), m, rows_together(queries.shape[1])):
            tick()
            rows = slice(first + n - m, end + n - m)
            found = _stretch(queries[group, :, rows], keys[group], values[group], first, block_size, (choose, group), xp)
            out[group, :, rows] = found
            del found  # before the next one is made
    return out.reshape(q.shape)


def workspace(workload: Workload, block_size: int, top_k: int) -> Term:
    """What `attend_chosen` and `best_blocks` hold on torch beside q, k, v, out and the means, at most."""
    w, d, item = workload, workload.head_dim, workload.item_bytes
    heads = w.num_heads // w.num_kv_heads
    rows = heads * min(w.seq_len, rows_together(heads))
    before = (w.seq_len - 1) // block_size
    widened_row = 4 * d if item < 4 else 0
    copied = d * item if heads > 1 and rows < heads * w.seq_len else 0  # rows of several heads are put together
    row = 4 * d + 4 + (copied + 16 if before else 0)  # with its own block, of all heads and of one
    called = min(ROWS_OF_CALL, rows) if before else 0
    call = called * (d * (4 + max(2 * item, item + widened_row // d)) + 24) + call_tiles(w, called, block_size)
    own = min(w.seq_len, block_size, rows // heads)
    call = max(call, heads * own * (d * item + 4) + call_tiles(w, own, own))
    choice = rows * max(before * (CHOICE_BYTES - 1) + widened_row, before * CHOICE_BYTES + 12 * min(top_k, before))
    most = max(choice, rows * before + call)
    return Term("workspace", f"{rows:,}·{row:,} + {most:,}", rows * row + most, "n")


def best_blocks(q: Any, means: Any, own: Any, top_k: int, xp: Any) -> Any:
    """Q `(rows, D)`, means `(blocks, D)` fp32, own blocks `(rows,)` → bool `(rows, largest own block)`.

    True at the `top_k` past blocks with the largest q·mean, or all of them where there are fewer.
    """
    before = int(own.max())
    hidden = own[:, None] <= xp.arange(before)
    scores = xp.matmul(widened(q, xp), means[:before].T)
    count = min(top_k, before)
    chosen = xp.zeros(scores.shape, dtype=xp.bool if xp.__name__ == "torch" else bool)
    if xp.__name__ == "torch":
        scores.masked_fill_(hidden, -xp.inf)
        chosen.scatter_(1, xp.topk(scores, count, sorted=False).indices, True)
    else:
        xp.copyto(scores, xp.inf, where=hidden)
        xp.negative(scores, out=scores, where=~hidden)
        xp.put_along_axis(chosen, xp.argpartition(scores, count - 1, axis=1)[:, :count], True, axis=1)
    chosen &= ~hidden
    return chosen


def means_of_blocks(k: Any, block_size: int, xp: Any) -> Any:
    """K `(B, G, M, D)` → `(B·G, (M − 1) // block_size, D)` fp32: the mean key of each block that can be past."""
    keys = k.reshape(-1, *k.shape[2:])
    count = (keys.shape[1] - 1) // block_size
    means = xp.empty((keys.shape[0], count, keys.shape[2]), dtype=xp.float32)
    step = max(1, KEYS_TOGETHER // block_size)
    for group in range(keys.shape[0]):
        for first in range(0, count, step):
            some = keys[group, first * block_size : min(first + step, count) * block_size]
            means[group, first : first + step] = widened(some, xp).reshape(-1, block_size, keys.shape[2]).mean(1)
    return means


def rows_together(heads: int) -> int:
    """Queries of each of `heads` heads that are taken together."""
    return max(1, ROWS // heads)


def stretches(first: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Positions `first … end − 1` in stretches that begin at multiples of `size`, but for the first."""
    while first < end:
        stop = min(end, (first // size + 1) * size)
        yield first, stop
        first = stop


def _stretch(q: Any, k: Any, v: Any, first: int, block_size: int, choice: tuple[Choose, int], xp: Any) -> Any:
    """Finished rows `(R, T, D)` of the queries q at the positions `first …` of one key head; k v `(M, D)`."""
    heads, tokens, d = q.shape
    out, lse = xp.empty((heads, tokens, d), dtype=xp.float32), xp.empty((heads, tokens), dtype=xp.float32)
    for start, stop in stretches(first, first + tokens, block_size):
        rows = slice(start - first, stop - first)
        out[:, rows], lse[:, rows] = _own(q[:, rows], k, v, start, start // block_size * block_size, xp)
    before = (first + tokens - 1) // block_size
    if not before:
        return out
    flat = q.reshape(heads * tokens, d)
    own = (first + xp.arange(tokens)) // block_size
    chosen = choice[0](flat, choice[1], xp.broadcast_to(own, (heads, tokens)).reshape(-1))
    into = (out.reshape(1, 1, -1, d), lse.reshape(1, 1, -1))
    for block in range(before):
        keys = slice(block * block_size, (block + 1) * block_size)
        rows = xp.where(chosen[:, block])[0]
        for begin in range(0, len(rows), ROWS_OF_CALL):
            _add(into, flat, k[keys], v[keys], rows[begin : begin + ROWS_OF_CALL], xp)
    return out


def _own(q: Any, k: Any, v: Any, first: int, begin: int, xp: Any) -> Block:
    """Queries `(R, T, D)` at the positions `first …` against the keys of their block from `begin` on, up to their own."""
    here = slice(first, first + q.shape[1])
    found = square(q[None], k[None, None, here], v[None, None, here], True, xp)
    if first > begin:
        before = square(q[None], k[None, None, begin:first], v[None, None, begin:first], False, xp)
        found = (widened(found[0], xp), found[1])
        merge(found, before, xp)
    return found[0][0], found[1][0]


def _add(into: Block, q: Any, k: Any, v: Any, rows: Any, xp: Any) -> None:
    """Adds what some rows of q `(rows, D)` find in one block of keys to those rows of `into`."""
    out, lse = into[0][:, :, rows], into[1][:, :, rows]
    merge((out, lse), square(q[rows][None, None], k[None, None], v[None, None], False, xp), xp)
    into[0][:, :, rows], into[1][:, :, rows] = out, lse

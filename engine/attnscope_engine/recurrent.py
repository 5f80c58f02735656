"""Linear and recurrent methods on the processor, chunk by chunk: older keys are in a state, the pairs of a chunk are computed.

A method is a `Rule`: what it makes of queries and keys, how its state decays, whether a write first takes out what the state
already answers (delta rule). Within a chunk G is the running sum of log α, so that A_ij = φ(q_i)·φ(k_j) exp(G_i − G_j): only
differences of a later and an earlier G are ever exponentiated, none is above 0, and nothing overflows however strong the gates.

Chunked form: Yang et al. 2024, section 4, arXiv 2312.06635; delta rule: Yang et al. 2024, section 3, arXiv 2406.06484.
`xp` is torch or numpy; this file imports neither of them for the arithmetic. Everything is fp32, float64 for float64 inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import lower
from attnscope_engine.attend import threads
from attnscope_engine.protocol import Workload
from attnscope_engine.variant import Tick

CHUNK = 64
"""Tokens between two updates of the state."""

BLOCK_QUERIES = 2048 * threads()
"""That one step works on: some for every thread, few enough for its caches."""

Function = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One method on some key heads. Functions take keys `(A, T, D)` (queries `(A, …, D)`) and return arrays of their own."""

    query: Function
    """φ(q) `(A, …, F)`, whatever scale there is included."""
    key: Function
    """φ(k) `(A, T, F)`."""
    log_decay: Function | None = None
    """log α, at most 0: `(A, T, 1)`, or `(A, T, F)` when channels decay apart."""
    write: Function | None = None
    """β `(A, T, 1)` of the delta rule: S ← (I − β k kᵀ) S + β k vᵀ. None: S ← S + k vᵀ."""
    normalised: bool = False
    """Each output is divided by the sum of its weights."""
    own: float = 0.0
    """Share of the token's own value that goes round the state."""
    exponents: bool = False
    """`query` and `key` give logarithms of the features. Their largest are taken out before exp, which the division cancels."""


def run(q: Any, k: Any, v: Any, workload: Workload, rule_of: Callable[[NDArray[Any]], Rule], xp: Any, tick: Tick) -> Any:
    """Q `(B, H, N, D)`, k `(B, G, M, D)`, v `(B, G, M, V)` → out `(B, H, N, V)` in q's dtype; rows that see no key are 0.

    `rule_of` gets the key head of each row of A. Raises: Interrupted, from `tick`, which is called before each step.
    """
    n, m = q.shape[2], k.shape[2]
    groups = q.shape[0] * k.shape[1]
    queries = q.reshape(groups, -1, n, q.shape[3])
    keys, values = k.reshape(groups, m, k.shape[3]), v.reshape(groups, m, v.shape[3])
    out = xp.zeros((groups, queries.shape[1], n, v.shape[3]), dtype=q.dtype)
    at_once = groups_at_once(queries.shape[1])
    for first in range(0, groups, at_once):
        some = slice(first, min(first + at_once, groups))
        rule = rule_of(np.arange(some.start, some.stop) % k.shape[1])
        scan = _causal if workload.causal else _bidirectional
        scan(queries[some], keys[some], values[some], out[some], rule, xp, tick)
    return out.reshape(*q.shape[:3], v.shape[3])


def groups_at_once(heads: int) -> int:
    """Key heads that are scanned together, each read by `heads` query heads."""
    return max(1, BLOCK_QUERIES // (heads * CHUNK))


def constants(values: NDArray[Any], like: Any, xp: Any) -> Any:
    """Numbers of the method as an array of `xp`, of the type in which `like` is summed."""
    return xp.asarray(values, dtype=wide_type(like, xp))


# ---------------------------------------------------------------- along the keys


@dataclass(slots=True)
class State:
    """What some key heads remember."""

    sums: Any = None
    """`(A, F, V)`; None before the first key."""
    highest: Any = None
    """Largest exponents so far that were taken out, `(A, 1, F)`."""


def _causal(q: Any, k: Any, v: Any, out: Any, rule: Rule, xp: Any, tick: Tick) -> None:
    """Block by block of whole chunks (or one short one). q out `(A, R, N, ·)`, k v `(A, M, ·)`."""
    n, m = q.shape[2], k.shape[1]
    state = State()
    _absorb(k[:, : max(0, m - n)], v[:, : max(0, m - n)], state, rule, xp, tick)
    shift, first = m - n, max(0, n - m)
    block = max(1, BLOCK_QUERIES // (q.shape[0] * q.shape[1] * CHUNK)) * CHUNK
    while first < n:
        tick()
        size = min(block, (n - first) // CHUNK * CHUNK) or n - first
        rows, columns = slice(first, first + size), slice(first + shift, first + shift + size)
        chunks = _written(k[:, columns], v[:, columns], state, rule, xp)
        out[:, :, rows] = _read(q[:, :, rows], chunks, rule, xp)
        del chunks  # before the next ones are made
        first += size


def _bidirectional(q: Any, k: Any, v: Any, out: Any, rule: Rule, xp: Any, tick: Tick) -> None:
    """All keys into the state, then every query out of it."""
    state = State()
    _absorb(k, v, state, rule, xp, tick)
    step = max(1, BLOCK_QUERIES // (q.shape[0] * q.shape[1]))
    for first in range(0, q.shape[2], step):
        tick()
        some = q[:, :, first : first + step]
        queries = _query_features(some.reshape(q.shape[0], 1, -1, q.shape[3]), rule, state.highest, xp)
        total = xp.matmul(queries, state.sums[:, None])
        del queries
        total = _finished(total, rule)
        out[:, :, first : first + step] = total.reshape(*some.shape[:3], -1)
        del total  # before the next one is made


def _absorb(k: Any, v: Any, state: State, rule: Rule, xp: Any, tick: Tick) -> None:
    """Keys that no query of the call stands at."""
    block = max(1, BLOCK_QUERIES // (k.shape[0] * CHUNK)) * CHUNK
    first = 0
    while first < k.shape[1]:
        tick()
        size = min(block, (k.shape[1] - first) // CHUNK * CHUNK) or k.shape[1] - first
        _written(k[:, first : first + size], v[:, first : first + size], state, rule, xp)
        first += size


@dataclass(slots=True)
class Chunks:
    """Some chunks of keys: `(A, C, T, ·)`."""

    keys: Any
    values: Any
    """What is written for each key: its value, or under the delta rule what the state lacked of it."""
    decay: Any
    """G `(A, C, T, 1 or F)`, None without decay."""
    before: Any
    """The state before each chunk, `(A, C, F, V)`."""
    highest: Any


def _written(k: Any, v: Any, state: State, rule: Rule, xp: Any) -> Chunks:
    """Moves `state` past whole chunks (or one short one). k v `(A, T, ·)`."""
    groups, tokens = k.shape[:2]
    size = min(CHUNK, tokens)
    apart = (groups, tokens // size, size, -1)
    wide = _together(widened(k, xp), xp)
    keys = _key_features(wide, state, rule, xp).reshape(apart)
    values = _values(v, rule, xp).reshape(apart)
    decay = None if rule.log_decay is None else xp.cumsum(rule.log_decay(wide).reshape(apart), 2)
    if state.sums is None:
        state.sums = xp.zeros((groups, keys.shape[3], values.shape[3]), dtype=keys.dtype)
    if rule.write is not None:
        return _corrected(keys, values, decay, rule.write(wide).reshape(apart), state, xp)
    late = keys if decay is None else keys * xp.exp(decay[:, :, -1:] - decay)
    before = xp.matmul(late.swapaxes(-1, -2), values)
    del late
    for chunk in range(before.shape[1]):
        after = _decayed(state.sums, decay, chunk, xp)
        after += before[:, chunk]
        before[:, chunk] = state.sums
        state.sums = after
    return Chunks(keys, values, decay, before, state.highest)


def _corrected(keys: Any, values: Any, decay: Any, write: Any, state: State, xp: Any) -> Chunks:
    """The delta rule. What the keys of one chunk take from each other is solved at once; what from the state, in order."""
    wanted = lower.products(keys, keys, decay, xp)
    wanted *= write
    solved = lower.inverse_of_unit(wanted, xp)
    solved *= write.swapaxes(-1, -2)
    del wanted
    values = xp.matmul(solved, values)
    early = xp.matmul(solved, keys if decay is None else keys * xp.exp(decay))
    del solved
    late = keys if decay is None else keys * xp.exp(decay[:, :, -1:] - decay)
    before = xp.zeros((*keys.shape[:2], *state.sums.shape[1:]), dtype=keys.dtype)
    for chunk in range(before.shape[1]):
        before[:, chunk] = state.sums
        values[:, chunk] -= xp.matmul(early[:, chunk], state.sums)
        state.sums = _decayed(state.sums, decay, chunk, xp)
        state.sums += xp.matmul(late[:, chunk].swapaxes(-1, -2), values[:, chunk])
    return Chunks(keys, values, decay, before, None)


def _decayed(sums: Any, decay: Any, chunk: int, xp: Any) -> Any:
    """A new array: the state after the chunk's gates, before its writes."""
    return sums + 0 if decay is None else sums * xp.exp(decay[:, chunk, -1])[..., None]


def _read(q: Any, chunks: Chunks, rule: Rule, xp: Any) -> Any:
    """Outputs of the queries of some chunks. q `(A, R, T, D)` → `(A, R, T, V)`."""
    groups, heads, tokens, d = q.shape
    count, size = chunks.keys.shape[1:3]
    by_chunk = q.reshape(groups, heads, count, size, d).swapaxes(1, 2).reshape(groups, count, heads * size, d)
    queries = _query_features(by_chunk, rule, chunks.highest, xp)
    del by_chunk
    inside = lower.products(queries, chunks.keys, chunks.decay, xp)
    total = xp.matmul(inside, chunks.values)
    del inside
    if chunks.decay is not None:
        apart = queries.reshape(groups, count, heads, size, -1)
        queries = (apart * xp.exp(chunks.decay)[:, :, None]).reshape(queries.shape)
        del apart
    total += xp.matmul(queries, chunks.before)
    del queries  # before the heads are put in front again, which copies
    if rule.own:
        total.reshape(groups, count, heads, size, -1)[...] += chunks.values[:, :, None] * rule.own
    out = _finished(total, rule).reshape(groups, count, heads, size, -1)
    return out.swapaxes(1, 2).reshape(groups, heads, tokens, -1)


# ---------------------------------------------------------------- features


def _key_features(k: Any, state: State, rule: Rule, xp: Any) -> Any:
    keys = rule.key(k)
    if not rule.exponents:
        return keys
    highest = xp.amax(keys, 1)[:, None]
    if state.highest is not None:
        highest = xp.maximum(highest, state.highest)
        state.sums = state.sums * xp.exp(state.highest - highest).swapaxes(-1, -2)
    state.highest = highest
    keys -= highest
    xp.exp(keys, out=keys)
    return keys


def _query_features(q: Any, rule: Rule, highest: Any, xp: Any) -> Any:
    queries = rule.query(widened(q, xp))
    if rule.exponents:
        queries += highest[:, None]
        queries -= xp.amax(queries, -1)[..., None]
        xp.exp(queries, out=queries)
    return queries


def _values(v: Any, rule: Rule, xp: Any) -> Any:
    """V, and a column of ones where its sums are the divisor."""
    if not rule.normalised:
        return _together(widened(v, xp), xp)
    wide = xp.ones((*v.shape[:-1], v.shape[-1] + 1), dtype=wide_type(v, xp))
    wide[..., :-1] = v
    return wide


def _finished(total: Any, rule: Rule) -> Any:
    """Divided by its last column, if that is the sum of weights; a row whose weights are all 0 stays 0."""
    if not rule.normalised:
        return total
    sums = total[..., -1:]
    return total[..., :-1] / (sums + (sums == 0))


def widened(x: Any, xp: Any) -> Any:
    """The array itself if it is wide."""
    return x.to(wide_type(x, xp)) if xp.__name__ == "torch" else x.astype(wide_type(x, xp), copy=False)


def _together(x: Any, xp: Any) -> Any:
    """Without gaps: each matrix product would else copy it again."""
    return x.contiguous() if xp.__name__ == "torch" else xp.ascontiguousarray(x)


def wide_type(x: Any, xp: Any) -> Any:
    """The type in which sums are kept."""
    return xp.float64 if x.dtype == xp.float64 else xp.float32

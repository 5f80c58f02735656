"""Softmax attention over the keys near a query and, further away, over every `stride`-th or over the last of every stretch.

Child et al. 2019, "Generating Long Sequences with Sparse Transformers", sections 4.2 (patterns in two factors), 4.3 (strided and
fixed) and 5.1 (one head that sees what both of its factors see), arXiv 1904.10509; the fixed pattern's c is an eighth of the
stride, as there. With a full mask what is seen behind a query is seen ahead of it too.

What is seen is two sets that do not overlap. Each becomes bounds of a row once its keys are put side by side, so both are
attended to with no mask and no work on the gaps, and merged by their log-sum-exp.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, limits, merge_by_rows, merge_workspace, strip_workspace, torch_limits
from attnscope_engine.cost import Cost, Step, kv_bytes, lse_term, softmax_step, tensor_term
from attnscope_engine.cuda.row_order import MARGIN, bounds_table, order_table, reordered
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.regions import Band, Edge, Limits, Strip, chunk_strips, still, strips
from attnscope_engine.variant import Params, Tick, Variant, one_of, param

Indices = NDArray[np.int64]


class StridedParams(Params, frozen=True):
    """Which keys a query sees."""

    stride: Annotated[
        int,
        param(
            2, 65_536, unit="tokens", help="Keys seen near the query, and tokens between those seen further away", scale="log2"
        ),
    ] = 128
    pattern: Annotated[
        str,
        one_of(
            ("strided", "fixed"),
            help="strided: a window, and every stride-th key outside it; fixed: one stretch, and the last eighth of the others",
        ),
    ] = "strided"

    @property
    def summaries(self) -> int:
        """Keys at the end of each stretch of the fixed pattern that other stretches see: c of the paper."""
        return max(1, self.stride // 8)


def resolve(workload: Workload, params: StridedParams) -> StridedParams:
    """A stride longer than the sequence sees all of it: every setting is possible."""
    return params


# ---------------------------------------------------------------- what it costs


def cost(workload: Workload, params: StridedParams, on: DeviceKind) -> Cost:
    """Near keys, far keys and merging both; far keys are first put side by side (strided on a CPU: seen through views)."""
    w = workload
    near = replace(softmax_step(w, near_pairs(w, params)), name="near keys")
    if w.seq_len <= params.stride:  # nothing is far
        held = (workspace(w, params, 0),) if on == "cpu" else (lse_term(w), _tables(w, params, 0))
        return Cost((near,), (tensor_term(w), *held))
    query, sums, count = (
        w.batch * w.num_heads * w.seq_len * w.head_dim * w.item_bytes,
        lse_term(w).bytes_,
        far_count(w, params, on),
    )
    strided, gpu = params.pattern == "strided", on == "cuda"
    far_pairs = w.batch * w.num_heads * pairs_far(w, params)
    keys = Term("far k v", f"2·B·G·{count:,}·D·{w.item_bytes}", kv_bytes(w, count), "n")
    rows = Term("q reordered", f"B·H·n·D·{w.item_bytes}", query, "n")
    moved = ((keys, rows) if gpu else ()) if strided else (keys,)
    reorder = Step("reorder", 0, 0, 2 * sum(term.bytes_ for term in moved), launches=3 if strided else 2)
    far = Step("far keys", 4 * far_pairs * w.head_dim, far_pairs, 2 * query + keys.bytes_)
    results = Term("far output", f"B·H·n·D·{w.item_bytes}", query, "n"), Term("LSE", "2·B·H·n·4", 2 * sums, "n")
    return Cost(
        (near, *((reorder,) if moved else ()), far, Step("merge", 0, 0, 3 * query + 2 * sums)),
        (
            tensor_term(w),
            *results,
            *moved,
            _tables(w, params, count) if gpu else workspace(w, params, query + sum(term.bytes_ for term in moved)),
        ),
    )


def _tables(workload: Workload, params: StridedParams, count: int) -> Term:
    """Bounds of the rows of each launch, the order of `count` far keys, and that of the queries where they are reordered."""
    n, rows = workload.seq_len, 8 * MARGIN
    if count == 0:
        return Term("order", f"8·n + {rows:,}", 8 * n + rows, "n")
    row = 20 if params.pattern == "strided" else 16
    return Term("order", f"{row}·n + 4·{count:,} + {2 * rows:,}", row * n + 4 * count + 2 * rows, "n")


def far_count(workload: Workload, params: StridedParams, on: DeviceKind) -> int:
    """Keys among which the far ones are, as they lie in memory: with a full mask on a GPU each twice, see `FarKeys`."""
    n = workload.seq_len
    count = n if params.pattern == "strided" else n // params.stride * params.summaries + _tail_summaries(n, params)
    return count * (2 if on == "cuda" and not workload.causal else 1)


def _tail_summaries(n: int, params: StridedParams) -> int:
    """Summary keys of the last stretch, which may be short."""
    return max(0, n % params.stride - (params.stride - params.summaries))


def near_pairs(workload: Workload, params: StridedParams) -> int:
    """Pairs of one head with keys of the window, or of the query's own stretch, counted exactly."""
    n, stride = workload.seq_len, params.stride
    if params.pattern == "strided":
        window = min(stride, n)
        side = n * (window - 1) - window * (window - 1) // 2
        return n + (1 if workload.causal else 2) * side
    stretches, tail = divmod(n, stride)

    def inside(size: int) -> int:
        return size * (size + 1) // 2 if workload.causal else size * size

    return stretches * inside(stride) + inside(tail)


def pairs_far(workload: Workload, params: StridedParams) -> int:
    """Pairs of one head with keys further away, counted exactly."""
    n, stride = workload.seq_len, params.stride
    whole, tail = divmod(n, stride)
    if params.pattern == "strided":  # of each remainder's keys, one with another
        pairs = tail * (whole + 1) * whole + (stride - tail) * whole * (whole - 1)
        return pairs // 2 if workload.causal else pairs
    if workload.causal:  # a stretch sees the summaries of those before it
        return params.summaries * (stride * whole * (whole - 1) // 2 + tail * whole)
    seen = whole * params.summaries + _tail_summaries(n, params)
    return whole * stride * (seen - params.summaries) + tail * (seen - _tail_summaries(n, params))


def workspace(workload: Workload, params: StridedParams, later: int) -> Term:
    """The fullest moment of three: near keys, far keys, merging; the first is over when `later` bytes are allocated.

    Of each part of the sequence the first call is the largest.
    """
    w, n, stride, allowed = workload, workload.seq_len, params.stride, torch_limits(workload.head_dim)
    if params.pattern == "strided":
        starts = {start for start in (0, stride - 1, n - stride + 1) if 0 <= start < n}
        calls = [next(strips((_window(w.causal, params, n),), start, n, allowed)) for start in sorted(starts)]
    else:
        starts = {0, n // stride * stride} if n % stride else {0}
        calls = [next(chunk_strips(start, n, stride, w.causal, allowed)) for start in sorted(starts)]
    near = strip_workspace(w, *calls)
    if n <= stride:
        return near
    merging, over = merge_workspace(w), later - w.batch * w.num_heads * n * w.head_dim * w.item_bytes  # far keys are gone by then
    terms = (
        strip_workspace(w, *_fullest_far(w, params, allowed)),
        Term(near.name, f"{near.formula} − {later:,}", near.bytes_ - later, near.growth),
        Term(merging.name, f"{merging.formula} − {over:,}" if over else merging.formula, merging.bytes_ - over, merging.growth),
    )
    return max(terms, key=lambda term: term.bytes_)


def _fullest_far(workload: Workload, params: StridedParams, allowed: Limits) -> list[Strip]:
    """The calls with far keys among which the largest is."""
    n = workload.seq_len
    if params.pattern == "strided":
        size = -(-n // params.stride)
        bands = _others_of_a_remainder(workload.causal, size)
        return [next(strips(bands, start, size, allowed)) for start in {1, 0 if not workload.causal else 1} if start < size]
    last = (n - 1) // params.stride
    cut = allowed.pairs // (params.stride * params.summaries)  # from about here on rows are cut, as they see so many keys
    calls = (
        next(
            _fixed_strips(
                workload.causal, params, block, (block * params.stride, min((block + 1) * params.stride, n)), n, allowed
            )
        )
        for block in sorted({min(block, last) for block in (0, 1, cut - 1, cut, last - 1, last) if block >= 0})
    )
    return [call for call in calls if call.parts]


# ---------------------------------------------------------------- what it computes on a CPU


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: StridedParams, xp: Any, tick: Tick) -> Any:
    """The near keys of every query, then the far ones, then both merged."""
    n, m, causal = q.shape[2], k.shape[2], workload.causal
    allowed = limits(q.shape[3], xp)
    if params.pattern == "strided":
        near = strips((_window(causal, params, m),), m - n, m, allowed)
    else:
        near = chunk_strips(m - n, m, params.stride, causal, allowed)
    if far_keys(params, n, m, causal) is None:
        return attend(q, k, v, near, xp, tick)
    sums = [xp.empty(q.shape[:3], dtype=xp.float32) for _ in range(2)]
    out = attend(q, k, v, near, xp, tick, log_sums=sums[0])
    far = xp.empty_like(q)
    run_far = _far_by_remainder if params.pattern == "strided" else _far_summaries
    run_far((q, k, v), (far, sums[1]), causal, params, xp, tick)
    merge_by_rows((out, sums[0]), (far, sums[1]), xp, tick)
    return out


def _window(causal: bool, params: StridedParams, keys: int) -> Band:
    """Fewer than `stride` keys away."""
    return Band(Edge(1 - params.stride, 0, keys), Edge(1 if causal else params.stride, 0, keys))


def _others_of_a_remainder(causal: bool, keys: int) -> tuple[Band, ...]:
    """Of the keys of one remainder those before a query's own, and those after it."""
    before, after = Band(still(0), Edge(0, 0, keys)), Band(Edge(1, 0, keys), still(keys))
    return (before,) if causal else (before, after)


def _far_by_remainder(
    tensors: tuple[Any, Any, Any], into: tuple[Any, Any], causal: bool, params: StridedParams, xp: Any, tick: Tick
) -> None:
    """Every stride-th key, on views that leave the other tokens out."""
    (q, k, v), (out, sums), stride = tensors, into, params.stride
    n, m = q.shape[2], k.shape[2]
    allowed = limits(q.shape[3], xp)
    for first in range(min(stride, n)):
        queries, keys = slice(first, n, stride), slice((first + m - n) % stride, m, stride)
        rows, seen, values = q[:, :, queries], k[:, :, keys], v[:, :, keys]
        size = seen.shape[2]
        if size == 0:  # a remainder that no key has
            out[:, :, queries], sums[:, :, queries] = 0, -xp.inf
            continue
        pieces = strips(_others_of_a_remainder(causal, size), size - rows.shape[2], size, allowed)
        attend(rows, seen, values, pieces, xp, tick, into=out[:, :, queries], log_sums=sums[:, :, queries])


def _far_summaries(
    tensors: tuple[Any, Any, Any], into: tuple[Any, Any], causal: bool, params: StridedParams, xp: Any, tick: Tick
) -> None:
    """The summary keys of other stretches, put side by side."""
    (q, k, v), (out, sums), stride = tensors, into, params.stride
    n, m = q.shape[2], k.shape[2]
    chosen = summary_keys(params, m)
    keys, values, allowed = k[:, :, chosen], v[:, :, chosen], limits(q.shape[3], xp)

    def pieces() -> Iterator[Strip]:
        """Positions of `attend`, which takes the last query to stand at the last of the keys that it is given."""
        for block in range((m - n) // stride, (m - 1) // stride + 1):
            rows = max(block * stride, m - n), min((block + 1) * stride, m)
            yield from _fixed_strips(causal, params, block, rows, m, allowed)

    attend(q, keys, values, pieces(), xp, tick, into=out, log_sums=sums)


def _fixed_strips(
    causal: bool, params: StridedParams, block: int, rows: tuple[int, int], keys: int, allowed: Limits
) -> Iterator[Strip]:
    """The positions `rows[0] … rows[1] − 1` of one stretch against the summaries of others, counted among `summary_keys`."""
    count = len(summary_keys(params, keys))
    begin = min(max(block, 0) * params.summaries, count)
    end = min(max(block + 1, 0) * params.summaries, count)
    bands = (Band(still(0), still(begin)), Band(still(end), still(count)))
    moved = count - keys
    return strips(bands[:1] if causal else bands, rows[0] + moved, rows[1] + moved, allowed)


@functools.lru_cache(maxsize=4)
def summary_keys(params: StridedParams, keys: int) -> Indices:
    """The last `summaries` keys of every stretch, ascending."""
    every = np.arange(keys)
    found: Indices = every[every % params.stride >= params.stride - params.summaries]
    return found


# ---------------------------------------------------------------- what it computes on a GPU


@dataclass(frozen=True, slots=True)
class FarKeys:
    """Rows whose far keys lie side by side.

    With a full mask a query sees all keys of its remainder but its own, or all summaries but those of its stretch. Keys then lie
    there twice, one time behind the other; what a query sees begins after its own and ends before they come again: bounds.
    """

    keys: NDArray[np.int32]
    """Which keys, in which order."""
    queries: NDArray[np.int32] | None
    """Which query each row is; None: rows are queries as they are."""
    bounds: NDArray[np.int32]
    """`(N + MARGIN, 2)`: of each row the first of these keys, and the first behind the last, that it sees."""
    most_seen: int


@functools.lru_cache(maxsize=4)
def far_keys(params: StridedParams, queries: int, keys: int, causal: bool) -> FarKeys | None:
    """None where no query has any."""
    found = _far_of_strided(params, queries, keys, causal) if params.pattern == "strided" else None
    found = found or _far_of_fixed(params, queries, keys, causal)
    low, high = found.bounds.T
    return found if (high > low).any() else None


def _far_of_strided(params: StridedParams, queries: int, keys: int, causal: bool) -> FarKeys:
    stride, times = params.stride, 1 if causal else 2
    here = np.arange(queries) + keys - queries
    order = np.argsort(here % stride, kind="stable")
    counts = np.bincount(np.arange(keys) % stride, minlength=stride)
    first, count = ((np.cumsum(counts) - counts) * times)[here[order] % stride], counts[here[order] % stride]
    own = here[order] // stride  # the query's own key among those of its remainder; negative: it stands before the first
    low = first if causal else first + np.maximum(own + 1, 0)
    high = first + np.clip(own, 0, count) if causal else first + count + np.maximum(own, 0)
    chosen = np.argsort(np.tile(np.arange(keys) % stride, times), kind="stable") % keys
    return FarKeys(order_table(chosen), order_table(order), bounds_table(low, high), -(-keys // stride))


def _far_of_fixed(params: StridedParams, queries: int, keys: int, causal: bool) -> FarKeys:
    chosen = summary_keys(params, keys)
    block = (np.arange(queries) + keys - queries) // params.stride
    begin = np.minimum(np.maximum(block, 0) * params.summaries, len(chosen))
    end = np.minimum(np.maximum(block + 1, 0) * params.summaries, len(chosen))
    low, high = (np.zeros_like(begin), begin) if causal else (end, len(chosen) + begin)
    return FarKeys(order_table(np.tile(chosen, 1 if causal else 2)), None, bounds_table(low, high), max(1, len(chosen)))


@functools.lru_cache(maxsize=4)
def near_bounds(params: StridedParams, queries: int, keys: int, causal: bool) -> NDArray[np.int32]:
    """As `FarKeys.bounds`, of the keys as they are: the window, or the query's own stretch."""
    here, stride = np.arange(queries) + keys - queries, params.stride
    if params.pattern == "strided":
        low, high = here - stride + 1, here + stride
    else:
        low, high = here // stride * stride, (here // stride + 1) * stride
    high = np.clip(here + 1 if causal else high, 0, keys)
    return bounds_table(np.minimum(np.maximum(low, 0), high), high)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: StridedParams) -> None:
    """Near keys; far keys, put side by side, into an output of their own; and the kernel that merges."""
    n, m, sides = q.shape[2], k.shape[2], 1 if workload.causal else 2
    cuda.tiling("Strided", q.shape[3], workload.dtype)  # refuses before anything is moved

    def softmax_over(tensors: tuple[Any, Any, Any, Any], tables: tuple[Any, Any], most_seen: int, *, ordered: bool) -> Any:
        constants = {"ORDERED": int(ordered)}
        return cuda.attend_in_tiles(device, "strided", "Strided", tensors, workload, tables, most_seen, constants=constants)

    near = device.constant(near_bounds(params, n, m, workload.causal))
    lse = softmax_over((q, k, v, out), (near, near), sides * params.stride, ordered=False)
    far = far_keys(params, n, m, workload.causal)
    if far is None:
        return
    bounds, order = device.constant(far.bounds), device.constant(far.keys)
    keys, values = (reordered(device, "strided", x, order, workload.dtype) for x in (k, v))
    rows, places = q, bounds
    if far.queries is not None:
        places = device.constant(far.queries)
        rows = reordered(device, "strided", q, places, workload.dtype)
    other = device.empty(q.shape, cuda.STORED[workload.dtype])
    other_lse = softmax_over((rows, keys, values, other), (bounds, places), far.most_seen, ordered=far.queries is not None)
    _merge_outputs(device, (out, lse), (other, other_lse), workload)


def _merge_outputs(device: Any, near: tuple[Any, Any], far: tuple[Any, Any], workload: Workload) -> None:
    """Adds the softmax over far keys to the one over near keys, in its place."""
    batch, heads, rows, head_dim = near[0].shape
    parts = head_dim * np.dtype(cuda.STORED[workload.dtype]).itemsize // 16
    kernel = device.kernel("strided", "merge", {"MERGE": 1, "DTYPE": cuda.DTYPE_CODE[workload.dtype]})
    kernel((cuda.blocks(rows * parts, 256), heads, batch), 256, (*near, *far, np.int32(rows), np.int32(parts)))


# ---------------------------------------------------------------- what it shows


def visible(workload: Workload, params: StridedParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Near keys and far keys (causal: not after the query)."""
    rows, columns, stride = np.asarray(rows), np.asarray(columns), params.stride
    back = numerics.distance_back(rows, columns, 0)
    if params.pattern == "strided":
        seen: NDArray[np.bool_] = (np.abs(back) < stride) | (back % stride == 0)
    else:
        seen = (rows // stride)[:, None] == (columns // stride)[None, :]
        seen = seen | (columns % stride >= stride - params.summaries)[None, :]
    return seen & (back >= 0) if workload.causal else seen


def state_bytes(workload: Workload, params: StridedParams) -> int:
    """K and V of every token, each of which some later query sees; fixed: of the summaries and of one stretch."""
    n = workload.seq_len
    return kv_bytes(workload, n if params.pattern == "strided" else min(n, n // params.stride * params.summaries + params.stride))


def summary(params: StridedParams) -> str:
    """Such as "stride 128 · strided"."""
    return f"stride {params.stride:,} · {params.pattern}"


VARIANT = Variant(
    name="strided",
    title="Strided",
    family="restricted",
    order=15,
    source="Child et al. 2019, sections 4.2, 4.3 and 5.1, arXiv 1904.10509",
    formula="out = softmax(Q Kᵀ · D^-½ where i − j < l or l divides i − j; fixed: ⌊i/l⌋ = ⌊j/l⌋ or j mod l ≥ l − l/8) V",
    params=StridedParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=numerics.reference_over(visible),
    run_cpu=run_cpu,
    launch=launch,
    weights=numerics.weights_over(visible),
    visible=visible,
    like="pattern",
    plain_softmax=True,
    outside="between the keys that are seen",
    state_bytes=state_bytes,
)

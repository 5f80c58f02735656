"""Latent attention: what is kept of a token is one short vector for all heads, from which each head makes its key and its value.

DeepSeek-AI 2024, "DeepSeek-V2", sections 2.1.2 (keys and values from a latent) and 2.1.3 (a rotated key beside
it, shared by all heads), arXiv 2405.04434.

The projections are synthetic: `latents.py` has the formulas. `naive` makes keys and values of every head. `absorbed` takes what
would make a key to the query instead, so that the latents are key and value of one head that all query heads share; what would
make a value comes after the sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics
from attnscope_engine.attend import attend, limits, whole_workspace
from attnscope_engine.cost import Cost, Step, lse_term, tensor_term
from attnscope_engine.cuda.columns import Mover, Place
from attnscope_engine.latents import (
    FINE,
    Projections,
    angles,
    keys_of,
    projections,
    queries_of,
    rotated,
    rotations,
    stored_projections,
    values_of,
)
from attnscope_engine.protocol import DeviceKind, Dtype, Term, Workload
from attnscope_engine.regions import Band, Edge, still, strips
from attnscope_engine.variant import Params, Tick, Unsupported, Variant, one_of, param

ROWS = 256
"""Tokens that are projected at a time on the processor."""


class MlaParams(Params, frozen=True):
    """Widths of what is kept of a token, and where the projections are done."""

    form: Annotated[
        str,
        one_of(("absorbed", "naive"), help="naive: keys and values of every head are made; absorbed: queries go into the latent"),
    ] = "absorbed"
    latent: Annotated[
        int,
        param(
            16,
            192,
            unit="numbers",
            help="Width of the latent, in steps of 16. Its projections are synthetic: fixed signs, not learnt",
        ),
    ] = 128
    rope: Annotated[int, param(8, 64, unit="numbers", help="Width of the rotated key that all heads share, in steps of 8")] = 32

    @property
    def half(self) -> int:
        """Numbers of the latent that keys, or values, are made of."""
        return self.latent // 2

    @property
    def kept(self) -> int:
        """Numbers that are kept of a token."""
        return self.latent + self.rope

    def width(self, head_dim: int) -> int:
        """Numbers of a key as it is multiplied."""
        return self.kept if self.form == "absorbed" else head_dim + self.rope


def resolve(workload: Workload, params: MlaParams) -> MlaParams:
    """Widths on their steps."""
    return msgspec.structs.replace(params, latent=params.latent // 16 * 16, rope=params.rope // 8 * 8)


# ---------------------------------------------------------------- what it costs


def cost(workload: Workload, params: MlaParams, on: DeviceKind) -> Cost:
    """Down-projection; queries or keys and values projected; one pass of softmax; absorbed, the up-projection of its sums."""
    w, absorbed = workload, params.form == "absorbed"
    n, dim, half, item = w.seq_len, w.head_dim, params.half, w.item_bytes
    tokens, rows, width = w.batch * n, w.batch * w.num_heads * n, params.width(w.head_dim)
    inputs, kept, wide = 2 * tokens * w.num_kv_heads * dim * item, tokens * params.kept * item, rows * width * item
    pairs = w.batch * w.num_heads * w.pairs
    down = 2 * tokens * w.num_kv_heads * dim * params.kept
    turn = 2 * rows * dim * (params.rope + (half if absorbed else 0))
    query = rows * dim * item
    products = w.batch * w.num_heads
    steps: tuple[Step, ...]
    if absorbed:
        steps = (
            Step("down-projection", down, 0, 3 * inputs + kept, 5),
            Step("queries into the latent", turn, 0, query + wide, w.batch + 2),
            Step("attention", 4 * pairs * width, pairs, 2 * wide + kept),
            Step("up-projection", 2 * rows * half * dim, 0, query + wide, w.batch),
        )
    else:
        steps = (
            Step("down-projection", down, 0, 3 * inputs + kept, 5),
            Step("rotated queries", turn, 0, 2 * query + wide, w.batch + 2),
            Step("up-projection", 4 * rows * half * dim, 0, kept + 2 * wide, 2 * products + 2),
            Step("attention", 4 * pairs * width, pairs, 4 * wide),
            Step("output", 0, 0, 2 * query),
        )
    held = [
        tensor_term(w),
        Term("latents", f"B·n·{params.kept}·{item}", kept, "n"),
        Term("wide q out", f"2·B·H·n·{width}·{item}", 2 * wide, "n"),
    ]
    if not absorbed:
        held.append(Term("k v of all heads", f"2·B·H·n·{width}·{item}", 2 * wide, "n"))
    numbers = projections(params.half, params.rope, w.num_heads, w.num_kv_heads, dim).numbers
    stored = 4 if on == "cpu" else item
    held.append(Term("projections", f"{numbers:,}·{stored}", numbers * stored, "constant"))
    if on == "cpu":
        held.append(workspace(w, params))
    else:
        table = 4 * params.rope * (-(-n // FINE) + FINE)
        tables = Term("rotation", f"4·R·(⌈n/{FINE}⌉ + {FINE})", table, "n")
        held += [Term("k v by token", f"2·B·n·G·D·{item}", inputs, "n"), lse_term(w), tables]
    return Cost(steps, tuple(held))


def workspace(workload: Workload, params: MlaParams) -> Term:
    """Of the softmax, whose calls are larger than those of the projections."""
    heads = 1 if params.form == "absorbed" else workload.num_heads
    wide = msgspec.structs.replace(workload, head_dim=params.width(workload.head_dim), num_kv_heads=heads)
    return whole_workspace(wide, workload.seq_len)


# ---------------------------------------------------------------- what it computes


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: MlaParams) -> NDArray[Any]:
    """Softmax attention of each head's own queries, keys and values."""
    n, m = q.shape[-2], k.shape[-2]
    found, every = projections(params.half, params.rope, q.shape[1], *_kv_shape(k)), slice(None)
    keys, values = keys_of(k, found, every), values_of(v, found, every)
    seen = visible(workload, params, np.arange(n) + m - n, np.arange(m))
    return numerics.masked_attention(queries_of(q, found, every, m - n), keys, values, seen)


def _kv_shape(k: NDArray[Any]) -> tuple[int, int]:
    """Key heads and head dim of k `(…, G, M, D)`."""
    return k.shape[-3], k.shape[-1]


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: MlaParams, xp: Any, tick: Tick) -> Any:
    """Latents of blocks of tokens; then queries into them, or keys and values out of them; then blocks of softmax."""
    (batch, heads, n, head_dim), m = q.shape, k.shape[2]
    found = projections(params.half, params.rope, heads, k.shape[1], head_dim)
    matrices = [xp.asarray(x) for x in (found.values_down[0], found.keys_down[0], found.queries, found.values_up)]
    down, into_latent, up = matrices[:2], matrices[2], matrices[3]
    run = _Run(params, found, xp, tick, max(0, n - m))
    out, width, half = xp.empty_like(q), params.width(head_dim), params.half
    latents = xp.empty((batch, 1, m, params.kept), dtype=q.dtype)
    run.project_down(k, v, latents, down)
    queries = xp.empty((batch, heads, n, width), dtype=q.dtype)
    run.project_queries(q, queries, into_latent, m)
    keys, values = latents, latents
    if params.form == "naive":
        keys, values = (xp.zeros((batch, heads, m, width), dtype=q.dtype) for _ in range(2))
        for b, h, rows in run.blocks(batch, heads, m):
            keys[b, h, rows, :head_dim] = _wide(latents[b, 0, rows, half : 2 * half], xp) @ into_latent[h, :, :half].T * found.up
            keys[b, h, rows, head_dim:] = latents[b, 0, rows, 2 * half :]
            values[b, h, rows, :head_dim] = _wide(latents[b, 0, rows, :half], xp) @ up[h] * found.up
    high = Edge(1, 0, m) if workload.causal else still(m)
    wide = attend(queries, keys, values, strips((Band(still(0), high),), m - n, m, limits(width, xp)), xp, tick)
    for b, h, rows in run.blocks(batch, heads, n):
        found_rows = wide[b, h, rows, : half if params.form == "absorbed" else head_dim]
        out[b, h, rows] = _wide(found_rows, xp) @ up[h] * found.up if params.form == "absorbed" else found_rows
    return out


@dataclass(frozen=True, slots=True)
class _Run:
    """A run on the processor: blocks of tokens go through the projections in fp32."""

    params: MlaParams
    found: Projections
    xp: Any
    tick: Tick
    ahead: int
    """Added to every position, so that none is negative."""

    def blocks(self, batch: int, heads: int, tokens: int) -> Iterator[tuple[int, int, slice]]:
        for b, h, first in itertools.product(range(batch), range(heads), range(0, tokens, ROWS)):
            self.tick()
            yield b, h, slice(first, min(first + ROWS, tokens))

    def project_down(self, k: Any, v: Any, latents: Any, down: list[Any]) -> None:
        half, scale, dim = self.params.half, self.found.down, k.shape[3]
        for b, _, rows in self.blocks(k.shape[0], 1, k.shape[2]):
            for x, matrix, columns in ((v, down[0], slice(0, half)), (k, down[1], slice(half, None))):
                summed = sum(_wide(x[b, g, rows], self.xp) @ matrix[g * dim : (g + 1) * dim] for g in range(k.shape[1]))
                summed *= scale
                if columns.stop is None:
                    summed[:, half:] = self.turn(summed[:, half:], rows, 0)
                latents[b, 0, rows, columns] = summed

    def project_queries(self, q: Any, queries: Any, matrix: Any, keys: int) -> None:
        """Absorbed: as the latent has them, a factor making good that scores are divided by √(L + R)."""
        params, found, dim = self.params, self.found, q.shape[3]
        factor = _score_factor(params, dim)
        for b, h, rows in self.blocks(*q.shape[:3]):
            wide = _wide(q[b, h, rows], self.xp)
            if params.form == "absorbed":
                queries[b, h, rows, : params.half] = 0
                queries[b, h, rows, params.half : params.latent] = wide @ matrix[h, :, : params.half] * (found.up * factor)
            else:
                queries[b, h, rows, :dim] = q[b, h, rows]
            turned = self.turn(wide @ matrix[h, :, params.half :], rows, keys - q.shape[2])
            queries[b, h, rows, -params.rope :] = turned * (found.turned * factor)

    def turn(self, x: Any, rows: slice, moved: int) -> Any:
        turn = angles(np.arange(rows.start, rows.stop) + moved + self.ahead, self.params.rope)
        cosines, sines = (self.xp.asarray(of.astype(np.float32)) for of in (np.cos(turn), np.sin(turn)))
        return rotated(x, cosines, sines, self.xp)


def _score_factor(params: MlaParams, head_dim: int) -> float:
    """The softmax divides by the root of the width that it multiplies; scores are divided by √(D + R) in both forms."""
    return float((params.width(head_dim) / (head_dim + params.rope)) ** 0.5)


def _wide(x: Any, xp: Any) -> Any:
    return x.to(xp.float32) if xp.__name__ == "torch" else x.astype(xp.float32, copy=False)


# ---------------------------------------------------------------- on a GPU


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: MlaParams) -> None:
    """Products by cuBLAS, the tiled softmax kernel of Flash, and small kernels that move and rotate columns."""
    (batch, heads, n, head_dim), (kv_heads, m), dtype = q.shape, k.shape[1:3], workload.dtype
    cuda.tiling("MLA", head_dim, dtype)  # refuses before anything is moved
    width = params.width(head_dim)
    if width > cuda.WIDTHS[-1]:
        raise Unsupported(
            f"MLA, naive, runs on a GPU up to head dim + rope 256, not {width}: set form to absorbed, or use the CPU"
        )
    shape = params.half, params.rope, heads, kv_heads, head_dim
    found, mover = projections(*shape), Mover(device, "mla", dtype)
    matrices = [device.constant(x) for x in stored_projections(*shape, dtype)]
    ahead = max(0, n - m)  # so that no position is negative
    tables = tuple(device.constant(x) for x in rotations(m + ahead, params.rope))
    stored = cuda.STORED[dtype]
    latents = device.empty((batch, 1, m, params.kept), stored)
    _project_down(device, mover, (k, v), latents, matrices[:2], found.down, params, dtype)
    mover.rotate(Place.of(latents, params.latent), tables, ahead, (batch, 1, m), params.rope, 1.0)
    queries, wide = (device.empty((batch, heads, n, width), stored) for _ in range(2))
    factor, first, every = _score_factor(params, head_dim), width - params.rope, (batch, heads, n)
    if params.form == "absorbed":
        mover.copy(Place.of(queries), None, every, params.half)
        for b in range(batch):
            device.multiply(q[b, :], matrices[2], queries[b, :, :, params.half :], dtype, found.up * factor, False)
        mover.rotate(Place.of(queries, first), tables, m - n + ahead, every, params.rope, found.turned / found.up)
        keys, values = latents, latents
    else:
        mover.copy(Place.of(queries), Place.of(q), every, head_dim)
        for b in range(batch):
            device.multiply(q[b, :], matrices[2][:, :, params.half :], queries[b, :, :, first:], dtype, found.turned, False)
        mover.rotate(Place.of(queries, first), tables, m - n + ahead, every, params.rope, 1.0)
        keys, values = _of_all_heads(device, mover, latents, matrices[2:], found.up, params, dtype, (heads, head_dim))
    cuda.attend_in_tiles(device, "softmax_tiled", "MLA", (queries, keys, values, wide), workload, (0, heads))
    if params.form == "naive":
        mover.copy(Place.of(out), Place.of(wide), every, head_dim)
        return
    for b in range(batch):
        device.multiply(wide[b, :, :, : params.half], matrices[3], out[b, :], dtype, found.up, False)


def _project_down(
    device: Any,
    mover: Mover,
    inputs: tuple[Any, Any],
    latents: Any,
    down: list[Any],
    scale: float,
    params: MlaParams,
    dtype: Dtype,
) -> None:
    """All key heads of a token side by side, and their products: each latent and, not rotated yet, the shared key."""
    batch, kv_heads, m, dim = inputs[0].shape
    tokens, both = kv_heads * dim, 2 * kv_heads * dim
    side_by_side = device.empty((batch, 1, m, both), cuda.STORED[dtype])
    for first, x in ((0, inputs[1]), (tokens, inputs[0])):
        place = Place(side_by_side, first, m * both, dim, both)
        source = Place(x, 0, m * tokens, m * dim, dim)
        mover.copy(place, source, (batch, kv_heads, m), dim)
    rows, into = side_by_side.reshape(1, batch * m, both), latents.reshape(1, batch * m, params.kept)
    device.multiply(rows[:, :, :tokens], down[0], into[:, :, : params.half], dtype, scale, False)
    device.multiply(rows[:, :, tokens:], down[1], into[:, :, params.half :], dtype, scale, False)


def _of_all_heads(
    device: Any,
    mover: Mover,
    latents: Any,
    up: list[Any],
    scale: float,
    params: MlaParams,
    dtype: Dtype,
    heads_dim: tuple[int, int],
) -> tuple[Any, Any]:
    """Keys `(B, H, M, D + R)` and values of every head, the latter with zeros behind them."""
    (batch, _, m, _), (heads, dim), half = latents.shape, heads_dim, params.half
    keys, values = (device.empty((batch, heads, m, dim + params.rope), cuda.STORED[dtype]) for _ in range(2))
    for b, h in itertools.product(range(batch), range(heads)):
        here = slice(h, h + 1)
        low, high = latents[b, :, :, :half], latents[b, :, :, half : params.latent]
        device.multiply(high, up[0][here, :, :half], keys[b, here, :, :dim], dtype, scale, True)
        device.multiply(low, up[1][here, :, :], values[b, here, :, :dim], dtype, scale, False)
    every = batch, heads, m
    mover.copy(Place.of(keys, dim), Place.of(latents, params.latent), every, params.rope)
    mover.copy(Place.of(values, dim), None, every, params.rope)
    return keys, values


# ---------------------------------------------------------------- what it shows


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: MlaParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """Softmax of the rows' scores; k `(G, M, D)` of all key heads."""
    (n, _), m, one = q.shape, k.shape[-2], slice(head, head + 1)
    found = projections(params.half, params.rope, workload.num_heads, *_kv_shape(k))
    queries = queries_of(q[None], found, one, m - n)[0]
    seen = visible(workload, params, rows + m - n, np.arange(m))
    return numerics.softmax_rows(numerics.scores_of(queries[rows], keys_of(k, found, one)[0]), seen)


def values(v: NDArray[Any], workload: Workload, params: MlaParams, head: int) -> NDArray[Any]:
    """What the map multiplies: a head's values, made of v `(G, M, D)`."""
    found = projections(params.half, params.rope, workload.num_heads, *_kv_shape(v))
    made: NDArray[np.float64] = values_of(v, found, slice(head, head + 1))[0]
    return made


def visible(workload: Workload, params: MlaParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """All keys, or those not after the query."""
    return numerics.causal_visible(rows, columns, 0) if workload.causal else numerics.all_visible(rows, columns)


def state_bytes(workload: Workload, params: MlaParams) -> int:
    """Latent and rotated key of every token, for all heads together."""
    return workload.batch * workload.seq_len * params.kept * workload.item_bytes


VARIANT = Variant(
    name="mla",
    title="MLA",
    family="softmax",
    order=5,
    source="DeepSeek-AI 2024, sections 2.1.2 and 2.1.3, arXiv 2405.04434; rotation: RoFormer, arXiv 2104.09864",
    formula="out = softmax([Q, Q_R] [C W_K, K_R]ᵀ · (D + R)^-½) C W_V, C the latents of all heads",
    params=MlaParams,
    summary=lambda params: f"{params.form} · latent {params.latent} + {params.rope}",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    mixes_heads=True,
    values=values,
    state_bytes=state_bytes,
)

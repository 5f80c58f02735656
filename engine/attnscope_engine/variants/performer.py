"""Performer: softmax attention estimated by linear attention on positive orthogonal random features (FAVOR+).

Choromanski et al. 2020, "Rethinking attention with Performers", sections 2.3 and 2.4, arXiv 2009.14794. The directions are drawn
once from the seed, the same for every head, and orthogonal in blocks of D.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics, recurrent, recurrent_cost
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.cuda import linear as linear_kernels
from attnscope_engine.protocol import DeviceKind, Term, Workload
from attnscope_engine.recurrent_cost import Sizes
from attnscope_engine.variant import Params, Tick, Unsupported, Variant, param

MOST_FEATURES = 128
"""Of a call on a GPU, as in `performer.cu`: the state of more does not fit the registers of a block of threads."""

TOKENS = 64
"""Of a block of the kernels that make features."""

SHARES = 64
"""Into so many a head's keys are cut at most, to find the largest exponent of each direction."""


class PerformerParams(Params, frozen=True):
    """How good the estimate is, and which one."""

    features: Annotated[
        int, param(8, 1024, unit="features", help="Random directions: more of them estimate the softmax better", scale="log2")
    ] = 128
    seed: Annotated[int, param(0, 9999, unit="of the draw", help="Another seed is another draw of the directions")] = 0


def resolve(workload: Workload, params: PerformerParams) -> PerformerParams:
    """Every setting is possible."""
    return params


@functools.lru_cache(maxsize=16)
def directions(head_dim: int, features: int, seed: int) -> NDArray[np.float64]:
    """ω `(features, D)`: rows at right angles in blocks of D, each as long as a normal vector is."""
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(-(-features // head_dim)):
        square, triangle = np.linalg.qr(rng.standard_normal((head_dim, head_dim)))
        blocks.append((square * np.sign(np.diag(triangle))).T)  # with the signs of the diagonal any direction is as likely
    lengths = np.linalg.norm(rng.standard_normal((len(blocks) * head_dim, head_dim)), axis=1)
    found: NDArray[np.float64] = (np.concatenate(blocks) * lengths[:, None])[:features]
    found.flags.writeable = False
    return found


def sizes(workload: Workload, params: PerformerParams) -> Sizes:
    """Of the state."""
    return Sizes(params.features, workload.head_dim + 1, made_features=True)


def cost(workload: Workload, params: PerformerParams, on: DeviceKind) -> Cost:
    """Each query and key times every direction (keys twice on a GPU, where no exponents are stored), then the state.

    The state's normaliser is one more value column.
    """
    flops = 2 * workload.head_dim * params.features
    if on == "cpu":
        return recurrent_cost.cost(workload, sizes(workload, params), feature_flops=flops, feature_exps=params.features)
    w, columns = workload, cuda.aligned(params.features)
    keys = w.batch * w.num_kv_heads * w.seq_len
    tokens = keys + w.batch * w.num_heads * w.seq_len
    steps = (
        Step("highest", flops * keys, 0, keys * w.head_dim * w.item_bytes, launches=2),
        Step("features", flops * tokens, tokens * params.features, tokens * (w.head_dim + columns) * w.item_bytes, launches=2),
        *linear_kernels.steps(w, normalised=True, features=columns),
    )
    shares = min(SHARES, cuda.blocks(w.seq_len, TOKENS))
    held = (
        tensor_term(w),
        Term("directions", f"D·{MOST_FEATURES}·4", w.head_dim * MOST_FEATURES * 4, "constant"),
        Term("highest", f"B·G·{shares}·{MOST_FEATURES}·4", w.batch * w.num_kv_heads * shares * MOST_FEATURES * 4, "constant"),
        Term("features", f"B·(H+G)·n·{columns}·{w.item_bytes}", tokens * columns * w.item_bytes, "n"),
        *linear_kernels.held(w, features=columns),
    )
    return Cost(steps, held)


def weights_of(q: NDArray[Any], k: NDArray[Any], seen: NDArray[np.bool_], params: PerformerParams) -> NDArray[np.float64]:
    """`(…, N, D)`, `(…, M, D)` → `(…, N, M)`: Σ_r exp(ω_r·q̃) exp(ω_r·k̃ − ‖k̃‖²/2) over what is seen, divided by its sum.

    Of each direction the largest key's exponent moves to the queries, and of each query its largest is taken out: both cancel.
    """
    scale = q.shape[-1] ** -0.25
    omega = directions(q.shape[-1], params.features, params.seed)
    queries, keys = q.astype(np.float64) * scale, k.astype(np.float64) * scale
    of_keys = keys @ omega.T - 0.5 * (keys**2).sum(axis=-1, keepdims=True)
    highest = of_keys.max(axis=-2, keepdims=True)
    of_queries = queries @ omega.T + highest
    of_queries -= of_queries.max(axis=-1, keepdims=True)
    products = np.where(seen, np.exp(of_queries) @ np.exp(of_keys - highest).swapaxes(-1, -2), 0.0)
    total = products.sum(axis=-1, keepdims=True)
    mapped: NDArray[np.float64] = products / np.where(total == 0, 1.0, total)
    return mapped


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: PerformerParams) -> NDArray[Any]:
    """The weights times V; a query that sees no key gives 0."""
    n, m = q.shape[-2], k.shape[-2]
    seen = visible(workload, params, np.arange(n) + m - n, np.arange(m))
    found = weights_of(q, numerics.expand_heads(k, q.shape[1]), seen, params)
    return found @ numerics.expand_heads(v, q.shape[1]).astype(np.float64)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: PerformerParams, xp: Any, tick: Tick) -> Any:
    """One state for each key head, older keys inside it; the pairs of a chunk directly."""
    scale = q.shape[-1] ** -0.25
    omega = recurrent.constants(directions(q.shape[-1], params.features, params.seed).T * scale, k, xp)

    def key(x: Any) -> Any:
        exponents = xp.matmul(x, omega)
        exponents -= (0.5 * scale**2) * (x * x).sum(-1)[..., None]
        return exponents

    rule = recurrent.Rule(query=lambda x: xp.matmul(x, omega), key=key, normalised=True, exponents=True)
    return recurrent.run(q, k, v, workload, lambda heads: rule, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: PerformerParams) -> None:
    """Features of q and k, then linear attention on them. Raises: Unsupported (head_dim, or more features than fit)."""
    if params.features > MOST_FEATURES:
        raise Unsupported(
            f"Performer runs on a GPU up to {MOST_FEATURES} features, not {params.features}: set features {MOST_FEATURES}, "
            "or use the CPU"
        )
    cuda.tiling("Performer", q.shape[3], workload.dtype, widest=linear_kernels.WIDEST)
    queries, keys = features_of(device, q, k, workload, params)
    linear_kernels.attend(device, "performer", "Performer", (queries, keys, v, out), workload, normalised=True)


def features_of(device: Any, q: Any, k: Any, workload: Workload, params: PerformerParams) -> tuple[Any, Any]:
    """Φ(q) `(B, H, N, F)` and φ(k) `(B, G, M, F)` in the dtype, F the features and zeros up to a multiple of 8."""
    batch, kv_heads, keys, width = k.shape
    along = device.constant(_columns_of_directions(width, params.features, params.seed))
    shares, columns = min(SHARES, cuda.blocks(keys, TOKENS)), cuda.aligned(params.features)
    highest = device.empty((batch, kv_heads, shares, MOST_FEATURES), "float32")
    defines = {"DTYPE": cuda.DTYPE_CODE[workload.dtype], "MAKES_FEATURES": 1}
    half_square = np.float32(0.5 * width**-0.5)

    find = device.kernel("performer", "performer_highest", defines)
    find((shares, kv_heads, batch), 256, (k, along, highest, np.int32(keys), np.int32(width), half_square))
    reduce = device.kernel("performer", "performer_reduce", defines)
    reduce((1, kv_heads, batch), MOST_FEATURES, (highest, np.int32(shares)))
    make = device.kernel("performer", "performer_features", defines)

    def made(x: Any, of_queries: bool) -> Any:
        _, own, tokens, _ = x.shape
        found = device.empty((batch, own, tokens, columns), cuda.STORED[workload.dtype])
        sizes = (tokens, width, shares, params.features, columns, own // kv_heads, int(of_queries))
        # Of a query ‖q̃‖²/2 is the same in every direction: the division cancels it.
        arguments = (x, along, highest, found, *map(np.int32, sizes), np.float32(0.0) if of_queries else half_square)
        make((cuda.blocks(tokens, TOKENS), own, batch), 256, arguments)
        return found

    return made(q, True), made(k, False)


@functools.lru_cache(maxsize=16)
def _columns_of_directions(head_dim: int, features: int, seed: int) -> NDArray[np.float32]:
    """ω·D^-¼ `(D, 128)`, zeros for the directions that there are not."""
    found = np.zeros((head_dim, MOST_FEATURES), np.float32)
    found[:, :features] = directions(head_dim, features, seed).T * head_dim**-0.25
    found.flags.writeable = False
    return found


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: PerformerParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """The rows' estimates of softmax weights."""
    seen = visible(workload, params, rows + k.shape[0] - q.shape[0], np.arange(k.shape[0]))
    return weights_of(q[rows], k, seen, params)


def visible(workload: Workload, params: PerformerParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """All keys, or those not after the query."""
    return numerics.causal_visible(rows, columns, 0) if workload.causal else numerics.all_visible(rows, columns)


def state_bytes(workload: Workload, params: PerformerParams) -> int:
    """Σ φ(k) [v 1]ᵀ of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, sizes(workload, params))


VARIANT = Variant(
    name="performer",
    title="Performer",
    family="linear",
    order=27,
    source="Choromanski et al. 2020, sections 2.3 and 2.4, arXiv 2009.14794",
    formula="out = φ(Q) (φ(K)ᵀ V) / φ(Q) (φ(K)ᵀ 1), φ(x)_r = exp(ω_r·x̃ − ‖x̃‖²/2), x̃ = x · D^-¼, ω orthogonal random",
    params=PerformerParams,
    summary=lambda params: f"{params.features:,} features · seed {params.seed}",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    like="linear",
    state_bytes=state_bytes,
)

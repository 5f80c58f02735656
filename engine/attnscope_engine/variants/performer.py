"""Performer: softmax attention estimated by linear attention on positive orthogonal random features (FAVOR+).

Choromanski et al. 2020, "Rethinking attention with Performers", sections 2.3 and 2.4, arXiv 2009.14794. The directions are drawn
once from the seed, the same for every head, and orthogonal in blocks of D.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import numerics, recurrent, recurrent_cost
from attnscope_engine.cost import Cost
from attnscope_engine.protocol import DeviceKind, Workload
from attnscope_engine.recurrent_cost import Sizes
from attnscope_engine.variant import Params, Tick, Unsupported, Variant, param


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
    """Each query and key times every direction, then the state (its normaliser is one more value column)."""
    flops = 2 * workload.head_dim * params.features
    return recurrent_cost.cost(workload, sizes(workload, params), feature_flops=flops, feature_exps=params.features)


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
    """Raises: Unsupported."""
    raise Unsupported("Performer has no GPU kernel yet: use the CPU")


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

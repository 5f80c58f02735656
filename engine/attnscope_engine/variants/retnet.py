"""RetNet: linear attention without a feature map whose state fades at a fixed rate, another one in each head.

Sun et al. 2023, "Retentive Network: a successor to Transformer for large language models", section 2.1, arXiv 2307.08621.
The rotation of q and k, the normalisation of each head's output and its gate belong to the layer and are not in here.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import numerics, recurrent, recurrent_cost, recurrent_exact
from attnscope_engine.cost import Cost, tensor_term
from attnscope_engine.cuda import linear as linear_kernels
from attnscope_engine.protocol import DeviceKind, Workload
from attnscope_engine.recurrent_cost import Sizes
from attnscope_engine.variant import Params, Tick, Unsupported, Variant, param

CAUSAL_ONLY = "RetNet is causal only, since its state fades from each token to the next: set the mask to causal."


class RetNetParams(Params, frozen=True):
    """How fast the heads forget."""

    exponent: Annotated[
        int, param(1, 30, unit="of ½", help="Key head g keeps 1 − 2^−(exponent + g) of its state a token; the paper has 5")
    ] = 5


def resolve(workload: Workload, params: RetNetParams) -> RetNetParams:
    """Every setting is possible."""
    return params


def log_decay(heads: NDArray[Any], params: RetNetParams) -> NDArray[np.float64]:
    """Log γ of some key heads."""
    decays: NDArray[np.float64] = np.log1p(-(0.5 ** (params.exponent + heads.astype(np.float64))))
    return decays


def cost(workload: Workload, params: RetNetParams, on: DeviceKind) -> Cost:
    """A state written and read once a token, and the pairs inside chunks."""
    if on == "cuda":
        steps = linear_kernels.steps(workload, normalised=False, decay_heads=workload.num_heads)
        return Cost(steps, (tensor_term(workload), *linear_kernels.held(workload, workload.num_heads)))
    return recurrent_cost.cost(workload, Sizes(workload.head_dim, workload.head_dim, decay="token"))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: RetNetParams) -> NDArray[Any]:
    """S_t = γ S_{t−1} + k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½; a query that comes before all keys gives 0."""
    decays = np.broadcast_to(log_decay(np.arange(k.shape[1]), params)[:, None], k.shape[:3])
    return recurrent_exact.recurrence(recurrent_exact.scaled(q), k, v, decays)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: RetNetParams, xp: Any, tick: Tick) -> Any:
    """Chunk by chunk. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    scale = q.shape[-1] ** -0.5

    def rule(heads: NDArray[Any]) -> recurrent.Rule:
        decays = recurrent.constants(log_decay(heads, params), k, xp)[:, None, None]
        return recurrent.Rule(lambda x: x * scale, lambda x: x, lambda x: decays + xp.zeros_like(x[..., :1]))

    return recurrent.run(q, k, v, workload, rule, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: RetNetParams) -> None:
    """Chunk by chunk, the rates of all heads an argument of the kernels. Raises: Unsupported."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    kv_heads = k.shape[1]
    rates = np.repeat(log_decay(np.arange(kv_heads), params), q.shape[1] // kv_heads).astype(np.float32)
    linear_kernels.attend(device, "retnet", "RetNet", (q, k, v, out), workload, decay=rates, scale=q.shape[-1] ** -0.5)


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: RetNetParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """A_ij = γ^(i − j) q_i·k_j · D^-½."""
    group = np.array([head // (workload.num_heads // workload.num_kv_heads)])
    decays = np.full(len(k), log_decay(group, params)[0])
    return recurrent_exact.map_of_tokens(recurrent_exact.scaled(q), k, decays, rows)


def state_bytes(workload: Workload, params: RetNetParams) -> int:
    """S of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, Sizes(workload.head_dim, workload.head_dim))


VARIANT = Variant(
    name="retnet",
    title="RetNet",
    family="linear",
    order=20,
    source="Sun et al. 2023, section 2.1, arXiv 2307.08621",
    formula="S_t = γ S_t−1 + k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½, γ = 1 − 2^−(e + g) in key head g",
    params=RetNetParams,
    summary=lambda params: f"γ 1 − 2^−{params.exponent} in head 0",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=numerics.keys_not_after,
    signed=True,
    normalised=False,
    causal_only=CAUSAL_ONLY,
    state_bytes=state_bytes,
)

"""Simple GLA: RetNet with a gate of each token in the place of a fixed rate; Lightning Attention and Mamba-2 are relatives.

Yang et al. 2024, "Gated linear attention transformers with hardware-efficient training", section 4.1 with one gate for all
channels, arXiv 2312.06635; compare Qin et al. 2024, arXiv 2401.04658. Gates are synthetic: see `gates.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, gates, numerics, recurrent, recurrent_cost, recurrent_exact
from attnscope_engine.cost import Cost, tensor_term
from attnscope_engine.cuda import linear as linear_kernels
from attnscope_engine.cuda import token_decays
from attnscope_engine.protocol import DeviceKind, Workload
from attnscope_engine.recurrent_cost import Sizes
from attnscope_engine.variant import Params, Tick, Unsupported, Variant

CAUSAL_ONLY = "Simple GLA is causal only, since each token's gate fades what came before it: set the mask to causal."


class SimpleGlaParams(Params, frozen=True):
    """How strong the gates are."""

    half_life: Annotated[int, gates.HALF_LIFE] = 64


def resolve(workload: Workload, params: SimpleGlaParams) -> SimpleGlaParams:
    """Every setting is possible."""
    return params


def cost(workload: Workload, params: SimpleGlaParams, on: DeviceKind) -> Cost:
    """Gates from the keys, a state written and read once a token, and the pairs inside chunks."""
    if on == "cuda":
        w = workload
        steps = linear_kernels.steps(w, normalised=False, decay_heads=w.num_kv_heads)
        held = (tensor_term(w), *token_decays.held(w), *linear_kernels.held(w, w.num_kv_heads))
        return Cost((*token_decays.steps(w), *steps), held)
    return recurrent_cost.cost(workload, Sizes(workload.head_dim, workload.head_dim, decay="token"))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: SimpleGlaParams) -> NDArray[Any]:
    """S_t = α_t S_{t−1} + k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½; a query that comes before all keys gives 0."""
    decays = gates.decays_of(k, np.arange(k.shape[1]), params.half_life)
    return recurrent_exact.recurrence(recurrent_exact.scaled(q), k, v, decays)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: SimpleGlaParams, xp: Any, tick: Tick) -> Any:
    """Chunk by chunk. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    scale = q.shape[-1] ** -0.5

    def rule(heads: NDArray[Any]) -> recurrent.Rule:
        signs = recurrent.constants(gates.signs("decay", heads, k.shape[-1]), k, xp)
        return recurrent.Rule(
            query=lambda x: x * scale,
            key=lambda x: x,
            log_decay=lambda x: gates.log_decay(gates.along(x, signs, xp), params.half_life, xp),
        )

    return recurrent.run(q, k, v, workload, rule, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: SimpleGlaParams) -> None:
    """Gates of the keys, then chunk by chunk. Raises: Unsupported."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    cuda.tiling("Simple GLA", q.shape[-1], workload.dtype, widest=linear_kernels.WIDEST)
    decays = token_decays.decays(device, "simple_gla", k, workload.dtype, params.half_life)
    tensors = q, k, v, out
    linear_kernels.attend(device, "simple_gla", "Simple GLA", tensors, workload, decay=decays, scale=q.shape[-1] ** -0.5)


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: SimpleGlaParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """A_ij = q_i·k_j exp(Σ_{l=j+1..i} log α_l) · D^-½."""
    group = head // (workload.num_heads // workload.num_kv_heads)
    decays = gates.decays_of(k[None], [group], params.half_life)[0]
    return recurrent_exact.map_of_tokens(recurrent_exact.scaled(q), k, decays, rows)


def state_bytes(workload: Workload, params: SimpleGlaParams) -> int:
    """S of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, Sizes(workload.head_dim, workload.head_dim))


VARIANT = Variant(
    name="simple_gla",
    title="Simple GLA",
    family="linear",
    order=21,
    source="Yang et al. 2024, section 4.1 with one gate a token, arXiv 2312.06635",
    formula="S_t = α_t S_t−1 + k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½; synthetic gate α_t = σ(−s·k_t / ‖k_t‖)^(1/τ), s = ±1",
    params=SimpleGlaParams,
    summary=lambda params: f"half-life {params.half_life:,} · synthetic gates",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=numerics.keys_not_after,
    like="retnet",
    signed=True,
    normalised=False,
    causal_only=CAUSAL_ONLY,
    state_bytes=state_bytes,
)

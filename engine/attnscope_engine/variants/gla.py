"""Gated linear attention: each channel of the state fades by a gate of its own at each token.

Yang et al. 2024, "Gated linear attention transformers with hardware-efficient training", section 4, arXiv 2312.06635.
Gates are synthetic: see `gates.py`. The output's gate and norm belong to the layer and are not in here.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, gates, numerics, recurrent, recurrent_cost, recurrent_exact
from attnscope_engine.cost import Cost, tensor_term
from attnscope_engine.cuda import gates as gate_kernels
from attnscope_engine.cuda import gla as gla_kernels
from attnscope_engine.cuda import segments, state_steps
from attnscope_engine.protocol import DeviceKind, Workload
from attnscope_engine.recurrent_cost import Sizes
from attnscope_engine.variant import Params, Tick, Unsupported, Variant

CAUSAL_ONLY = "GLA is causal only, since each token's gates fade what came before it: set the mask to causal."


class GlaParams(Params, frozen=True):
    """How strong the gates are."""

    half_life: Annotated[int, gates.HALF_LIFE] = 16


def resolve(workload: Workload, params: GlaParams) -> GlaParams:
    """Every setting is possible."""
    return params


def sizes(workload: Workload) -> Sizes:
    """Of the state."""
    return Sizes(workload.head_dim, workload.head_dim, decay="channel")


def cost(workload: Workload, params: GlaParams, on: DeviceKind) -> Cost:
    """Gates from the keys, a state written and read once a token, and the pairs inside chunks."""
    if on == "cuda":
        w, states = workload, gla_kernels.held(workload)
        steps = (*state_steps.of_gates(w, "channel", delta=False), *state_steps.of_states(w, "channel", states, delta=False))
        return Cost(steps, (tensor_term(w), gate_kernels.held_of_channels(w), *states))
    return recurrent_cost.cost(workload, sizes(workload))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: GlaParams) -> NDArray[Any]:
    """S_t = diag(α_t) S_{t−1} + k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½; a query that comes before all keys gives 0."""
    decays = gates.channel_decays_of(k, np.arange(k.shape[1]), params.half_life)
    return recurrent_exact.recurrence(recurrent_exact.scaled(q), k, v, decays)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: GlaParams, xp: Any, tick: Tick) -> Any:
    """Chunk by chunk. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    scale = q.shape[-1] ** -0.5

    def rule(heads: NDArray[Any]) -> recurrent.Rule:
        signs = recurrent.constants(gates.signs("decay", heads, k.shape[-1]), k, xp)
        return recurrent.Rule(
            query=lambda x: x * scale,
            key=lambda x: x,
            log_decay=lambda x: gates.log_decay(gates.by_channel(x, signs, xp), params.half_life, xp),
        )

    return recurrent.run(q, k, v, workload, rule, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: GlaParams) -> None:
    """Gates of the keys' channels, then chunk by chunk. Raises: Unsupported."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    cuda.tiling("GLA", q.shape[-1], workload.dtype, widest=segments.WIDEST)
    made = gate_kernels.of_channels(device, "gla", k, workload, params.half_life)
    gla_kernels.attend(device, "gla", "GLA", (q, k, v, out), made, workload, q.shape[-1] ** -0.5)


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: GlaParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """A_ij = Σ_c q_ic k_jc exp(Σ_{l=j+1..i} log α_lc) · D^-½."""
    group = head // (workload.num_heads // workload.num_kv_heads)
    decays = gates.channel_decays_of(k[None], [group], params.half_life)[0]
    return recurrent_exact.map_of_channels(recurrent_exact.scaled(q), k, decays, rows)


def state_bytes(workload: Workload, params: GlaParams) -> int:
    """S of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, sizes(workload))


VARIANT = Variant(
    name="gla",
    title="GLA",
    family="linear",
    order=23,
    source="Yang et al. 2024, section 4, arXiv 2312.06635",
    formula="S_t = diag(α_t) S_t−1 + k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½; synthetic α_tc = σ(−s_c √D k_tc' / ‖k_t‖)^(1/τ), s = ±1",
    params=GlaParams,
    summary=lambda params: f"half-life {params.half_life:,} · synthetic gates",
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

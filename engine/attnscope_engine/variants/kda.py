"""Kimi Delta Attention: the delta rule on a state whose channels fade apart, each by a gate of its own.

Kimi Team 2025, "Kimi Linear: an expressive, efficient attention architecture", section 3, arXiv 2510.26692. Keys are divided by
their length, as in the paper. Gates and β are synthetic: see `gates.py`. Convolutions, output gate and norm belong to the layer.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, gates, numerics, recurrent, recurrent_cost, recurrent_exact
from attnscope_engine.cost import Cost, tensor_term
from attnscope_engine.cuda import delta as delta_kernels
from attnscope_engine.cuda import gates as gate_kernels
from attnscope_engine.cuda import segments, state_steps
from attnscope_engine.protocol import DeviceKind, Workload
from attnscope_engine.recurrent_cost import Sizes
from attnscope_engine.variant import Params, Tick, Unsupported, Variant

CAUSAL_ONLY = "KDA is causal only, since each key corrects the state that the keys before it left: set the mask to causal."


class KdaParams(Params, frozen=True):
    """How strong the gates are."""

    half_life: Annotated[int, gates.HALF_LIFE] = 64


def resolve(workload: Workload, params: KdaParams) -> KdaParams:
    """Every setting is possible."""
    return params


def sizes(workload: Workload) -> Sizes:
    """Of the state."""
    d = workload.head_dim
    return Sizes(d, d, decay="channel", delta=True, made_features=True)


def cost(workload: Workload, params: KdaParams, on: DeviceKind) -> Cost:
    """Gates and β from the keys, what the keys of a chunk take from each other, a state written and read once a token."""
    if on == "cuda":
        w, states = workload, delta_kernels.held(workload)
        steps = (*state_steps.of_gates(w, "channel", delta=True), *state_steps.of_states(w, "channel", states, delta=True))
        return Cost(
            steps, (tensor_term(w), gate_kernels.held_of_tokens(w, gated=False), gate_kernels.held_of_channels(w), *states)
        )
    return recurrent_cost.cost(workload, sizes(workload))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: KdaParams) -> NDArray[Any]:
    """S_t = (I − β_t k_t k_tᵀ) diag(α_t) S_{t−1} + β_t k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½; keys have length 1."""
    heads = np.arange(k.shape[1])
    decays, write = gates.channel_decays_of(k, heads, params.half_life), gates.write_strengths_of(k, heads)
    return recurrent_exact.recurrence(recurrent_exact.scaled(q), gates.unit_of(k), v, decays, write)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: KdaParams, xp: Any, tick: Tick) -> Any:
    """Chunk by chunk. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    scale = q.shape[-1] ** -0.5

    def rule(heads: NDArray[Any]) -> recurrent.Rule:
        fading = recurrent.constants(gates.signs("decay", heads, k.shape[-1]), k, xp)
        writing = recurrent.constants(gates.signs("write", heads, k.shape[-1]), k, xp)
        return recurrent.Rule(
            query=lambda x: x * scale,
            key=lambda x: gates.unit(x, xp),
            log_decay=lambda x: gates.log_decay(gates.by_channel(x, fading, xp), params.half_life, xp),
            write=lambda x: gates.write_strength(gates.along(x, writing, xp), xp),
        )

    return recurrent.run(q, k, v, workload, rule, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: KdaParams) -> None:
    """Gates, β and lengths of the keys, then token by token. Raises: Unsupported."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    cuda.tiling("KDA", q.shape[-1], workload.dtype, widest=segments.WIDEST)
    made = gate_kernels.of_tokens(device, "kda", k, workload, None)
    fading = gate_kernels.of_channels(device, "kda", k, workload, params.half_life)
    tensors, scale = (q, k, v, out), q.shape[-1] ** -0.5
    delta_kernels.attend(device, "kda", "KDA", tensors, made.beta, fading, workload, scale, made.lengths)


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: KdaParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """A_ij = β_j k_j·p_ij, the query p carried back from i to j."""
    group = head // (workload.num_heads // workload.num_kv_heads)
    decays = gates.channel_decays_of(k[None], [group], params.half_life)[0]
    write = gates.write_strengths_of(k[None], [group])[0]
    return recurrent_exact.map_by_transport(recurrent_exact.scaled(q), gates.unit_of(k), write, decays, rows)


def state_bytes(workload: Workload, params: KdaParams) -> int:
    """S of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, sizes(workload))


VARIANT = Variant(
    name="kda",
    title="KDA",
    family="linear",
    order=26,
    source="Kimi Team 2025, section 3, arXiv 2510.26692",
    formula="S_t = (I − β_t k̂_t k̂_tᵀ) diag(α_t) S_t−1 + β_t k̂_t v_tᵀ, out = Sᵀ q · D^-½; synthetic α_c = σ(∓√D k̂_c')^(1/τ), β",
    params=KdaParams,
    summary=lambda params: f"half-life {params.half_life:,} · synthetic gates and β",
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=numerics.keys_not_after,
    like="gated_deltanet",
    signed=True,
    normalised=False,
    causal_only=CAUSAL_ONLY,
    state_bytes=state_bytes,
)

"""Gated DeltaNet: the delta rule on a state that fades by one gate a token.

Yang et al. 2024, "Gated delta networks: improving Mamba2 with delta rule", section 3, arXiv 2412.06464. Keys are divided by their
length, as in the paper. Gates and β are synthetic: see `gates.py`. Convolutions, output gate and norm belong to the layer.
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

CAUSAL_ONLY = (
    "Gated DeltaNet is causal only, since each key corrects the state that the keys before it left: set the mask to causal."
)


class GatedDeltaNetParams(Params, frozen=True):
    """How strong the gates are."""

    half_life: Annotated[int, gates.HALF_LIFE] = 64


def resolve(workload: Workload, params: GatedDeltaNetParams) -> GatedDeltaNetParams:
    """Every setting is possible."""
    return params


def sizes(workload: Workload) -> Sizes:
    """Of the state."""
    d = workload.head_dim
    return Sizes(d, d, decay="token", delta=True, made_features=True)


def cost(workload: Workload, params: GatedDeltaNetParams, on: DeviceKind) -> Cost:
    """Gates and β from the keys, what the keys of a chunk take from each other, a state written and read once a token."""
    if on == "cuda":
        w, states = workload, delta_kernels.held(workload)
        steps = (*state_steps.of_gates(w, "token", delta=True), *state_steps.of_states(w, "token", states, delta=True))
        return Cost(steps, (tensor_term(w), gate_kernels.held_of_tokens(w, gated=True), *states))
    return recurrent_cost.cost(workload, sizes(workload))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: GatedDeltaNetParams) -> NDArray[Any]:
    """S_t = α_t (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½; keys have length 1."""
    heads = np.arange(k.shape[1])
    decays, write = gates.decays_of(k, heads, params.half_life), gates.write_strengths_of(k, heads)
    return recurrent_exact.recurrence(recurrent_exact.scaled(q), gates.unit_of(k), v, decays, write)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: GatedDeltaNetParams, xp: Any, tick: Tick) -> Any:
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
            log_decay=lambda x: gates.log_decay(gates.along(x, fading, xp), params.half_life, xp),
            write=lambda x: gates.write_strength(gates.along(x, writing, xp), xp),
        )

    return recurrent.run(q, k, v, workload, rule, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: GatedDeltaNetParams) -> None:
    """Gates, β and lengths of the keys, then chunk by chunk. Raises: Unsupported."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    cuda.tiling("Gated DeltaNet", q.shape[-1], workload.dtype, widest=segments.WIDEST)
    made = gate_kernels.of_tokens(device, "gated_deltanet", k, workload, params.half_life)
    tensors, scale = (q, k, v, out), q.shape[-1] ** -0.5
    delta_kernels.attend(
        device, "gated_deltanet", "Gated DeltaNet", tensors, made.beta, made.gates, workload, scale, made.lengths
    )


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: GatedDeltaNetParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """A_ij = β_j k_j·p_ij, the query p carried back from i to j."""
    group = head // (workload.num_heads // workload.num_kv_heads)
    decays = gates.decays_of(k[None], [group], params.half_life)[0]
    write = gates.write_strengths_of(k[None], [group])[0]
    return recurrent_exact.map_by_transport(recurrent_exact.scaled(q), gates.unit_of(k), write, decays, rows)


def state_bytes(workload: Workload, params: GatedDeltaNetParams) -> int:
    """S of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, sizes(workload))


VARIANT = Variant(
    name="gated_deltanet",
    title="Gated DeltaNet",
    family="linear",
    order=25,
    source="Yang et al. 2024, section 3, arXiv 2412.06464",
    formula="S_t = α_t (I − β_t k̂_t k̂_tᵀ) S_t−1 + β_t k̂_t v_tᵀ, out = Sᵀ q · D^-½; synthetic α = σ(−s·k̂)^(1/τ), β = σ(s'·k̂)",
    params=GatedDeltaNetParams,
    summary=lambda params: f"half-life {params.half_life:,} · synthetic gates and β",
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

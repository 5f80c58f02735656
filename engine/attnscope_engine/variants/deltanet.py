"""DeltaNet: each key first takes out of the state what the state answers to it, then writes its value: the delta rule.

Yang et al. 2024, "Parallelizing linear transformers with the delta rule over sequence length", sections 2 and 3,
arXiv 2406.06484; after Schlag et al. 2021, arXiv 2102.11174. Keys are divided by their length, as in the paper. β is synthetic:
see `gates.py`.
"""

from __future__ import annotations

from typing import Any

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

CAUSAL_ONLY = "DeltaNet is causal only, since each key corrects the state that the keys before it left: set the mask to causal."


def resolve(workload: Workload, params: Params) -> Params:
    """There is nothing to choose."""
    return params


def sizes(workload: Workload) -> Sizes:
    """Of the state."""
    d = workload.head_dim
    return Sizes(d, d, delta=True, made_features=True)


def cost(workload: Workload, params: Params, on: DeviceKind) -> Cost:
    """β from the keys, what the keys of a chunk take from each other, a state written and read once a token."""
    if on == "cuda":
        w, states = workload, delta_kernels.held(workload)
        steps = (*state_steps.of_gates(w, "", delta=True), *state_steps.of_states(w, "", states, delta=True))
        return Cost(steps, (tensor_term(w), gate_kernels.held_of_tokens(w, gated=False), *states))
    return recurrent_cost.cost(workload, sizes(workload))


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: Params) -> NDArray[Any]:
    """S_t = (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ, out_t = S_tᵀ q_t · D^-½; keys have length 1."""
    heads = np.arange(k.shape[1])
    decays, write = None, gates.write_strengths_of(k, heads)
    return recurrent_exact.recurrence(recurrent_exact.scaled(q), gates.unit_of(k), v, decays, write)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: Params, xp: Any, tick: Tick) -> Any:
    """Chunk by chunk. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    scale = q.shape[-1] ** -0.5

    def rule(heads: NDArray[Any]) -> recurrent.Rule:
        writing = recurrent.constants(gates.signs("write", heads, k.shape[-1]), k, xp)
        return recurrent.Rule(
            query=lambda x: x * scale,
            key=lambda x: gates.unit(x, xp),
            write=lambda x: gates.write_strength(gates.along(x, writing, xp), xp),
        )

    return recurrent.run(q, k, v, workload, rule, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: Params) -> None:
    """β and lengths of the keys, then chunk by chunk. Raises: Unsupported."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    cuda.tiling("DeltaNet", q.shape[-1], workload.dtype, widest=segments.WIDEST)
    made = gate_kernels.of_tokens(device, "deltanet", k, workload, None)
    tensors, scale = (q, k, v, out), q.shape[-1] ** -0.5
    delta_kernels.attend(device, "deltanet", "DeltaNet", tensors, made.beta, made.gates, workload, scale, made.lengths)


def weights(q: NDArray[Any], k: NDArray[Any], workload: Workload, params: Params, rows: NDArray[Any], head: int) -> NDArray[Any]:
    """A_ij = β_j k_j·p_ij, the query p carried back from i to j."""
    group = head // (workload.num_heads // workload.num_kv_heads)
    write = gates.write_strengths_of(k[None], [group])[0]
    return recurrent_exact.map_by_transport(recurrent_exact.scaled(q), gates.unit_of(k), write, None, rows)


def state_bytes(workload: Workload, params: Params) -> int:
    """S of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, sizes(workload))


VARIANT = Variant(
    name="deltanet",
    title="DeltaNet",
    family="linear",
    order=24,
    source="Yang et al. 2024, sections 2 and 3, arXiv 2406.06484",
    formula="S_t = (I − β_t k̂_t k̂_tᵀ) S_t−1 + β_t k̂_t v_tᵀ, out = Sᵀ q · D^-½, k̂ = k / ‖k‖; synthetic β_t = σ(s·k̂_t)",
    params=Params,
    summary=lambda params: "synthetic β",
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

"""Mamba-2 (SSD): a state-space model with one decay a token, which is masked linear attention with C, B, x for q, k, v.

Dao and Gu 2024, "Transformers are SSMs", sections 3 and 5, arXiv 2405.21060. Time steps are synthetic: see `gates.py`.
The short convolution, the output's gate and its norm belong to the layer and are not in here.
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
from attnscope_engine.variant import Params, Tick, Unsupported, Variant, flag

CAUSAL_ONLY = "Mamba-2 is causal only, since its state moves on from each token to the next: set the mask to causal."


class Mamba2Params(Params, frozen=True):
    """How strong the decays are, and the way round the state."""

    half_life: Annotated[int, gates.HALF_LIFE] = 64
    skip: Annotated[bool, flag(help="Add the token's own value, with D = 1: the D x of the paper", label="D skip")] = True


def resolve(workload: Workload, params: Mamba2Params) -> Mamba2Params:
    """Every setting is possible."""
    return params


def cost(workload: Workload, params: Mamba2Params, on: DeviceKind) -> Cost:
    """Steps from the keys, a state written and read once a token, and the pairs inside chunks."""
    if on == "cuda":
        w = workload
        steps = linear_kernels.steps(w, normalised=False, decay_heads=w.num_kv_heads)
        made, *own = token_decays.steps(w, scaled=True, own=params.skip)
        held = (tensor_term(w), *token_decays.held(w, scaled=True), *linear_kernels.held(w, w.num_kv_heads))
        return Cost((made, *steps, *own), held)
    return recurrent_cost.cost(
        workload, Sizes(workload.head_dim, workload.head_dim, decay="token", made_features=True, query_copies=0)
    )


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: Mamba2Params) -> NDArray[Any]:
    """h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t x_tᵀ, y_t = h_tᵀ C_t + D x_t; a query that comes before all keys gives 0."""
    steps = gates.steps_of(k, np.arange(k.shape[1]))
    out = recurrent_exact.recurrence(q, k, v * steps[..., None], -steps / params.half_life)
    if params.skip:
        own = min(q.shape[2], k.shape[2])
        out[:, :, q.shape[2] - own :] += numerics.expand_heads(v[:, :, k.shape[2] - own :], q.shape[1])
    return out


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: Mamba2Params, xp: Any, tick: Tick) -> Any:
    """Chunk by chunk, B scaled by Δ. Raises: Unsupported for a full mask."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)

    def rule(heads: NDArray[Any]) -> recurrent.Rule:
        signs = recurrent.constants(gates.signs("decay", heads, k.shape[-1]), k, xp)

        def steps(x: Any) -> Any:
            return gates.softplus(gates.along(x, signs, xp), xp)

        return recurrent.Rule(
            query=lambda x: x,
            key=lambda x: x * steps(x),
            log_decay=lambda x: steps(x) * (-1 / params.half_life),
            own=1.0 if params.skip else 0.0,
        )

    return recurrent.run(q, k, v, workload, rule, xp, tick)


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: Mamba2Params) -> None:
    """Decays of the keys and values times Δ, then chunk by chunk, then D x. Raises: Unsupported."""
    if not workload.causal:
        raise Unsupported(CAUSAL_ONLY)
    cuda.tiling("Mamba-2", q.shape[-1], workload.dtype, widest=linear_kernels.WIDEST)
    decays, scaled = token_decays.decays_and_steps(device, "mamba2", k, v, workload.dtype, params.half_life)
    linear_kernels.attend(device, "mamba2", "Mamba-2", (q, k, scaled, out), workload, decay=decays)
    if params.skip:
        token_decays.add_own_values(device, "mamba2", v, out, workload.dtype)


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: Mamba2Params, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """A_ij = C_i·B_j exp(Σ_{l=j+1..i} Δ_l A) Δ_j + D [i = j]."""
    group = head // (workload.num_heads // workload.num_kv_heads)
    steps = gates.steps_of(k[None], [group])[0]
    found: NDArray[np.float64] = recurrent_exact.map_of_tokens(q, k, -steps / params.half_life, rows) * steps
    if params.skip:
        positions = rows + len(k) - len(q)
        there = np.flatnonzero(positions >= 0)
        found[there, positions[there]] += 1
    return found


def state_bytes(workload: Workload, params: Mamba2Params) -> int:
    """The h of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, Sizes(workload.head_dim, workload.head_dim))


def summary(params: Mamba2Params) -> str:
    """Such as "half-life 64 · synthetic Δ"."""
    return f"half-life {params.half_life:,} · synthetic Δ{'' if params.skip else ' · no D'}"


VARIANT = Variant(
    name="mamba2",
    title="Mamba-2",
    family="linear",
    order=22,
    source="Dao and Gu 2024, sections 3 and 5, arXiv 2405.21060",
    formula="h_t = e^(−Δ_t/τ) h_t−1 + Δ_t k_t v_tᵀ, out_t = h_tᵀ q_t + D v_t; synthetic Δ_t = softplus(s·k_t / ‖k_t‖), s = ±1",
    params=Mamba2Params,
    summary=summary,
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

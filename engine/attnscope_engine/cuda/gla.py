"""How a call of gated linear attention is cut into chunks and segments, what it costs, and its launch. Imports no CuPy.

A head is S_t = diag(e^(g_t))·S_(t−1) + k_t·v_tᵀ, out_t = scale·S_tᵀ·q_t, each of the D channels of k with a gate of its own,
walked 64 tokens at a time. Source: Yang et al. 2024, section 4, arXiv 2312.06635.
"""

from __future__ import annotations

from typing import Any

from attnscope_engine.protocol import Term, Workload


def attend(
    device: Any,
    stem: str,
    title: str,
    tensors: tuple[Any, Any, Any, Any],
    gates: Any,
    workload: Workload,
    scale: float,
) -> None:
    """Launches the kernels of `<stem>.cu`, which includes `gla_hopper.cuh` or `gla_portable.cuh`.

    A query stands at key t + M − N; keys before the first query are in its state, and queries before the first key give 0.

    Args:
        device: what `Variant.launch` gets.
        stem: of the variant's kernel file.
        title: of the variant, for refusals.
        tensors: q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q, in `workload.dtype` (16-bit as bits).
        gates: g `(B, G, M, D)`, natural logarithms, at most 0: float32, or bf16 as its bits (uint16). However strong, none
            overflows or is cut off.
        workload: only dtype and causal are looked at.
        scale: of the output, such as D^-½.

    Allocates `held(workload)`: the states of segments, fp32.

    Raises:
        Unsupported: head_dim (names the nearest that works), or a call that is not causal.
    """
    raise NotImplementedError


def held(workload: Workload) -> tuple[Term, ...]:
    """What `attend` allocates. The gates are the caller's own."""
    raise NotImplementedError

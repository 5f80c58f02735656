"""How a call of the delta rule is cut into chunks and segments, what it costs, and its launch. Pure arithmetic: imports no CuPy.

A head is S_t = e^(g_t)·(I − β_t·k_t·k_tᵀ)·S_(t−1) + β_t·k_t·v_tᵀ, out_t = scale·S_tᵀ·q_t, walked 64 tokens at a time.
Sources: Yang et al. 2024, section 3, arXiv 2406.06484; with gates: Yang et al. 2024, section 3, arXiv 2412.06464.
"""

from __future__ import annotations

from typing import Any

from attnscope_engine.protocol import Term, Workload


def attend(
    device: Any,
    stem: str,
    title: str,
    tensors: tuple[Any, Any, Any, Any],
    beta: Any,
    gates: Any | None,
    workload: Workload,
    scale: float,
    lengths: Any | None = None,
) -> None:
    """Launches the delta kernels of `<stem>.cu`, which includes `delta_hopper.cuh` or `delta_portable.cuh`.

    A query stands at key t + M − N; keys before the first query are in its state, and queries before the first key give 0.

    Args:
        device: what `Variant.launch` gets.
        stem: of the variant's kernel file.
        title: of the variant, for refusals.
        tensors: q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q, in `workload.dtype` (16-bit as bits).
        beta: β `(B, G, M)`, float32 of the device, 0 to 1.
        gates: g `(B, G, M)`, float32 of the device, natural logarithms, at most 0 (−∞ forgets everything); None for none.
        workload: only dtype and causal are looked at.
        scale: of the output, such as D^-½.
        lengths: 1/‖k_t‖ `(B, G, M)`, float32: what each key is multiplied by to be of length 1. None: keys are of length 1.

    Allocates `held(workload)`: the states of segments, fp32.

    Raises:
        Unsupported: head_dim (names the nearest that works), or a call that is not causal.
    """
    raise NotImplementedError


def held(workload: Workload) -> tuple[Term, ...]:
    """What `attend` allocates. β, gates and lengths are the caller's own."""
    raise NotImplementedError

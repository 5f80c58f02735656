"""How a call of the delta rule is cut into chunks and segments, what it holds, and its launch. Imports no CuPy.

A head is S_t = e^(g_t)·(I − β_t·k_t·k_tᵀ)·S_(t−1) + β_t·k_t·v_tᵀ, out_t = scale·S_tᵀ·q_t. On Hopper it is walked 64 tokens at a
time, on other cards and in fp32 token by token. Where heads are too few for a card, each is cut into segments that are walked at
the same time: a first kernel finds what each segment does to a state, S ↦ P·S + Z, a second carries the states from segment to
segment, a third walks again from the state that its segment begins with.
Sources: Yang et al. 2024, section 3, arXiv 2406.06484; with gates: Yang et al. 2024, section 3, arXiv 2412.06464.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.cuda.recurrent import Factors, Recurrence
from attnscope_engine.cuda.segments import CHUNK, Call, call_of, cut_of_workload, width_of
from attnscope_engine.protocol import Dtype, Term, Workload

SCAN_ROWS = 16
"""Rows of a state that a block carries from segment to segment: as in `state_scans.cuh`."""


@dataclass(frozen=True, slots=True)
class HopperPlan:
    """Sizes that `delta_hopper.cuh` is compiled for."""

    dtype: Dtype
    width: int
    gated: bool

    @property
    def stages(self) -> int:
        """Chunks of keys and queries in shared memory."""
        return 3 if self.width == 128 else 4

    @property
    def threads(self) -> int:
        """A warpgroup that brings, one that solves, and one for each 64 columns."""
        return 128 * (2 + self.width // 64)

    def defines(self) -> dict[str, int]:
        return {
            "HOPPER": 1,
            "DTYPE": cuda.DTYPE_CODE[self.dtype],
            "WIDTH": self.width,
            "GATED": int(self.gated),
            "STAGES": self.stages,
            "VALUE_STAGES": self.stages,
        }

    def shared_bytes(self, outputs: bool) -> int:
        """As `Memory` in `delta_hopper.cuh` lays it out."""
        tile, panel, keepers = CHUNK * self.width * 2, CHUNK * 128, self.width // 64
        solved = panel * (6 if outputs else 4) + 4 * 16 * 20 * 4
        barriers = 4 * self.stages + 4 + (self.stages * keepers if outputs else 0)
        return self.stages * ((3 if outputs else 2) * tile + 516 * 4) + solved + 8 * barriers


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
    """Launches the delta kernels of `<stem>.cu`, which includes `delta_hopper.cuh` or `recurrent_portable.cuh`.

    A query stands at key t + M − N; keys before the first query are in its state, and queries before the first key give 0.

    Args:
        device: what `Variant.launch` gets.
        stem: of the variant's kernel file.
        title: of the variant, for refusals.
        tensors: q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q, in `workload.dtype` (16-bit as bits).
        beta: β `(B, G, M)`, float32 of the device, 0 to 1.
        gates: None for none; or natural logarithms, at most 0 (−∞ forgets everything): `(B, G, M)` float32 (on Hopper less than
            −88 counts as −88, which leaves nothing of any number), or `(B, G, M, D)` as `gla.attend` has them, each channel of
            the state then fading apart before the key takes out what it answers (Kimi delta attention, arXiv 2510.26692): that
            runs token by token on every card.
        workload: only dtype and causal are looked at.
        scale: of the output, such as D^-½.
        lengths: 1/‖k_t‖ `(B, G, M)`, float32: what each key is multiplied by to be of length 1. None: keys are of length 1.

    Allocates `held(workload)`: the states of segments, fp32.

    Raises:
        Unsupported: head_dim (names the nearest that works), or a call that is not causal.
    """
    call = call_of(device, stem, title, tensors, workload, scale)
    states = call.states(2 * call.width**2, beta)
    if call.on_hopper(workload) and (gates is None or len(gates.shape) == 3):
        _on_hopper(call, workload.dtype, tensors, (beta, gates, lengths), states)
        return
    recurrence = Recurrence(call, workload.dtype, Factors(gates, beta, lengths))
    if call.cut.segments > 1:
        recurrence.find_states(*tensors[1:3], states)
        _scan(call, recurrence.defines, states)
    recurrence.find_outputs(tensors, states)


def held(workload: Workload) -> tuple[Term, ...]:
    """What `attend` allocates. β, gates and lengths are the caller's own."""
    w = workload
    segments, width = cut_of_workload(w).segments, width_of(w.head_dim)
    if segments == 1:
        return ()
    return (Term("states", f"B·G·{segments}·2·{width}²·4", w.batch * w.num_kv_heads * segments * 2 * width**2 * 4, "n"),)


def _on_hopper(
    call: Call, dtype: Dtype, tensors: tuple[Any, Any, Any, Any], factors: tuple[Any, Any | None, Any | None], states: Any
) -> None:
    """What segments do to a state, the states that they begin with, outputs; only the last where there is one segment."""
    beta, gates, lengths = factors
    plan, segments = HopperPlan(dtype, call.width, gates is not None), call.cut.segments
    of_tokens = (beta, beta if gates is None else gates, beta if lengths is None else lengths)
    q, k, v, out = (call.device.tensor_map(x, CHUNK, dtype) for x in tensors)
    flag = np.int32(lengths is not None)
    if segments > 1:
        arguments = (k, v, *of_tokens, states, *call.shape, flag)
        blocks = (2 * (segments - 1), call.kv_heads)
        call.start("delta_transitions", plan.defines(), blocks, plan.threads, arguments, plan.shared_bytes(outputs=False))
        _scan(call, plan.defines(), states)
    arguments = (q, k, v, out, *of_tokens, states, *call.shape, call.group, flag, np.float32(call.scale))
    blocks = (segments, call.heads)
    call.start("delta_outputs", plan.defines(), blocks, plan.threads, arguments, plan.shared_bytes(outputs=True))


def _scan(call: Call, defines: dict[str, int], states: Any) -> None:
    blocks, shared = (call.width // SCAN_ROWS, call.kv_heads), call.width * SCAN_ROWS * 4
    call.start("delta_scan", defines, blocks, call.width, (states, np.int32(call.cut.segments)), shared)

"""How a call of gated linear attention is cut into chunks and segments, what it holds, and its launch. Imports no CuPy.

A head is S_t = diag(e^(g_t))·S_(t−1) + k_t·v_tᵀ, out_t = scale·S_tᵀ·q_t, each of the D channels of k with a gate of its own. On
Hopper it is walked 64 tokens at a time, on other cards and in fp32 token by token. Where heads are too few for a card, each is
cut into segments that are walked at the same time: a first kernel finds what each segment adds to the state and what it leaves of
each channel, a second carries the states from segment to segment, a third walks again from the state that each begins with.
Source: Yang et al. 2024, section 4, arXiv 2312.06635.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.cuda.recurrent import Factors, Recurrence
from attnscope_engine.cuda.segments import CHUNK, Call, call_of, cut_of_workload, width_of
from attnscope_engine.protocol import Dtype, Term, Workload


@dataclass(frozen=True, slots=True)
class HopperPlan:
    """Sizes that `gla_hopper.cuh` is compiled for."""

    dtype: Dtype
    width: int
    float_gates: bool

    @property
    def stages(self) -> int:
        """Chunks of keys and queries in shared memory."""
        return 3 if self.width == 128 else 4

    @property
    def value_stages(self) -> int:
        return 2 if self.width == 128 else 3

    @property
    def gate_stages(self) -> int:
        return 1 if self.width == 128 and self.float_gates else 2

    @property
    def threads(self) -> int:
        """A warpgroup that brings, and for each 64 columns one that gates and one that keeps the state."""
        return 128 * (1 + 2 * (self.width // 64))

    def defines(self) -> dict[str, int]:
        return {
            "HOPPER": 1,
            "DTYPE": cuda.DTYPE_CODE[self.dtype],
            "WIDTH": self.width,
            "GATE_FLOATS": int(self.float_gates),
            "STAGES": self.stages,
            "VALUE_STAGES": self.value_stages,
            "GATE_STAGES": self.gate_stages,
        }

    def shared_bytes(self, outputs: bool) -> int:
        """As `Memory` in `gla_hopper.cuh` lays it out."""
        tile = CHUNK * self.width * 2
        tiles = self.stages * (2 if outputs else 1) + self.value_stages + self.gate_stages * (2 if self.float_gates else 1)
        beside = 2 * tile + 2 * CHUNK * 128 if outputs else 0
        barriers = 2 * (self.stages + self.value_stages + self.gate_stages + 2)
        barriers += self.value_stages * (self.width // 64) if outputs else 0
        return tiles * tile + beside + 2 * 9 * self.width * 4 + 8 * barriers


def attend(
    device: Any,
    stem: str,
    title: str,
    tensors: tuple[Any, Any, Any, Any],
    gates: Any,
    workload: Workload,
    scale: float,
) -> None:
    """Launches the kernels of `<stem>.cu`, which includes `gla_hopper.cuh` or `recurrent_portable.cuh`.

    A query stands at key t + M − N; keys before the first query are in its state, and queries before the first key give 0.

    Args:
        device: what `Variant.launch` gets.
        stem: of the variant's kernel file.
        title: of the variant, for refusals.
        tensors: q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q, in `workload.dtype` (16-bit as bits).
        gates: g `(B, G, M, D)`, natural logarithms, at most 0 (−∞ forgets everything): float32, or bf16 as its bits (uint16).
            Less than −88 counts as −88, which leaves nothing of any number.
        workload: only dtype and causal are looked at.
        scale: of the output, such as D^-½.

    Allocates `held(workload)`: the states of segments, fp32.

    Raises:
        Unsupported: head_dim (names the nearest that works), or a call that is not causal.
    """
    call = call_of(device, stem, title, tensors, workload, scale)
    states = call.states((call.width + 1) * call.width, gates)
    if call.on_hopper(workload):
        _on_hopper(call, workload.dtype, tensors, gates, states)
        return
    recurrence = Recurrence(call, workload.dtype, Factors(gates, None, None))
    if call.cut.segments > 1:
        recurrence.find_states(*tensors[1:3], states)
        _scan(call, recurrence.defines, states)
    recurrence.find_outputs(tensors, states)


def held(workload: Workload) -> tuple[Term, ...]:
    """What `attend` allocates. The gates are the caller's own."""
    w = workload
    segments, width = cut_of_workload(w).segments, width_of(w.head_dim)
    if segments == 1:
        return ()
    bytes_ = w.batch * w.num_kv_heads * segments * width * (width + 1) * 4
    return (Term("states", f"B·G·{segments}·{width}·{width + 1}·4", bytes_, "n"),)


def _on_hopper(call: Call, dtype: Dtype, tensors: tuple[Any, Any, Any, Any], gates: Any, states: Any) -> None:
    """What segments do to a state, the states that they begin with, outputs; only the last where there is one segment."""
    plan, segments = HopperPlan(dtype, call.width, str(gates.dtype) == "float32"), call.cut.segments
    q, k, v, out = (call.device.tensor_map(x, CHUNK, dtype) for x in tensors)
    # Gates come as pairs of 16 bits where they are fp32: the copy engine only moves them.
    gate_tiles = call.device.tensor_map(gates.view("uint16") if plan.float_gates else gates, CHUNK, dtype)
    if segments > 1:
        arguments = (k, v, gate_tiles, states, *call.shape)
        blocks = (segments - 1, call.kv_heads)
        call.start("gla_states", plan.defines(), blocks, plan.threads, arguments, plan.shared_bytes(outputs=False))
        _scan(call, plan.defines(), states)
    arguments = (q, k, v, gate_tiles, out, *tensors[:2], gates, states, *call.shape, np.int32(call.head_dim), call.group)
    blocks = (segments, call.heads)
    shared = plan.shared_bytes(outputs=True)
    call.start("gla_outputs", plan.defines(), blocks, plan.threads, (*arguments, np.float32(call.scale)), shared)


def _scan(call: Call, defines: dict[str, int], states: Any) -> None:
    call.start("gla_scan", defines, (call.width**2 // 256, call.kv_heads), 256, (states, np.int32(call.cut.segments)))

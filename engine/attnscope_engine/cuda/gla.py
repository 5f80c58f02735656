"""How a call of gated linear attention is cut into chunks and segments, what it holds, and its launch. Imports no CuPy.

A head is S_t = diag(e^(g_t))·S_(t−1) + k_t·v_tᵀ, out_t = scale·S_tᵀ·q_t, each of the D channels of k with a gate of its own,
walked 64 tokens at a time. Where heads are too few for a card, each head is cut into segments that are walked at the same time: a
first kernel finds what each segment adds to the state and what it leaves of each channel, a second carries the states from segment
to segment, a third walks again from the state that its segment begins with. Source: Yang et al. 2024, section 4, arXiv 2312.06635.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.cuda import hopper
from attnscope_engine.cuda.segments import CHUNK, WIDEST, Cut, cut_of, width_of
from attnscope_engine.protocol import Dtype, Term, Workload
from attnscope_engine.variant import Unsupported


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
    """Launches the kernels of `<stem>.cu`, which includes `gla_hopper.cuh` or `gla_portable.cuh`.

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
    q, k, v, out = tensors
    (batch, heads, queries, head_dim), (kv_heads, keys) = q.shape, k.shape[1:3]
    cuda.tiling(title, head_dim, workload.dtype, widest=WIDEST)
    if not workload.causal:
        raise Unsupported(f"{title} forgets along the sequence, which needs a causal mask: set causal")
    cut = cut_of(batch * heads, queries, keys)
    width = width_of(head_dim)
    states = device.empty((batch * kv_heads * cut.segments, (width + 1) * width), "float32") if cut.segments > 1 else gates
    call = Call(device, stem, cut, (batch, heads, kv_heads), (queries, keys, head_dim), scale)
    if not device.portable and device.capability == hopper.CAPABILITY and workload.dtype != "fp32":
        call.on_hopper(HopperPlan(workload.dtype, width, str(gates.dtype) == "float32"), (q, k, v, out), gates, states)
    else:
        raise Unsupported(f"{title} has no kernel for this GPU yet")


def held(workload: Workload) -> tuple[Term, ...]:
    """What `attend` allocates. The gates are the caller's own."""
    w = workload
    segments, width = cut_of(w.batch * w.num_heads, w.seq_len, w.seq_len).segments, width_of(w.head_dim)
    if segments == 1:
        return ()
    bytes_ = w.batch * w.num_kv_heads * segments * width * (width + 1) * 4
    return (Term("states", f"B·G·{segments}·{width}·{width + 1}·4", bytes_, "n"),)


@dataclass(frozen=True, slots=True)
class Call:
    """One call, cut: what its launches share."""

    device: Any
    stem: str
    cut: Cut
    heads: tuple[int, int, int]
    """Batch, H, G."""
    sizes: tuple[int, int, int]
    """Queries, keys, head_dim."""
    scale: float

    def on_hopper(self, plan: HopperPlan, tensors: tuple[Any, Any, Any, Any], gates: Any, states: Any) -> None:
        """What segments do to a state, the states that they begin with, outputs; only the last where there is one segment."""
        (batch, heads, kv_heads), segments = self.heads, self.cut.segments
        q, k, v, out = (self.device.tensor_map(x, CHUNK, plan.dtype) for x in tensors)
        gate_tiles = self.device.tensor_map(gates.view("uint16") if plan.float_gates else gates, CHUNK, plan.dtype)
        shape = tuple(np.int32(x) for x in (*self.sizes[:2], self.cut.start, self.cut.all, self.cut.chunks, segments))
        if segments > 1:
            kernel = self.device.kernel(self.stem, "gla_states", plan.defines())
            grid = (segments - 1, kv_heads, batch)
            kernel(grid, plan.threads, (k, v, gate_tiles, states, *shape), plan.shared_bytes(outputs=False))
            kernel = self.device.kernel(self.stem, "gla_scan", plan.defines())
            kernel((plan.width**2 // 256, kv_heads, batch), 256, (states, np.int32(segments)))
        kernel = self.device.kernel(self.stem, "gla_outputs", plan.defines())
        arguments = (q, k, v, gate_tiles, out, *tensors[:2], gates, states, *shape)
        arguments = (*arguments, np.int32(self.sizes[2]), np.int32(heads // kv_heads), np.float32(self.scale))
        kernel((segments, heads, batch), plan.threads, arguments, plan.shared_bytes(outputs=True))

"""How a call of the delta rule is cut into chunks and segments, what it costs, and its launch. Pure arithmetic: imports no CuPy.

A head is S_t = e^(g_t)·(I − β_t·k_t·k_tᵀ)·S_(t−1) + β_t·k_t·v_tᵀ, out_t = scale·S_tᵀ·q_t, walked 64 tokens at a time. Where heads are
too few for a card, each head is cut into segments that are walked at the same time: a first kernel finds what each segment does to a
state, S ↦ P·S + Z, a second carries the states from segment to segment, a third walks again from the state that its segment begins
with. Sources: Yang et al. 2024, section 3, arXiv 2406.06484; with gates: Yang et al. 2024, section 3, arXiv 2412.06464.
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

SCAN_ROWS = 16
"""Rows of a state that a block carries from segment to segment: as in `delta_hopper.cuh`."""


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
        solved = panel * (5 if outputs else 3) + 4 * 16 * 20 * 4
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
    """Launches the delta kernels of `<stem>.cu`, which includes `delta_hopper.cuh` or `delta_portable.cuh`.

    A query stands at key t + M − N; keys before the first query are in its state, and queries before the first key give 0.

    Args:
        device: what `Variant.launch` gets.
        stem: of the variant's kernel file.
        title: of the variant, for refusals.
        tensors: q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q, in `workload.dtype` (16-bit as bits).
        beta: β `(B, G, M)`, float32 of the device, 0 to 1.
        gates: g `(B, G, M)`, float32 of the device, natural logarithms, at most 0 (−∞ forgets everything); None for none. Less than
            −88 counts as −88.
        workload: only dtype and causal are looked at.
        scale: of the output, such as D^-½.
        lengths: 1/‖k_t‖ `(B, G, M)`, float32: what each key is multiplied by to be of length 1. None: keys are of length 1.

    Allocates `held(workload)`: the states of segments, fp32.

    Raises:
        Unsupported: head_dim (names the nearest that works), or a call that is not causal.
    """
    q, k, v, out = tensors
    (batch, heads, queries, head_dim), (kv_heads, keys) = q.shape, k.shape[1:3]
    cuda.tiling(title, head_dim, workload.dtype, widest=WIDEST)
    if not workload.causal:
        raise Unsupported(f"{title} reads and writes its state along the sequence, which needs a causal mask: set causal")
    cut = cut_of(batch * heads, queries, keys)
    call = Call(device, stem, cut, (batch, heads, kv_heads), (queries, keys), scale)
    states = device.empty((batch * kv_heads * cut.segments * 2, width_of(head_dim) ** 2), "float32") if cut.segments > 1 else beta
    factors = (beta, beta if gates is None else gates, beta if lengths is None else lengths)
    if not device.portable and device.capability == hopper.CAPABILITY and workload.dtype != "fp32":
        plan = HopperPlan(workload.dtype, width_of(head_dim), gates is not None)
        call.on_hopper(plan, (q, k, v, out), factors, lengths is not None, states)
    else:
        raise Unsupported(f"{title} has no kernel for this GPU yet")


def held(workload: Workload) -> tuple[Term, ...]:
    """What `attend` allocates. β, gates and lengths are the caller's own."""
    w = workload
    segments, width = cut_of(w.batch * w.num_heads, w.seq_len, w.seq_len).segments, width_of(w.head_dim)
    if segments == 1:
        return ()
    return (Term("states", f"B·G·{segments}·2·{width}²·4", w.batch * w.num_kv_heads * segments * 2 * width**2 * 4, "n"),)


@dataclass(frozen=True, slots=True)
class Call:
    """One call, cut: what its launches share."""

    device: Any
    stem: str
    cut: Cut
    heads: tuple[int, int, int]
    """Batch, H, G."""
    sizes: tuple[int, int]
    """Queries, keys."""
    scale: float

    def on_hopper(
        self, plan: HopperPlan, tensors: tuple[Any, Any, Any, Any], factors: tuple[Any, Any, Any], with_lengths: bool, states: Any
    ) -> None:
        """What segments do to a state, the states that they begin with, outputs; only the last where there is one segment."""
        (batch, heads, kv_heads), segments = self.heads, self.cut.segments
        q, k, v, out = (self.device.tensor_map(x, CHUNK, plan.dtype) for x in tensors)
        shape = tuple(np.int32(x) for x in (*self.sizes, self.cut.start, self.cut.all, self.cut.chunks, segments))
        flag = np.int32(with_lengths)
        if segments > 1:
            kernel = self.device.kernel(self.stem, "delta_transitions", plan.defines())
            grid = (2 * (segments - 1), kv_heads, batch)
            kernel(grid, plan.threads, (k, v, *factors, states, *shape, flag), plan.shared_bytes(outputs=False))
            kernel = self.device.kernel(self.stem, "delta_scan", plan.defines())
            grid, shared = (plan.width // SCAN_ROWS, kv_heads, batch), plan.width * SCAN_ROWS * 4
            kernel(grid, plan.width, (states, np.int32(segments)), shared)
        kernel = self.device.kernel(self.stem, "delta_outputs", plan.defines())
        arguments = (q, k, v, out, *factors, states, *shape, np.int32(heads // kv_heads), flag, np.float32(self.scale))
        kernel((segments, heads, batch), plan.threads, arguments, plan.shared_bytes(outputs=True))

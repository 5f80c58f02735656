"""Launches of `recurrent_portable.cuh`: methods with a state on every card, token by token in fp32. Imports no CuPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.cuda.segments import Call
from attnscope_engine.protocol import Dtype

TOKENS, COLUMNS = 16, 32
"""Tokens in shared memory at a time, and columns of the state of a block: as in `recurrent_portable.cuh`."""

THREADS = 4 * COLUMNS
NO_GATES, PER_TOKEN, PER_CHANNEL = range(3)
"""As in `recurrent_portable.cuh`."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Of tokens: what there is of it."""

    gates: Any | None
    """`(B, G, M)` float32, or `(B, G, M, D)` float32 or bf16 bits."""
    beta: Any | None
    """`(B, G, M)` float32: then the delta rule holds."""
    lengths: Any | None
    """`(B, G, M)` float32, of the delta rule."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """One call, on every card."""

    call: Call
    dtype: Dtype
    factors: Factors

    @property
    def defines(self) -> dict[str, int]:
        """Constants of the kernels."""
        gates = self.factors.gates
        kind = NO_GATES if gates is None else PER_CHANNEL if len(gates.shape) == 4 else PER_TOKEN
        return {
            "DTYPE": cuda.DTYPE_CODE[self.dtype],
            "WIDTH": self.call.width,
            "DELTA": int(self.factors.beta is not None),
            "GATES": kind,
            "GATE_FLOATS": int(gates is None or str(gates.dtype) == "float32"),
        }

    @property
    def shared_bytes(self) -> int:
        """As `Buffers` has it."""
        width, defines = self.call.width, self.defines
        return TOKENS * (2 * width + (width if defines["GATES"] == PER_CHANNEL else 1) + COLUMNS + 1) * 4

    def _blocks(self) -> int:
        return self.call.width // COLUMNS

    def _factors(self, nothing: Any) -> tuple[Any, ...]:
        """`nothing`: an array in the place of one that there is not, never read."""
        f = self.factors
        return tuple(nothing if x is None else x for x in (f.gates, f.beta, f.lengths))

    def find_states(self, k: Any, v: Any, states: Any) -> None:
        """What each segment but the last does to a state."""
        call = self.call
        arguments = (k, v, *self._factors(k), states, *self._shape(), np.int32(self.factors.lengths is not None))
        blocks = (2 * (call.cut.segments - 1) * self._blocks(), call.kv_heads)
        call.start("recurrent_states", self.defines, blocks, THREADS, arguments, self.shared_bytes)

    def find_outputs(self, tensors: tuple[Any, Any, Any, Any], states: Any) -> None:
        """Outputs of all segments, from the states that they begin with."""
        call = self.call
        flag = np.int32(self.factors.lengths is not None)
        arguments = (*tensors, *self._factors(tensors[1]), states, *self._shape(), call.group, flag, np.float32(call.scale))
        blocks = (call.cut.segments * self._blocks(), call.heads)
        call.start("recurrent_outputs", self.defines, blocks, THREADS, arguments, self.shared_bytes)

    def _shape(self) -> tuple[np.int32, ...]:
        shape = self.call.shape
        return (*shape[:2], np.int32(self.call.head_dim), *shape[2:])

"""The numbers that all contenders of a cell share, made by torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine.bench_family.cells import Cell

GATE_DIVISOR = 16
"""Gates are σ(x)^(1/16) of a normal x, as in arXiv 2312.06635, section 4.4: some 20 tokens are remembered."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Of one call. q, k, v `(B, H, N, D)` in bf16, all axes 1 and 2 swapped by `by_token`."""

    q: Any
    k: Any
    v: Any
    beta: Any = None
    """β of a delta rule, float32 `(B, H, N)`."""
    gates: Any = None
    """Natural logarithms: float32 `(B, H, N)`, or bf16 `(B, H, N, D)` where each channel has its own."""

    def by_token(self) -> Inputs:
        """The same numbers as contiguous tensors `(B, N, H, …)`, the order that fla takes."""
        fields = (self.q, self.k, self.v, self.beta, self.gates)
        return Inputs(*(None if x is None else x.transpose(1, 2).contiguous() for x in fields))


class Tensors:
    """One set: the inputs of the cell, and an output for ours. On the GPU, unless `on` says another device."""

    def __init__(self, torch: Any, cell: Cell, seed: int, on: str = "cuda") -> None:
        torch.manual_seed(seed)
        tokens = (cell.batch, cell.num_heads, cell.seq_len)
        shape = (*tokens, cell.head_dim)

        def normal(*sizes: int) -> Any:
            return torch.randn(sizes, device=on, dtype=torch.bfloat16)

        q, k, v = (normal(*shape) for _ in range(3))
        functional, beta, gates = torch.nn.functional, None, None
        if cell.method == "normalised linear":
            q, k = (functional.elu(x) + 1 for x in (q, k))
        if cell.method in ("DeltaNet", "gated DeltaNet"):
            q, k = (functional.normalize(x, dim=-1) for x in (q, k))
            beta = normal(*tokens).float().sigmoid()
        if cell.method in ("scalar gate", "gated DeltaNet"):
            gates = functional.logsigmoid(normal(*tokens).float()) / GATE_DIVISOR
        if cell.method == "GLA":
            gates = functional.logsigmoid(normal(*shape)) / GATE_DIVISOR
        self.by_head = Inputs(q, k, v, beta, gates)
        self.out = torch.full_like(q, math.nan)
        self._by_token: Inputs | None = None

    @property
    def by_token(self) -> Inputs:
        """Copied when first asked for."""
        if self._by_token is None:
            self._by_token = self.by_head.by_token()
        return self._by_token


def scale_of(cell: Cell) -> float:
    """Of the outputs: D^-½; 1 where the peer is two plain products."""
    return 1.0 if cell.method == "bidirectional linear" else cell.head_dim**-0.5


def retention_decays(num_heads: int) -> NDArray[np.float32]:
    """Logarithms of each head's γ = 1 − 2^(−5−h), rounded to float32 as fla rounds them.

    Sun et al. 2023, section 2.3, arXiv 2307.08621.
    """
    decays: NDArray[np.float32] = np.log(np.float32(1) - np.exp2(-5 - np.arange(num_heads, dtype=np.float32)))
    return decays

"""The numbers that all contenders of a cell share: made by torch."""

from __future__ import annotations

import math
from typing import Any

from attnscope_engine.bench_exact.cells import Cell

RISE = 1 / 16
"""Growth of a score from one key to the next in a worst case: 8 over a tile of 128 keys, a factor of 3,000 of the exponential."""


class Tensors:
    """One set: q, k, v of the cell, and an output for ours."""

    def __init__(self, torch: Any, cell: Cell, seed: int) -> None:
        torch.manual_seed(seed)
        dtype = torch.bfloat16 if cell.dtype == "bf16" else torch.float16
        queries = (cell.batch, cell.num_heads, cell.queries, cell.head_dim)
        keys = (cell.batch, cell.num_kv_heads, cell.keys, cell.head_dim)
        self.q, self.k, self.v = (torch.randn(shape, device="cuda", dtype=dtype) for shape in (queries, keys, keys))
        if cell.numbers == "growing":
            self.q = 1 + self.q / 2
            rising = torch.arange(cell.keys, device="cuda", dtype=torch.float32) * (RISE / math.sqrt(cell.head_dim))
            self.k = (rising[:, None] + self.k / 4).to(dtype)
        self.out = torch.full_like(self.q, math.nan)
        self._by_token: tuple[Any, Any, Any] | None = None

    @property
    def by_head(self) -> tuple[Any, Any, Any]:
        """q, k, v, each `(B, H, N, D)` and contiguous."""
        return self.q, self.k, self.v

    def by_token(self) -> tuple[Any, Any, Any]:
        """The same numbers `(B, N, H, D)`, contiguous: what flash-attn is made for. Copied when first asked for."""
        if self._by_token is None:
            q, k, v = (x.transpose(1, 2).contiguous() for x in self.by_head)
            self._by_token = (q, k, v)
        return self._by_token

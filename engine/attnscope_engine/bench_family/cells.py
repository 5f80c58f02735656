"""What is timed: methods, shapes, and the bytes that each call has to move. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from msgspec import Struct

from attnscope_engine.protocol import ITEM_BYTES, Workload

Recurrent = Literal[
    "linear", "normalised linear", "RetNet", "scalar gate", "DeltaNet", "gated DeltaNet", "GLA", "bidirectional linear"
]
"""`linear`: φ(x) = x, not divided. `normalised linear`: divided by the sum of weights, on features elu(x) + 1 that are applied
before, outside of everybody's time. `scalar gate`: one gate a token. Gates, β and unit keys are given to all."""

Masked = Literal["block-sparse", "prefix", "document"]
"""Exact softmax over fewer keys than causal attention sees."""

Group = Literal["D128", "D64", "short", "few heads", "portable", "masks"]
GROUPS: tuple[Group, ...] = get_args(Group)
RECURRENT: tuple[Recurrent, ...] = get_args(Recurrent)

SHAPES: dict[Group, tuple[int, int, int, int]] = {
    "D128": (1, 8_192, 96, 128),
    "D64": (1, 8_192, 96, 64),
    "short": (8, 2_048, 16, 128),
    "few heads": (1, 131_072, 16, 128),
    "portable": (1, 8_192, 96, 128),
    "masks": (1, 16_384, 16, 128),
}
"""Batch, n, heads, head dim. `few heads` are too few for a card unless their tokens are cut; `portable` is what cards run that
are no Hopper."""

DENSITIES = (0.1, 0.25, 0.5)
PREFIX_SIZE = 4_096
DOCUMENT_SIZE = 2_048

ITEM = ITEM_BYTES["bf16"]
GATE = ITEM_BYTES["fp32"]
"""Bytes of β, and of a gate that is one number a token."""


class Cell(Struct, frozen=True):
    """One call in bf16: q, k, v and out `(batch, num_heads, seq_len, head_dim)`."""

    group: Group
    method: Recurrent | Masked
    batch: int
    seq_len: int
    num_heads: int
    head_dim: int
    density: float = 0.0
    """Wanted share of the causal pairs, where the method has a choice; 0 elsewhere."""

    @property
    def name(self) -> str:
        """Such as `DeltaNet D128, n 8,192, B1 H96`."""
        density = f" {self.density:g}" if self.density else ""
        portable = ", portable" if self.group == "portable" else ""
        return f"{self.method}{density} D{self.head_dim}, n {self.seq_len:,}, B{self.batch} H{self.num_heads}{portable}"

    @property
    def causal(self) -> bool:
        return self.method != "bidirectional linear"

    @property
    def masked(self) -> bool:
        """Whether it is softmax under a mask, not a recurrence."""
        return self.method in get_args(Masked)

    @property
    def floor_bytes(self) -> int:
        """Inputs and output, each once: no call can move less."""
        tokens = self.batch * self.num_heads * self.seq_len
        return 4 * tokens * self.head_dim * ITEM + self._gate_bytes(tokens)

    def _gate_bytes(self, tokens: int) -> int:
        match self.method:
            case "scalar gate" | "DeltaNet":
                return tokens * GATE
            case "gated DeltaNet":
                return 2 * tokens * GATE
            case "GLA":
                return tokens * self.head_dim * ITEM
            case "RetNet":
                return self.num_heads * GATE
            case _:
                return 0

    @property
    def dense_flops(self) -> int:
        """Of softmax attention without the mask; a multiply-add counts two, and there are two products."""
        return 4 * self.batch * self.num_heads * self.workload.pairs * self.head_dim

    @property
    def workload(self) -> Workload:
        return Workload(
            batch=self.batch,
            seq_len=self.seq_len,
            num_heads=self.num_heads,
            num_kv_heads=self.num_heads,
            head_dim=self.head_dim,
            layers=1,
            dtype="bf16",
            causal=self.causal,
        )


def cells(groups: Sequence[str] = GROUPS, quick: bool = False) -> list[Cell]:
    """All cells of these groups; quick: one or two of each."""
    found = [Cell(group, method, *SHAPES[group]) for group in GROUPS if group != "masks" for method in RECURRENT]
    found += [Cell("masks", "block-sparse", *SHAPES["masks"], density) for density in DENSITIES]
    found += [Cell("masks", method, *SHAPES["masks"]) for method in get_args(Masked)[1:]]
    return [cell for cell in found if cell.group in groups and (not quick or _is_quick(cell))]


def _is_quick(cell: Cell) -> bool:
    match cell.group:
        case "D128":
            return cell.method in ("scalar gate", "DeltaNet")
        case "masks":
            return cell.density == 0.25 or cell.method == "prefix"
        case _:
            return cell.method == "linear"

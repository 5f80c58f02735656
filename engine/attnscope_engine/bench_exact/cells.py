"""What is timed: shapes, masks and numbers. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal, get_args

from msgspec import Struct

from attnscope_engine.protocol import ITEM_BYTES, Workload

Half = Literal["bf16", "fp16"]
Numbers = Literal["normal", "growing"]
"""`growing`: scores that rise along each row, so that every tile of keys raises the row's maximum: the worst case of a running
maximum."""

Group = Literal["grid", "head dim", "GQA", "window", "worst case", "portable", "decode"]
GROUPS: tuple[Group, ...] = get_args(Group)

TOKENS = 16_384
"""Batch · n of a cell; a longer n is one sequence."""
WIDTH = 2_048
"""Heads · head dim; the nearest below where head dim does not divide it."""
GRID_LENGTHS = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
PLAIN_LENGTH = 8_192
"""n of the cells that are there for something else."""
MASKS = (False, True)
DECODE_KEYS, DECODE_MATRICES = 32_768, 128


class Cell(Struct, frozen=True):
    """One attention call: q `(batch, num_heads, queries, head_dim)`, k and v `(batch, num_kv_heads, keys, head_dim)`."""

    group: Group
    dtype: Half
    batch: int
    num_heads: int
    num_kv_heads: int
    queries: int
    keys: int
    head_dim: int
    causal: bool
    window: int = 0
    """Keys that a query sees, its own included; 0 for no window."""
    numbers: Numbers = "normal"

    @property
    def name(self) -> str:
        """Such as `bf16 D128 causal, n 8,192, B2 H16`."""
        length = f"n {self.keys:,}" if self.queries == self.keys else f"n {self.queries:,} of {self.keys:,}"
        mask = "causal" if self.causal else "full"
        window = f" w {self.window:,}" if self.window else ""
        heads = f"H{self.num_heads}" if self.num_heads == self.num_kv_heads else f"H{self.num_heads}/{self.num_kv_heads}"
        growing = ", growing" if self.numbers == "growing" else ""
        return f"{self.dtype} D{self.head_dim} {mask}{window}, {length}, B{self.batch} {heads}{growing}"

    @property
    def pairs(self) -> int:
        """Query-key pairs that one head sees, counted exactly; causal is aligned bottom-right."""
        return pairs_of_head(self.queries, self.keys, self.causal, self.window)

    @property
    def flops(self) -> int:
        """A multiply-add counts two, and there are two products."""
        return 4 * self.batch * self.num_heads * self.pairs * self.head_dim

    @property
    def key_bytes(self) -> int:
        """Of k and v: what a call with few queries reads."""
        return 2 * self.batch * self.num_kv_heads * self.keys * self.head_dim * ITEM_BYTES[self.dtype]

    @property
    def tensor_bytes(self) -> int:
        """Of q, k, v and out."""
        rows = 2 * self.batch * self.num_heads * self.queries
        return rows * self.head_dim * ITEM_BYTES[self.dtype] + self.key_bytes

    @property
    def workload(self) -> Workload:
        """The longer of queries and keys stands for n."""
        return Workload(
            batch=self.batch,
            seq_len=max(self.queries, self.keys),
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            layers=1,
            dtype=self.dtype,
            causal=self.causal,
        )


def pairs_of_head(queries: int, keys: int, causal: bool, window: int = 0) -> int:
    """Sum over the queries of min(window, keys that the query sees). Raises: ValueError for a window without a causal mask."""
    if not causal:
        if window:
            raise ValueError("windows are causal here")
        return queries * keys
    before = max(0, keys - queries)  # keys that the first query sees, less its own
    if not window:
        return _triangle(keys) - _triangle(before)
    inside = _triangle(min(keys, window)) - _triangle(min(before, window))
    return inside + window * (max(keys, window) - max(before, window))


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


def _square(group: Group, dtype: Half, n: int, head_dim: int, causal: bool, per_group: int = 1, window: int = 0) -> Cell:
    """As many queries as keys, at the common size of a call."""
    heads = WIDTH // head_dim
    return Cell(group, dtype, max(1, TOKENS // n), heads, heads // per_group, n, n, head_dim, causal, window)


def grid() -> list[Cell]:
    """The main grid."""
    kinds: tuple[Half, ...] = get_args(Half)
    return [_square("grid", kind, n, d, causal) for kind, d, causal, n in product(kinds, (64, 128), MASKS, GRID_LENGTHS)]


def others() -> list[Cell]:
    """Everything beside the grid, in bf16. A worst case follows the same call on normal numbers, so that both see one clock."""
    n = PLAIN_LENGTH
    found = [_square("head dim", "bf16", n, d, causal) for d, causal in product((96, 192, 256), MASKS)]
    found += [_square("GQA", "bf16", n, d, causal, per_group=8) for d, causal in product((64, 128), MASKS)]
    found += [_square("window", "bf16", length, 128, True, window=w) for length, w in product((n, 2 * n), (256, 1024))]
    for causal in MASKS:
        heads, batch = WIDTH // 128, TOKENS // n
        for numbers in get_args(Numbers):
            found.append(Cell("worst case", "bf16", batch, heads, heads, n, n, 128, causal, 0, numbers))
    found += [_square("portable", "bf16", n, d, causal) for d, causal in product((64, 128), MASKS)]
    for kv_heads, per_group in ((16, 1), (8, 8)):
        batch = DECODE_MATRICES // kv_heads
        found.append(Cell("decode", "bf16", batch, kv_heads * per_group, kv_heads, 1, DECODE_KEYS, 128, False))
    return found


def cells(groups: Sequence[str] = GROUPS, quick: bool = False) -> list[Cell]:
    """All cells of these groups; quick: a few of each, no long ones."""
    found = [cell for cell in (*grid(), *others()) if cell.group in groups]
    return [cell for cell in found if _is_quick(cell)] if quick else found


def _is_quick(cell: Cell) -> bool:
    match cell.group:
        case "grid":
            return cell.dtype == "bf16" and cell.keys in (2_048, 8_192)
        case "head dim":
            return cell.head_dim == 256 and not cell.causal
        case "GQA" | "portable":
            return cell.head_dim == 128 and cell.causal
        case "window":
            return cell.keys == PLAIN_LENGTH and cell.window == 1024
        case "worst case":
            return not cell.causal
        case "decode":
            return cell.num_heads == cell.num_kv_heads

"""How heads with a state are cut into segments of whole chunks, where there are too few of them for a card. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from attnscope_engine import cuda

CHUNK = 64
"""Tokens between two updates of a state."""

WIDEST = 128
"""head_dim up to which a state fits the registers of one block of threads."""

WANTED_BLOCKS = 132
"""Segments that fill a large card. A number of its own, not the card's: memory is predicted without asking the card."""

FULL_FROM = 0.7
"""Share of WANTED_BLOCKS from which heads alone are fast enough: a cut would read keys and values again."""

LEAST_CHUNKS = 8
"""Chunks of a segment at least: shorter ones cost more to start, and in states, than they save."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How the tokens of each head are cut."""

    start: int
    """Token, counted along the keys, at which the first chunk begins: below 0 where queries come before the first key."""
    all: int
    """Chunks of a head."""
    chunks: int
    """Of a segment; the last may have fewer."""
    segments: int


def cut_of(heads: int, queries: int, keys: int) -> Cut:
    """`heads`: B·H; `queries` and `keys` of one head. A query stands at its own key, the last at the last."""
    start = min(0, keys - queries)
    chunks = cuda.blocks(keys - start, CHUNK)
    wanted = 1
    if heads < FULL_FROM * WANTED_BLOCKS:
        wanted = max(1, min(WANTED_BLOCKS // heads, chunks // LEAST_CHUNKS))
    of_segment = cuda.blocks(chunks, wanted)
    return Cut(start, chunks, of_segment, cuda.blocks(chunks, of_segment))


def width_of(head_dim: int) -> int:
    """head_dim as the kernels see it: padded with zeros to 64 or 128."""
    return 64 if head_dim <= 64 else 128

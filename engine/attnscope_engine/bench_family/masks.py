"""Our masked variants, and the same masks as FlexAttention takes them: read off the variants, so that they are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import catalogue
from attnscope_engine.bench.peers import CanNotRun
from attnscope_engine.bench_family.cells import DOCUMENT_SIZE, PREFIX_SIZE, Cell
from attnscope_engine.protocol import Choice
from attnscope_engine.variant import Params, Variant

DENSE = Choice("softmax_tiled")
SAMPLE = 64
"""Tokens of the squares that a block mask is read off as; a variant's own blocks are multiples of it."""

AT_ONCE = 1024
"""Rows of a mask that are looked at together."""

RANDOM_BLOCKS = {0.1: 4, 0.25: 15, 0.5: 35}
"""By density: what comes within 2 % of it at n 16,384, beside a window of two blocks and one global one."""

Mask = Callable[[Any, Any, Any, Any], Any]
"""`(batch, head, query, key)` → whether the pair is seen, on torch's tensors."""


def choice_of(cell: Cell) -> Choice:
    """Our variant of a masked cell, as the catalogue takes it."""
    match cell.method:
        case "block-sparse":
            return Choice("block_sparse", {"random_blocks": RANDOM_BLOCKS[cell.density]})
        case "prefix":
            return Choice("prefix", {"prefix_size": PREFIX_SIZE})
        case _:
            return Choice("document", {"mean_size": DOCUMENT_SIZE})


def resolved(cell: Cell) -> tuple[Variant, Params]:
    """Raises: CanNotRun where this version has no such variant, or it takes other parameters."""
    choice = choice_of(cell)
    if choice.variant not in catalogue.variants():
        raise CanNotRun(f"this version has no variant {choice.variant}")
    try:
        return catalogue.resolved(choice, cell.workload)
    except ValueError as error:
        raise CanNotRun(str(error)) from error


def density_of(cell: Cell) -> float:
    """Share of the causal pairs that the mask lets through, as the variant counts them. Raises: CanNotRun."""
    variant, params = resolved(cell)
    return variant.cost(cell.workload, params, "cuda").flops / catalogue.cost_of(DENSE, cell.workload, "cuda").flops


def flex_mask(torch: Any, cell: Cell, on: str = "cuda") -> Mask:
    """The mask for FlexAttention, in the form that its documentation has for this kind. Raises: CanNotRun."""
    variant, params = resolved(cell)
    if cell.method == "prefix":
        return lambda _batch, _head, query, key: (query >= key) | (key < PREFIX_SIZE)
    if cell.method == "document":
        of_token = torch.as_tensor(documents(cell, variant, params), device=on)
        return lambda _batch, _head, query, key: (of_token[query] == of_token[key]) & (query >= key)
    squares = torch.as_tensor(blocks(cell, variant, params), device=on)
    return lambda _batch, _head, query, key: squares[query // SAMPLE, key // SAMPLE] & (query >= key)


def blocks(cell: Cell, variant: Variant, params: Params) -> NDArray[np.bool_]:
    """Which squares of SAMPLE queries × SAMPLE keys a causal block mask sees: the corner that causality hides last."""
    first = np.arange(0, cell.seq_len, SAMPLE)
    last = np.minimum(first + SAMPLE, cell.seq_len) - 1
    return np.asarray(variant.visible(cell.workload, params, last, first), dtype=bool)


def documents(cell: Cell, variant: Variant, params: Params) -> NDArray[np.int32]:
    """The document that each token is in, counted from 0: one begins where a token is the first that it sees itself."""
    n = cell.seq_len
    starts = np.zeros(n, dtype=np.int32)
    for top in range(0, n, AT_ONCE):
        rows = np.arange(top, min(top + AT_ONCE, n))
        seen = variant.visible(cell.workload, params, rows, np.arange(n))
        starts[rows] = seen.argmax(axis=1) == rows
    return np.cumsum(starts, dtype=np.int32) - np.int32(1)

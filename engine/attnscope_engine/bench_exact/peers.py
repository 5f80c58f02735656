"""Everybody else's exact attention, by name, each called as its own documentation says is fastest. Imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from attnscope_engine.bench.peers import Call, CanNotRun, flex_attention
from attnscope_engine.bench_exact.cells import PLAIN_LENGTH, Cell


@dataclass(frozen=True, slots=True)
class Peer:
    """One contender."""

    name: str
    make: Callable[[Any, Cell], Call]
    """`(torch, cell)` → the call. Raises: CanNotRun, and whatever the library raises."""
    axes: Literal["head", "token"] = "head"
    """Whether it takes and gives `(B, H, N, D)` or `(B, N, H, D)`."""


def _sdpa(name: str) -> Callable[[Any, Cell], Call]:
    """The scaled_dot_product_attention of torch with one backend, which torch would not choose by itself everywhere."""

    def make(torch: Any, cell: Cell) -> Call:
        if cell.window:
            raise CanNotRun("has no sliding window")
        if cell.causal and cell.queries != cell.keys:
            raise CanNotRun("causal only with as many queries as keys")
        attention = importlib.import_module("torch.nn.attention")
        backend, grouped = getattr(attention.SDPBackend, name), cell.num_heads != cell.num_kv_heads
        function = torch.nn.functional.scaled_dot_product_attention

        def call(q: Any, k: Any, v: Any) -> Any:
            with attention.sdpa_kernel(backend):
                return function(q, k, v, is_causal=cell.causal, enable_gqa=grouped)

        return call

    return make


def _flex(torch: Any, cell: Cell) -> Call:
    """FlexAttention, compiled for this shape, with the mask as blocks that it skips."""
    if cell.group not in ("window", "decode") and (cell.group, cell.keys) != ("grid", PLAIN_LENGTH):
        raise CanNotRun(f"only for n {PLAIN_LENGTH:,}, windows, decodes: slow to compile")
    if cell.causal and cell.queries != cell.keys:
        raise CanNotRun("not written for fewer queries than keys")
    window = cell.window

    def causal(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
        return query >= key

    def banded(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
        return (query >= key) & (query - key < window)

    mask = (banded if window else causal) if cell.causal else None
    return flex_attention(torch, mask, cell.queries, cell.keys, grouped=cell.num_heads != cell.num_kv_heads)


def _flash(module: str, no_limit: int | None) -> Callable[[Any, Cell], Call]:
    """A flash-attn package: `no_limit` is how it writes a side without one."""

    def make(_torch: Any, cell: Cell) -> Call:
        try:
            function = importlib.import_module(module).flash_attn_func
        except (ImportError, AttributeError) as error:
            raise CanNotRun("not installed") from error
        window = (cell.window - 1, 0) if cell.window else (no_limit, no_limit)

        def call(q: Any, k: Any, v: Any) -> Any:
            out = function(q, k, v, causal=cell.causal, window_size=window)
            return out[0] if isinstance(out, tuple) else out

        return call

    return make


PEERS = (
    Peer("cuDNN", _sdpa("CUDNN_ATTENTION")),
    Peer("SDPA flash", _sdpa("FLASH_ATTENTION")),
    Peer("SDPA efficient", _sdpa("EFFICIENT_ATTENTION")),
    Peer("FlexAttention", _flex),
    Peer("flash-attn 2", _flash("flash_attn", -1), "token"),
    Peer("flash-attn 3", _flash("flash_attn_interface", -1), "token"),
    Peer("flash-attn 4", _flash("flash_attn.cute", None), "token"),
)

OTHER_PORTABLE = "SDPA flash"
"""What our portable kernel is measured by: also one text for every card since 2020."""


def peers_of(cell: Cell) -> tuple[Peer, ...]:
    """Those that a cell is timed with."""
    return tuple(peer for peer in PEERS if cell.group != "portable" or peer.name == OTHER_PORTABLE)

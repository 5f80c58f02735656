"""Others' linear and recurrent attention, by method, each called as its own documentation says. Imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnscope_engine.bench.peers import CanNotRun
from attnscope_engine.bench_family.cells import Cell, Masked, Recurrent
from attnscope_engine.bench_family.tensors import Inputs, scale_of

Call = Callable[[Inputs], Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """One contender."""

    name: str
    make: Callable[[Any, Cell], Call]
    """`(torch, cell)` → the call. Raises: CanNotRun, and whatever the library raises."""
    by_token: bool = False
    """Whether it takes and gives `(B, N, H, D)`."""


def _fla(module: str, name: str, more: Callable[[Inputs], dict[str, Any]], **options: Any) -> Callable[[Any, Cell], Call]:
    """`name` of `fla.ops.module`, whose functions return the output and a state that is not asked for here."""

    def make(_torch: Any, cell: Cell) -> Call:
        try:
            function = getattr(importlib.import_module(f"fla.ops.{module}"), name)
        except ModuleNotFoundError as error:
            raise CanNotRun("not installed" if error.name == "fla" else f"lacks {error.name}") from error
        scale = scale_of(cell)

        def call(inputs: Inputs) -> Any:
            out, _ = function(inputs.q, inputs.k, inputs.v, **more(inputs), scale=scale, **options)
            return out

        return call

    return make


def _two_products(torch: Any, _cell: Cell) -> Call:
    """Kᵀ·V, then Q times that: cuBLAS twice."""

    def call(inputs: Inputs) -> Any:
        q, k, v = (x.flatten(0, 1) for x in (inputs.q, inputs.k, inputs.v))
        return torch.bmm(q, torch.bmm(k.transpose(1, 2), v)).view(inputs.q.shape)

    return call


def _nothing(_inputs: Inputs) -> dict[str, Any]:
    return {}


def _gates(inputs: Inputs) -> dict[str, Any]:
    return {"g": inputs.gates}


def _beta(inputs: Inputs) -> dict[str, Any]:
    return {"beta": inputs.beta}


def _both(inputs: Inputs) -> dict[str, Any]:
    return {"g": inputs.gates, "beta": inputs.beta}


PEERS: dict[Recurrent | Masked, Peer] = {
    "linear": Peer("fla", _fla("linear_attn", "chunk_linear_attn", _nothing, normalize=False), by_token=True),
    "normalised linear": Peer("fla", _fla("linear_attn", "chunk_linear_attn", _nothing, normalize=True), by_token=True),
    "RetNet": Peer("fla", _fla("retention", "chunk_retention", _nothing), by_token=True),
    "scalar gate": Peer("fla", _fla("simple_gla", "chunk_simple_gla", _gates), by_token=True),
    "DeltaNet": Peer("fla", _fla("delta_rule", "chunk_delta_rule", _beta), by_token=True),
    "gated DeltaNet": Peer("fla", _fla("gated_delta_rule", "chunk_gated_delta_rule", _both), by_token=True),
    "GLA": Peer("fla", _fla("gla", "chunk_gla", _gates), by_token=True),
    "bidirectional linear": Peer("two torch.bmm", _two_products),
}
"""Of the methods that are no softmax. γ of RetNet's heads is fla's own, and ours gets the same."""

"""Our calls: the kernels with gates and β given, as others get them given too, and the masked variants."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnscope_engine import catalogue
from attnscope_engine.bench.contenders import Ours, seen_by
from attnscope_engine.bench.peers import CanNotRun
from attnscope_engine.bench_family.cells import Cell
from attnscope_engine.bench_family.masks import DENSE, resolved
from attnscope_engine.bench_family.results import DENSE_NAME
from attnscope_engine.bench_family.tensors import Tensors, retention_decays, scale_of
from attnscope_engine.devices import cubins
from attnscope_engine.devices.cuda import CudaDevice
from attnscope_engine.variant import Params, Variant

STEMS = ("softmax_tiled", "linear", "deltanet", "gated_deltanet", "gla", "prefix", "document", "block_sparse")
"""Kernel files that are timed, those that this version has."""


def has_text(stem: str) -> bool:
    """Whether this version has the kernel file, and all that it includes."""
    try:
        return bool(cubins.source_of(stem))
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class Arrays:
    """One set as CuPy sees it."""

    tensors: tuple[Any, Any, Any, Any]
    """q, k, v, out."""
    beta: Any
    gates: Any


def arrays_of(cupy: Any, torch: Any, tensors: Tensors) -> Arrays:
    """The same memory: 16-bit numbers as words, β and gates of a token as float32."""
    inputs = tensors.by_head
    q, k, v, out = seen_by(cupy, torch, inputs.q, inputs.k, inputs.v, tensors.out)
    beta = None if inputs.beta is None else cupy.asarray(inputs.beta)
    gates = inputs.gates
    if gates is not None:
        gates = seen_by(cupy, torch, gates)[0] if gates.ndim == 4 else cupy.asarray(gates)
    return Arrays((q, k, v, out), beta, gates)


def ours(torch: Any, device: CudaDevice, cell: Cell, sets: Sequence[Tensors]) -> Ours:
    """Our kernel for the cell on a device. Raises: CanNotRun."""
    return _contender(torch, device, masked(device, cell, *resolved(cell)) if cell.masked else recurrent(device, cell), sets)


def dense(torch: Any, device: CudaDevice, cell: Cell, sets: Sequence[Tensors]) -> Ours:
    """Our attention without the mask, on the same numbers."""
    call = masked(device, cell, *catalogue.resolved(DENSE, cell.workload))
    return _contender(torch, device, call, sets, name=DENSE_NAME, compared=False)


def _contender(torch: Any, device: CudaDevice, call: Callable[[Arrays], None], sets: Sequence[Tensors], **options: Any) -> Ours:
    arrays = [arrays_of(device.cupy, torch, tensors) for tensors in sets]
    return Ours(torch, device, lambda index: call(arrays[index]), [tensors.out for tensors in sets], **options)


def masked(device: Any, cell: Cell, variant: Variant, params: Params) -> Callable[[Arrays], None]:
    """A variant of the catalogue."""
    return lambda arrays: variant.launch(device, *arrays.tensors, cell.workload, params)


def recurrent(device: Any, cell: Cell) -> Callable[[Arrays], None]:
    """The kernel of a method that is no softmax. Raises: CanNotRun, also when called."""
    workload, scale = cell.workload, scale_of(cell)
    match cell.method:
        case "DeltaNet" | "gated DeltaNet":
            attend, stem = _kernel("delta", "gated_deltanet" if cell.method == "gated DeltaNet" else "deltanet")
            return lambda arrays: attend(device, stem, cell.method, arrays.tensors, arrays.beta, arrays.gates, workload, scale)
        case "GLA":
            attend, stem = _kernel("gla", "gla")
            return lambda arrays: attend(device, stem, cell.method, arrays.tensors, arrays.gates, workload, scale)
    attend, stem = _kernel("linear", "linear")
    of_heads = retention_decays(cell.num_heads) if cell.method == "RetNet" else None
    return lambda arrays: attend(
        device,
        stem,
        cell.method,
        arrays.tensors,
        workload,
        normalised=cell.method == "normalised linear",
        decay=arrays.gates if of_heads is None else of_heads,
        scale=scale,
    )


def _kernel(module: str, stem: str) -> tuple[Callable[..., None], str]:
    """`attend` of `cuda/<module>.py`, and the kernel file that it launches. Raises: CanNotRun where either does not exist.

    Found by name, so that a version without these kernels says so in its rows.
    """
    name = f"attnscope_engine.cuda.{module}"
    try:
        attend = importlib.import_module(name).attend
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise CanNotRun(f"this version has no kernels cuda/{module}") from error
    if not has_text(stem):
        raise CanNotRun(f"this version has no kernel file {stem}.cu")

    def call(*positional: Any, **named: Any) -> None:
        try:
            attend(*positional, **named)
        except NotImplementedError as error:
            raise CanNotRun(f"cuda/{module} is declared but not written for this call") from error

    return call, stem

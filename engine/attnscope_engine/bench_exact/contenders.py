"""Ours and theirs on the tensors of a cell of exact attention. torch and the device are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attnscope_engine import catalogue
from attnscope_engine.bench.contenders import Ours, Theirs, seen_by
from attnscope_engine.bench_exact.cells import Cell
from attnscope_engine.bench_exact.peers import Peer
from attnscope_engine.bench_exact.results import ALLOWED_UNITS, UNIT
from attnscope_engine.bench_exact.tensors import Tensors
from attnscope_engine.devices.cuda import CudaDevice
from attnscope_engine.protocol import Choice


def ours(torch: Any, device: CudaDevice, cell: Cell, sets: Sequence[Tensors]) -> Ours:
    """Our kernel for the cell on a device."""
    choice = Choice("sliding_window", {"window_size": cell.window}) if cell.window else Choice("softmax_tiled")
    variant, params = catalogue.resolved(choice, cell.workload)
    arrays = [seen_by(device.cupy, torch, *tensors.by_head, tensors.out) for tensors in sets]

    def launch(index: int) -> None:
        q, k, v, out = arrays[index]
        variant.launch(device, q, k, v, out, cell.workload, params)

    return Ours(torch, device, launch, [tensors.out for tensors in sets])


def theirs(torch: Any, peer: Peer, cell: Cell, sets: Sequence[Tensors]) -> Theirs:
    """A peer on the cell. Raises: what the peer raises."""
    call = peer.make(torch, cell)
    by_token = peer.axes == "token"
    inputs = [tensors.by_token() if by_token else tensors.by_head for tensors in sets]
    return Theirs(torch, peer.name, lambda index: call(*inputs[index]), by_token=by_token)


def difference(torch: Any, cell: Cell, ours: Any, theirs: Any) -> tuple[float, float]:
    """Largest absolute difference of two outputs, and the largest that rounding explains. NaN in either makes the first NaN."""
    worst, largest = [], []
    for one, other in zip(ours, theirs, strict=True):  # a batch at a time: the widened copies are as large as the call
        wide = other.float()
        worst.append((one.float() - wide).abs().max())
        largest.append(wide.abs().max())
    allowed = ALLOWED_UNITS * UNIT[cell.dtype] * float(torch.stack(largest).max())
    return float(torch.stack(worst).max()), allowed

"""One run: every cell of the family. With torch and a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from attnscope_engine.bench.contenders import Theirs, input_sets
from attnscope_engine.bench.machine import Machine, Make, reports
from attnscope_engine.bench.peers import CanNotRun, flex_attention
from attnscope_engine.bench_family.cells import Cell, cells
from attnscope_engine.bench_family.masks import density_of, flex_mask
from attnscope_engine.bench_family.ours import STEMS, dense, has_text, ours
from attnscope_engine.bench_family.peers import PEERS
from attnscope_engine.bench_family.results import ALLOWED, DENSE_NAME, Report, Row, with_dense
from attnscope_engine.bench_family.tensors import Tensors


class Session:
    """Cells of the family on a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def row(self, cell: Cell) -> Row:
        """All contenders of a cell: compiled and warm, compared once, then timed in turns."""
        row = self._row(cell)
        self._machine.release()
        return row

    def _row(self, cell: Cell) -> Row:
        machine = self._machine
        torch, device = machine.torch, machine.portable if cell.group == "portable" else machine.device
        sets = [Tensors(torch, cell, seed) for seed in range(input_sets(cell.floor_bytes, device.cache_bytes))]
        peers: list[tuple[str, Make]] = [("FlexAttention", partial(flex, torch, cell, sets))]
        density = None
        if cell.masked:
            # last: it writes where ours did, which has been compared by then
            peers.append((DENSE_NAME, partial(dense, torch, device, cell, sets)))
            density = _known_density(cell)
        else:
            peers = [(PEERS[cell.method].name, partial(theirs, torch, cell, sets))]
        found = machine.row(cell, len(sets), partial(ours, torch, device, cell, sets), peers, partial(difference, torch))
        return with_dense(found, density)


def _known_density(cell: Cell) -> float | None:
    try:
        return density_of(cell)
    except CanNotRun:
        return None


def theirs(torch: Any, cell: Cell, sets: Sequence[Tensors]) -> Theirs:
    """The peer of a method that is no softmax. Raises: CanNotRun, and what the peer raises."""
    peer = PEERS[cell.method]
    call = peer.make(torch, cell)
    inputs = [tensors.by_token if peer.by_token else tensors.by_head for tensors in sets]
    return Theirs(torch, peer.name, lambda index: call(inputs[index]), by_token=peer.by_token)


def flex(torch: Any, cell: Cell, sets: Sequence[Tensors]) -> Theirs:
    """FlexAttention under the mask of our variant. Raises: CanNotRun, and what torch raises."""
    call = flex_attention(torch, flex_mask(torch, cell), cell.seq_len, cell.seq_len)
    inputs = [(tensors.by_head.q, tensors.by_head.k, tensors.by_head.v) for tensors in sets]
    return Theirs(torch, "FlexAttention", lambda index: call(*inputs[index]))


def difference(torch: Any, ours: Any, theirs: Any) -> tuple[float, float]:
    """Root mean square of the difference of two outputs over that of the second, and what rounding explains of it.

    NaN in either makes the first NaN.
    """
    apart, size = [], []
    for one, other in zip(ours.flatten(0, 1), theirs.flatten(0, 1), strict=True):  # a head at a time: float64 copies are large
        wide = other.double()
        apart.append((one.double() - wide).square().mean())
        size.append(wide.square().mean())
    return float((torch.stack(apart).mean() / torch.stack(size).mean()).sqrt()), ALLOWED


def run(torch: Any, budget_s: float, groups: Sequence[str], quick: bool) -> Iterator[Report]:
    """The report after each part, the last one finished. Raises: DeviceFault."""
    machine = Machine(torch, budget_s)
    session = Session(machine)

    def row(cell: Cell, report: Report) -> Report:
        return replace(report, rows=(*report.rows, session.row(cell)))

    stems = [stem for stem in STEMS if has_text(stem)]
    return reports(Report(machine.provenance(stems)), machine.limits, [partial(row, cell) for cell in cells(groups, quick)])

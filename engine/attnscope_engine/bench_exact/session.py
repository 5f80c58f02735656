"""One run: every cell of exact attention, the steps of Naive. With torch and a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from attnscope_engine.bench.contenders import input_sets, on_torchs_stream, seen_by
from attnscope_engine.bench.machine import Machine, reports
from attnscope_engine.bench_exact.cells import TOKENS, WIDTH, Cell, cells
from attnscope_engine.bench_exact.contenders import difference, ours, theirs
from attnscope_engine.bench_exact.peers import peers_of
from attnscope_engine.bench_exact.results import Report, Row, Steps
from attnscope_engine.bench_exact.tensors import Tensors
from attnscope_engine.devices.cuda import Scratch
from attnscope_engine.variants import softmax_naive

STEMS = ("softmax_tiled", "sliding_window")
"""Kernels that are timed."""


class Session:
    """Cells of exact attention on a machine."""

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
        sets = [Tensors(torch, cell, seed) for seed in range(input_sets(cell.tensor_bytes, device.cache_bytes))]
        peers = [(peer.name, partial(theirs, torch, peer, cell, sets)) for peer in peers_of(cell)]
        return machine.row(cell, len(sets), partial(ours, torch, device, cell, sets), peers, partial(difference, torch, cell))

    def naive(self, cell: Cell) -> Steps:
        """The three steps of Naive, each as a graph of its own, and all of them."""
        found = self._naive(cell)
        self._machine.release()
        return found

    def _naive(self, cell: Cell) -> Steps:
        torch, device = self._machine.torch, self._machine.device
        tensors, scratch = Tensors(torch, cell, 0), Scratch()
        q, k, v, out = seen_by(device.cupy, torch, *tensors.by_head, tensors.out)
        with device.holding(scratch):
            steps = softmax_naive.steps(device, q, k, v, out, cell.workload)

        def do(works: list[Callable[[], None]], _: int) -> None:
            with on_torchs_stream(device.cupy, torch):
                for work in works:
                    work()

        calls = {name: partial(do, [work]) for name, work in steps}
        calls["whole"] = partial(do, [work for _, work in steps])
        calls["whole"](0)  # compiles, and writes what each step reads
        torch.cuda.synchronize()
        *apart, together = self._machine.raced(list(calls.items()))
        return Steps(cell, together, tuple(apart))


def naive_cells(quick: bool) -> list[Cell]:
    """At the common size of a call."""
    heads = WIDTH // 128
    lengths = (4096,) if quick else (4096, 8192)
    return [Cell("grid", "bf16", TOKENS // n, heads, heads, n, n, 128, causal) for n in lengths for causal in (False, True)]


def run(torch: Any, budget_s: float, groups: Sequence[str], quick: bool) -> Iterator[Report]:
    """The report after each part, the last one finished. Raises: DeviceFault."""
    machine = Machine(torch, budget_s)
    session = Session(machine)

    def row(cell: Cell, report: Report) -> Report:
        return replace(report, rows=(*report.rows, session.row(cell)))

    def naive(cell: Cell, report: Report) -> Report:
        return replace(report, naive=(*report.naive, session.naive(cell)))

    parts = [partial(row, cell) for cell in cells(groups, quick)] + [partial(naive, cell) for cell in naive_cells(quick)]
    return reports(Report(machine.provenance(STEMS)), machine.limits, parts)

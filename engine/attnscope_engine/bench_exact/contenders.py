"""Ours and theirs as calls on the same tensors, and as graphs that are replayed. torch and the device are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from attnscope_engine import catalogue
from attnscope_engine.bench_exact.cells import Cell
from attnscope_engine.bench_exact.peers import Peer
from attnscope_engine.bench_exact.results import ALLOWED_UNITS, OURS, UNIT
from attnscope_engine.bench_exact.tensors import Tensors, on_torchs_stream
from attnscope_engine.devices.cuda import CudaDevice, Scratch
from attnscope_engine.devices.cuda_timing import REPLAY_S, PeakCounter
from attnscope_engine.protocol import Choice

MOST_CALLS = 2000

Watch = Callable[[], int]
"""Notes what slows the card down now; the clock in MHz."""


class Ours:
    """Our kernel for the cell on a device."""

    name = OURS

    def __init__(self, torch: Any, device: CudaDevice, cell: Cell, sets: Sequence[Tensors]) -> None:
        self._torch, self._device, self._cell = torch, device, cell
        self._sets = sets
        self._arrays = [tensors.seen_by(device.cupy, torch) for tensors in sets]
        choice = Choice("sliding_window", {"window_size": cell.window}) if cell.window else Choice("softmax_tiled")
        self._variant, self._params = catalogue.resolved(choice, cell.workload)
        self._scratch = Scratch()

    def call(self, index: int) -> Any:
        """On torch's current stream, so that one graph of torch's takes it like any other."""
        with on_torchs_stream(self._device.cupy, self._torch):
            q, k, v, out = self._arrays[index]
            self._device.call(self._variant, q, k, v, out, self._cell.workload, self._params, self._scratch)
        return self._sets[index].out

    def extra_bytes(self) -> int:
        """Of a first call, which asks for every workspace."""
        self._scratch = Scratch()
        with PeakCounter(self._device.cupy) as counter:
            self.call(0)
        return int(counter.peak)


class Theirs:
    """A peer on the cell. Raises, when made: what the peer raises."""

    def __init__(self, torch: Any, peer: Peer, cell: Cell, sets: Sequence[Tensors]) -> None:
        self.name = peer.name
        self._torch = torch
        self._call = peer.make(torch, cell)
        self._by_token = peer.axes == "token"
        self._inputs = [tensors.by_token() if self._by_token else tensors.by_head for tensors in sets]

    def call(self, index: int) -> Any:
        """The output as the peer gives it."""
        return self._call(*self._inputs[index])

    def output(self) -> Any:
        """Of the first set, `(B, H, N, D)`."""
        out = self.call(0)
        return out.transpose(1, 2) if self._by_token else out

    def extra_bytes(self) -> int:
        """Of a call like all that follow: what torch's allocator held at most, less before and the output."""
        cuda = self._torch.cuda
        cuda.synchronize()
        before = cuda.memory_allocated()
        cuda.reset_peak_memory_stats()
        out = self.call(0)
        cuda.synchronize()
        given = out.numel() * out.element_size()
        return max(0, int(cuda.max_memory_allocated()) - int(before) - int(given))


class Replayed:
    """A call as a graph that goes round the input sets: `race.Runner`."""

    def __init__(self, torch: Any, name: str, call: Callable[[int], Any], sets: int, watch: Watch, extra_bytes: int = 0) -> None:
        self.name, self.extra_bytes, self.calls = name, extra_bytes, sets
        self._torch, self._call, self._sets, self._watch = torch, call, sets, watch
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        call(0)  # what a library makes at its first call can not be made while a graph is captured
        torch.cuda.synchronize()
        self._graph = self._captured()
        self.replay()
        once, _ = self.replay()
        rounds = math.ceil(REPLAY_S / (once * sets))
        if rounds > 1:
            self.calls = min(sets * rounds, max(sets, MOST_CALLS // sets * sets))
            self._graph = self._captured()

    def _captured(self) -> Any:
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph):
            for index in range(self.calls):
                self._call(index % self._sets)
        return graph

    def replay(self) -> tuple[float, int]:
        """Seconds of a call, and the clock while it ran."""
        self._start.record()
        self._graph.replay()
        self._end.record()
        clock = self._watch()
        self._end.synchronize()
        return max(float(self._start.elapsed_time(self._end)) / 1e3 / self.calls, 1e-9), clock


def difference(torch: Any, cell: Cell, ours: Any, theirs: Any) -> tuple[float, float]:
    """Largest absolute difference of two outputs, and the largest that rounding explains. NaN in either makes the first NaN."""
    worst, largest = [], []
    for one, other in zip(ours, theirs, strict=True):  # a batch at a time: the widened copies are as large as the call
        wide = other.float()
        worst.append((one.float() - wide).abs().max())
        largest.append(wide.abs().max())
    allowed = ALLOWED_UNITS * UNIT[cell.dtype] * float(torch.stack(largest).max())
    return float(torch.stack(worst).max()), allowed

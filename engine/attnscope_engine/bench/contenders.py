"""Ours and theirs as calls on the same tensors, and as graphs that are replayed. torch and the device are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attnscope_engine.bench.results import OURS
from attnscope_engine.devices.cuda import CudaDevice, Scratch
from attnscope_engine.devices.cuda_timing import CACHE_MULTIPLE, REPLAY_S, PeakCounter

MOST_CALLS = 2000
MOST_SETS = 64

Watch = Callable[[], int]
"""Notes what slows the card down now; the clock in MHz."""


class Contender(Protocol):
    """A call on several sets of inputs, not yet compiled."""

    name: str

    def call(self, index: int) -> Any:
        """On set `index`, on torch's current stream."""
        ...

    def first(self) -> Any:
        """The first call, which compiles: its output `(B, H, N, D)`, None when it is not what others compute."""
        ...

    def extra_bytes(self) -> int:
        """Of a call like all that follow."""
        ...


class Ours:
    """Our kernels. `launch(index)` launches on set `index`; `outs` are torch's tensors that it writes to."""

    def __init__(
        self,
        torch: Any,
        device: CudaDevice,
        launch: Callable[[int], None],
        outs: Sequence[Any],
        *,
        name: str = OURS,
        compared: bool = True,
    ) -> None:
        self.name = name
        self._torch, self._device, self._launch, self._outs = torch, device, launch, outs
        self._compared = compared
        self._scratch = Scratch()

    def call(self, index: int) -> Any:
        """On torch's current stream, so that one graph of torch's takes it like any other."""
        with on_torchs_stream(self._device.cupy, self._torch), self._device.holding(self._scratch):
            self._launch(index)
        return self._outs[index]

    def first(self) -> Any:
        out = self.call(0)
        return out if self._compared else None

    def extra_bytes(self) -> int:
        """Of a call that asks for every workspace."""
        self._scratch = Scratch()
        with PeakCounter(self._device.cupy) as counter:
            self.call(0)
        return int(counter.peak)


class Theirs:
    """A peer. `call(index)` gives its output of set `index`, with `by_token` as `(B, N, H, D)`."""

    def __init__(self, torch: Any, name: str, call: Callable[[int], Any], *, by_token: bool = False) -> None:
        self.name, self.call = name, call
        self._torch, self._by_token = torch, by_token

    def first(self) -> Any:
        out = self.call(0)
        return out.transpose(1, 2) if self._by_token else out

    def extra_bytes(self) -> int:
        """What torch's allocator held at most, less before and the output."""
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


def input_sets(tensor_bytes: int, cache_bytes: int) -> int:
    """How many sets of tensors a replay goes round, each of `tensor_bytes`."""
    return min(MOST_SETS, max(1, math.ceil(CACHE_MULTIPLE * cache_bytes / tensor_bytes)))


class TorchsStream:
    """torch's current stream, told as CUDA's stream protocol wants it: torch's own object tells so only in newer versions."""

    def __init__(self, torch: Any) -> None:
        self._pointer = int(torch.cuda.current_stream().cuda_stream)

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._pointer


def on_torchs_stream(cupy: Any, torch: Any) -> Any:
    """A context in which CuPy launches on torch's current stream."""
    return cupy.cuda.Stream.from_external(TorchsStream(torch))


def seen_by(cupy: Any, torch: Any, *tensors: Any) -> tuple[Any, ...]:
    """The 16-bit tensors of torch as CuPy's arrays of 16-bit words in the same memory."""
    return tuple(cupy.asarray(x.view(torch.int16)).view("uint16") for x in tensors)

"""One attention call on the GPU, ready to be timed.

Time is device time: events around a graph of many calls (or one call, when it is long), over several sets of inputs when one
would stay in the cache. The peak of memory is what the allocator was asked for during the first call.
"""

from __future__ import annotations

import time
from typing import Any

from attnscope_engine.cuda import STORED, tiling
from attnscope_engine.devices import nvrtc
from attnscope_engine.devices.cuda import CudaDevice, Scratch, parsed
from attnscope_engine.protocol import Measure
from attnscope_engine.variant import Tick

REPLAY_S = 3e-3
"""Length of one timed replay: long beside the resolution of events, short beside a slider's movement."""

LONG_CALL_S = 5e-3
"""A call longer than this is timed alone."""

LONGEST_REPLAY_S = 20e-3
WARM_S = 15e-3
CACHE_MULTIPLE = 5
"""Inputs of one replay are together at least so many times the cache."""

MOST_SETS = 256


class PeakCounter:
    """Bytes asked of CuPy's allocator and not given back, and their highest sum. Use as a context."""

    def __init__(self, cupy: Any) -> None:
        counter = self

        class Hook(cupy.cuda.MemoryHook):  # type: ignore[misc]
            name = "attnscope peak"

            def malloc_postprocess(self, **event: Any) -> None:
                counter.took(event["mem_ptr"], event["size"])

            def free_postprocess(self, **event: Any) -> None:
                counter.gave(event["mem_ptr"])

        self._hook = Hook()
        self._sizes: dict[int, int] = {}
        self._now = 0
        self.peak = 0

    def __enter__(self) -> PeakCounter:
        self._hook.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.__exit__(*error)

    def took(self, pointer: int, size: int) -> None:
        if pointer:
            self._sizes[pointer] = size
            self._now += size
            self.peak = max(self.peak, self._now)

    def gave(self, pointer: int) -> None:
        self._now -= self._sizes.pop(pointer, 0)


class PreparedCall:
    """`Prepared` of the package. Raises, when made: Unsupported, and CUDA's errors untranslated."""

    def __init__(self, device: CudaDevice, job: Measure) -> None:
        self._device, self._job = device, job
        self._variant, self._params = parsed(job)
        self._scratch = Scratch()
        self._sets: list[tuple[Any, ...]] = []
        self._graph: Any = None
        self._calls = 1
        self._start, self._end = device.cupy.cuda.Event(), device.cupy.cuda.Event()
        with device.stream:
            with PeakCounter(device.cupy) as counter:
                self._sets.append(self._make_set(job.seed))
                self._call(0)
                device.stream.synchronize()
            self._products = f"cuBLAS {device.cublas.version}" if device.multiplied else ""
            self._peak = counter.peak
            once = min(self._timed(), self._timed())
            if once <= LONG_CALL_S:
                self._add_sets(once)
                self._capture(once)
            self._warm()

    def _make_set(self, seed: int) -> tuple[Any, ...]:
        w, cupy = self._job.workload, self._device.cupy
        queries, keys = (w.batch, w.num_heads, w.seq_len, w.head_dim), (w.batch, w.num_kv_heads, w.seq_len, w.head_dim)
        tiling(self._variant.title, w.head_dim, w.dtype)  # refuses before anything is allocated
        arrays = tuple(cupy.empty(shape, STORED[w.dtype]) for shape in (queries, keys, keys, queries))
        for place, array in enumerate(arrays[:3]):
            self._device.fill_normal(array, w.dtype, 4 * seed + place)
        return arrays

    def _call(self, index: int) -> None:
        q, k, v, out = self._sets[index % len(self._sets)]
        self._device.call(self._variant, q, k, v, out, self._job.workload, self._params, self._scratch)

    def _add_sets(self, once: float) -> None:
        """More inputs, until one replay reads more than the cache holds; fewer when memory or time is short."""
        size = sum(array.nbytes for array in self._sets[0])
        wanted = -(-CACHE_MULTIPLE * self._device.cache_bytes // size)
        free = int(self._device.cupy.cuda.runtime.memGetInfo()[0])
        count = min(wanted, MOST_SETS, free // 4 // size, int(LONGEST_REPLAY_S / once))
        for index in range(1, count):
            self._sets.append(self._make_set(self._job.seed + index))
        self._device.stream.synchronize()

    def _capture(self, once: float) -> None:
        self._calls = max(len(self._sets), round(REPLAY_S / once))
        self._device.stream.begin_capture()
        try:
            for index in range(self._calls):
                self._call(index)
        finally:
            self._graph = self._device.stream.end_capture()

    def _warm(self) -> None:
        end = time.monotonic() + WARM_S
        while time.monotonic() < end:
            self._timed()

    def _timed(self, tick: Tick = lambda: None) -> float:
        stream = self._device.stream
        self._start.record(stream)
        if self._graph is None:
            self._call(0)
        else:
            self._graph.launch(stream)
        self._end.record(stream)
        while not self._end.done:
            tick()
            time.sleep(5e-5)
        elapsed_ms = float(self._device.cupy.cuda.get_elapsed_time(self._start, self._end))
        return elapsed_ms / 1e3 / self._calls

    def time_once(self, tick: Tick) -> float:
        """Seconds of one call, the mean over one replay. Raises: Interrupted, DeviceFault."""
        tick()

        def work() -> float:
            with self._device.stream:
                return self._timed(tick)

        return self._device.guarded(work)

    def peak_bytes(self, tick: Tick) -> int:
        """As counted during the first call, inputs and output included."""
        tick()
        return self._peak

    def provenance(self) -> dict[str, str]:
        facts = self._device.facts
        timing = f"events round a graph of {self._calls} calls" if self._graph is not None else "events round one call"
        return {
            "library": facts.library,
            "driver": facts.driver,
            "arch": facts.arch,
            "nvrtc": nvrtc.version(),
            "kernel": self._device.kernel_key(self._variant.name),
            **({"products": self._products} if self._products else {}),
            "timing": f"{timing}, {len(self._sets)} sets of inputs",
            "memory": "bytes asked of CuPy's allocator",
            "seed": str(self._job.seed),
        }

    def close(self) -> None:
        """Gives the memory back."""
        self._graph = None
        self._sets.clear()
        self._scratch = Scratch()
        self._device.release()

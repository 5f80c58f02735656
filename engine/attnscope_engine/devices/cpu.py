"""The processor: torch where it is installed, else numpy. Neither is imported before it is needed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import time
import tracemalloc
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from attnscope_engine import catalogue
from attnscope_engine.protocol import Ceilings, DeviceFacts, Dtype, Measure, Vitals, Workload
from attnscope_engine.variant import Params, Tick, Unsupported, Variant

SMALL = 128
MATRIX = 1024
"""Side of the square product that the matrix ceiling is taken from."""
COPY_BYTES = 128 << 20
EXPS = 1 << 16
"""Small enough for the caches: what is asked for is the exponential, not the memory."""
EXP_CALLS = 100
REPEATS = 5


class CpuDevice:
    """All threads of this machine's processor."""

    def __init__(self, library: str = "auto") -> None:
        """`library`: torch, numpy, or auto (torch when it is installed)."""
        has_torch = importlib.util.find_spec("torch") is not None
        self._library = ("torch" if has_torch else "numpy") if library == "auto" else library

    @cached_property
    def facts(self) -> DeviceFacts:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        name = processor_name()
        dtypes: tuple[Dtype, ...] = ("fp32", "bf16", "fp16") if self._library == "torch" else ("fp32", "fp16")
        return DeviceFacts(
            key=f"cpu:{name}:{threads}:{self._library}",
            kind="cpu",
            name=name,
            total_bytes=psutil.virtual_memory().total,
            threads=threads,
            dtypes=dtypes,
            library=f"{self._library} {metadata.version(self._library)}",
        )

    @cached_property
    def xp(self) -> Any:
        """The array library; imported here and nowhere earlier."""
        library = importlib.import_module(self._library)
        if self._library == "torch":
            library.set_num_threads(self.facts.threads)
        return library

    def vitals(self) -> Vitals:
        memory = psutil.virtual_memory()
        return Vitals(memory.available, memory.total)

    def clock_mhz(self) -> int:
        """0: a processor's clock is not one number, and reading it costs more than a short call."""
        return 0

    def calibrate(self, tick: Tick) -> Ceilings:
        """Best of a few: matrix product a dtype, copy (read + written), exponentials, an empty call."""
        xp = self.xp
        flops: dict[Dtype, float] = {}
        for dtype in self.facts.dtypes:
            one = self.random((SMALL, SMALL), dtype, 1)
            flops[dtype] = 2 * SMALL**3 / best(lambda one=one: xp.matmul(one, one), tick)
        large = self.random((MATRIX, MATRIX), "fp32", 1)
        flops["fp32"] = 2 * MATRIX**3 / best(lambda: xp.matmul(large, large), tick)
        # Where the library has no fast product in a dtype, the variants widen blocks to fp32 and run at its rate.
        flops = {dtype: max(rate, flops["fp32"]) for dtype, rate in flops.items()}
        block = self.random((COPY_BYTES // 4,), "fp32", 2)
        into = xp.empty_like(block)

        def copy() -> None:
            into[...] = block

        copied = best(copy, tick)
        some, values = block[:EXPS], xp.empty_like(block[:EXPS])
        exps = EXP_CALLS * EXPS / best(lambda: [xp.exp(some, out=values) for _ in range(EXP_CALLS)], tick)
        tiny = block[:1]
        launch = best(lambda: [xp.exp(tiny) for _ in range(200)], tick) / 200
        return Ceilings(self.facts.key, flops, 2 * COPY_BYTES / copied, exps, launch, time.time())

    def random(self, shape: tuple[int, ...], dtype: Dtype, seed: int) -> Any:
        """Seeded normal values in the array library's own type."""
        if self._library == "torch":
            torch = self.xp
            generator = torch.Generator().manual_seed(seed)
            kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
            return torch.randn(shape, generator=generator).to(kinds[dtype])
        import numpy as np

        values = np.random.default_rng(seed).standard_normal(shape, np.float32)
        return values if dtype == "fp32" else values.astype(np.float16)

    def prepare(self, job: Measure) -> CpuCall:
        """Raises: Unsupported, ValueError (parameters)."""
        if job.workload.dtype not in self.facts.dtypes:
            has = ", ".join(self.facts.dtypes)
            raise Unsupported(f"{job.workload.dtype} needs torch, which is not installed; this device has {has}.")
        variant, params = catalogue.resolved(job.choice, job.workload)
        return CpuCall(self, variant, params, job)


class CpuCall:
    """One variant on this processor, with its inputs in memory."""

    def __init__(self, device: CpuDevice, variant: Variant, params: Params, job: Measure) -> None:
        self._device, self._variant, self._params = device, variant, params
        self._workload: Workload = job.workload
        w = job.workload
        query, keys = (w.batch, w.num_heads, w.seq_len, w.head_dim), (w.batch, w.num_kv_heads, w.seq_len, w.head_dim)
        self._inputs: tuple[Any, ...] = tuple(
            device.random(shape, w.dtype, job.seed + i) for i, shape in enumerate((query, keys, keys))
        )

    def _run(self, tick: Tick) -> Any:
        xp = self._device.xp
        q, k, v = self._inputs
        if xp.__name__ != "torch":
            return self._variant.run_cpu(q, k, v, self._workload, self._params, xp, tick)
        with xp.inference_mode():
            return self._variant.run_cpu(q, k, v, self._workload, self._params, xp, tick)

    def time_once(self, tick: Tick) -> float:
        began = time.perf_counter()
        self._run(tick)
        return time.perf_counter() - began

    def peak_bytes(self, tick: Tick) -> int:
        """Inputs, plus the highest sum of what the library's allocator handed out during one call."""
        held = sum(int(x.nbytes) for x in self._inputs)
        return held + (self._torch_peak(tick) if self._device.xp.__name__ == "torch" else self._numpy_peak(tick))

    def _numpy_peak(self, tick: Tick) -> int:
        """Numpy tells its allocations to tracemalloc."""
        tracemalloc.start()
        try:
            self._run(tick)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def _torch_peak(self, tick: Tick) -> int:
        """From the allocator's own events, in their order: every block that torch asked for, scratch included."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            out = self._run(tick)
        del out
        events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        now = peak = 0
        for event in events:
            now += event.nbytes()
            peak = max(peak, now)
        return peak

    def provenance(self) -> dict[str, str]:
        facts = self._device.facts
        return {
            "library": facts.library,
            "threads": str(facts.threads),
            "method": "perf_counter round one call, same inputs, caches as they are",
            "memory": "highest sum of the allocator's blocks, inputs and output included",
            "system": platform.platform(),
        }

    def close(self) -> None:
        self._inputs = ()


def best(call: Any, tick: Tick) -> float:
    """Shortest of a few, in seconds: a ceiling is what can be reached."""
    times = []
    for _ in range(REPEATS):
        tick()
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def processor_name() -> str:
    """As the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()

"""The processor: torch where it is installed, loaded when the first call needs it, else numpy.

Starting costs milliseconds, since the engine says hello before it knows whether anything will be run.
"""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.metadata
import importlib.util
import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil

from attnscope_engine import catalogue
from attnscope_engine.attend import threads
from attnscope_engine.devices import DeviceFault
from attnscope_engine.devices.blas_threads import one_blas_thread
from attnscope_engine.devices.cpu_ceilings import ceilings
from attnscope_engine.devices.processor import processor_name
from attnscope_engine.devices.torch_memory import peak_of_torch
from attnscope_engine.protocol import Ceilings, DeviceFacts, Dtype, Measure, Vitals
from attnscope_engine.variant import Params, Tick, Unsupported, Variant

NUMPY_DTYPES: dict[Dtype, str] = {"fp32": "float32", "fp16": "float16"}
TORCH_DTYPES: dict[Dtype, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

PERIOD = 4_194_301
"""Random numbers drawn for inputs; longer ones repeat them. A prime, so that no two rows of a usual size are alike."""


class CpuDevice:
    """The processor of this machine. `library` is "torch" or "numpy"; None: torch where it is installed."""

    def __init__(self, library: str | None = None) -> None:
        self._library = library or ("torch" if importlib.util.find_spec("torch") else "numpy")

    @functools.cached_property
    def facts(self) -> DeviceFacts:
        name = processor_name()
        version = importlib.metadata.version(self._library)
        return DeviceFacts(
            key=f"cpu {name} {threads()} {self._library}",
            kind="cpu",
            name=name,
            total_bytes=psutil.virtual_memory().total,
            threads=threads(),
            dtypes=("fp32", "bf16", "fp16") if self._library == "torch" else ("fp32", "fp16"),
            library=f"{self._library} {version}",
        )

    def vitals(self) -> Vitals:
        """Free is what programs can still have without anything being swapped out."""
        memory = psutil.virtual_memory()
        return Vitals(memory.available, memory.total)

    def clock_mhz(self) -> int:
        """0: a processor's clock is not one number, and reading all of them takes longer than a short call."""
        return 0

    def calibrate(self, tick: Tick) -> Ceilings:
        """About half a second."""
        # of all cores: what blocks side by side reach together
        with self._computing() if self._library == "torch" else nullcontext():
            return ceilings(self.facts.key, self.facts.dtypes, self.xp, tick)

    @functools.cached_property
    def xp(self) -> Any:
        """The array library itself. Raises: DeviceFault when torch is installed but does not load."""
        try:
            library = importlib.import_module(self._library)
        except (ImportError, OSError) as error:
            text = f"{self._library} is installed but does not load ({error}): install it again, or remove it to use numpy"
            raise DeviceFault(text) from error
        if self._library == "torch":
            library.set_num_threads(threads())
        return library

    def prepare(self, job: Measure, tick: Tick = lambda: None) -> CpuPrepared:  # noqa: ARG002 making inputs takes no time
        """Raises: Unsupported, DeviceFault, ValueError for a choice that does not exist."""
        if job.workload.dtype not in self.facts.dtypes:
            others = " or ".join(self.facts.dtypes)
            raise Unsupported(f"{self._library} has no {job.workload.dtype}: choose {others}, or add torch (Help ▸ Add-ons)")
        variant, params = catalogue.resolved(job.choice, job.workload)
        with self._computing():
            inputs = _guarded(lambda: normal_inputs(job, self.xp))
        return CpuPrepared(self, variant, params, job, inputs)

    def _computing(self) -> AbstractContextManager[Any]:
        """Torch without the records that gradients need; NumPy with our threads instead of its library's."""
        mode: AbstractContextManager[Any] = self.xp.inference_mode() if self._library == "torch" else one_blas_thread()
        return mode


class CpuPrepared:
    """One call with its inputs in memory."""

    def __init__(self, device: CpuDevice, variant: Variant, params: Params, job: Measure, inputs: list[Any]) -> None:
        self._device, self._variant, self._params, self._job = device, variant, params, job
        self._inputs = inputs

    def output(self, tick: Tick) -> Any:
        """The call itself. Raises: Interrupted, Unsupported, DeviceFault (memory)."""
        q, k, v = self._inputs
        with self._device._computing():
            return _guarded(lambda: self._variant.run_cpu(q, k, v, self._job.workload, self._params, self._device.xp, tick))

    def time_once(self, tick: Tick) -> float:
        start = time.perf_counter()
        out = self.output(tick)
        elapsed = time.perf_counter() - start
        del out  # outside the time: a caller keeps its output
        return elapsed

    def peak_bytes(self, tick: Tick) -> int:
        measure_peak = _peak_of_numpy if self._device.xp.__name__ == "numpy" else peak_of_torch
        return int(sum(x.nbytes for x in self._inputs)) + measure_peak(lambda: self.output(tick), self._device.xp)

    def provenance(self) -> dict[str, str]:
        torch = self._device.xp.__name__ != "numpy"
        return {
            "library": self._device.facts.library,
            "threads": str(self._device.facts.threads),
            "timing": "wall clock of one call",
            "memory": "torch allocator" if torch else "tracemalloc",
            "inputs": f"normal, seed {self._job.seed}",
        }

    def close(self) -> None:
        self._inputs = []
        gc.collect(0)


def normal_inputs(job: Measure, xp: Any) -> list[Any]:
    """Q `(B, H, n, D)`, k and v `(B, G, n, D)`: standard normal numbers by `job.seed`, rounded to the workload's dtype."""
    import numpy as np  # here: it costs more than all else that happens before hello

    w = job.workload
    shapes = [(w.batch, heads, w.seq_len, w.head_dim) for heads in (w.num_heads, w.num_kv_heads, w.num_kv_heads)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    drawn = np.random.default_rng(job.seed).standard_normal(min(PERIOD, sum(sizes)), dtype=np.float32)
    if xp is np:
        numbers, dtype = drawn.astype(NUMPY_DTYPES[w.dtype]), np.dtype(NUMPY_DTYPES[w.dtype])
    else:
        dtype = getattr(xp, TORCH_DTYPES[w.dtype])
        numbers = xp.from_numpy(drawn).to(dtype)
    inputs = []
    begin = 0
    for shape, size in zip(shapes, sizes, strict=True):
        flat = xp.empty(size, dtype=dtype)
        _fill(flat, numbers, begin)
        inputs.append(flat.reshape(shape))
        begin += size
    return inputs


def _fill(flat: Any, numbers: Any, begin: int) -> None:
    """Copies `numbers`, repeated, into `flat`, from the number `begin` on."""
    done = 0
    while done < len(flat):
        at = (begin + done) % len(numbers)
        count = min(len(flat) - done, len(numbers) - at)
        flat[done : done + count] = numbers[at : at + count]
        done += count


def _guarded(call: Callable[[], Any]) -> Any:
    """Its result. Raises: DeviceFault in place of what numpy and torch raise when memory ends."""
    try:
        return call()
    except MemoryError as error:
        raise DeviceFault(f"Out of memory: {error}", kind="memory") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise DeviceFault("Out of memory: the system gave torch no more", kind="memory") from error


def _peak_of_numpy(call: Callable[[], Any], xp: Any) -> int:  # noqa: ARG001 same signature as `peak_of_torch`
    """Peak of bytes allocated by numpy during `call`, beyond those held before it."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        call()
        _, peak = tracemalloc.get_traced_memory()
        return int(peak) - int(before)
    finally:
        if not tracing:
            tracemalloc.stop()

"""The CUDA GPU. This file and its neighbours `cuda_*` are all that knows CuPy, which is imported when a device is made.

CuPy gives memory, streams, events and graphs. Kernels are compiled by ourselves (`nvrtc.py`), so nothing of CuPy is compiled
at run time and no CUDA headers are needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import catalogue, numerics
from attnscope_engine.cuda import DTYPE_CODE, STORED
from attnscope_engine.devices import cubins, cuda_faults, cuda_tensor_map, nvrtc
from attnscope_engine.devices.cuda_launch import Kernel
from attnscope_engine.devices.cuda_products import Cublas
from attnscope_engine.protocol import Ceilings, DeviceFacts, Dtype, Measure, Vitals, Workload
from attnscope_engine.variant import Params, Tick, Unsupported, Variant

T = TypeVar("T")


def _import_cupy() -> Any:
    """CuPy. In a frozen program it must be told where CUDA's libraries are, or it starts our own program to look for them."""
    bundle = getattr(sys, "_MEIPASS", "")
    if bundle:
        for name in ("cu13", "cuda_nvrtc"):
            if (Path(bundle) / "nvidia" / name).is_dir():
                os.environ.setdefault("CUDA_PATH", str(Path(bundle) / "nvidia" / name))
    import cupy
    import cupy.cuda

    return cupy


class Scratch:
    """Workspaces of a call, kept so that the same call again gets the same memory: what a captured graph needs."""

    def __init__(self) -> None:
        self._arrays: list[Any] = []
        self._values: dict[int, NDArray[Any]] = {}
        """What was copied to the device, by place."""
        self._next = 0

    def restart(self) -> None:
        """The next `take` is the first of a call."""
        self._next = 0

    def take(self, shape: tuple[int, ...], dtype: str, make: Callable[[tuple[int, ...], str], Any]) -> Any:
        """The workspace at this place of the call, made when it is new or was of another shape."""
        place = self._next
        self._next += 1
        self._values.pop(place, None)
        if place == len(self._arrays):
            self._arrays.append(make(shape, dtype))
        elif self._arrays[place].shape != shape or self._arrays[place].dtype != np.dtype(dtype):
            self._arrays[place] = make(shape, dtype)
        return self._arrays[place]

    def keep(self, values: NDArray[Any], make: Callable[[tuple[int, ...], str], Any]) -> Any:
        """These values at this place of the call, copied when the place held others: not while a call is repeated."""
        place = self._next
        held = self._values.get(place)
        array = self.take(values.shape, values.dtype.name, make)
        if held is not values and not (held is not None and held.dtype == values.dtype and np.array_equal(held, values)):
            array.set(values)
        self._values[place] = values
        return array


class CudaDevice:
    """One GPU: `Device` of the package, and what `Variant.launch` asks for.

    With `portable` it takes only kernels that run on every card: what a benchmark compares the card's own with.

    Raises:
        DeviceFault: the driver, the card or NVRTC does not answer.
    """

    def __init__(self, cache: cubins.CubinCache | None = None, *, portable: bool = False) -> None:
        self.portable = portable
        self.cupy = _import_cupy()
        self._cache = cache or cubins.CubinCache()
        self._kernels: dict[tuple[str, str, tuple[str, ...]], Kernel] = {}
        self._modules: dict[str, Any] = {}
        self._scratch = Scratch()
        self._tick: Tick = lambda: None
        self._cublas: Cublas | None = None
        self.multiplied = False
        """Whether the last call used cuBLAS."""
        self._nvml: Any = None
        self.guarded(self._open)

    def _open(self) -> None:
        cupy = self.cupy
        self._properties = cupy.cuda.runtime.getDeviceProperties(0)
        major, minor = int(self._properties["major"]), int(self._properties["minor"])
        self.capability = (major, minor)
        self.multiprocessors = int(self._properties["multiProcessorCount"])
        self.shared_bytes = int(self._properties["sharedMemPerBlockOptin"])
        self.cache_bytes = int(self._properties["l2CacheSize"])
        self.stream = cupy.cuda.Stream(non_blocking=True)
        nvrtc.version()
        uuid = _uuid(self._properties, cupy)
        self._nvml = _nvml_handle(uuid)
        dtypes: tuple[Dtype, ...] = ("fp32", "bf16", "fp16") if major >= 8 else ("fp32", "fp16")
        self._facts = DeviceFacts(
            key=uuid,
            kind="cuda",
            name=_text(self._properties["name"]),
            total_bytes=int(self._properties["totalGlobalMem"]),
            arch=f"sm_{major}{minor}",
            driver=_driver_version(cupy),
            dtypes=dtypes,
            library=f"cupy {cupy.__version__}",
        )

    @property
    def facts(self) -> DeviceFacts:
        return self._facts

    def vitals(self) -> Vitals:
        """Memory that an allocation could get now (what CuPy holds unused counts as free), and the clock."""

        def read() -> Vitals:
            free, total = self.cupy.cuda.runtime.memGetInfo()
            pool = self.cupy.get_default_memory_pool()
            return Vitals(free_bytes=int(free) + int(pool.free_bytes()), total_bytes=int(total), clock_mhz=self.clock_mhz())

        return self.guarded(read)

    def clock_mhz(self) -> int:
        """Clock of the multiprocessors, 0 when NVML does not tell."""
        if self._nvml is None:
            return 0
        import pynvml

        try:
            return int(pynvml.nvmlDeviceGetClockInfo(self._nvml, pynvml.NVML_CLOCK_SM))
        except pynvml.NVMLError:
            return 0

    def throttle_reasons(self) -> int:
        """NVML's bits of why the clock is lower than it could be (`nvmlClocksEventReason…`), 0 for none or unknown."""
        if self._nvml is None:
            return 0
        import pynvml

        try:
            return int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._nvml))
        except pynvml.NVMLError:
            return 0

    def calibrate(self, tick: Tick) -> Ceilings:
        """Ceilings of this card. Raises: Interrupted, DeviceFault."""
        from attnscope_engine.devices.cuda_ceilings import ceilings

        return self.guarded(lambda: ceilings(self, tick))

    def prepare(self, job: Measure, tick: Tick = lambda: None) -> Any:
        """A call that is compiled, warm and on the device; `tick` is called while the compiler is at work.

        Raises: Unsupported, Interrupted (from `tick`), DeviceFault.
        """
        from attnscope_engine.devices.cuda_timing import PreparedCall

        self.check(job.workload)
        self._tick = tick
        try:
            return self.guarded(lambda: PreparedCall(self, job))
        finally:
            self._tick = lambda: None

    def run(
        self, variant: Variant, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: Params
    ) -> NDArray[np.float32]:
        """One call on arrays of the processor, rounded to `workload.dtype` on the way in.

        q `(B, H, N, D)`, k v `(B, G, M, D)` → `(B, H, N, D)` float32; of the workload only dtype and causal are looked at.

        Raises:
            Unsupported: this device can not run it.
            DeviceFault: it failed.
        """
        self.check(workload)

        def work() -> NDArray[np.float32]:
            with self.stream:
                inputs = [self.upload(x, workload.dtype) for x in (q, k, v)]
                out = self.cupy.empty(q.shape, STORED[workload.dtype])
                self.call(variant, inputs[0], inputs[1], inputs[2], out, workload, params, Scratch())
                return from_bits(out.get(), workload.dtype)

        return self.guarded(work)

    def check(self, workload: Workload) -> None:
        """Raises: Unsupported for a dtype that this card's tensor cores do not multiply."""
        if workload.dtype not in self._facts.dtypes:
            have = ".".join(map(str, self.capability))
            raise Unsupported(f"{workload.dtype} needs a GPU of compute capability 8.0, this one has {have}: set fp16 or fp32")

    # ---------------------------------------------------------------- for launches

    def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Kernel:
        """A kernel of `<stem>.cu`, compiled for these constants; from memory when it was before. Raises: CompileError."""
        name = (stem, entry, cubins.flags(defines))
        if name not in self._kernels:
            arch = cubins.architecture(self.capability, cubins.source_of(stem))
            cubin = self._cache.get(stem, arch, defines, self._tick)
            if cubin.key not in self._modules:
                module = self.cupy.cuda.function.Module()
                module.load(cubin.code)
                self._modules[cubin.key] = module
            from cupy_backends.cuda.api import driver

            function = self._modules[cubin.key].get_function(entry)
            self._kernels[name] = Kernel(function, driver.funcSetAttribute, self.cupy.ndarray, self.shared_bytes)
        return self._kernels[name]

    def kernel_key(self, stem: str) -> str:
        """Hash of the kernels of `stem` compiled so far: the same text for the same architecture and compiler has the same."""
        return cubins.key_of(cubins.source_of(stem), self._facts.arch, ())[:12]

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A workspace of the call that is being launched."""
        return self._scratch.take(shape, dtype, self.cupy.empty)

    def constant(self, values: NDArray[Any]) -> Any:
        """A small array of the call that is being launched, contiguous, with these values; copied before anything is timed."""
        return self._scratch.keep(values, self.cupy.empty)

    def multiply(self, left: Any, right: Any, out: Any, dtype: Dtype, scale: float, transposed: bool) -> None:
        """Scale · left · right into `out`, as `Cublas.multiply` says. Raises: Unsupported (not installed), DeviceFault."""
        self.multiplied = True
        self.cublas.multiply(left, right, out, dtype, scale, transposed)

    @property
    def cublas(self) -> Cublas:
        """Made when first asked for. Raises: Unsupported, DeviceFault."""
        if self._cublas is None:
            self._cublas = Cublas(self.cupy, self.capability)
        return self._cublas

    def tensor_map(self, array: Any, box_rows: int, dtype: Dtype) -> NDArray[np.void]:
        """How Hopper's copy engine finds tiles of `box_rows` rows in an array `(B, H, N, D)`. Raises: DeviceFault."""
        batch, heads, rows, columns = array.shape
        return cuda_tensor_map.encode(array.data.ptr, (batch * heads, rows, columns), box_rows, dtype)

    # ---------------------------------------------------------------- for the neighbours

    def call(
        self, variant: Variant, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: Params, scratch: Scratch
    ) -> None:
        """Launches once with the workspaces of `scratch`, on the current stream."""
        with self.holding(scratch):
            variant.launch(self, q, k, v, out, workload, params)

    @contextmanager
    def holding(self, scratch: Scratch) -> Iterator[None]:
        """Workspaces asked for inside are those of `scratch`, from its first on."""
        scratch.restart()
        self._scratch, self.multiplied = scratch, False
        try:
            yield
        finally:
            self._scratch = Scratch()

    def upload(self, x: NDArray[Any], dtype: Dtype) -> Any:
        """The array on the device, rounded to `dtype`."""
        bits = to_bits(x, dtype)
        array = self.cupy.empty(bits.shape, bits.dtype)
        array.set(bits)
        return array

    def fill_normal(self, array: Any, dtype: Dtype, seed: int) -> None:
        """Standard normal numbers, the same on every card."""
        pairs = array.size // 2
        kernel = self.kernel(cubins.DEVICE, "normal", {"DTYPE": DTYPE_CODE[dtype]})
        kernel((min(-(-pairs // 256), 32 * self.multiprocessors), 1, 1), 256, (array, np.int64(pairs), np.int64(seed)))

    def guarded(self, work: Callable[[], T]) -> T:
        """What `work` returns; CUDA's and the compiler's errors become `DeviceFault`, and memory is given back first.

        The fault is raised outside the handler: an exception that is being handled keeps the arrays of its frames alive.
        """
        try:
            return work()
        except cuda_faults.KNOWN as error:
            fault = cuda_faults.fault_of(error)
            if fault is None:
                raise
        if not fault.sticky:
            self.release()
        raise fault

    def release(self) -> None:
        """Gives unused memory back to the card."""
        self.cupy.get_default_memory_pool().free_all_blocks()


def parsed(job: Measure) -> tuple[Variant, Params]:
    """Raises: ValueError for a variant or parameter that does not exist."""
    return catalogue.resolved(job.choice, job.workload)


def to_bits(x: NDArray[Any], dtype: Dtype) -> NDArray[Any]:
    """The array as the device stores it: float32, or the bits of 16-bit floats rounded to nearest even."""
    if dtype == "fp32":
        return np.ascontiguousarray(x, dtype=np.float32)
    if dtype == "fp16":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(x, dtype=np.float16).view(np.uint16)
    bits: NDArray[Any] = (np.ascontiguousarray(numerics.rounded(x, "bf16")).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return bits


def from_bits(x: NDArray[Any], dtype: Dtype) -> NDArray[np.float32]:
    """The values that the device stored, as float32."""
    if dtype == "fp32":
        return x
    if dtype == "fp16":
        return x.view(np.float16).astype(np.float32)
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _uuid(properties: dict[str, Any], cupy: Any) -> str:
    raw = properties.get("uuid", b"")
    if isinstance(raw, bytes) and len(raw) >= 16:
        digits = raw[:16].hex()
        return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return f"GPU at {cupy.cuda.Device(0).pci_bus_id}"


def _nvml_handle(uuid: str) -> Any:
    """NVML's handle of the card, None where NVML is missing or does not know it."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return None


def _driver_version(cupy: Any) -> str:
    """Such as `580.159.04`, or the CUDA version that the driver knows."""
    try:
        import pynvml

        return _text(pynvml.nvmlSystemGetDriverVersion())
    except ImportError:
        pass
    except pynvml.NVMLError:
        pass
    version = int(cupy.cuda.runtime.driverGetVersion())
    return f"CUDA {version // 1000}.{version % 1000 // 10}"

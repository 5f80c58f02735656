"""The GPU of one run: its limits, its watch, and a cell raced on it. With torch and a GPU."""

from __future__ import annotations

import gc
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from attnscope_engine import __version__
from attnscope_engine.bench.contenders import Contender, Replayed
from attnscope_engine.bench.peers import why_not
from attnscope_engine.bench.race import race
from attnscope_engine.bench.results import OURS, Absent, Cell, Limits, Report, Row, Timing
from attnscope_engine.devices import nvrtc
from attnscope_engine.devices.cuda import CudaDevice
from attnscope_engine.doctor import version_of

GEMM_SIZE = 8192
COPY_BYTES = 1 << 30
PACKAGES = (
    "cupy-cuda13x",
    "cupy-cuda12x",
    "triton",
    "flash-attn",
    "flash-attn-3",
    "flash-attn-4",
    "fla-core",
    "flash-linear-attention",
    "nvidia-cudnn-cu13",
)

Make = Callable[[], Contender]
"""Makes a contender. Raises: CanNotRun, and whatever its library raises."""

Difference = Callable[[Any, Any], tuple[float, float]]
"""How far the first output is from the second, and how far rounding alone may take it."""

R = TypeVar("R", bound=Report[Any])


class Machine:
    """torch and our device in one process. Raises, when made: DeviceFault."""

    def __init__(self, torch: Any, budget_s: float) -> None:
        self.torch, self._budget_s = torch, budget_s
        torch.set_grad_enabled(False)
        self.device = CudaDevice()
        self.portable = CudaDevice(portable=True)
        self._throttle_bits = 0

    def _watch(self) -> int:
        self._throttle_bits |= self.device.throttle_reasons()
        return self.device.clock_mhz()

    def provenance(self, stems: Sequence[str]) -> dict[str, str]:
        """Device, driver, libraries, the product's own version, the kernels of `stems`, and when."""
        torch, facts = self.torch, self.device.facts
        found = {
            "device": facts.name,
            "key": facts.key,
            "driver": facts.driver,
            "cuda": str(torch.version.cuda),
            "nvrtc": nvrtc.version(),
            "cublas": self.device.cublas.version,
            "torch": str(torch.__version__),
            "cudnn": str(torch.backends.cudnn.version()),
            "cupy": str(self.device.cupy.__version__),
            "attnscope": __version__,
            "commit": commit(),
            "kernels": ", ".join(f"{name} {self.device.kernel_key(name)}" for name in stems),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "timing": "CUDA graphs, contenders in turns, median of replays",
            "numbers": "random normal, sets of inputs together at least 5 times the cache",
        }
        return {**found, **{name: version for name in PACKAGES if (version := version_of(name))}}

    def limits(self, before: Limits) -> Limits:
        """One more reading of each."""
        torch = self.torch
        a, b = (torch.randn(GEMM_SIZE, GEMM_SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        product = torch.empty_like(a)
        source = torch.randn(COPY_BYTES // 4, device="cuda")
        target = torch.empty_like(source)
        works: list[Callable[[int], Any]] = [
            lambda _: torch.matmul(a, b, out=product),
            lambda _: torch.matmul(a, b, out=product),
            lambda _: target.copy_(source),  # the driver's copy
            lambda _: torch.neg(source, out=target),  # a kernel's, which may be faster
        ]
        first, second, *copies = (timing.time_s for timing in self.raced([("limit", work) for work in works]))
        return Limits(
            (*before.gemm_flops_per_s, 2 * GEMM_SIZE**3 / min(first, second)),
            (*before.copy_bytes_per_s, 2 * COPY_BYTES / min(copies)),
            (*before.same_twice, max(first, second) / min(first, second) - 1),
        )

    def raced(self, calls: Sequence[tuple[str, Callable[[int], Any]]]) -> list[Timing]:
        """Calls on one set of inputs, in turns."""
        return race([Replayed(self.torch, name, call, 1, self._watch) for name, call in calls], self._budget_s)

    def row(self, cell: Cell, sets: int, ours: Make, peers: Sequence[tuple[str, Make]], difference: Difference) -> Row[Cell]:
        """All contenders of a cell on `sets` sets of inputs: compiled and warm, compared once, then timed in turns."""
        self._throttle_bits = 0
        runners, absent = [], []
        outputs: dict[str, Any] = {}
        against, apart, allowed = "", None, 0.0
        for name, make in ((OURS, ours), *peers):
            found, why = why_not(partial(self._runner, make, sets))
            self.torch.cuda.synchronize()  # a fault that broke the card ends the run here
            if why:
                absent.append(Absent(name, why))
                continue
            runner, out = found
            runners.append(runner)
            if name == OURS:
                outputs[OURS] = out
            elif out is not None and OURS in outputs and apart is None:
                against = name
                apart, allowed = difference(outputs[OURS], out)
        timings = {timing.name: timing for timing in race(runners, self._budget_s)}
        return Row(
            cell=cell,
            ours=timings.pop(OURS, None),
            peers=tuple(timings.values()),
            absent=tuple(absent),
            input_sets=sets,
            against=against,
            difference=apart if apart is not None and math.isfinite(apart) else None,
            allowed=allowed,
            wrong=apart is not None and not apart <= allowed,
            throttle_bits=self._throttle_bits,
        )

    def _runner(self, make: Make, sets: int) -> tuple[Replayed, Any]:
        """And what the contender computes of the first set."""
        contender = make()
        out = contender.first()
        self.torch.cuda.synchronize()
        extra = contender.extra_bytes()
        self.torch.cuda.synchronize()
        return Replayed(self.torch, contender.name, contender.call, sets, self._watch, extra), out

    def release(self) -> None:
        """Memory of the last cell goes back to the card."""
        gc.collect()
        self.torch.cuda.synchronize()
        self.torch.cuda.empty_cache()
        self.device.release()


def commit() -> str:
    """Of the checkout that this file is in, empty where it is none."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def reports(report: R, limits: Callable[[Limits], Limits], parts: Sequence[Callable[[R], R]]) -> Iterator[R]:
    """The report with the machine's limits, then after each part, the last one finished."""
    began = time.monotonic()
    report = replace(report, limits=limits(report.limits))
    yield report
    for part in parts:
        report = replace(part(report), seconds=time.monotonic() - began)
        yield report
    yield replace(report, limits=limits(report.limits), seconds=time.monotonic() - began, finished=True)

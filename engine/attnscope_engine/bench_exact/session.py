"""One run: the machine's limits, every cell, the steps of Naive. With torch and a GPU."""

from __future__ import annotations

import gc
import math
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from attnscope_engine import __version__
from attnscope_engine.bench_exact.cells import TOKENS, WIDTH, Cell
from attnscope_engine.bench_exact.contenders import Ours, Replayed, Theirs, difference
from attnscope_engine.bench_exact.peers import Peer, peers_of, why_not
from attnscope_engine.bench_exact.race import race
from attnscope_engine.bench_exact.results import OURS, Absent, Limits, Report, Row, Steps
from attnscope_engine.bench_exact.tensors import Tensors, input_sets, on_torchs_stream
from attnscope_engine.devices import nvrtc
from attnscope_engine.devices.cuda import CudaDevice, Scratch
from attnscope_engine.doctor import version_of
from attnscope_engine.variants import softmax_naive

GEMM_SIZE = 8192
COPY_BYTES = 1 << 30
PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "triton", "flash-attn", "flash-attn-3", "flash-attn-4", "nvidia-cudnn-cu13")


class Session:
    """torch and our device in one process. Raises, when made: DeviceFault."""

    def __init__(self, torch: Any, budget_s: float) -> None:
        self._torch, self._budget_s = torch, budget_s
        torch.set_grad_enabled(False)
        self._device = CudaDevice()
        self._portable = CudaDevice(portable=True)
        self._throttle_bits = 0

    def _watch(self) -> int:
        self._throttle_bits |= self._device.throttle_reasons()
        return self._device.clock_mhz()

    def provenance(self) -> dict[str, str]:
        """Device, driver, libraries, the product's own version, and when."""
        torch, facts = self._torch, self._device.facts
        found = {
            "device": facts.name,
            "key": facts.key,
            "driver": facts.driver,
            "cuda": str(torch.version.cuda),
            "nvrtc": nvrtc.version(),
            "cublas": self._device.cublas.version,
            "torch": str(torch.__version__),
            "cudnn": str(torch.backends.cudnn.version()),
            "cupy": str(self._device.cupy.__version__),
            "attnscope": __version__,
            "commit": commit(),
            "kernels": ", ".join(f"{name} {self._device.kernel_key(name)}" for name in ("softmax_tiled", "sliding_window")),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "timing": "CUDA graphs, contenders in turns, median of replays",
            "numbers": "random normal, sets of inputs together at least 5 times the cache",
        }
        return {**found, **{name: version for name in PACKAGES if (version := version_of(name))}}

    def limits(self, before: Limits) -> Limits:
        """One more reading of each."""
        torch = self._torch
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
        runners = [Replayed(torch, "limit", work, 1, self._watch) for work in works]
        first, second, *copies = (timing.time_s for timing in race(runners, self._budget_s))
        return Limits(
            (*before.gemm_flops_per_s, 2 * GEMM_SIZE**3 / min(first, second)),
            (*before.copy_bytes_per_s, 2 * COPY_BYTES / min(copies)),
            (*before.same_twice, max(first, second) / min(first, second) - 1),
        )

    def row(self, cell: Cell) -> Row:
        """All contenders of a cell: compiled and warm, compared once, then timed in turns."""
        row = self._row(cell)
        self._release()
        return row

    def _row(self, cell: Cell) -> Row:
        torch = self._torch
        self._throttle_bits = 0
        count = input_sets(cell, self._device.cache_bytes)
        sets = [Tensors(torch, cell, seed) for seed in range(count)]
        runners, absent = [], []
        ours, why = why_not(lambda: self._our_runner(cell, sets))
        if why:
            absent.append(Absent(OURS, why))
        else:
            runners.append(ours)
        against, apart, allowed = "", None, 0.0
        for peer in peers_of(cell):
            theirs, why = why_not(partial(self._their_runner, peer, cell, sets))
            torch.cuda.synchronize()  # a fault that broke the card ends the run here
            if why:
                absent.append(Absent(peer.name, why))
                continue
            runner, out = theirs
            runners.append(runner)
            if ours is not None and apart is None:
                against = peer.name
                apart, allowed = difference(torch, cell, sets[0].out, out)
        timings = {timing.name: timing for timing in race(runners, self._budget_s)}
        return Row(
            cell=cell,
            ours=timings.pop(OURS, None),
            peers=tuple(timings.values()),
            absent=tuple(absent),
            input_sets=count,
            against=against,
            difference=apart if apart is not None and math.isfinite(apart) else None,
            allowed=allowed,
            wrong=apart is not None and not apart <= allowed,
            throttle_bits=self._throttle_bits,
        )

    def _our_runner(self, cell: Cell, sets: list[Tensors]) -> Replayed:
        device = self._portable if cell.group == "portable" else self._device
        ours = Ours(self._torch, device, cell, sets)
        extra = ours.extra_bytes()  # the first call, which compiles
        self._torch.cuda.synchronize()
        return Replayed(self._torch, OURS, ours.call, len(sets), self._watch, extra)

    def _their_runner(self, peer: Peer, cell: Cell, sets: list[Tensors]) -> tuple[Replayed, Any]:
        """And what the peer computes of the first set."""
        theirs = Theirs(self._torch, peer, cell, sets)
        out = theirs.output()  # the first call, which compiles
        self._torch.cuda.synchronize()
        extra = theirs.extra_bytes()
        return Replayed(self._torch, peer.name, theirs.call, len(sets), self._watch, extra), out

    def naive(self, cell: Cell) -> Steps:
        """The three steps of Naive, each as a graph of its own, and all of them."""
        found = self._naive(cell)
        self._release()
        return found

    def _naive(self, cell: Cell) -> Steps:
        torch, device = self._torch, self._device
        tensors, scratch = Tensors(torch, cell, 0), Scratch()
        q, k, v, out = tensors.seen_by(device.cupy, torch)
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
        runners = [Replayed(torch, name, call, 1, self._watch) for name, call in calls.items()]
        *apart, together = race(runners, self._budget_s)
        return Steps(cell, together, tuple(apart))

    def _release(self) -> None:
        gc.collect()
        self._torch.cuda.synchronize()
        self._torch.cuda.empty_cache()
        self._device.release()


def naive_cells(quick: bool) -> list[Cell]:
    """At the common size of a call."""
    heads = WIDTH // 128
    lengths = (4096,) if quick else (4096, 8192)
    return [Cell("grid", "bf16", TOKENS // n, heads, heads, n, n, 128, causal) for n in lengths for causal in (False, True)]


def commit() -> str:
    """Of the checkout that this file is in, empty where it is none."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def reports(session: Session, cells: list[Cell], quick: bool) -> Iterator[Report]:
    """The report after each part, the last one finished."""
    began = time.monotonic()
    report = Report(session.provenance())
    report = replace(report, limits=session.limits(report.limits))
    yield report
    for cell in cells:
        report = replace(report, rows=(*report.rows, session.row(cell)), seconds=time.monotonic() - began)
        yield report
    for cell in naive_cells(quick):
        report = replace(report, naive=(*report.naive, session.naive(cell)), seconds=time.monotonic() - began)
        yield report
    limits = session.limits(report.limits)
    yield replace(report, limits=limits, seconds=time.monotonic() - began, finished=True)

"""What a run found, what follows from it, and its file. Pure."""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct

OURS = "ours"

THROTTLE = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}
"""NVML's `nvmlClocksEventReason…` bits that make a number uncertain; the others (idle, settings) do not."""

SAME_CLOCK = 0.03


class Named(Protocol):
    """A cell: what is timed, by a name that a person reads."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...


Cell = TypeVar("Cell", bound=Named)


class Timing(Struct, frozen=True):
    """One contender in one cell, or one step by itself."""

    name: str
    time_s: float
    """Median of the replays, a call."""
    p20_s: float
    p80_s: float
    replays: int
    calls: int
    """Of one replay."""
    clock_mhz: int
    """Median under load, 0 when unknown."""
    extra_bytes: int = 0
    """Device memory that a call takes beside its inputs and output, as its allocator counts it."""


class Absent(Struct, frozen=True):
    """One contender that could not run a cell, and why, in short."""

    name: str
    why: str


class Row(Struct, Generic[Cell], frozen=True):
    """One cell."""

    cell: Cell
    ours: Timing | None
    peers: tuple[Timing, ...] = ()
    absent: tuple[Absent, ...] = ()
    input_sets: int = 1
    against: str = ""
    """The peer whose output ours was compared with."""
    difference: float | None = None
    """Of two outputs, as the benchmark measures it; None when nothing else ran, or when ours was not finite (`wrong`)."""
    allowed: float = 0.0
    wrong: bool = False
    throttle_bits: int = 0

    @property
    def best(self) -> Timing | None:
        return min(self.peers, key=lambda peer: peer.time_s, default=None)

    @property
    def ratio(self) -> float | None:
        """Time of the best peer over ours: above 1 ours is faster."""
        return self.best.time_s / self.ours.time_s if self.best and self.ours else None

    @property
    def throttled(self) -> tuple[str, ...]:
        return tuple(name for bit, name in THROTTLE.items() if self.throttle_bits & bit)

    @property
    def clocks_differ(self) -> bool:
        """Whether contenders ran at clocks more than 3 % apart."""
        known = [timing.clock_mhz for timing in (self.ours, *self.peers) if timing and timing.clock_mhz]
        return bool(known) and max(known) - min(known) > SAME_CLOCK * max(known)


class Limits(Struct, frozen=True):
    """What this machine reached in this run, before the first cell and after the last."""

    gemm_flops_per_s: tuple[float, ...] = ()
    """8192³ bf16 by torch.matmul."""
    copy_bytes_per_s: tuple[float, ...] = ()
    """Read and written both counted; the faster of the driver's copy and a kernel's."""
    same_twice: tuple[float, ...] = ()
    """By how much the same product differed from itself, timed as two contenders: what a ratio is good for."""


class Report(Struct, Generic[Cell], frozen=True):
    """A run, whole or so far."""

    provenance: dict[str, str]
    limits: Limits = Limits()
    rows: tuple[Row[Cell], ...] = ()
    seconds: float = 0.0
    finished: bool = False

    @property
    def wrong(self) -> list[str]:
        """Names of the cells whose outputs differ by more than rounding."""
        return [row.cell.name for row in self.rows if row.wrong]


def ratios(report: Report[Cell], group: str) -> list[float]:
    """Of every cell of the group that ours and a peer ran."""
    return [row.ratio for row in report.rows if row.cell.group == group and row.ratio is not None]


def least_and_median(values: list[float]) -> tuple[float, float] | None:
    return (min(values), statistics.median(values)) if values else None


def encoded(report: Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def write(report: Struct, path: Path) -> None:
    """The file whole or as it was before. Raises: OSError."""
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=path.resolve().parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(encoded(report))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

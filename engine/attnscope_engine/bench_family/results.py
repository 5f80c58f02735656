"""What a run of the family found beside ratios, and its file. Pure."""

from __future__ import annotations

import statistics

import msgspec

from attnscope_engine.bench import results
from attnscope_engine.bench.results import Limits, Timing
from attnscope_engine.bench_family.cells import Cell

DENSE_NAME = "dense Flash"

ALLOWED = 0.02
"""Root mean square of the difference of two outputs over that of the peer's. Each is within some roundings of 2^-8 of the truth
(states, weights and outputs are rounded to bf16 on the way); what is computed wrongly is off by a tenth and more."""


class Row(results.Row[Cell], frozen=True):
    """One cell. `difference` is the root mean square of ours less the peer's, over that of the peer's."""

    density: float | None = None
    """Share of the causal pairs that a mask lets through; None for what is no softmax, or where we have no such variant."""
    dense: Timing | None = None
    """Our attention without the mask, in the same turns."""

    @property
    def flops(self) -> int | None:
        """Of the pairs that the mask lets through."""
        return None if self.density is None else round(self.density * self.cell.dense_flops)

    @property
    def of_dense(self) -> float | None:
        """Our time over what the dense call would take for so many pairs: 1 when a mask costs nothing."""
        if self.ours is None or self.dense is None or not self.density:
            return None
        return self.ours.time_s / (self.density * self.dense.time_s)


class Report(results.Report[Cell], frozen=True):
    """A run, whole or so far."""

    rows: tuple[Row, ...] = ()


def multiple(cell: Cell, timing: Timing, limits: Limits) -> float | None:
    """Time over the byte floor: bytes of inputs and output once, at the best rate of a copy in this run. None without a rate."""
    if not limits.copy_bytes_per_s:
        return None
    return timing.time_s * max(limits.copy_bytes_per_s) / cell.floor_bytes


def with_dense(found: results.Row[Cell], density: float | None) -> Row:
    """The row with our dense call taken out of the peers."""
    fields = {field: getattr(found, field) for field in found.__struct_fields__}
    fields["peers"] = tuple(peer for peer in found.peers if peer.name != DENSE_NAME)
    dense = next((peer for peer in found.peers if peer.name == DENSE_NAME), None)
    return Row(**fields, density=density, dense=dense)


def worst_and_median(values: list[float]) -> tuple[float, float] | None:
    return (max(values), statistics.median(values)) if values else None


def decoded(data: bytes) -> Report:
    """Raises: msgspec.ValidationError, msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Report)

"""What a variant is: one stem in `variants/`, described by one frozen record.

A variant's Python file imports neither torch nor cupy. `run_cpu` gets its array library as `xp`, `launch` gets the CUDA
device, so the window can import every variant for its parameters, formula and cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from attnscope_engine.cost import Cost
from attnscope_engine.protocol import Choice, DeviceKind, Dtype, ParamValues, Workload
from attnscope_engine.scores import UNCHANGED, ScoreChange

if TYPE_CHECKING:
    from numpy.typing import NDArray

Family = Literal["softmax", "restricted", "linear"]
"""Exact softmax, softmax over fewer keys, linear and recurrent. Decides group and dash."""

Tick = Callable[[], None]
"""Called between chunks of a long CPU run; raises `Interrupted` when newer work waits."""


class Interrupted(Exception):
    """Raised by a tick: drop this repeat, newer work waits or the request was cancelled."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a variant. A variant without any uses this class itself."""


def param(
    low: int,
    high: int,
    *,
    unit: str,
    help: str,  # noqa: A002 the word that people look for
    label: str = "",
    scale: Literal["linear", "log2"] = "linear",
) -> Meta:
    """Declares one integer parameter: bounds, unit, help and slider in one place, checked on the wire as well."""
    return Meta(ge=low, le=high, description=help, extra={"unit": unit, "label": label, "scale": scale})


@dataclass(frozen=True, slots=True)
class ParamField:
    """One declared parameter, as a panel needs it."""

    name: str
    label: str
    low: int
    high: int
    default: int
    unit: str
    help: str
    scale: Literal["linear", "log2"]


class CudaDevice(Protocol):
    """What `launch` may ask of a GPU: see `devices/cuda.py`."""

    multiprocessors: int
    shared_bytes: int
    """Shared memory that a block may have."""

    def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any: ...
    def empty(self, shape: tuple[int, ...], dtype: str) -> Any: ...
    def multiply(self, left: Any, right: Any, out: Any, dtype: Dtype, scale: float, transposed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Variant:
    """An attention method."""

    name: str
    """The stem of its files."""
    title: str
    """As written on the screen, one word where possible."""
    family: Family
    order: int
    """Place in lists."""
    source: str
    """Authors year, section, arXiv id."""
    formula: str
    """One line, plain text."""
    params: type[Params]
    summary: Callable[[Any], str]
    """One short line under the title, such as "w 8,192 · sinks 4"."""
    resolve: Callable[[Workload, Any], Any]
    """Wishes to what is possible at this workload; idempotent."""
    cost: Callable[[Workload, Any, DeviceKind], Cost]
    reference: Callable[[NDArray[Any], NDArray[Any], NDArray[Any], Workload, Any], NDArray[Any]]
    """float64 truth, small n. q `(B, H, N, D)`, k v `(B, G, M, D)` → `(B, H, N, D)`."""
    run_cpu: Callable[[Any, Any, Any, Workload, Any, Any, Tick], Any]
    """`(q, k, v, workload, params, xp, tick)` → out, at the variant's own complexity in time and memory."""
    launch: Callable[[Any, Any, Any, Any, Any, Workload, Any], None]
    """`(device, q, k, v, out, workload, params)` on a CUDA device; raises `Unsupported`."""
    weights: Callable[[NDArray[Any], NDArray[Any], Workload, Any, NDArray[Any], int], NDArray[Any]]
    """`(q, k, workload, params, rows, head)`, q `(N, D)`, k `(M, D)` of ONE query head → its map A `(len(rows), M)`, float64.

    Pairs that the variant does not see are 0. `head` matters where heads differ by more than their q and k.
    """
    visible: Callable[[Workload, Any, NDArray[Any], NDArray[Any]], NDArray[Any]]
    """`(workload, params, rows, columns)` → bool `(len(rows), len(columns))`: which pairs the variant sees."""
    signed: bool = False
    """True when weights can be negative."""
    change: Callable[[Any], ScoreChange] = lambda params: UNCHANGED  # noqa: ARG005
    """`(params)` → what it does to scores before their softmax."""

    def parse(self, values: ParamValues) -> Params:
        """Checked parameters.

        Raises:
            ValueError: a name, type or range is wrong; the text names field, value and range.
        """
        try:
            return msgspec.convert(values, self.params)
        except msgspec.ValidationError as error:
            raise ValueError(f"{self.title}: {error}") from error

    def fields(self) -> tuple[ParamField, ...]:
        """The declaration, for panels, help texts and `attnscope variants`."""
        found = []
        for field in msgspec.structs.fields(self.params):
            meta = getattr(field.type, "__metadata__", (Meta(),))[0]
            extra = meta.extra or {}
            found.append(
                ParamField(
                    name=field.name,
                    label=extra.get("label") or field.name.replace("_", " "),
                    low=int(meta.ge or 0),
                    high=int(meta.le or 0),
                    default=int(field.default),
                    unit=extra.get("unit", ""),
                    help=meta.description or "",
                    scale=extra.get("scale", "linear"),
                )
            )
        return tuple(found)

    def choice(self, params: Params) -> Choice:
        """The wire form."""
        return Choice(self.name, msgspec.to_builtins(params))


class Unsupported(Exception):
    """A launch that this device or kernel can not do. The text names the limit and the nearest setting that works."""

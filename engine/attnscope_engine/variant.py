"""What a variant is: one stem in `variants/`, described by one frozen record.

A variant's Python file imports neither torch nor cupy. `run_cpu` gets its array library as `xp`, `launch` gets the CUDA
device, so the window can import every variant for its parameters, formula and cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from attnscope_engine.cost import Cost, kv_bytes
from attnscope_engine.parameters import ParamField, Params, RealField, fields_of, flag, one_of, param, real, what_is_wrong
from attnscope_engine.protocol import Choice, DeviceKind, Dtype, ParamValues, Workload
from attnscope_engine.scores import UNCHANGED, ScoreChange

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CudaDevice",
    "Family",
    "Interrupted",
    "ParamField",
    "Params",
    "Tick",
    "Unsupported",
    "Variant",
    "flag",
    "no_visible",
    "no_weights",
    "one_of",
    "param",
    "real",
]

Family = Literal["softmax", "restricted", "linear"]
"""Exact softmax, softmax over fewer keys, linear and recurrent. Decides group and dash."""

Tick = Callable[[], None]
"""Called between chunks of a long CPU run; raises `Interrupted` when newer work waits."""


class Interrupted(Exception):
    """Raised by a tick: drop this repeat, newer work waits or the request was cancelled."""


class CudaDevice(Protocol):
    """What `launch` may ask of a GPU: see `devices/cuda.py`."""

    multiprocessors: int
    shared_bytes: int
    """Shared memory that a block may have."""

    def kernel(self, stem: str, entry: str, defines: dict[str, int]) -> Any: ...
    def empty(self, shape: tuple[int, ...], dtype: str) -> Any: ...
    def constant(self, values: NDArray[Any]) -> Any: ...
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
    """`(q, k, workload, params, rows, head)` of ONE head, q `(N, D)`, k `(M, D)` → the exact map A `(len(rows), M)`, float64.

    Pairs that the variant does not see are 0. `head`, of `workload.num_heads`, matters where heads differ by more than q and k.
    """
    visible: Callable[[Workload, Any, NDArray[Any], NDArray[Any]], NDArray[Any]]
    """`(workload, params, rows, columns)` → bool `(len(rows), len(columns))`: which pairs the variant sees."""
    like: str = ""
    """Name of the parent whose colour and marker this takes, hollow; empty: its own, or grey."""
    signed: bool | Callable[[Any], bool] = False
    """True when weights can be negative; a function of the parameters where they decide."""
    normalised: bool | Callable[[Any], bool] = True
    """True when the weights of each row sum to 1 (a row that sees nothing: to 0)."""
    plain_softmax: bool = False
    """True when A is the softmax of Q Kᵀ·D^-½, changed as `change` says, over what `visible` says and nothing else.

    Maps are then drawn in float32.
    """
    change: Callable[[Any], ScoreChange] = lambda params: UNCHANGED  # noqa: ARG005
    """`(params)` → what it does to scores before their softmax."""
    mixes_heads: bool = False
    """True when a head's map depends on the keys of all key heads: `weights` then gets k `(G, M, D)`."""
    values: Callable[[NDArray[Any], Workload, Any, int], NDArray[Any]] | None = None
    """`(v, workload, params, head)`, v `(G, M, D)` → what a head's map multiplies, `(M, D)`; None: the v of its key head."""
    picks: bool = False
    """True when q and k decide which pairs are seen (top-k): a weight of exactly 0 is then a pair that is not seen."""
    sees_ahead: bool = False
    """True when a query of a causal call may see keys after its own: maps are then made over every column."""
    outside: str = ""
    """Where a key lies that is not seen though it is not after the query, such as "outside the window"."""
    block_size: Callable[[Any], int] | None = None
    """Tokens of the blocks that do not see each other, whose borders the map shows; None: there are none."""
    why_no_map: str = ""
    """Why there is no map A (the output is not linear in V), as one sentence; `weights` and `visible` are then never called.

    Such a variant gives `no_weights` and `no_visible` for them.
    """
    causal_only: str = ""
    """Why there is only a causal form, as one sentence that ends with the way out; empty: a full mask is possible too.

    A call with a full mask is then refused: `run_cpu` and `launch` raise `Unsupported`. `cost`, `reference`, `weights` and
    `visible` are those of a causal call whatever the workload says.
    """
    state_bytes: Callable[[Workload, Any], int] | None = None
    """`(workload, params)` → what one layer keeps after `seq_len` tokens for the tokens to come, bytes.

    None: K and V of every token. A variant of the linear family always says it.
    """

    def parse(self, values: ParamValues) -> Params:
        """Checked parameters.

        Raises:
            ValueError: a name, type or value is wrong; the text names field, value and what is allowed.
        """
        try:
            params = msgspec.convert(values, self.params)
        except msgspec.ValidationError as error:
            raise ValueError(f"{self.title}: {what_is_wrong(self.fields(), values) or error}") from error
        if _has_reals(self.params) and (wrong := what_is_wrong(self.fields(), values)):
            raise ValueError(f"{self.title}: {wrong}")
        return params

    def fields(self) -> tuple[ParamField, ...]:
        """The declaration, for panels, help texts and `attnscope variants`."""
        return _fields(self.params)

    def choice(self, params: Params) -> Choice:
        """The wire form."""
        return Choice(self.name, msgspec.to_builtins(params))

    def is_signed(self, params: Params) -> bool:
        """Whether weights can be negative with these parameters."""
        return self.signed if isinstance(self.signed, bool) else self.signed(params)

    def is_normalised(self, params: Params) -> bool:
        """Whether the weights of a row sum to 1 with these parameters."""
        return self.normalised if isinstance(self.normalised, bool) else self.normalised(params)

    def rows_of_map(
        self, q: NDArray[Any], k: NDArray[Any], workload: Workload, params: Params, rows: NDArray[Any], head: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Weights `(len(rows), M)` float64 and which pairs are seen, bool, of query head `head`; q `(N, D)`, k `(M, D)`.

        Of a variant that `mixes_heads`: k `(G, M, D)`.
        """
        import numpy as np  # here: the engine greets before it imports numpy

        weights = self.weights(q, k, workload, params, rows, head)
        seen = self.visible(workload, params, rows + k.shape[-2] - len(q), np.arange(k.shape[-2]))
        return weights, (seen & (weights != 0) if self.picks else seen)

    def kept_bytes(self, workload: Workload, params: Params) -> int:
        """What one layer keeps after `seq_len` tokens for the tokens to come."""
        if self.state_bytes is not None:
            return self.state_bytes(workload, params)
        return kv_bytes(workload, workload.seq_len)


def no_weights(*_: object) -> NDArray[Any]:
    """In the place of `weights` where there is no map."""
    raise LookupError("this variant has no map")


def no_visible(workload: Workload, params: Params, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG001
    """In the place of `visible` where there is no map."""
    raise LookupError("this variant has no map")


@cache
def _fields(params: type[Params]) -> tuple[ParamField, ...]:
    return fields_of(params)


@cache
def _has_reals(params: type[Params]) -> bool:
    """Whether to look again: to msgspec a NaN is within any bounds, and a real lies on no grid."""
    return any(isinstance(field, RealField) for field in _fields(params))


class Unsupported(Exception):
    """A launch that this device or kernel can not do. The text names the limit and the nearest setting that works."""

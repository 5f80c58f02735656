"""The engine as a plain library: call a variant, look at its map, measure it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnscope_engine import catalogue
from attnscope_engine.protocol import Choice, Dtype, Measure, Measured, ParamValue, Workload
from attnscope_engine.refusals import JobRefused
from attnscope_engine.variant import Variant


def variants() -> Mapping[str, Variant]:
    """Name → variant: its title, formula, source, parameters (`fields()`), cost, reference and map."""
    return catalogue.variants()


def attention(q: Any, k: Any, v: Any, *, variant: str = "softmax_tiled", causal: bool = True, **params: ParamValue) -> Any:
    """One attention call on the processor, at the variant's own complexity in time and memory.

    Args:
        q: `(B, H, N, D)`, or `(H, N, D)` for one sequence. A torch tensor, or what numpy makes an array of.
        k: `(B, G, M, D)` or `(G, M, D)`; G divides H, and query head h reads key head `h // (H // G)`.
        v: as k.
        variant: a name of `variants()`.
        causal: whether a query sees no key after its own; the last query stands at the last key.
        params: the variant's parameters, such as `window_size=1024`.

    Returns:
        out of q's shape: a tensor of q's dtype for a tensor, else a float32 array (float16 for float16).

    Raises:
        ValueError: a shape, a name or a parameter is wrong; the text says which and what is possible.
    """
    xp = sys.modules["torch"] if _is_tensor(q) else np
    arrays = [x if _is_tensor(x) else _as_floats(x) for x in (q, k, v)]
    if any(_is_tensor(x) != _is_tensor(q) for x in arrays):
        raise ValueError("q, k and v must be all torch tensors or all arrays")
    batched = [x.reshape(1, *x.shape) if x.ndim == 3 else x for x in arrays]
    workload = _workload(*(tuple(x.shape) for x in batched), causal=causal)
    found, resolved = catalogue.resolved(Choice(variant, params), workload)
    _check_mask(found, causal=causal)
    queries, keys, values = batched
    out = found.run_cpu(queries, keys, values, workload, resolved, xp, _never_stop)
    return out.reshape(arrays[0].shape)


def attention_map(
    q: ArrayLike,
    k: ArrayLike,
    *,
    variant: str = "softmax_tiled",
    causal: bool = True,
    rows: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    head: int = 0,
    num_heads: int = 1,
    num_kv_heads: int | None = None,
    **params: ParamValue,
) -> NDArray[np.float64]:
    """The map A of one head, for which out = A v, exactly.

    Args:
        q: `(N, D)`.
        k: `(M, D)`, or `(G, M, D)` of all key heads for a variant that mixes them (`mla`).
        variant: a name of `variants()`.
        causal: as in `attention`.
        rows: the queries asked for; None for all. A few rows of a long sequence cost a few rows.
        head: which query head this is, for variants whose heads differ by more than their q and k.
        num_heads: of how many.
        num_kv_heads: key heads that these share; None: each has its own.
        params: the variant's parameters.

    Returns:
        `(len(rows), M)` float64, pairs that the variant does not see 0. Of `Variant.signed` variants weights may be negative.

    Raises:
        ValueError: as `attention`, a row or a head that does not exist, or the variant has no map.
    """
    queries, keys = _as_floats(q), _as_floats(k)
    mixes = catalogue.find(variant).mixes_heads
    for name, array, wanted in (("q", queries, 2), ("k", keys, 3 if mixes else 2)):
        if array.ndim != wanted:
            raise ValueError(
                f"{name} must be {'(key heads, tokens, D)' if wanted > 2 else '(tokens, D) of one head'}, was {array.shape}"
            )
    if not 0 <= head < num_heads:
        raise ValueError(f"head must be 0 to {num_heads - 1}, was {head}")
    shared = (1, *keys.shape) if mixes else (1, num_heads if num_kv_heads is None else num_kv_heads, *keys.shape)
    workload = _workload((1, num_heads, *queries.shape), shared, shared, causal=causal)
    chosen = np.arange(len(queries)) if rows is None else np.asarray(rows, dtype=np.int64)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= len(queries)):
        raise ValueError(f"rows must be 0 to {len(queries) - 1}, were {chosen.min()} to {chosen.max()}")
    found, values = catalogue.resolved(Choice(variant, params), workload)
    _check_mask(found, causal=causal)
    if found.why_no_map:
        raise ValueError(found.why_no_map)
    return found.rows_of_map(queries, keys, workload, values, chosen, head)[0]


def measure(
    variant: str = "softmax_tiled",
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    budget_s: float = 0.5,
    workload: Workload | None = None,
    **params: ParamValue,
) -> Measured:
    """Time and peak memory of one forward call on this machine.

    Args:
        variant: a name of `variants()`.
        device: auto takes the GPU where there is one.
        budget_s: seconds to spend on repeats; at least 3 are taken.
        workload: shape, dtype and causal; None for `Workload()`.
        params: the variant's parameters.

    Returns:
        The median time, its spread, the peak of bytes held, and how they were had.

    Raises:
        JobRefused: it does not fit; `refusal` has the terms, what is free and the largest n that fits.
        ValueError: a name or a parameter is wrong.
        Unsupported, DeviceFault: the device can not run it, or failed.
    """
    from attnscope_engine import measure as measuring
    from attnscope_engine.devices.pick import pick

    picked, why_not = pick(device)
    if device == "cuda" and picked.facts.kind != "cuda":
        raise ValueError(why_not)
    shape = workload or Workload()
    vitals = picked.vitals()
    refusal = catalogue.admission(Choice(variant, params), shape, picked.facts.kind, vitals.free_bytes, vitals.total_bytes)
    if refusal is not None:
        raise JobRefused(refusal)
    job = Measure(shape, Choice(variant, params), budget_s=budget_s)
    return measuring.measure(picked, job, _never_stop, _tell_nobody)


def _check_mask(variant: Variant, *, causal: bool) -> None:
    """Raises: ValueError."""
    if variant.causal_only and not causal:
        raise ValueError(variant.causal_only)


def _never_stop() -> None:
    """A tick for which nothing newer ever waits."""


def _tell_nobody(done: float, text: str = "") -> None:
    """In the place of progress."""


def _is_tensor(x: Any) -> bool:
    """Whether `x` is torch's, without importing torch to ask."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _as_floats(x: ArrayLike) -> NDArray[Any]:
    array = np.asarray(x)
    return np.ascontiguousarray(array if array.dtype in (np.float16, np.float32) else array.astype(np.float32))


def _workload(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *, causal: bool) -> Workload:
    """The shape of a call, checked. Raises: ValueError."""
    for name, shape in (("q", q), ("k", k), ("v", v)):
        if len(shape) != 4:
            raise ValueError(f"{name} must have 3 or 4 axes, (B, heads, tokens, D), had {len(shape)}")
    if k != v:
        raise ValueError(f"v must have the shape of k, {k}, had {v}")
    if q[0] != k[0] or q[3] != k[3]:
        raise ValueError(f"k must have q's batch {q[0]} and head dim {q[3]}, had {k[0]} and {k[3]}")
    fields = {"batch": q[0], "seq_len": k[2], "num_heads": q[1], "num_kv_heads": k[1], "head_dim": q[3], "causal": causal}
    try:
        return msgspec.convert({**fields, "layers": 1, "dtype": get_args(Dtype)[0]}, Workload)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error

"""Decays and time steps derived from keys on a GPU by the formulas of `gates.py`: launches of `token_decays.cuh`, cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.cost import Step
from attnscope_engine.protocol import Dtype, Term, Workload

DECAYS, STEPS = 1, 2
"""As in `token_decays.cuh`."""

KEYS_OF_BLOCK = 8


def decays(device: Any, stem: str, k: Any, dtype: Dtype, half_life: int) -> Any:
    """Log α of each key: k `(B, G, M, D)` → fp32 `(B, G, M)`. D is even."""
    found = device.empty(k.shape[:3], "float32")
    _start(device, stem, DECAYS, (k, k, found, k), dtype, half_life)
    return found


def decays_and_steps(device: Any, stem: str, k: Any, v: Any, dtype: Dtype, half_life: int) -> tuple[Any, Any]:
    """As `decays`, and the values times Δ, `(B, G, M, D)` in `dtype`."""
    found, scaled = device.empty(k.shape[:3], "float32"), device.empty(k.shape, cuda.STORED[dtype])
    _start(device, stem, STEPS, (k, v, found, scaled), dtype, half_life)
    return found, scaled


def add_own_values(device: Any, stem: str, v: Any, out: Any, dtype: Dtype) -> None:
    """Out `(B, H, N, D)` += the value at each query's own key, v `(B, G, M, D)`."""
    (batch, heads, queries, width), (kv_heads, keys) = out.shape, v.shape[1:3]
    kernel = device.kernel(stem, "add_own_values", _defines(STEPS, dtype))
    sizes = tuple(np.int32(x) for x in (queries, keys, width, heads // kv_heads))
    kernel((cuda.blocks(queries * width, 512), heads, batch), 256, (v, out, *sizes))


def steps(workload: Workload, *, scaled: bool = False, own: bool = False) -> tuple[Step, ...]:
    """Of `decays`, or of `decays_and_steps`; and of `add_own_values`."""
    w = workload
    keys, outputs = w.batch * w.num_kv_heads * w.seq_len, w.batch * w.num_heads * w.seq_len * w.head_dim
    values = keys * w.head_dim
    moved = (3 if scaled else 1) * values * w.item_bytes + 4 * keys
    made = Step("gates", (5 if scaled else 4) * values, 2 * keys, moved)
    if not own:
        return (made,)
    return (made, Step("own values", outputs, 0, (2 * outputs + values) * w.item_bytes))


def held(workload: Workload, *, scaled: bool = False) -> tuple[Term, ...]:
    """What the calls above allocate."""
    w = workload
    keys = w.batch * w.num_kv_heads * w.seq_len
    made = Term("gates", "B·G·n·4", 4 * keys, "n")
    if not scaled:
        return (made,)
    return (made, Term("scaled values", f"B·G·n·D·{w.item_bytes}", keys * w.head_dim * w.item_bytes, "n"))


def _start(device: Any, stem: str, wanted: int, arrays: tuple[Any, ...], dtype: Dtype, half_life: int) -> None:
    batch, kv_heads, keys, width = arrays[0].shape
    kernel = device.kernel(stem, "decays_of_tokens", _defines(wanted, dtype))
    grid = (cuda.blocks(keys, KEYS_OF_BLOCK), kv_heads, batch)
    kernel(grid, 32 * KEYS_OF_BLOCK, (*arrays, np.int32(keys), np.int32(width), np.float32(1 / half_life)))


def _defines(wanted: int, dtype: Dtype) -> dict[str, int]:
    return {"DTYPE": cuda.DTYPE_CODE[dtype], "GATES": wanted}

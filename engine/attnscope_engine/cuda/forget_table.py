"""What each key adds to all scores with it in attention that forgets, on a GPU: gates, and their sums as a table.

`<stem>.cu` includes `token_decays.cuh` and `forget_table.cuh`. Imports no CuPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.cost import Step
from attnscope_engine.cuda import token_decays
from attnscope_engine.protocol import Dtype, Term, Workload

MARGIN = 256
"""Places before the first key and behind the last that kernels may read: rows and tiles reach past both ends."""

THREADS = 1024


def made(device: Any, stem: str, k: Any, dtype: Dtype, half_life: int) -> Any:
    """Of k `(B, G, M, D)` → fp32 `(B, G, stride_of(M))`: −log2(e)·Σ log α up to each key, and the end's values past the ends."""
    batch, kv_heads, keys, _ = k.shape
    decays = token_decays.decays(device, stem, k, dtype, half_life)
    table = device.empty((batch, kv_heads, stride_of(keys)), "float32")
    kernel = device.kernel(stem, "sum_of_decays", {"SUMS": 1})
    kernel((1, kv_heads, batch), THREADS, (decays, table, np.int32(keys), np.int32(stride_of(keys))))
    return table


def stride_of(keys: int) -> int:
    """Places of one head, an even number: kernels read two at a time."""
    return cuda.aligned(keys) + 2 * MARGIN


def held(workload: Workload) -> tuple[Term, ...]:
    """What `made` allocates."""
    w = workload
    heads = w.batch * w.num_kv_heads
    return (
        *token_decays.held(w),
        Term("sums of gates", f"B·G·(⌈n/8⌉·8 + {2 * MARGIN})·4", 4 * heads * stride_of(w.seq_len), "n"),
    )


def step(workload: Workload) -> Step:
    """Summing the gates."""
    keys = workload.batch * workload.num_kv_heads * workload.seq_len
    return Step("sums of gates", keys, 0, 8 * keys)

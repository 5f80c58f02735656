"""Gates, write strengths and lengths derived from keys on a GPU, by the formulas of `attnscope_engine/gates.py`.

`<stem>.cu` includes `gates.cuh`. Imports no CuPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.protocol import Term, Workload

THREADS = 256
MOST_BLOCKS = 1024
"""Of one head: a block takes more keys where there are more."""

KEYS_OF_A_BLOCK = 64
"""At least, whatever head_dim is."""


@dataclass(frozen=True, slots=True)
class OfTokens:
    """What `of_tokens` made, float32 of the device, each `(B, G, M)`."""

    beta: Any
    """β_t, above 0 and below 1."""
    gates: Any | None
    """log α_t; None where no half-life was given."""
    lengths: Any
    """1/‖k_t‖, 1 for a key of zeros."""


def of_tokens(device: Any, stem: str, k: Any, workload: Workload, half_life: int | None) -> OfTokens:
    """One kernel. K `(B, G, M, D)` in `workload.dtype`, D ≤ 128. Allocates `held_of_tokens`."""
    shape = tuple(k.shape[:3])
    beta, lengths = device.empty(shape, "float32"), device.empty(shape, "float32")
    gates = None if half_life is None else device.empty(shape, "float32")
    rate = np.float32(0.0 if half_life is None else 1 / half_life)
    tensors = (k, beta, beta if gates is None else gates, lengths)
    arguments = (*tensors, np.int32(k.shape[2]), np.int32(k.shape[3]), np.int32(gates is not None), rate)
    _start(device, stem, "token_gates", workload, shape, arguments)
    return OfTokens(beta, gates, lengths)


def of_channels(device: Any, stem: str, k: Any, workload: Workload, half_life: int) -> Any:
    """The logarithm of α_tc `(B, G, M, D)`: bf16 as its bits where k is 16-bit, else float32. K as of `of_tokens`.

    One kernel. Allocates `held_of_channels`.
    """
    gates = device.empty(tuple(k.shape), "float32" if workload.dtype == "fp32" else "uint16")
    root, rate = np.float32(k.shape[3] ** 0.5), np.float32(1 / half_life)
    _start(device, stem, "channel_gates", workload, k.shape, (k, gates, np.int32(k.shape[2]), np.int32(k.shape[3]), root, rate))
    return gates


def held_of_tokens(workload: Workload, gated: bool) -> Term:
    """β and lengths, and gates when `gated`."""
    w, count = workload, 3 if gated else 2
    name = "β, gates, lengths" if gated else "β, lengths"
    return Term(name, f"B·G·n·{count}·4", w.batch * w.num_kv_heads * w.seq_len * count * 4, "n")


def held_of_channels(workload: Workload) -> Term:
    """A gate for each channel of each key."""
    w = workload
    return Term("gates", f"B·G·n·D·{w.item_bytes}", w.batch * w.num_kv_heads * w.seq_len * w.head_dim * w.item_bytes, "n")


def _start(device: Any, stem: str, entry: str, workload: Workload, shape: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
    batch, kv_heads, keys = shape[:3]
    kernel = device.kernel(stem, entry, {"DTYPE": cuda.DTYPE_CODE[workload.dtype], "GATES_ONLY": 1})
    kernel((min(cuda.blocks(keys, KEYS_OF_A_BLOCK), MOST_BLOCKS), kv_heads, batch), THREADS, arguments)

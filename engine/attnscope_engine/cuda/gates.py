"""Gates, write strengths and lengths derived from keys on a GPU, by the formulas of `attnscope_engine/gates.py`.

`<stem>.cu` includes `gates.cuh`. Imports no CuPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attnscope_engine.protocol import Term, Workload


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
    """One kernel. K `(B, G, M, D)` in `workload.dtype`. Allocates `held_of_tokens`."""
    raise NotImplementedError


def of_channels(device: Any, stem: str, k: Any, workload: Workload, half_life: int) -> Any:
    """Log α_tc `(B, G, M, D)`: bf16 as its bits where k is 16-bit, else float32. One kernel. Allocates `held_of_channels`."""
    raise NotImplementedError


def held_of_tokens(workload: Workload, gated: bool) -> Term:
    """β and lengths, and gates when `gated`."""
    raise NotImplementedError


def held_of_channels(workload: Workload) -> Term:
    """A gate for each channel of each key."""
    raise NotImplementedError

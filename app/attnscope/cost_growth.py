"""How a variant's cost grows with n, read off its own exact cost of long calls. No Qt."""

from __future__ import annotations

import math

import msgspec
from attnscope_engine.protocol import MAX_SEQ_LEN, DeviceKind, Workload
from attnscope_engine.variant import Params, Variant


def growth(variant: Variant, params: Params, workload: Workload, on: DeviceKind) -> tuple[str, str]:
    """Operations and held bytes of a call as n grows: "n", "n log n", "n²", or "n^1.5" for what lies between."""
    first, last = (_at(variant, params, workload, on, n) for n in (MAX_SEQ_LEN // 2, MAX_SEQ_LEN))
    return _words(first[0], last[0]), _words(first[1], last[1])


def _at(variant: Variant, params: Params, workload: Workload, on: DeviceKind, seq_len: int) -> tuple[int, int]:
    long = msgspec.structs.replace(workload, seq_len=seq_len)
    cost = variant.cost(long, variant.resolve(long, params), on)
    return cost.flops, cost.held_bytes


def _words(at_half: int, at_end: int) -> str:
    ratio = at_end / at_half
    logs = math.log2(MAX_SEQ_LEN)
    known = {"n": 2.0, "n log n": 2 * logs / (logs - 1), "n²": 4.0}
    nearest = min(known, key=lambda words: abs(known[words] - ratio))
    return nearest if abs(known[nearest] - ratio) < 0.04 else f"n^{math.log2(ratio):.2g}"

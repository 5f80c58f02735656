"""What one attention call costs: operations and memory by named part, the time they predict, and whether they fit.

Pure arithmetic on Python integers, so n = 1,048,576 is as exact as n = 64. Used by the window (every slider tick) and by
the engine (admission before every launch): the number shown is the number decided by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnscope_engine.protocol import Ceilings, Dtype, Refusal, Term, Workload

RESERVE_FRACTION = 0.01
"""Share of the device's memory never planned with: contexts, other programs, fragmentation."""


@dataclass(frozen=True, slots=True)
class Step:
    """One pass over the data: its time is the largest of what its operations, exponentials and bytes need."""

    name: str
    flops: int
    """Operations, a multiply-add counting two."""
    exps: int
    bytes_moved: int
    """To and from device memory, each tensor once a pass (what a cache keeps is not counted twice)."""
    launches: int = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one forward call of one layer."""

    steps: tuple[Step, ...]
    held: tuple[Term, ...]
    """Everything alive at the peak, inputs and output included."""

    @property
    def flops(self) -> int:
        return sum(step.flops for step in self.steps)

    @property
    def bytes_moved(self) -> int:
        return sum(step.bytes_moved for step in self.steps)

    @property
    def held_bytes(self) -> int:
        return sum(term.bytes_ for term in self.held)


def tensor_term(workload: Workload) -> Term:
    """q, k, v and out, which every variant holds."""
    w = workload
    bytes_ = 2 * w.batch * (w.num_heads + w.num_kv_heads) * w.seq_len * w.head_dim * w.item_bytes
    return Term("q k v out", f"2·B·(H+G)·n·D·{w.item_bytes}", bytes_, "n")


def kv_bytes(workload: Workload, tokens: int) -> int:
    """K and V of so many tokens in one layer: what softmax keeps for the tokens to come."""
    w = workload
    return 2 * w.batch * w.num_kv_heads * tokens * w.head_dim * w.item_bytes


def lse_term(workload: Workload) -> Term:
    """One log-sum-exp a query, which a softmax that stores no map keeps."""
    return Term("LSE", "B·H·n·4", workload.batch * workload.num_heads * workload.seq_len * 4, "n")


def softmax_step(workload: Workload, pairs_of_head: int) -> Step:
    """Softmax attention in one pass over the pairs that a head sees: q, k, v read and out written once."""
    w = workload
    pairs = w.batch * w.num_heads * pairs_of_head
    return Step("attention", 4 * pairs * w.head_dim, pairs, tensor_term(w).bytes_)


def predict_time_s(cost: Cost, ceilings: Ceilings, dtype: Dtype) -> float:
    """Roofline bound: per step the slowest of matrix rate, exponentials and bytes, plus the launches; seconds."""
    total = 0.0
    for step in cost.steps:
        bound = max(
            step.flops / ceilings.flops_per_s.get(dtype, min(ceilings.flops_per_s.values())),
            step.exps / ceilings.exps_per_s,
            step.bytes_moved / ceilings.bytes_per_s,
        )
        total += bound + step.launches * ceilings.launch_s
    return total


def largest_seq_len(held_bytes: Callable[[int], int], budget: int, limit: int = 1 << 20) -> int:
    """Largest n, a multiple of 64 up to `limit`, whose `held_bytes(n)` is within `budget`; 0 if not even 64 fits."""
    if held_bytes(64) > budget:
        return 0
    low, high = 1, limit // 64
    while low < high:
        middle = (low + high + 1) // 2
        if held_bytes(middle * 64) <= budget:
            low = middle
        else:
            high = middle - 1
    return low * 64


def admit(
    title: str, name: str, workload: Workload, cost: Cost, held_bytes: Callable[[int], int], free_bytes: int, total_bytes: int
) -> Refusal | None:
    """None when the call fits in what is free less a reserve, else the refusal with its way out."""
    reserve = int(total_bytes * RESERVE_FRACTION)
    budget = max(0, free_bytes - reserve)
    if cost.held_bytes <= budget:
        return None
    largest = largest_seq_len(held_bytes, budget)
    terms = tuple(sorted(cost.held, key=lambda term: -term.bytes_))
    text = f"{title} does not fit at n = {workload.seq_len:,}"
    return Refusal(
        reason="memory",
        text=text,
        variant=name,
        seq_len=workload.seq_len,
        terms=terms,
        needed_bytes=cost.held_bytes,
        free_bytes=free_bytes,
        reserve_bytes=reserve,
        largest_seq_len=largest,
    )

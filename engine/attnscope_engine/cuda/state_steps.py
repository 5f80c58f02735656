"""What the kernels of the delta rule and of gated linear attention, and of their gates, compute and move. Pure arithmetic."""

from __future__ import annotations

from typing import Literal

from attnscope_engine.cost import Step
from attnscope_engine.cuda.linear import pairs_inside_chunks
from attnscope_engine.cuda.segments import CHUNK, cut_of_workload
from attnscope_engine.protocol import Term, Workload

Gates = Literal["", "token", "channel"]
"""None, one a token, one a token and channel."""


def of_gates(workload: Workload, gates: Gates, *, delta: bool) -> tuple[Step, ...]:
    """Of `gates.of_tokens` (for the delta rule) and `gates.of_channels`: keys are read, numbers written, by each."""
    w = workload
    keys = w.batch * w.num_kv_heads * w.seq_len
    numbers = keys * w.head_dim
    found = []
    if delta:
        made = 3 if gates == "token" else 2
        found.append(Step("β, lengths", (2 + 2 * made) * numbers, made * keys, numbers * w.item_bytes + 4 * made * keys))
    if gates == "channel":
        found.append(Step("gates", 4 * numbers, 2 * numbers, 2 * numbers * w.item_bytes))
    return tuple(found)


def of_states(workload: Workload, gates: Gates, held: tuple[Term, ...], *, delta: bool) -> tuple[Step, ...]:
    """Of `delta.attend` and `gla.attend`, which hold `held`. The delta rule with gates of channels goes token by token.

    Chunk by chunk a key is written into the state (under the delta rule after reading what the state answers) and a query read
    from it; the pairs of a chunk are multiplied, under the delta rule those of keys too, which are solved and go through values.
    """
    w = workload
    n, d = w.seq_len, w.head_dim
    heads, kv_heads = w.batch * w.num_heads, w.batch * w.num_kv_heads
    by_token = delta and gates == "channel"
    keys_alone = 2 * n * d * d * (2 if delta else 1)
    pairs = 0 if by_token else pairs_inside_chunks(n)
    if delta and not by_token:
        keys_alone += pairs * 4 * d + -(-n // CHUNK) * CHUNK**3 // 3
    flops = heads * (keys_alone + 2 * n * d * d + pairs * 4 * d)
    exps = heads * {"": 0, "token": n if by_token else 2 * pairs, "channel": (1 if by_token else 4) * n * d}[gates]
    of_keys = 2 * kv_heads * n * d * w.item_bytes
    of_gates = kv_heads * n * {"": 0, "token": 4, "channel": d * w.item_bytes}[gates]
    states = sum(term.bytes_ for term in held)
    outputs = Step("outputs", flops, exps, of_keys + of_gates + 2 * heads * n * d * w.item_bytes + states)
    segments = cut_of_workload(w).segments
    if segments == 1:
        return (outputs,)
    before = (segments - 1) / segments  # nothing comes after the last
    own = int(kv_heads * keys_alone * (2 if delta else 1) * before)
    found = Step(
        "states", own, int(exps * before * kv_heads / heads), int((of_keys + of_gates) * before) + 3 * states, launches=2
    )
    return (found, outputs)

"""How a call of linear attention is cut into chunks and segments, what it costs, and its launch. Pure arithmetic: imports no CuPy.

A head is one recurrence over its tokens, S ← e^g·S + φ(k)·vᵀ, out = scale · φ(q)·S, walked 64 tokens at a time. Where heads are too
few for a card, each head is cut into segments that are walked at the same time: a first kernel finds what each segment adds to the
state, a second carries the states from segment to segment, a third walks again with the state that its segment begins with.
Sources: Katharopoulos et al. 2020, arXiv 2006.16236; chunks: Yang et al. 2024, section 4, arXiv 2312.06635.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from attnscope_engine import cuda
from attnscope_engine.cost import Step
from attnscope_engine.protocol import Dtype, Term, Workload
from attnscope_engine.variant import Unsupported

Feature = Literal["identity", "elu", "relu", "relu2", "exp"]
"""φ, of q and of k: x, elu(x) + 1, max(x, 0), max(x, 0)², eˣ."""

FEATURE_CODE: dict[Feature, int] = {"identity": 0, "elu": 1, "relu": 2, "relu2": 3, "exp": 4}
"""As in `linear.cuh`."""

CHUNK = 64
"""Tokens between two updates of the state: pairs inside a chunk are computed, older ones are in the state."""

WIDEST = 128
"""head_dim up to which a state fits the registers of one block of threads."""

WANTED_BLOCKS = 132
"""Segments that fill a large card. A number of its own, not the card's: memory is predicted without asking the card."""

FULL_FROM = 0.7
"""Share of WANTED_BLOCKS from which heads alone reach the memory's bandwidth: a cut would only read keys and values twice."""

LEAST_CHUNKS = 4
"""Chunks of a segment at least: shorter ones cost more to start than they save."""

MOST_HEADS = 256
"""Of a call; decay per head travels by value in an array of this size."""

HEAD_VALUES = np.dtype(f"V{4 * MOST_HEADS}")
"""fp32 numbers of all heads as one kernel argument that is passed by value."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How the tokens of each head are cut. Segments are aligned so that one begins with the first query's own key."""

    chunks: int
    """Of a segment."""
    before: int
    """Segments of keys that come before the first query."""
    segments: int
    """Of the queries (causal), or of all keys."""

    @property
    def states(self) -> int:
        """States that a head keeps in memory: one for each segment, none when there is only one."""
        return self.before + self.segments if self.before + self.segments > 1 else 0


def cut(heads: int, queries: int, keys: int, causal: bool) -> Cut:
    """Segments that fill a card, where `heads` (B·H) alone do not; `queries` and `keys` of one head."""
    before = blocks_before(queries, keys) if causal else 0
    own = cuda.blocks(queries if causal else keys, CHUNK)
    wanted = 1
    if heads < FULL_FROM * WANTED_BLOCKS:
        wanted = max(1, min(WANTED_BLOCKS // heads, (before + own) // LEAST_CHUNKS))
    chunks = cuda.blocks(before + own, wanted)
    return Cut(chunks, cuda.blocks(before, chunks), cuda.blocks(own, chunks))


def blocks_before(queries: int, keys: int) -> int:
    """Chunks of keys before the first query of a causal call."""
    return cuda.blocks(max(0, keys - queries), CHUNK)


def width_of(head_dim: int) -> int:
    """head_dim as the kernels see it: padded with zeros to 64 or 128."""
    return 64 if head_dim <= 64 else 128


def state_heads(heads: int, kv_heads: int, decay_heads: int) -> int:
    """Heads with a state of their own: key heads, unless query heads that share one forget at different rates."""
    return kv_heads if decay_heads in (0, kv_heads) else heads


def state_floats(head_dim: int) -> int:
    """fp32 numbers kept of a state: width rows of width values, their normaliser, and its decay (and three unused)."""
    width = width_of(head_dim)
    return width * width + width + 4


def kept_states(workload: Workload, decay_heads: int = 0) -> tuple[int, ...]:
    """Shape of the states in memory, (0,) when there are none; `decay_heads`: heads of the decay, 0 without one."""
    w = workload
    found = cut(w.batch * w.num_heads, w.seq_len, w.seq_len, w.causal).states or int(not w.causal)
    return (w.batch * state_heads(w.num_heads, w.num_kv_heads, decay_heads), found, state_floats(w.head_dim))


def held(workload: Workload, decay_heads: int = 0) -> tuple[Term, ...]:
    """What `attend` allocates: states of segments, or nothing. A gate per token is the caller's own."""
    heads, states, floats = kept_states(workload, decay_heads)
    if not states:
        return ()
    width = width_of(workload.head_dim)
    return (Term("states", f"{heads:,}·{states}·({width}² + {width} + 4)·4", 4 * heads * states * floats, "n"),)


def steps(workload: Workload, *, normalised: bool, decay_heads: int = 0, feature: Feature = "identity") -> tuple[Step, ...]:
    """Operations, exponentials and bytes of `attend`'s kernels."""
    w = workload
    n, d = w.seq_len, w.head_dim
    columns = d + int(normalised)
    heads, kv_heads = w.batch * w.num_heads, w.batch * w.num_kv_heads
    with_exponential = feature in ("elu", "exp")
    own_heads, states, floats = kept_states(w, decay_heads)
    state_bytes = 4 * own_heads * states * floats
    found: list[Step] = []
    if states:
        walked = cut(heads, n, n, w.causal)
        keys = min(n, (walked.segments - 1) * walked.chunks * CHUNK) if w.causal else n
        exps = own_heads * keys * (d * with_exponential + int(decay_heads > 0))
        moved = 2 * kv_heads * keys * d * w.item_bytes + 3 * state_bytes
        found.append(Step("states", 2 * own_heads * keys * d * columns, exps, moved, launches=2))
    flops, exps = 2 * heads * n * d * columns, heads * n * d * with_exponential
    moved = (2 * heads + (2 * kv_heads if w.causal else 0)) * n * d * w.item_bytes + state_bytes
    if w.causal:
        pairs = pairs_inside_chunks(n)
        flops += 2 * heads * (n * d * columns + pairs * (d + columns))
        exps += heads * (n * d * with_exponential + pairs * int(decay_heads > 0))
    return (*found, Step("outputs", flops, exps, moved))


def pairs_inside_chunks(n: int) -> int:
    """Causal pairs of one head whose query and key share a chunk."""
    chunks, tail = divmod(n, CHUNK)
    return (chunks * CHUNK * (CHUNK + 1) + tail * (tail + 1)) // 2


def attend(
    device: Any,
    stem: str,
    title: str,
    tensors: tuple[Any, Any, Any, Any],
    workload: Workload,
    *,
    feature: Feature = "identity",
    normalised: bool = False,
    decay: Any = None,
    scale: float = 1.0,
) -> None:
    """Launches the linear kernels of `<stem>.cu`, which includes `linear_hopper.cuh` or `linear_portable.cuh`.

    out = scale · φ(q_t)·S_t with S_t = e^(g_t)·S_(t−1) + φ(k_t)·v_tᵀ; normalised: φ(q_t)·S_t / φ(q_t)·z_t instead, with z decayed
    like S and `scale` without effect, 0 where the divisor is 0. Not causal: S is that of all keys. A query stands at key t + M − N;
    keys before the first query are in its state, and queries before the first key give 0.

    Args:
        device: what `Variant.launch` gets.
        stem: of the variant's kernel file.
        title: of the variant, for refusals.
        tensors: q `(B, H, N, D)`, k v `(B, G, M, D)`, out as q, in `workload.dtype` (16-bit as bits); φ(q), φ(k) are rounded to it.
        workload: only dtype and causal are looked at.
        feature: φ, applied to q and to k as they are loaded.
        normalised: divide by φ(q)·z.
        decay: g ≤ 0, natural logarithms: None; a numpy float32 array `(H,)`, one number a head; or a float32 array of the device
            `(B, H or G, M)`, one a token (−∞ forgets everything). Causal calls only. Less than −88 a token counts as −88.
        scale: of the output when it is not normalised, such as D^-½.

    Allocates `held(workload, decay heads)`: the states of segments, fp32.

    Raises:
        Unsupported: head_dim (names the nearest that works), or decay without causal.
    """
    raise NotImplementedError

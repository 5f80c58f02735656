"""How a call of linear attention is cut into chunks and segments, what it costs, and its launch. Pure: imports no CuPy.

A head is one recurrence over its tokens, S ← e^g·S + φ(k)·vᵀ, out = scale · φ(q)·S, walked 64 tokens at a time. Where heads are
too few for a card, each is cut into segments that are walked at the same time: a first kernel finds what each segment adds to
the state, a second carries states from segment to segment, a third walks again with the state that its segment begins with.
Sources: Katharopoulos et al. 2020, arXiv 2006.16236; chunks: Yang et al. 2024, section 4, arXiv 2312.06635.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda
from attnscope_engine.cost import Step
from attnscope_engine.cuda import hopper
from attnscope_engine.protocol import ITEM_BYTES, Dtype, Term, Workload
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
    states: int
    """States that a head keeps in memory: one for each segment; none where a causal head is a single one."""


def cut(heads: int, queries: int, keys: int, causal: bool) -> Cut:
    """Segments that fill a card, where `heads` (B·H) alone do not; `queries` and `keys` of one head."""
    before = cuda.blocks(max(0, keys - queries), CHUNK) if causal else 0
    own = cuda.blocks(queries if causal else keys, CHUNK)
    wanted = 1
    if heads < FULL_FROM * WANTED_BLOCKS:
        wanted = max(1, min(WANTED_BLOCKS // heads, (before + own) // LEAST_CHUNKS))
    chunks = cuda.blocks(before + own, wanted)
    first, segments = cuda.blocks(before, chunks), cuda.blocks(own, chunks)
    return Cut(chunks, first, segments, 0 if causal and first + segments == 1 else first + segments)


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


def kept_states(workload: Workload, decay_heads: int = 0, features: int = 0) -> tuple[int, int, int]:
    """Heads, states of each and fp32 numbers of each that a call keeps.

    `decay_heads`: heads of the decay, 0 without one; `features`: columns of q and k where they are not head_dim, which 0 says.
    """
    w = workload
    found = cut(w.batch * w.num_heads, w.seq_len, w.seq_len, w.causal)
    own_heads = w.batch * state_heads(w.num_heads, w.num_kv_heads, decay_heads)
    return own_heads, found.states, state_floats(max(w.head_dim, features))


def held(workload: Workload, decay_heads: int = 0, features: int = 0) -> tuple[Term, ...]:
    """What `attend` allocates: states of segments, or nothing. A gate per token, or queries and keys of so many features, are
    the caller's own.
    """
    heads, states, floats = kept_states(workload, decay_heads, features)
    if not states:
        return ()
    width = width_of(max(workload.head_dim, features))
    return (Term("states", f"{heads:,}·{states}·({width}² + {width} + 4)·4", 4 * heads * states * floats, "n"),)


def steps(
    workload: Workload, *, normalised: bool, decay_heads: int = 0, feature: Feature = "identity", features: int = 0
) -> tuple[Step, ...]:
    """Operations, exponentials and bytes of `attend`'s kernels. `features`: columns of q and k, where they are not head_dim."""
    w = workload
    n, values = w.seq_len, w.head_dim
    d, columns = features or values, values + int(normalised)
    heads, kv_heads = w.batch * w.num_heads, w.batch * w.num_kv_heads
    with_exponential = feature in ("elu", "exp")
    own_heads, states, floats = kept_states(w, decay_heads, features)
    state_bytes = 4 * own_heads * states * floats
    found: list[Step] = []
    if states:
        walked = cut(heads, n, n, w.causal)
        keys = min(n, (walked.segments - 1) * walked.chunks * CHUNK) if w.causal else n
        exps = own_heads * keys * (d * with_exponential + int(decay_heads > 0))
        moved = kv_heads * keys * (d + values) * w.item_bytes + 3 * state_bytes
        found.append(Step("states", 2 * own_heads * keys * d * columns, exps, moved, launches=2))
    flops, exps = 2 * heads * n * d * columns, heads * n * d * with_exponential
    moved = (heads + (kv_heads if w.causal else 0)) * n * (d + values) * w.item_bytes + state_bytes
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

    out = scale · φ(q_t)·S_t with S_t = e^(g_t)·S_(t−1) + φ(k_t)·v_tᵀ; normalised: φ(q_t)·S_t / φ(q_t)·z_t instead, with z
    decayed like S and `scale` without effect, 0 where the divisor is 0. Not causal: S is that of all keys. A query stands at
    key t + M − N; keys before the first query are in its state, and queries before the first key give 0.

    Args:
        device: what `Variant.launch` gets.
        stem: of the variant's kernel file.
        title: of the variant, for refusals.
        tensors: q `(B, H, N, F)`, k `(B, G, M, F)`, v `(B, G, M, D)`, out `(B, H, N, D)`, in `workload.dtype` (16-bit as bits),
            to which φ(q) and φ(k) are rounded. F and D may differ: the state is as wide as the wider of them.
        workload: only dtype and causal are looked at.
        feature: φ, applied to q and to k as they are loaded.
        normalised: divide by φ(q)·z.
        decay: g ≤ 0, natural logarithms: None; a numpy float32 array `(H,)`, one number a head; or a float32 array of the
            device `(B, H or G, M)`, one a token (−∞ forgets everything). Causal only. Less than −88 a token counts as −88.
        scale: of the output when it is not normalised, such as D^-½.

    Allocates `held(workload, decay heads, F where it is not D)`: the states of segments, fp32.

    Raises:
        Unsupported: head_dim (names the nearest that works), or decay without causal.
    """
    q, k, v, out = tensors
    (batch, heads, queries, head_dim), (kv_heads, keys), value_dim = q.shape, k.shape[1:3], v.shape[3]
    widest = max(head_dim, value_dim)
    cuda.tiling(title, widest, workload.dtype, widest=WIDEST)
    if decay is not None and not workload.causal:
        raise Unsupported(f"{title} forgets along the sequence, which needs a causal mask: set causal")
    decay_heads = 0 if decay is None else decay.shape[-2] if len(decay.shape) == 3 else heads
    walked = cut(batch * heads, queries, keys, workload.causal)
    own_heads = state_heads(heads, kv_heads, decay_heads)
    call = Call(
        device,
        stem,
        Options(workload.dtype, width_of(widest), feature, decay_kind(decay), normalised, workload.causal, head_dim != value_dim),
        walked,
        Heads(batch, heads, kv_heads, decay_heads or heads, own_heads),
        (queries, keys, head_dim, value_dim),
        scale,
    )
    shape = (batch * own_heads * walked.states, state_floats(widest))
    states = device.empty(shape, "float32") if walked.states else out
    passed = out if decay is None else by_value(decay) if decay_kind(decay) == PER_HEAD else decay
    if not device.portable and device.capability == hopper.CAPABILITY and workload.dtype != "fp32":
        call.on_hopper(tensors, passed, states)
    else:
        call.portably(tensors, passed, states)


NO_DECAY, PER_HEAD, PER_TOKEN = range(3)
"""As in `linear.cuh`."""


def decay_kind(decay: Any) -> int:
    """Of `attend`'s argument."""
    return NO_DECAY if decay is None else PER_HEAD if len(decay.shape) == 1 else PER_TOKEN


def by_value(decay: NDArray[np.float32]) -> NDArray[np.void]:
    """Numbers of the heads as an argument that a kernel gets by value. Raises: ValueError for more than MOST_HEADS."""
    if len(decay) > MOST_HEADS:
        raise ValueError(f"decay of at most {MOST_HEADS} heads, was {len(decay)}")
    values = np.zeros(MOST_HEADS, np.float32)
    values[: len(decay)] = decay
    return values.view(HEAD_VALUES)


@dataclass(frozen=True, slots=True)
class Options:
    """Constants of a kernel that are no sizes of a tile."""

    dtype: Dtype
    width: int
    feature: Feature
    decay: int
    normalised: bool
    causal: bool
    values_apart: bool = False
    """Whether v and out have other columns than q and k."""

    def defines(self) -> dict[str, int]:
        return {
            "DTYPE": cuda.DTYPE_CODE[self.dtype],
            "WIDTH": self.width,
            "FEATURE": FEATURE_CODE[self.feature],
            "DECAY": self.decay,
            "NORMALISED": int(self.normalised),
            "CAUSAL": int(self.causal),
            **({"VALUES_APART": 1} if self.values_apart else {}),
        }


@dataclass(frozen=True, slots=True)
class HopperPlan:
    """Sizes that `linear_hopper.cuh` is compiled for."""

    options: Options
    stages: int
    """Chunks in shared memory of the kernel that makes outputs."""
    state_stages: int
    """The same of the kernel that makes states."""

    def defines(self) -> dict[str, int]:
        return {**self.options.defines(), "HOPPER": 1, "TOKENS": CHUNK, "STAGES": self.stages, "STATE_STAGES": self.state_stages}

    @property
    def threads(self) -> int:
        """Of the kernel that makes outputs: a warpgroup that brings, one that weighs, and one for each 64 columns."""
        return 128 * (2 + self.options.width // 64)

    @property
    def state_threads(self) -> int:
        return 128 * (1 + self.options.width // 64)

    @property
    def shared_bytes(self) -> int:
        """As `Memory` in `linear_hopper_tiles.cuh` lays it out."""
        tile = CHUNK * self.options.width * 2
        causal = int(self.options.causal)
        handed = causal * 2 * CHUNK * 128 + 2 * tile + 2 * CHUNK * 4 + 2 * self.options.width * 4
        return handed + self.stages * ((1 + 2 * causal) * tile + STAGE_EXTRAS) + 4 * 8

    @property
    def state_shared_bytes(self) -> int:
        return self.state_stages * (2 * CHUNK * self.options.width * 2 + STAGE_EXTRAS) + 4 * 8


STAGE_EXTRAS = (2 * CHUNK + 4) * 4 + 3 * 8
"""Bytes of a stage beside its tiles: decays of its tokens, three barriers."""


def hopper_plan(options: Options) -> HopperPlan:
    """The fewest chunks under way that keep the memory busy, as measured: more make blocks drift apart in what they read.

    A chunk whose features are being made is one more, two where little else is done with it. One more, too, where the normaliser
    is all that is added to the products.
    """
    o = options
    wide, maps = o.width == 128, o.feature != "identity"
    more = 2 if maps and not o.causal else int(maps)
    divides = wide and o.normalised and o.causal and not maps and o.decay == NO_DECAY
    return HopperPlan(o, (2 if wide else 3) + more + int(divides), (3 if wide else 4) + int(more == 2))


@dataclass(frozen=True, slots=True)
class PortablePlan:
    """Sizes that `linear_portable.cuh` is compiled for."""

    options: Options
    tokens: int
    """Of a chunk: 64, or 32 where shared memory is short."""
    stages: int
    """Chunks in shared memory: 2, or 1 where the next can not come while one is worked on."""

    def defines(self) -> dict[str, int]:
        return {**self.options.defines(), "TOKENS": self.tokens, "STAGES": self.stages}

    @property
    def threads(self) -> int:
        """A warp for each 16 columns of the values, and one for the normaliser."""
        return 32 * (self.options.width // 16 + int(self.options.normalised))

    @property
    def _tile(self) -> int:
        return self.tokens * self.options.width * ITEM_BYTES[self.options.dtype]

    @property
    def _vectors(self) -> int:
        return 4 * (5 * self.tokens + 2)

    @property
    def shared_bytes(self) -> int:
        """Of the kernel that makes outputs, as `Memory` in `linear_portable.cuh` lays it out."""
        if not self.options.causal:
            return self.stages * self._tile + self._vectors
        weights = self.tokens * self.tokens * ITEM_BYTES[self.options.dtype]
        return self.stages * 3 * self._tile + weights + self._vectors

    @property
    def state_shared_bytes(self) -> int:
        return self.stages * 2 * self._tile + self._vectors


def portable_plan(options: Options, shared_bytes: int) -> PortablePlan:
    """The largest chunks, two of them if possible, that fit into the `shared_bytes` that a block may have."""
    sizes = ((32, 2), (32, 1)) if options.dtype == "fp32" else ((64, 2), (32, 2))
    plans = [PortablePlan(options, tokens, stages) for tokens, stages in sizes]
    return next((plan for plan in plans if max(plan.shared_bytes, plan.state_shared_bytes) <= shared_bytes), plans[-1])


@dataclass(frozen=True, slots=True)
class Heads:
    """How many there are of each kind, in each of `batch`."""

    batch: int
    queries: int
    keys: int
    decay: int
    states: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call, cut: what its three launches share."""

    device: Any
    stem: str
    options: Options
    cut: Cut
    heads: Heads
    sizes: tuple[int, int, int, int]
    """Queries, keys, columns of q and k, columns of v and out."""
    scale: float

    def on_hopper(self, tensors: tuple[Any, Any, Any, Any], decay: Any, states: Any) -> None:
        """Hopper's own kernels."""
        plan, dtype = hopper_plan(self.options), self.options.dtype
        q, k, v, out = (self.device.tensor_map(x, CHUNK, dtype) for x in tensors)
        blocks = (plan.state_threads, plan.state_shared_bytes), (plan.threads, plan.shared_bytes)
        self._launch(plan.defines(), (k, v), (q, k, v, out), decay, states, *blocks)

    def portably(self, tensors: tuple[Any, Any, Any, Any], decay: Any, states: Any) -> None:
        """Kernels that run on every card."""
        plan = portable_plan(self.options, self.device.shared_bytes)
        blocks = (plan.threads, plan.state_shared_bytes), (plan.threads, plan.shared_bytes)
        self._launch(plan.defines(), tensors[1:3], tensors, decay, states, *blocks, CHUNK // plan.tokens)

    def _launch(
        self,
        defines: dict[str, int],
        of_states: tuple[Any, ...],
        of_outputs: tuple[Any, ...],
        decay: Any,
        states: Any,
        state_block: tuple[int, int],
        output_block: tuple[int, int],
        own_chunks: int = 1,
    ) -> None:
        """States of segments and what each begins with, where there are any; then outputs.

        Blocks: threads, shared bytes; `own_chunks`: chunks of the kernels in one of CHUNK tokens.
        """
        heads, found = self.heads, self.cut
        made = found.states - int(self.options.causal)  # nothing comes after the last segment
        if found.states:
            shape = self._shape(found.chunks * own_chunks, heads.states)
            kernel = self.device.kernel(self.stem, "linear_states", defines)
            kernel((made, heads.states, heads.batch), state_block[0], (*of_states, decay, states, *shape[:-1]), state_block[1])
            scan = self.device.kernel(self.stem, "linear_scan", defines)
            floats = self.options.width * (self.options.width + 1)
            total = np.int32(not self.options.causal)
            scan((cuda.blocks(floats, 256), heads.states, heads.batch), 256, (states, np.int32(found.states), total))
        chunks = found.chunks if self.options.causal else self._chunks_without_mask()
        kernel = self.device.kernel(self.stem, "linear_outputs", defines)
        blocks = cuda.blocks(cuda.blocks(self.sizes[0], CHUNK), chunks)
        arguments = (*of_outputs, decay, states, *self._shape(chunks * own_chunks, heads.queries), np.float32(self.scale))
        kernel((blocks, heads.queries, heads.batch), output_block[0], arguments, output_block[1])

    def _shape(self, chunks: int, heads: int) -> tuple[np.int32, ...]:
        """`Shape` of the kernels, for a grid of so many heads."""
        group = self.heads
        per = (heads // group.keys, max(1, heads // group.decay), heads // group.states)
        return tuple(np.int32(x) for x in (*self.sizes, chunks, self.cut.before, self.cut.states, *per))

    def _chunks_without_mask(self) -> int:
        """Chunks of queries of a block when nothing is causal: the longest blocks that leave hardly a multiprocessor idle."""
        heads, chunks = self.heads.batch * self.heads.queries, cuda.blocks(self.sizes[0], CHUNK)
        slots = int(self.device.multiprocessors)

        def busy(parts: int) -> float:
            blocks = heads * cuda.blocks(chunks, cuda.blocks(chunks, parts))
            return blocks / (cuda.blocks(blocks, slots) * slots)

        allowed = range(1, 1 + max(1, min(2 * slots, chunks // LEAST_CHUNKS)))
        most = max(map(busy, allowed))
        return cuda.blocks(chunks, next(parts for parts in allowed if busy(parts) >= NEARLY_BUSY * most))


NEARLY_BUSY = 0.97
"""Share of the busiest division that is good enough if its blocks are longer."""

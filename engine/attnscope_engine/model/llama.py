"""A llama-shaped language model on numpy: the q, k and v of every layer for a text.

RMSNorm, rotary positions on adjacent pairs (as GGUF stores q and k), grouped keys and values, SwiGLU, tied embedding.
Source: Touvron et al. 2023, section 2.2, arXiv:2302.13971; Su et al. 2021 (rotary positions), arXiv:2104.09864.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from attnscope_engine.model.gguf import Gguf, GgufError
from attnscope_engine.variant import Tick

Floats = NDArray[np.float32]
Attend = Callable[[Floats, Floats, Floats, Tick], Floats]

TORCH_TOKENS = 3072
"""From this length on torch's fused attention saves more than importing torch costs: on two cores 30 layers took 3.2 s
instead of 5.8 s, the import 1.3 s. The products outside attention are as fast in numpy."""
BLOCK_BYTES = 8 * 1024 * 1024
"""Scores of all heads that exist at once in blocked attention."""
MAX_BLOCK_ROWS = 256
FFN_ROWS = 1024
MAX_CACHE_BYTES = 512 * 1024 * 1024
MASKED_SCORE = np.float32(-1e30)
"""Finite, so that weight times score is 0 and not NaN where the weight is 0."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model, as its file says and its tensors confirm."""

    layers: int
    width: int
    ffn_width: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    rope_base: float
    epsilon: float

    def held_bytes(self, tokens: int) -> int:
        """Bytes of q, k and v of all layers, float32: 115,200 a token for SmolLM2-135M, so 59 MB for 512 tokens."""
        return self.layers * (self.num_heads + 2 * self.num_kv_heads) * self.head_dim * 4 * tokens


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer, float32, matrices `(out, in)`. Matrices with the same input are stacked: one product instead of three."""

    attn_norm: Floats
    qkv: Floats
    output: Floats
    ffn_norm: Floats
    gate_up: Floats
    down: Floats

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class Pass:
    """What a forward pass leaves: per layer q `(H, n, D)`, k and v `(G, n, D)`, q and k after rotation, q unscaled."""

    q: list[Floats]
    k: list[Floats]
    v: list[Floats]
    last: Floats
    """`(width,)`: the last token's state after the final norm."""


class Llama:
    """The model in a GGUF file. Layers are dequantised when first needed and kept while they fit in `cache_bytes`
    (425 MB hold all of SmolLM2-135M); those beyond it are dequantised anew in each pass.

    Raises:
        GgufError: the file holds another kind of model, or tensors that do not fit together.
    """

    def __init__(self, file: Gguf, cache_bytes: int | None = None) -> None:
        self._file = file
        self.shape = _shape(file)
        _check_tensors(file, self.shape)
        if cache_bytes is None:
            cache_bytes = min(MAX_CACHE_BYTES, psutil.virtual_memory().available // 4)
        self._cache_left = cache_bytes
        self._cache: dict[int, LayerWeights] = {}

    def forward(self, ids: NDArray[np.intp], tick: Tick, attend: Attend | None = None) -> Pass:
        """Raises: Interrupted (from `tick`, called between layers and between blocks of rows)."""
        shape = self.shape
        attend = attend or choose_attention(len(ids))
        cosine, sine = _rotation(shape, len(ids))
        state = self._file.rows("token_embd.weight", ids)  # (n, width)
        done = Pass([], [], [], np.empty(0, np.float32))
        for index in range(shape.layers):
            tick()
            layer = self._layer(index)
            q, k, v = self._project(_normed(state, layer.attn_norm, shape.epsilon), layer)
            q, k = _rotated(q, cosine, sine), _rotated(k, cosine, sine)
            for kept, part in ((done.q, q), (done.k, k), (done.v, v)):
                kept.append(part)
            mixed = attend(q, k, v, tick)
            state += mixed.transpose(1, 0, 2).reshape(len(ids), -1) @ layer.output.T
            for rows in _slices(len(ids), FFN_ROWS):
                tick()
                state[rows] += _feed_forward(_normed(state[rows], layer.ffn_norm, shape.epsilon), layer)
        last = _normed(state[-1:], self._file.tensor("output_norm.weight"), shape.epsilon)[0]
        return Pass(done.q, done.k, done.v, last)

    def next_token_logits(self, ids: NDArray[np.intp], tick: Tick = lambda: None) -> Floats:
        """`(vocabulary,)`: scores of what may follow the last token."""
        last = self.forward(ids, tick).last
        parts = [
            self._file.rows("token_embd.weight", np.arange(self.shape.vocabulary)[rows]) @ last
            for rows in _slices(self.shape.vocabulary, 8192)
        ]
        return np.concatenate(parts)

    def _layer(self, index: int) -> LayerWeights:
        if index in self._cache:
            return self._cache[index]
        layer = _dequantised(self._file, index)
        if layer.nbytes <= self._cache_left:
            self._cache_left -= layer.nbytes
            self._cache[index] = layer
        return layer

    def _project(self, state: Floats, layer: LayerWeights) -> tuple[Floats, Floats, Floats]:
        """`(n, width)` → q `(H, n, D)`, k and v `(G, n, D)`."""
        H, G, D = self.shape.num_heads, self.shape.num_kv_heads, self.shape.head_dim
        heads = (state @ layer.qkv.T).reshape(len(state), H + 2 * G, D).transpose(1, 0, 2)
        q, k, v = heads[:H], heads[H : H + G], heads[H + G :]
        return np.ascontiguousarray(q), np.ascontiguousarray(k), np.ascontiguousarray(v)


def choose_attention(tokens: int) -> Attend:
    """Torch's fused attention where the text is long enough and torch is there; otherwise numpy in blocks."""
    if tokens >= TORCH_TOKENS and importlib.util.find_spec("torch") is not None:
        return attend_by_torch
    return attend_by_blocks


def attend_by_blocks(q: Floats, k: Floats, v: Floats, tick: Tick) -> Floats:
    """Causal softmax attention, q `(H, n, D)`, k and v `(G, n, D)` → `(H, n, D)`, one block of rows after another."""
    out = np.empty_like(q)
    for rows in row_blocks(np.arange(q.shape[1]), len(q)):
        tick()
        weights = causal_scores(q, k, rows)  # (H, b, keys)
        weights -= weights.max(-1, keepdims=True)
        np.exp(weights, out=weights)
        G, keys = len(k), weights.shape[2]
        mixed = weights.reshape(G, -1, keys) @ v[:, :keys]  # (G, H/G · b, D)
        mixed /= weights.sum(-1).reshape(G, -1, 1)
        out[:, rows] = mixed.reshape(len(q), -1, q.shape[2])
    return out


def attend_by_torch(q: Floats, k: Floats, v: Floats, tick: Tick) -> Floats:
    """The same as `attend_by_blocks`; one call, so no tick within a layer (0.8 s for 8,192 tokens on two cores)."""
    torch = importlib.import_module("torch")
    tick()
    group = len(q) // len(k)
    wide = [torch.from_numpy(part).repeat_interleave(group, 0)[None] for part in (k, v)]
    out: Floats = torch.nn.functional.scaled_dot_product_attention(torch.from_numpy(q)[None], *wide, is_causal=True)[0].numpy()
    return out


def row_blocks(rows: NDArray[np.intp], heads: int) -> Iterator[NDArray[np.intp]]:
    """Cuts ascending query rows into blocks whose causal scores, of all heads, take at most about `BLOCK_BYTES`."""
    start = 0
    while start < len(rows):
        ahead = rows[min(len(rows), start + MAX_BLOCK_ROWS) - 1]
        stop = start + min(MAX_BLOCK_ROWS, max(1, BLOCK_BYTES // (4 * heads * (int(ahead) + 1))))
        yield rows[start:stop]
        start = stop


def causal_scores(q: Floats, k: Floats, rows: NDArray[np.intp]) -> Floats:
    """Scaled scores of some ascending query rows with all keys up to the last of them, `(H, b, rows[-1] + 1)`; the future
    of each row is `MASKED_SCORE`.
    """
    H, _, D = q.shape
    G, first, keys = len(k), rows[0], rows[-1] + 1
    part: Floats = (q[:, rows] * np.float32(D**-0.5)).reshape(G, -1, D)
    scores: Floats = (part @ k[:, :keys].transpose(0, 2, 1)).reshape(H, len(rows), keys)
    future = np.arange(first, keys) > rows[:, None]
    np.copyto(scores[:, :, first:], MASKED_SCORE, where=future)
    return scores


def _shape(file: Gguf) -> Shape:
    kind = file.text("general.architecture")
    if kind != "llama":
        raise GgufError(f"{file.name} holds a {kind} model; llama is read.")
    if file.facts.get("llama.rope.scaling.type", "none") != "none":
        raise GgufError(f"{file.name} scales its rotary positions, which is not read here.")
    width, heads = file.integer("llama.embedding_length"), file.integer("llama.attention.head_count")
    shape = Shape(
        layers=file.integer("llama.block_count"),
        width=width,
        ffn_width=file.integer("llama.feed_forward_length"),
        num_heads=heads,
        num_kv_heads=file.integer("llama.attention.head_count_kv"),
        head_dim=file.integer("llama.rope.dimension_count"),
        vocabulary=len(file.strings("tokenizer.ggml.tokens")),
        context=file.integer("llama.context_length"),
        rope_base=file.number("llama.rope.freq_base"),
        epsilon=file.number("llama.attention.layer_norm_rms_epsilon"),
    )
    whole = (shape.layers, width, shape.ffn_width, heads, shape.num_kv_heads, shape.head_dim, shape.vocabulary, shape.context)
    if min(whole) < 1 or heads % shape.num_kv_heads or heads * shape.head_dim != width or shape.head_dim % 2:
        raise GgufError(f"{file.name}: {heads} heads of {shape.head_dim}, {shape.num_kv_heads} for keys, do not make {width}.")
    if not (shape.rope_base > 1 and 0 < shape.epsilon < 1):
        raise GgufError(f"{file.name}: rotary base {shape.rope_base} or epsilon {shape.epsilon} is out of range.")
    return shape


def _check_tensors(file: Gguf, shape: Shape) -> None:
    """All that is used is there in the right shape, and nothing is there that would have to be used."""
    if shape.layers > len(file.tensors):  # before a list of that many names is made
        raise GgufError(f"{file.name} claims {shape.layers:,} layers and has {len(file.tensors):,} tensors.")
    W, F, keys = shape.width, shape.ffn_width, shape.num_kv_heads * shape.head_dim
    wanted = {"token_embd.weight": (shape.vocabulary, W), "output_norm.weight": (W,)}
    of_layer = {"attn_norm": (W,), "attn_q": (W, W), "attn_k": (keys, W), "attn_v": (keys, W), "attn_output": (W, W)}
    of_layer |= {"ffn_norm": (W,), "ffn_gate": (F, W), "ffn_up": (F, W), "ffn_down": (W, F)}
    for index in range(shape.layers):
        wanted |= {f"blk.{index}.{name}.weight": size for name, size in of_layer.items()}
    for name, size in wanted.items():
        if name not in file.tensors or file.tensors[name].shape != size:
            found = f"of shape {file.tensors[name].shape}" if name in file.tensors else "missing"
            raise GgufError(f"{file.name}: tensor {name} should have shape {size} and is {found}.")
    if strange := sorted(file.tensors.keys() - wanted.keys()):
        raise GgufError(f"{file.name} has tensors that are not used here, so it is another kind of model: {strange[0]!r}.")


def _dequantised(file: Gguf, index: int) -> LayerWeights:
    def stacked(*names: str) -> Floats:
        return np.concatenate([file.tensor(f"blk.{index}.{name}.weight") for name in names])

    return LayerWeights(
        attn_norm=stacked("attn_norm"),
        qkv=stacked("attn_q", "attn_k", "attn_v"),
        output=stacked("attn_output"),
        ffn_norm=stacked("ffn_norm"),
        gate_up=stacked("ffn_gate", "ffn_up"),
        down=stacked("ffn_down"),
    )


def _normed(state: Floats, gain: Floats, epsilon: float) -> Floats:
    scale = np.sqrt(np.mean(np.square(state), -1, keepdims=True) + np.float32(epsilon))
    normed: Floats = state / scale * gain
    return normed


def _feed_forward(state: Floats, layer: LayerWeights) -> Floats:
    """SwiGLU: `(n, width)` → `(n, width)`."""
    both = state @ layer.gate_up.T
    gate, up = np.split(both, 2, axis=1)
    with np.errstate(over="ignore"):  # exp overflows to inf where the gate is far below 0, and the quotient is then rightly 0
        gate /= 1 + np.exp(-gate)
    gate *= up
    mixed: Floats = gate @ layer.down.T
    return mixed


def _rotation(shape: Shape, tokens: int) -> tuple[Floats, Floats]:
    """Cosines and sines `(n, D/2)`, taken in float64."""
    speeds = shape.rope_base ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    angles = np.arange(tokens)[:, None] * speeds
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotated(heads: Floats, cosine: Floats, sine: Floats) -> Floats:
    """Turns each adjacent pair (2i, 2i+1) of `(H, n, D)` by its position's angle."""
    turned = np.empty_like(heads)
    even, odd = heads[..., 0::2], heads[..., 1::2]
    turned[..., 0::2] = even * cosine - odd * sine
    turned[..., 1::2] = even * sine + odd * cosine
    return turned


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(rows, start + size)) for start in range(0, rows, size))

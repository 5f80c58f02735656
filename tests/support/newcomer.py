"""A variant that no part of the program knows: decayed products of features, signed, with a parameter of each kind.

Put beside the program's own by `new_variants.added`. o_t = Σ_j γ^(t−j) s φ(q_t)·φ(k_j) v_j: a made-up cousin of RetNet
(Sun et al. 2023, arXiv 2307.08621) whose decay differs by head.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from attnscope_engine import numerics
from attnscope_engine.cost import Cost, Step, tensor_term
from attnscope_engine.protocol import Term
from attnscope_engine.variant import Params, Unsupported, Variant, flag, one_of, param, real


class NewcomerParams(Params, frozen=True):
    chunk_size: Annotated[int, param(8, 256, unit="tokens", help="Queries at a time", label="chunk", scale="log2")] = 32
    decay: Annotated[float, real(0.5, 1, step=0.01, unit="a token", help="What the first head keeps of its state")] = 0.9
    divided: Annotated[bool, flag(help="Divide scores by the root of D", label="÷ √D")] = True
    feature: Annotated[str, one_of(("identity", "tanh"), help="What is done to q and k first")] = "identity"


def phi(x: Any, params: NewcomerParams) -> Any:
    return np.tanh(x) if params.feature == "tanh" else x


def decay_of(head: Any, params: NewcomerParams) -> Any:
    """Each head keeps more than the one before."""
    return 1 - (1 - params.decay) / (head + 1)


def cost(w: Any, params: NewcomerParams, on: Any) -> Cost:
    """Every pair, some queries at a time against all keys."""
    heads, d, n = w.batch * w.num_heads, w.head_dim, w.seq_len
    flops = 4 * heads * n * n * d
    moved = 2 * w.batch * (w.num_heads + w.num_kv_heads) * n * d * w.item_bytes
    wide = Term("workspace", "B·H·n·(8·D + 14·chunk)", heads * n * (8 * d + 14 * params.chunk_size), "n")
    return Cost((Step("pairs", flops, 0, moved),), (tensor_term(w), wide))


def weights(q: Any, k: Any, w: Any, params: NewcomerParams, rows: Any, head: int) -> Any:
    back = numerics.distance_back(rows, np.arange(len(k)), len(k) - len(q))
    scale = q.shape[1] ** -0.5 if params.divided else 1.0
    scores = phi(q[rows].astype(np.float64), params) @ phi(k.astype(np.float64), params).T * scale
    return np.where(back >= 0 if w.causal else True, scores * decay_of(head, params) ** np.abs(back), 0.0)


def reference(q: Any, k: Any, v: Any, w: Any, params: NewcomerParams) -> Any:
    group, rows = q.shape[1] // k.shape[1], np.arange(q.shape[2])
    out = np.zeros(q.shape)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            out[b, h] = weights(q[b, h], k[b, h // group], w, params, rows, h) @ v[b, h // group]
    return out


def run_cpu(q: Any, k: Any, v: Any, w: Any, params: NewcomerParams, xp: Any, tick: Any) -> Any:
    """`chunk_size` queries at a time, fp32."""
    out, group, (n, m) = xp.empty_like(q), q.shape[1] // k.shape[1], (q.shape[2], k.shape[2])
    keys, values = (fp32(x, xp).repeat_interleave(group, 1) if xp is not np else np.repeat(fp32(x, xp), group, 1) for x in (k, v))
    keys = xp.tanh(keys) if params.feature == "tanh" else keys
    decays = xp.asarray([decay_of(head, params) for head in range(q.shape[1])], dtype=xp.float32)[:, None, None]
    for first in range(0, n, params.chunk_size):
        tick()
        rows = slice(first, min(first + params.chunk_size, n))
        back = xp.arange(rows.start, rows.stop)[:, None] + (m - n) - xp.arange(m)
        some = fp32(q[:, :, rows], xp)
        scores = xp.matmul(xp.tanh(some) if params.feature == "tanh" else some, keys.swapaxes(-1, -2))
        scores *= q.shape[-1] ** -0.5 if params.divided else 1.0
        scores *= decays ** abs(back)
        if w.causal:
            scores *= back >= 0
        out[:, :, rows] = xp.matmul(scores, values)
    return out


def fp32(x: Any, xp: Any) -> Any:
    return x.astype(np.float32) if xp is np else x.float()


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, w: Any, params: NewcomerParams) -> None:
    raise Unsupported("Newcomer has no kernel: use the CPU.")


def visible(w: Any, params: NewcomerParams, rows: Any, columns: Any) -> Any:
    return numerics.causal_visible(rows, columns, 0) if w.causal else numerics.all_visible(rows, columns)


VARIANT = Variant(
    name="newcomer",
    title="Newcomer",
    family="linear",
    order=99,
    source="made up after Sun et al. 2023, section 2.1, arXiv 2307.08621",
    formula="out = Σ γ^(t−j) φ(q)·φ(k) v",
    params=NewcomerParams,
    summary=lambda params: f"{params.feature} · γ {params.decay:g}{'' if params.divided else ' · undivided'}",
    resolve=lambda workload, params: params,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    like="retnet",
    signed=True,
    normalised=False,
    state_bytes=lambda w, params: w.batch * w.num_heads * w.head_dim**2 * 4,
)

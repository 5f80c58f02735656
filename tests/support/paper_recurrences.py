"""What each linear or recurrent variant computes, written again from its paper: a head, token by token, plain loops, float64.

The gates are computed here from the formulas of `attnscope_engine/gates.py` as its docstring states them, not by its code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Head = tuple[np.ndarray, np.ndarray, np.ndarray]


def hashed(number: int) -> int:
    """The integer mixing of the signs, in Python's own integers."""
    number ^= number >> 16
    number = number * 0x7FEB352D % 2**32
    number ^= number >> 15
    number = number * 0x846CA68B % 2**32
    return number ^ number >> 16


def signs(purpose: int, group: int, d: int) -> np.ndarray:
    return np.array([-1.0 if hashed(c + (group << 10) + ((purpose + 1) << 24)) & 1 else 1.0 for c in range(d)])


def lean(purpose: int, group: int, key: np.ndarray) -> float:
    length = math.sqrt(float(key @ key))
    return float(signs(purpose, group, len(key)) @ key) / length if length else 0.0


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def retnet(params: Any, group: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    decay = 1 - 2.0 ** -(params.exponent + group)
    state, out = np.zeros((k.shape[1], v.shape[1])), []
    for t in range(len(k)):
        state = decay * state + np.outer(k[t], v[t])
        out.append(q[t] @ state / math.sqrt(q.shape[1]))
    return np.array(out)


def simple_gla(params: Any, group: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    state, out = np.zeros((k.shape[1], v.shape[1])), []
    for t in range(len(k)):
        gate = (1 / (1 + math.exp(lean(0, group, k[t])))) ** (1 / params.half_life)
        state = gate * state + np.outer(k[t], v[t])
        out.append(q[t] @ state / math.sqrt(q.shape[1]))
    return np.array(out)


def mamba2(params: Any, group: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    state, out = np.zeros((v.shape[1], k.shape[1])), []
    for t in range(len(k)):
        step = softplus(lean(0, group, k[t]))
        state = math.exp(-step / params.half_life) * state + np.outer(step * v[t], k[t])
        out.append(state @ q[t] + (v[t] if params.skip else 0))
    return np.array(out)


def channel_gates(half_life: int, group: int, key: np.ndarray) -> np.ndarray:
    """One gate a channel, which reads the channel half of all further on."""
    d, length = len(key), math.sqrt(float(key @ key)) or 1.0
    own = signs(0, group, d)
    return np.array(
        [(1 / (1 + math.exp(own[c] * math.sqrt(d) * key[(c + d // 2) % d] / length))) ** (1 / half_life) for c in range(d)]
    )


def gla(params: Any, group: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    state, out = np.zeros((k.shape[1], v.shape[1])), []
    for t in range(len(k)):
        state = np.diag(channel_gates(params.half_life, group, k[t])) @ state + np.outer(k[t], v[t])
        out.append(q[t] @ state / math.sqrt(q.shape[1]))
    return np.array(out)


def delta(gate_of: Callable[[np.ndarray], np.ndarray], group: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The papers' transition matrices, multiplied out; `gate_of` a key: the diagonal that the state before it is faded by."""
    d = k.shape[1]
    state, out = np.zeros((d, v.shape[1])), []
    for t in range(len(k)):
        length = math.sqrt(float(k[t] @ k[t])) or 1.0
        unit, beta = k[t] / length, 1 / (1 + math.exp(-lean(1, group, k[t])))
        state = (np.eye(d) - beta * np.outer(unit, unit)) @ np.diag(gate_of(k[t])) @ state + beta * np.outer(unit, v[t])
        out.append(q[t] @ state / math.sqrt(d))
    return np.array(out)


def deltanet(params: Any, group: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return delta(lambda key: np.ones(len(key)), group, q, k, v)


def gated_deltanet(params: Any, group: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    def gate(key: np.ndarray) -> np.ndarray:
        return np.full(len(key), (1 / (1 + math.exp(lean(0, group, key)))) ** (1 / params.half_life))

    return delta(gate, group, q, k, v)


def kda(params: Any, group: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return delta(lambda key: channel_gates(params.half_life, group, key), group, q, k, v)


RECURRENCES: dict[str, Callable[[Any, int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "retnet": retnet,
    "simple_gla": simple_gla,
    "mamba2": mamba2,
    "gla": gla,
    "deltanet": deltanet,
    "gated_deltanet": gated_deltanet,
    "kda": kda,
}
"""`(params, key head, q, k, v)` of as many queries as keys, each `(tokens, D)` → out."""


def recurrence(name: str, params: Any, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """All heads, of any numbers of queries and keys: q `(B, H, N, D)`, k v `(B, G, M, ·)`. Queries end where keys end."""
    n, m, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    out = np.zeros((*q.shape[:3], v.shape[3]))
    own = min(n, m)
    for b, h in itertools.product(range(q.shape[0]), range(q.shape[1])):
        aligned = np.zeros((m, q.shape[3]))
        aligned[m - own :] = q[b, h, n - own :]
        found = RECURRENCES[name](params, h // group, aligned, k[b, h // group], v[b, h // group])
        out[b, h, n - own :] = found[m - own :]
    return out

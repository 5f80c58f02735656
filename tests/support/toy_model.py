"""A seeded two-layer language model as a GGUF file, written here byte by byte, so that no test needs the real one."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 32
WIDTH, FFN_WIDTH, HEADS, KV_HEADS, HEAD_DIM, LAYERS, CONTEXT = 64, 96, 4, 2, 16, 2, 200
TEXT = (
    "Margaret kept the tables in pencil, and she read the height of the water against the painted staff before dawn. "
    "日本語の日本語 привет привет мир naïve café 🙂🙂 🙂 ---- ==== \n\n\n    return    the    end "
    "the tide turned and the boats came home; she said that they had seen the light, and the light was low. "
    "In 1951 the gauge read 12.5 and it's said we'll see 'twice' as much!  def read(x):\n    return x\n" * 3
)
CONTROL = ["<|endoftext|>", "<|im_start|>"]

_CODES = {"u4": 4, "i4": 5, "f4": 6, "?": 7, "u8": 10}


def byte_letters() -> list[str]:
    """GPT-2's letter of each byte, written from its published rule and not from the code under test."""
    kept = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    moved = [b for b in range(256) if b not in kept]
    return [chr(b) if b in kept else chr(256 + moved.index(b)) for b in range(256)]


def trained_merges(count: int, text: str = TEXT) -> list[tuple[str, str]]:
    """At most `count` byte-pair merges of a text cut at spaces, most frequent pair first."""
    letters = byte_letters()
    words = [[letters[byte] for byte in (" " + word).encode()] for word in text.split(" ")]
    merges: list[tuple[str, str]] = []
    for _ in range(count):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word in words:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def vocabulary(merges: list[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys([*CONTROL, *byte_letters(), *("".join(pair) for pair in merges)]))


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def fact(key: str, value: Any) -> bytes:
    """One fact: `str`, `(dtype, number)`, a list of texts, or an integer array."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    if isinstance(value, np.ndarray):
        return text(key) + struct.pack("<IIQ", 9, 5, len(value)) + value.astype("<i4").tobytes()
    kind, number = value
    return text(key) + struct.pack("<I", _CODES[kind]) + np.array(number, f"<{kind}" if kind != "?" else "?").tobytes()


def quantised(values: np.ndarray, kind: str) -> bytes:
    if kind == "F32":
        return values.astype("<f4").tobytes()
    if kind == "F16":
        return values.astype("<f2").tobytes()
    out = []
    for block in values.reshape(-1, 32).astype(np.float64):
        if kind == "Q8_0":
            step = np.float16(abs(block).max() / 127)
            out.append(step.tobytes() + np.round(block / step).clip(-127, 127).astype("i1").tobytes())
        else:  # Q4_1
            low, step = np.float16(block.min()), np.float16((block.max() - block.min()) / 15)
            codes = np.round((block - low) / step).clip(0, 15).astype(np.uint8)
            out.append(step.tobytes() + low.tobytes() + (codes[:16] | codes[16:] << 4).tobytes())
    return b"".join(out)


KIND_CODES = {"F32": 0, "F16": 1, "Q4_1": 3, "Q8_0": 8}


def gguf(facts: dict[str, Any], tensors: dict[str, tuple[np.ndarray, str]], version: int = 3) -> bytes:
    """The bytes of a file with these facts and tensors `(values, kind)`."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(facts)) + b"".join(fact(*item) for item in facts.items())
    body = b""
    for name, (values, kind) in tensors.items():
        head += text(name) + struct.pack("<I", values.ndim) + struct.pack(f"<{values.ndim}Q", *values.shape[::-1])
        head += struct.pack("<IQ", KIND_CODES[kind], len(body))
        body += quantised(values, kind)
        body += bytes(-len(body) % ALIGNMENT)
    return head + bytes(-len(head) % ALIGNMENT) + body


def toy_facts(merges: list[tuple[str, str]]) -> dict[str, Any]:
    tokens = vocabulary(merges)
    return {
        "general.architecture": "llama",
        "general.basename": "toy",
        "llama.block_count": ("u4", LAYERS),
        "llama.context_length": ("u4", CONTEXT),
        "llama.embedding_length": ("u4", WIDTH),
        "llama.feed_forward_length": ("u4", FFN_WIDTH),
        "llama.attention.head_count": ("u4", HEADS),
        "llama.attention.head_count_kv": ("u4", KV_HEADS),
        "llama.rope.dimension_count": ("u4", HEAD_DIM),
        "llama.rope.freq_base": ("f4", 10000.0),
        "llama.attention.layer_norm_rms_epsilon": ("f4", 1e-5),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.add_bos_token": ("?", False),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL))),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.unknown_token_id": ("u4", 0),
    }


def toy_tensors(tokens: int, seed: int = 11) -> dict[str, tuple[np.ndarray, str]]:
    rng = np.random.default_rng(seed)
    keys = KV_HEADS * HEAD_DIM

    def matrix(rows: int, columns: int, gain: float = 1.0) -> np.ndarray:
        return rng.standard_normal((rows, columns)) * gain / columns**0.5

    tensors = {"token_embd.weight": (matrix(tokens, WIDTH, 8.0), "Q8_0"), "output_norm.weight": (1 + rng.random(WIDTH), "F32")}
    for layer in range(LAYERS):
        kinds = ("Q4_1", "F16") if layer == 0 else ("Q8_0", "Q4_1")
        tensors |= {
            f"blk.{layer}.attn_norm.weight": (0.5 + rng.random(WIDTH), "F32"),
            f"blk.{layer}.attn_q.weight": (matrix(WIDTH, WIDTH, 2.0), kinds[0]),
            f"blk.{layer}.attn_k.weight": (matrix(keys, WIDTH, 2.0), kinds[1]),
            f"blk.{layer}.attn_v.weight": (matrix(keys, WIDTH), kinds[0]),
            f"blk.{layer}.attn_output.weight": (matrix(WIDTH, WIDTH), kinds[1]),
            f"blk.{layer}.ffn_norm.weight": (0.5 + rng.random(WIDTH), "F32"),
            f"blk.{layer}.ffn_gate.weight": (matrix(FFN_WIDTH, WIDTH, 2.0), kinds[0]),
            f"blk.{layer}.ffn_up.weight": (matrix(FFN_WIDTH, WIDTH), kinds[1]),
            f"blk.{layer}.ffn_down.weight": (matrix(WIDTH, FFN_WIDTH), kinds[0]),
        }
    return tensors


def toy_bytes() -> bytes:
    facts = toy_facts(trained_merges(60))
    return gguf(facts, toy_tensors(len(facts["tokenizer.ggml.tokens"])))


def write_toy(folder: Path, data: bytes | None = None) -> Path:
    path = folder / "toy.gguf"
    path.write_bytes(toy_bytes() if data is None else data)
    return path

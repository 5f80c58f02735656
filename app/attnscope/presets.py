"""Shapes of known models' attention, to start from. No Qt.

From each model's published `config.json` (Hugging Face: HuggingFaceTB/SmolLM2-135M, openai-community/gpt2,
meta-llama/Meta-Llama-3-8B, mistralai/Mistral-7B-v0.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from attnscope_engine.protocol import Workload


@dataclass(frozen=True, slots=True)
class Shape:
    """The part of a workload that a model fixes."""

    layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    def matches(self, workload: Workload) -> bool:
        w = workload
        return (w.layers, w.num_heads, w.num_kv_heads, w.head_dim) == (
            self.layers,
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
        )


PRESETS: dict[str, Shape] = {
    "SmolLM2-135M": Shape(layers=30, num_heads=9, num_kv_heads=3, head_dim=64),
    "GPT-2 small": Shape(layers=12, num_heads=12, num_kv_heads=12, head_dim=64),
    "Llama-3-8B": Shape(layers=32, num_heads=32, num_kv_heads=8, head_dim=128),
    "Mistral-7B": Shape(layers=32, num_heads=32, num_kv_heads=8, head_dim=128),
}
CUSTOM = "Custom"


def preset_of(workload: Workload, liked: str = "") -> str:
    """The preset that this is: `liked` where two models share a shape, `CUSTOM` when it is none."""
    found = [title for title, shape in PRESETS.items() if shape.matches(workload)]
    return liked if liked in found else found[0] if found else CUSTOM

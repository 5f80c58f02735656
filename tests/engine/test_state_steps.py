"""Costs of the delta rule's and of gated linear attention's kernels, beside a count of the products that they stand for."""

from __future__ import annotations

import pytest
from attnscope_engine import catalogue
from attnscope_engine.cuda import delta, gla, state_steps
from attnscope_engine.cuda.segments import CHUNK
from attnscope_engine.protocol import Choice, Workload


@pytest.mark.parametrize(("n", "d"), [(64, 64), (200, 32), (1000, 128)])
def test_that_operations_are_those_of_chunks(n: int, d: int) -> None:
    """Of as many heads as fill a card, so that none is cut."""
    w = Workload(batch=1, seq_len=n, num_heads=128, num_kv_heads=128, head_dim=d)
    pairs = sum(1 for i in range(n) for j in range(i + 1) if i // CHUNK == j // CHUNK)
    chunks = -(-n // CHUNK)
    (plain,) = state_steps.of_states(w, "channel", gla.held(w), delta=False)
    assert plain.flops == 128 * (2 * n * d * d + 2 * n * d * d + 2 * pairs * (d + d))
    (rule,) = state_steps.of_states(w, "token", delta.held(w), delta=True)
    assert rule.flops == plain.flops + 128 * (2 * n * d * d + 2 * pairs * (d + d) + chunks * CHUNK**3 // 3)
    (by_token,) = state_steps.of_states(w, "channel", delta.held(w), delta=True)
    assert by_token.flops == 128 * 3 * 2 * n * d * d


@pytest.mark.parametrize("name", ["gla", "deltanet", "gated_deltanet", "kda"])
def test_that_few_heads_are_cut_and_cost_a_second_pass(name: str) -> None:
    few = Workload(batch=1, seq_len=8192, num_heads=4, num_kv_heads=4, head_dim=64)
    many = Workload(batch=1, seq_len=8192, num_heads=128, num_kv_heads=128, head_dim=64)
    steps_of_few = [step.name for step in catalogue.cost_of(Choice(name), few, "cuda").steps]
    assert [name for name in steps_of_few if name in ("states", "outputs")] == ["states", "outputs"]
    assert "states" not in [step.name for step in catalogue.cost_of(Choice(name), many, "cuda").steps]
    per_head = [catalogue.cost_of(Choice(name), w, "cuda").flops / w.num_heads for w in (few, many)]
    assert per_head[1] < per_head[0] < 2.5 * per_head[1]

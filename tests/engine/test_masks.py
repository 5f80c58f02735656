"""Which pairs the restricted variants see, against definitions written out here; and their pairs counted at odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
from attnscope_engine import catalogue
from attnscope_engine.protocol import Choice, Workload

LENGTHS = (1, 2, 63, 64, 65, 127, 200, 333)


def seen(name: str, values: dict[str, int], n: int, causal: bool, m: int | None = None) -> np.ndarray:
    """What the variant sees of `m` keys, one row a query; the last query stands at the last key."""
    keys = m or n
    workload = Workload(seq_len=max(n, keys), num_heads=1, num_kv_heads=1, causal=causal)
    variant = catalogue.find(name)
    return variant.visible(workload, variant.parse(values), np.arange(n) + keys - n, np.arange(keys))


def pairs(name: str, values: dict[str, int], n: int, causal: bool) -> int:
    """Pairs of one head that the cost counts."""
    workload = Workload(seq_len=n, num_heads=1, num_kv_heads=1, head_dim=8, causal=causal)
    return catalogue.cost_of(Choice(name, values), workload, "cuda").flops // (4 * 8)


@pytest.mark.parametrize("prefix", [1, 2, 50, 64, 1000])
@pytest.mark.parametrize("n", LENGTHS)
def test_that_a_prefix_sees_itself_and_the_rest_what_came_before(n: int, prefix: int) -> None:
    found = seen("prefix", {"prefix_size": prefix}, n, True)
    inside = min(prefix, n)
    assert found[:inside, :inside].all()
    assert not found[:inside, inside:].any()
    assert np.array_equal(found[inside:], np.tri(n, dtype=bool)[inside:])
    assert pairs("prefix", {"prefix_size": prefix}, n, True) == found.sum()
    assert pairs("prefix", {"prefix_size": prefix}, n, False) == n * n


def test_that_a_prefix_of_one_token_is_causal_attention_and_a_whole_one_full_attention() -> None:
    assert np.array_equal(seen("prefix", {"prefix_size": 1}, 70, True), np.tri(70, dtype=bool))
    assert seen("prefix", {"prefix_size": 70}, 70, True).all()
    assert seen("prefix", {"prefix_size": 5}, 70, False).all()

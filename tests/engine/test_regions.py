"""Regions of keys cut into rectangles and triangles: painted cell by cell and compared with the definition."""

from __future__ import annotations

import numpy as np
from attnscope_engine import catalogue
from attnscope_engine.protocol import Workload
from attnscope_engine.regions import Band, Edge, Limits, Strip, chunk_strips, still, strips
from attnscope_engine.variants import document, global_tokens, prefix
from attnscope_engine.variants.sliding_window import bands
from hypothesis import given, settings
from hypothesis import strategies as st

LIMITS = st.builds(
    Limits, pairs=st.sampled_from([1, 20, 100, 10_000]), queries=st.sampled_from([1, 5, 1000]), rows=st.sampled_from([1, 4, 50])
)
LENGTH = st.integers(1, 30)


def painted(found: list[Strip], first: int, keys: int) -> np.ndarray:
    """How often each pair is computed, rows `first … keys − 1`; checks that strips follow one another."""
    count = np.zeros((keys - first, keys), dtype=int)
    position = first
    for strip in found:
        assert strip.first == position
        position += strip.rows * strip.repeat
        assert not strip.parts or strip.parts[0].shape != "upper"
        for block in range(strip.repeat):
            row = strip.first - first + block * strip.rows
            for part in strip.parts:
                column = part.first + (block * strip.rows if part.moves else 0)
                cells = np.ones((strip.rows, part.size), dtype=int)
                if part.shape == "lower":
                    assert part.size == strip.rows
                    cells = np.tril(cells)
                elif part.shape == "upper":
                    assert part.size == strip.rows - 1
                    cells = np.triu(cells)
                count[row : row + strip.rows, column : column + part.size] += cells
    assert position == keys
    return count


def seen(name: str, values: dict[str, int], n: int, m: int, causal: bool) -> np.ndarray:
    variant = catalogue.find(name)
    workload = Workload(seq_len=n, num_heads=1, num_kv_heads=1, causal=causal)
    return variant.visible(workload, variant.parse(values), np.arange(n) + m - n, np.arange(m)).astype(int)


@settings(max_examples=400, deadline=None)
@given(n=LENGTH, m=LENGTH, window=st.integers(1, 35), sinks=st.integers(0, 12), causal=st.booleans(), limits=LIMITS)
def test_that_a_window_with_sinks_is_cut_into_each_pair_exactly_once(
    n: int, m: int, window: int, sinks: int, causal: bool, limits: Limits
) -> None:
    values = {"window_size": window, "sinks": sinks}
    workload = Workload(seq_len=n, num_heads=1, num_kv_heads=1, causal=causal)
    found = strips(bands(workload, catalogue.find("sliding_window").parse(values), m), m - n, m, limits)
    assert (painted(list(found), m - n, m) == seen("sliding_window", values, n, m, causal)).all()


@settings(max_examples=400, deadline=None)
@given(n=LENGTH, m=LENGTH, size=st.integers(1, 35), causal=st.booleans(), limits=LIMITS)
def test_that_chunks_are_cut_into_each_pair_exactly_once(n: int, m: int, size: int, causal: bool, limits: Limits) -> None:
    found = list(chunk_strips(m - n, m, size, causal, limits))
    assert (painted(found, m - n, m) == seen("chunked", {"chunk_size": size}, n, m, causal)).all()


@settings(max_examples=200, deadline=None)
@given(n=LENGTH, m=LENGTH, seed=st.integers(0, 99), causal=st.booleans(), limits=LIMITS)
def test_that_documents_are_cut_into_each_pair_exactly_once(n: int, m: int, seed: int, causal: bool, limits: Limits) -> None:
    found = list(document.document_strips(document.DocumentParams(16, seed), m - n, m, causal, limits))
    assert (painted(found, m - n, m) == seen("document", {"mean_size": 16, "seed": seed}, n, m, causal)).all()


@settings(max_examples=400, deadline=None)
@given(n=LENGTH, m=LENGTH, window=st.integers(1, 35), tokens=st.integers(1, 12), causal=st.booleans(), limits=LIMITS)
def test_that_global_tokens_are_cut_into_each_pair_exactly_once(
    n: int, m: int, window: int, tokens: int, causal: bool, limits: Limits
) -> None:
    workload = Workload(seq_len=n, num_heads=1, num_kv_heads=1, causal=causal)
    found = global_tokens.global_strips(workload, global_tokens.GlobalParams(window, tokens), m - n, m, limits)
    values = {"window_size": window, "global_size": tokens}
    assert (painted(list(found), m - n, m) == seen("global_tokens", values, n, m, causal)).all()


@settings(max_examples=200, deadline=None)
@given(n=LENGTH, m=LENGTH, size=st.integers(1, 35), causal=st.booleans(), limits=LIMITS)
def test_that_a_prefix_is_cut_into_each_pair_exactly_once(n: int, m: int, size: int, causal: bool, limits: Limits) -> None:
    workload, params = Workload(seq_len=n, num_heads=1, num_kv_heads=1, causal=causal), prefix.PrefixParams(size)
    found = list(strips((prefix.band(workload, params, m),), m - n, m, limits))
    assert (painted(found, m - n, m) == seen("prefix", {"prefix_size": size}, n, m, causal)).all()


@settings(max_examples=100, deadline=None)
@given(n=LENGTH, m=LENGTH, limits=LIMITS)
def test_that_a_triangle_is_cut_into_each_pair_exactly_once(n: int, m: int, limits: Limits) -> None:
    found = list(strips((Band(still(0), Edge(1, 0, m)),), m - n, m, limits))
    assert (painted(found, m - n, m) == seen("softmax_tiled", {}, n, m, True)).all()


def test_that_a_million_tokens_in_a_small_window_need_few_calls() -> None:
    workload = Workload(seq_len=1 << 20, num_heads=1, num_kv_heads=1)
    params = catalogue.find("sliding_window").parse({"window_size": 8})
    found = list(strips(bands(workload, params, 1 << 20), 0, 1 << 20, Limits(pairs=1 << 24, queries=1 << 12, rows=256)))
    assert len(found) < 300

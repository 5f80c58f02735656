"""Costs, what they predict, and what fits: pure arithmetic, checked by counting."""

from __future__ import annotations

import time

import pytest
from attnscope_engine import catalogue
from attnscope_engine.cost import Cost, Step, admit, largest_seq_len, predict_time_s, tensor_term
from attnscope_engine.protocol import MAX_SEQ_LEN, Ceilings, Choice, Workload
from attnscope_engine.recurrent import CHUNK
from hypothesis import given
from hypothesis import strategies as st

CEILINGS = Ceilings("told", {"fp32": 1e12, "bf16": 4e12}, 1e11, 1e10, 1e-5, 0.0)


def test_that_a_step_takes_as_long_as_its_slowest_part_and_every_launch() -> None:
    matrix = Step("matrix", flops=4 * 10**12, exps=0, bytes_moved=10**10, launches=2)
    exponentials = Step("exp", flops=0, exps=10**10, bytes_moved=10)
    copy = Step("copy", flops=1, exps=1, bytes_moved=3 * 10**11)
    cost = Cost((matrix, exponentials, copy), ())
    assert predict_time_s(cost, CEILINGS, "bf16") == pytest.approx(1 + 1 + 3 + 4e-5)
    assert predict_time_s(cost, CEILINGS, "fp32") == pytest.approx(4 + 1 + 3 + 4e-5)
    assert predict_time_s(cost, CEILINGS, "fp16") == pytest.approx(4 + 1 + 3 + 4e-5), "unmeasured: the slowest known"


def test_that_the_tensors_are_counted_whole() -> None:
    w = Workload(batch=3, seq_len=1000, num_heads=8, num_kv_heads=2, head_dim=64, dtype="bf16")
    assert tensor_term(w).bytes_ == 3 * (8 + 2 + 2 + 8) * 1000 * 64 * 2


@given(budget=st.integers(0, 10**13), slope=st.integers(1, 10**6), square=st.booleans())
def test_that_the_largest_length_fits_and_the_next_does_not(budget: int, slope: int, square: bool) -> None:
    def held(n: int) -> int:
        return slope * (n * n if square else n)

    found = largest_seq_len(held, budget)
    assert found % 64 == 0
    if found:
        assert held(found) <= budget
    if found < MAX_SEQ_LEN:
        assert held(found + 64) > budget


def test_that_a_refusal_names_the_largest_term_first_and_a_length_that_is_admitted() -> None:
    w = Workload(seq_len=131_072, dtype="bf16")
    refusal = catalogue.admission(Choice("softmax_naive"), w, "cuda", 24 << 30, 24 << 30)
    assert refusal is not None
    assert refusal.text == "Naive does not fit at n = 131,072"
    assert refusal.terms[0].name == "scores"
    assert refusal.needed_bytes == sum(term.bytes_ for term in refusal.terms) > 24 << 30
    fits = Workload(seq_len=refusal.largest_seq_len, dtype="bf16")
    assert catalogue.admission(Choice("softmax_naive"), fits, "cuda", 24 << 30, 24 << 30) is None
    more = Workload(seq_len=refusal.largest_seq_len + 64, dtype="bf16")
    assert catalogue.admission(Choice("softmax_naive"), more, "cuda", 24 << 30, 24 << 30) is not None


def test_that_what_fits_is_not_refused() -> None:
    w = Workload(seq_len=64)
    cost = catalogue.cost_of(Choice("softmax_tiled"), w, "cpu")
    assert admit("Flash", "softmax_tiled", w, cost, lambda n: n, cost.held_bytes + 1, 0) is None
    assert admit("Flash", "softmax_tiled", w, cost, lambda n: n, cost.held_bytes - 1, 0) is not None


def test_that_linear_operations_are_those_of_its_chunks() -> None:
    n, d, heads, groups = 1000, 16, 4, 2
    w = Workload(seq_len=n, num_heads=heads, num_kv_heads=groups, head_dim=d)
    own = sum(1 for i in range(n) for j in range(i + 1) if i // CHUNK == j // CHUNK)
    states = 2 * n * d * (d + 1) * (heads + groups)
    assert catalogue.cost_of(Choice("linear"), w, "cpu").flops == states + 2 * own * heads * (2 * d + 1)


@pytest.mark.parametrize("name", list(catalogue.variants()))
@pytest.mark.parametrize("on", ["cpu", "cuda"])
def test_that_a_cost_is_a_closed_form(name: str, on) -> None:
    """A hundred of them, at a million tokens, in no time: closed forms, no loops over tokens."""
    w = Workload(seq_len=MAX_SEQ_LEN, num_heads=32, num_kv_heads=8, head_dim=128)
    catalogue.cost_of(Choice(name), w, on)
    start = time.process_time()
    for _ in range(100):
        catalogue.cost_of(Choice(name), w, on)
    assert time.process_time() - start < 5

"""The arithmetic that references stand on."""

from __future__ import annotations

import numpy as np
import pytest
from attnscope_engine import numerics
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")


def test_that_heads_are_repeated_next_to_each_other() -> None:
    x = np.arange(2 * 3).reshape(1, 3, 2, 1)
    assert numerics.expand_heads(x, 6)[0, :, 0, 0].tolist() == [0, 0, 2, 2, 4, 4]


def test_that_the_last_query_sees_the_last_key() -> None:
    seen = numerics.causal_visible(np.arange(2), np.arange(5), 3)
    assert seen.tolist() == [[True] * 4 + [False], [True] * 5]
    none = numerics.causal_visible(np.arange(3), np.arange(1), -2)
    assert none.tolist() == [[False], [False], [True]]


def test_that_a_row_that_sees_nothing_is_zero_and_others_sum_to_one() -> None:
    scores = np.array([[1e4, -1e4, 3.0], [5.0, 6.0, 7.0]])
    seen = np.array([[False, False, False], [True, False, True]])
    weights = numerics.softmax_rows(scores, seen)
    assert (weights[0] == 0).all()
    assert weights[1, 1] == 0
    assert weights[1].sum() == pytest.approx(1, abs=1e-15)
    assert weights[1, 0] == pytest.approx(1 / (1 + np.exp(2)), abs=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_that_a_bad_score_shows_in_its_row_alone(bad: float) -> None:
    weights = numerics.softmax_rows(np.array([[1.0, bad], [1.0, 2.0]]), np.ones((2, 2), dtype=bool))
    assert np.isnan(weights[0]).any()
    assert np.isfinite(weights[1]).all()
    hidden = numerics.softmax_rows(np.array([[1.0, bad]]), np.array([[True, False]]))
    assert hidden.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(("dtype", "kind"), [("fp16", "float16"), ("bf16", "bfloat16"), ("fp32", "float32")])
@settings(max_examples=300, deadline=None)
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_that_rounding_is_that_of_the_stored_type(dtype, kind: str, values: list[float]) -> None:
    x = np.array(values, dtype=np.float32)
    expected = torch.from_numpy(x).to(getattr(torch, kind)).to(torch.float32).numpy()
    np.testing.assert_array_equal(numerics.rounded(x, dtype), expected)

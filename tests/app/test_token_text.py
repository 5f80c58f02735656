"""Tokens as a person reads them."""

from __future__ import annotations

import pytest
from attnscope.token_text import LONGEST, readable, short, starts_word
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("token", "seen"),
    [(" CEO", "CEO"), ("\n", "\\n"), ("  ", "··"), (" ", "·"), ("", "(empty)"), ("\x07", "U+0007"), ("<b>", "<b>")],
)
def test_that_a_token_is_one_visible_word(token: str, seen: str) -> None:
    assert readable(token) == seen


@given(st.text(max_size=40))
def test_that_nothing_of_a_token_is_invisible_or_longer_than_an_axis_takes(token: str) -> None:
    assert readable(token).strip()
    assert short(token).isprintable()
    assert len(short(token)) <= LONGEST


def test_that_a_token_without_a_space_continues_its_word() -> None:
    assert not starts_word(",")
    assert starts_word(" and")

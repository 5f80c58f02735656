"""Declared parameters: what is taken, what is refused and in which words, and what a wrong value may have meant."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import msgspec
import pytest
from attnscope_engine import catalogue
from attnscope_engine.parameters import FlagField, RealField, WholeField, WordField, fields_of
from attnscope_engine.protocol import Choice
from attnscope_engine.variant import Params, Variant, flag, one_of, param, real
from hypothesis import given
from hypothesis import strategies as st


class EveryKind(Params, frozen=True):
    chunk_size: Annotated[int, param(16, 256, unit="tokens", help="Tokens of a chunk", scale="log2")] = 64
    decay: Annotated[float, real(0.5, 1, step=0.01, unit="a token", help="What is left")] = 0.99
    divided: Annotated[bool, flag(help="Divide each row by its sum", label="÷ sum")] = True
    feature: Annotated[str, one_of(("elu+1", "relu"), help="What replaces exp")] = "elu+1"


@pytest.fixture
def variant() -> Variant:
    return dataclasses.replace(catalogue.find("linear"), title="Any", params=EveryKind)


def test_that_a_declaration_is_type_bounds_default_unit_help_and_control() -> None:
    assert fields_of(EveryKind) == (
        WholeField(
            name="chunk_size",
            label="chunk size",
            unit="tokens",
            help="Tokens of a chunk",
            low=16,
            high=256,
            default=64,
            scale="log2",
        ),
        RealField(name="decay", label="decay", unit="a token", help="What is left", low=0.5, high=1.0, default=0.99, step=0.01),
        FlagField(name="divided", label="÷ sum", help="Divide each row by its sum", default=True),
        WordField(name="feature", label="feature", help="What replaces exp", words=("elu+1", "relu"), default="elu+1"),
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"chunk_size": 15}, "Any: chunk_size must be 16 to 256 (was 15)"),
        ({"chunk_size": 3000}, "Any: chunk_size must be 16 to 256 (was 3,000)"),
        ({"chunk_size": True}, "Any: chunk_size must be 16 to 256 (was true)"),
        ({"chunk_size": 64.0}, "Any: chunk_size must be 16 to 256 (was 64)"),
        ({"decay": 1.01}, "Any: decay must be 0.5 to 1 in steps of 0.01 (was 1.01)"),
        ({"decay": 0.995}, "Any: decay must be 0.5 to 1 in steps of 0.01 (was 0.995)"),
        ({"decay": math.nan}, "Any: decay must be 0.5 to 1 in steps of 0.01 (was nan)"),
        ({"decay": "x"}, "Any: decay must be 0.5 to 1 in steps of 0.01 (was 'x')"),
        ({"divided": 1}, "Any: divided must be true or false (was 1)"),
        ({"divided": "yes"}, "Any: divided must be true or false (was 'yes')"),
        ({"feature": "exp"}, "Any: feature must be one of elu+1, relu (was 'exp')"),
        ({"feature": "relu\n"}, "Any: feature must be one of elu+1, relu (was 'relu\\n')"),
        ({"feature": "eluu1"}, "Any: feature must be one of elu+1, relu (was 'eluu1')"),
        ({"features": "relu"}, "Any: there is no parameter 'features'; there are: chunk_size, decay, divided, feature"),
    ],
)
def test_that_a_wrong_value_is_named_with_what_is_allowed(variant: Variant, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        variant.parse(values)
    assert str(error.value) == sentence


def test_that_right_values_of_every_kind_come_back_from_the_wire(variant: Variant) -> None:
    values = {"chunk_size": 128, "decay": 0.73, "divided": False, "feature": "relu"}
    choice = variant.choice(variant.parse(values))
    assert choice.params == values
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(choice), type=Choice)
    assert variant.parse(again.params) == variant.parse(values)
    assert variant.parse(msgspec.json.decode(msgspec.json.encode(choice), type=Choice).params) == variant.parse(values)
    assert variant.parse({"decay": 1}).decay == 1.0  # type: ignore[attr-defined]


@given(value=st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=6), st.sampled_from(["elu+1", "relu"])))
def test_that_the_nearest_value_is_allowed_and_an_allowed_one_is_its_own_nearest(value: Any) -> None:
    for field in fields_of(EveryKind):
        nearest = field.nearest(value)
        assert nearest is None or field.allows(nearest)
        if field.allows(value):
            assert nearest == value


def test_that_numbers_are_clamped_and_put_on_the_grid_while_words_are_not_guessed() -> None:
    whole, grid, switch, word = fields_of(EveryKind)
    assert (whole.nearest(1e9), whole.nearest(17.4), whole.nearest(True), whole.nearest(math.inf)) == (256, 17, None, None)
    assert (grid.nearest(0), grid.nearest(0.7349), grid.nearest(10**400)) == (0.5, 0.73, 1.0)
    assert (switch.nearest(1), word.nearest("reluu")) == (None, None)


def test_that_samples_are_allowed_and_reach_both_ends() -> None:
    for field in fields_of(EveryKind):
        assert all(field.allows(value) for value in field.samples())
    assert fields_of(EveryKind)[0].samples() == (16, 256)
    assert fields_of(EveryKind)[1].samples() == (0.5, 0.75, 1.0)


def test_that_an_undeclared_parameter_is_an_error_of_the_author() -> None:
    class Bare(Params, frozen=True):
        size: int = 3

    with pytest.raises(TypeError, match="size must be declared by param"):
        fields_of(Bare)

"""Colours can be read and told apart; the tables of maps are what they say."""

from __future__ import annotations

import itertools

import pytest
from attnscope.colour_maps import colour_map
from attnscope.looks import (
    DARK,
    FAMILY_LOOKS,
    INF_COLOUR,
    LIGHT,
    LOOKS,
    NAN_COLOUR,
    Tokens,
    colour_table,
    contrast,
    look,
    luminance,
    term_colour,
    text_on,
)
from attnscope_engine.catalogue import variants
from attnscope_engine.protocol import INF, MASKED, MAX_CODE, NAN, NOT_COMPUTED

THEMES = pytest.mark.parametrize("tokens", [DARK, LIGHT], ids=["dark", "light"])


def argb(colour: str) -> int:
    return 0xFF000000 | int(colour[1:], 16)


def test_that_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21.0)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)  # the textbook near miss of 4.5


@THEMES
@pytest.mark.parametrize("token", ["text1", "text2", "text3", "accent", "danger", "warn", "ok"])
def test_that_every_text_can_be_read_on_every_ground(tokens: Tokens, token: str) -> None:
    for ground in (tokens.window, tokens.panel, tokens.plot):
        assert contrast(getattr(tokens, token), ground) >= 4.5


@THEMES
def test_that_text_on_filled_things_can_be_read(tokens: Tokens) -> None:
    assert contrast(tokens.on_accent, tokens.accent) >= 4.5
    assert contrast(tokens.text1, tokens.tint) >= 4.5
    assert contrast(tokens.text1, tokens.raised) >= 4.5
    assert contrast(tokens.text1, tokens.hover) >= 4.5
    assert contrast(tokens.text3, tokens.mask) >= 4.5
    assert contrast(tokens.edge, tokens.window) >= 3.0


@THEMES
@pytest.mark.parametrize("name", LOOKS)
def test_that_every_variant_is_seen_on_every_ground(tokens: Tokens, name: str) -> None:
    for ground in (tokens.window, tokens.panel, tokens.plot):
        assert contrast(LOOKS[name].colour(tokens), ground) >= 3.0


@THEMES
def test_that_no_two_variants_share_colour_or_marker(tokens: Tokens) -> None:
    assert len(LOOKS) == 14
    for one, other in itertools.combinations(LOOKS.values(), 2):
        assert one.colour(tokens) != other.colour(tokens)
        assert one.marker != other.marker


@THEMES
def test_that_data_never_wears_the_accent(tokens: Tokens) -> None:
    assert tokens.accent not in {found.colour(tokens) for found in (*LOOKS.values(), *FAMILY_LOOKS.values())}


def test_that_every_variant_has_a_look_of_its_own_or_its_parents_and_its_familys_dash() -> None:
    for name, variant in variants().items():
        assert (name in LOOKS) != (variant.like in LOOKS)
        assert look(name).hollow == bool(variant.like)
        assert look(name).dash == FAMILY_LOOKS[variant.family].dash


def test_that_an_unknown_variant_gets_a_grey_look() -> None:
    assert look("made_up_tomorrow") is FAMILY_LOOKS["softmax"]


def test_that_a_dash_keeps_its_length_in_pixels_at_any_width() -> None:
    window = look("sliding_window")
    assert [part * 1.75 for part in window.dash_pattern(1.75)] == pytest.approx([7, 3])
    assert [part * 0.5 for part in window.dash_pattern(0.5)] == pytest.approx([7, 3])


@THEMES
def test_that_a_memory_term_without_a_colour_takes_that_of_its_growth(tokens: Tokens) -> None:
    assert term_colour("scores", "n2", tokens) != term_colour("weights", "n2", tokens)
    assert term_colour("anything", "n2", tokens) == term_colour("scores", "n2", tokens)
    assert term_colour("anything", "constant", tokens) == term_colour("state", "constant", tokens)


@THEMES
@pytest.mark.parametrize("name", ["scores", "weights", "q k v out", "workspace", "latent", "LSE", "state"])
def test_that_a_label_inside_a_bar_can_be_read(tokens: Tokens, name: str) -> None:
    bar = term_colour(name, "n", tokens)
    assert contrast(text_on(bar), bar) >= 4.5


@pytest.mark.parametrize("name", ["inferno", "cividis"])
def test_that_published_maps_are_those_of_matplotlib(name: str) -> None:
    import matplotlib as mpl

    for index, colour in enumerate(colour_map(name)):
        published = mpl.colormaps[name](index)[:3]
        assert max(abs(byte - 255 * part) for byte, part in zip(colour, published, strict=True)) <= 1


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("ink", (0xFF, 0xFF, 0xFF), (0x0A, 0x17, 0x34)),
        ("signed_dark", (0x9C, 0xCB, 0xFF), (0xFF, 0xC4, 0x8A)),
        ("signed_light", (0x0B, 0x3C, 0x7D), (0x7A, 0x33, 0x00)),
    ],
)
def test_that_interpolated_maps_begin_and_end_at_their_stops(name: str, first: tuple[int, ...], last: tuple[int, ...]) -> None:
    colours = colour_map(name)
    assert len(colours) == 256
    for found, stop in ((colours[0], first), (colours[-1], last)):
        assert max(abs(a - b) for a, b in zip(found, stop, strict=True)) <= 1


def test_that_sequential_maps_only_get_lighter_or_only_darker() -> None:
    for name, sign in (("inferno", 1), ("cividis", 1), ("ink", -1)):
        lights = [luminance(f"#{bytes(colour).hex()}") * sign for colour in colour_map(name)]
        assert all(later >= earlier - 1e-3 for earlier, later in itertools.pairwise(lights)), name


@THEMES
def test_that_zero_of_a_signed_map_is_the_neutral_colour(tokens: Tokens) -> None:
    table = colour_table("signed", tokens)
    for code in (MAX_CODE // 2, MAX_CODE // 2 + 1):
        channels = table[code].to_bytes(4, "big")[1:]
        assert max(channels) - min(channels) <= 8
    assert contrast(f"#{table[MAX_CODE // 2] & 0xFFFFFF:06X}", tokens.plot) < 1.2


@THEMES
@pytest.mark.parametrize("name", ["inferno", "cividis", "ink", "signed"])
def test_that_a_table_holds_a_colour_for_every_code(tokens: Tokens, name: str) -> None:
    table = colour_table(name, tokens)  # type: ignore[arg-type]
    assert len(table) == 256
    assert all(colour >> 24 == 0xFF for colour in table)
    assert table[MASKED] == argb(tokens.mask)
    assert table[NOT_COMPUTED] == argb(tokens.plot)
    assert table[NAN] == argb(NAN_COLOUR)
    assert table[INF] == argb(INF_COLOUR)
    assert not {table[NAN], table[INF]} & set(table[: MAX_CODE + 1])


def test_that_high_contrast_raises_the_hairlines() -> None:
    for tokens in (DARK, LIGHT):
        assert contrast(tokens.line, tokens.window) < 3.0 <= contrast(tokens.high_contrast().line, tokens.window)

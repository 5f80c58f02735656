"""What everything looks like, as plain values: colour tokens, the look of each variant, colours of memory terms and maps.

No Qt: the window, exported figures and the command line draw from the same values. Nothing else in the program holds a
colour.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from attnscope_engine.catalogue import variants
from attnscope_engine.protocol import INF, MASKED, MAX_CODE, NAN, NOT_COMPUTED
from attnscope_engine.variant import Family

from attnscope.colour_maps import Rgb, colour_map, linear

Marker = Literal[
    "square",
    "circle",
    "bar",
    "pentagon",
    "triangle_up",
    "triangle_down",
    "triangle_right",
    "triangle_left",
    "diamond",
    "plus",
    "cross",
    "star",
    "hourglass",
    "bow_tie",
]
Growth = Literal["n2", "n", "constant"]
ColourMap = Literal["inferno", "cividis", "ink", "signed"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Every colour of one theme, as `#RRGGBB`."""

    dark: bool
    window: str
    """Menu, page bar, ground of a page."""
    panel: str
    """Left panel, toolbars, docks, status bar."""
    plot: str
    """Ground of data."""
    raised: str
    """Fields, buttons, combos."""
    hover: str
    """Hovered row or button, track of bars."""
    tint: str
    """Selected segment or token."""
    line: str
    """Hairlines and frames."""
    grid: str
    groove: str
    """Slider track."""
    edge: str
    """Tick marks, checkbox rims, underline of fields."""
    text1: str
    """Values, names."""
    text2: str
    """Labels, predictions."""
    text3: str
    """Hints, units, disabled."""
    accent: str
    """What the user sets or points at, and nothing else."""
    on_accent: str
    danger: str
    warn: str
    ok: str
    mask: str
    """Masked part of a map."""

    def high_contrast(self) -> Tokens:
        """The same with hairlines that reach 3:1, for systems that ask for contrast."""
        return replace(self, line=self.edge)


DARK = Tokens(
    dark=True,
    window="#15181C",
    panel="#1B1F24",
    plot="#0F1215",
    raised="#262B32",
    hover="#2F353D",
    tint="#17383B",
    line="#2C323A",
    grid="#20252B",
    groove="#3B434D",
    edge="#7F8893",
    text1="#E8EBEF",
    text2="#AFB7C1",
    text3="#98A1AC",
    accent="#3CC4CB",
    on_accent="#062022",
    danger="#FF857A",
    warn="#E8B551",
    ok="#6FC48E",
    mask="#2A2F37",
)
LIGHT = Tokens(
    dark=False,
    window="#E8EBEE",
    panel="#F4F6F8",
    plot="#FFFFFF",
    raised="#FFFFFF",
    hover="#E1E6EA",
    tint="#D8EEEF",
    line="#D3D9DF",
    grid="#E9ECEF",
    groove="#C2C9D1",
    edge="#77818C",
    text1="#12161B",
    text2="#48515C",
    text3="#57616C",
    accent="#00757D",
    on_accent="#FFFFFF",
    danger="#B3261E",
    warn="#855600",
    ok="#1B7543",
    mask="#DDE1E6",
)
NAN_COLOUR = "#00E676"
INF_COLOUR = "#00B8FF"


@dataclass(frozen=True, slots=True)
class Look:
    """How a variant is drawn in every list, plot, legend and export."""

    dark: str
    light: str
    marker: Marker
    dash: tuple[float, ...]
    """Pixels on, off, on, … of a line 1.75 px wide; empty: solid."""
    hollow: bool = False
    """Of a variant that takes its parent's colour and marker: the marker is an outline."""
    thin: bool = False
    """The parent is on the same plot: the line has half its width."""

    def colour(self, tokens: Tokens) -> str:
        return self.dark if tokens.dark else self.light

    def dash_pattern(self, width: float) -> list[float]:
        """The dash in multiples of the pen's width, as Qt wants it."""
        return [length / width for length in self.dash]


DASHES: dict[Family, tuple[float, ...]] = {"softmax": (), "restricted": (7.0, 3.0), "linear": (9.0, 2.5, 1.8, 2.5)}
"""The dash tells the family."""

LOOKS: dict[str, Look] = {
    "softmax_naive": Look("#D76305", "#AA583E", "square", DASHES["softmax"]),
    "softmax_tiled": Look("#4385FE", "#1A58EB", "circle", DASHES["softmax"]),
    "mla": Look("#13788F", "#05678E", "bar", DASHES["softmax"]),
    "fox": Look("#9D6A52", "#785507", "pentagon", DASHES["softmax"]),
    "sliding_window": Look("#22CC83", "#12916F", "triangle_up", DASHES["restricted"]),
    "chunked": Look("#FDF234", "#A47F00", "triangle_down", DASHES["restricted"]),
    "pattern": Look("#A8C21E", "#0C2901", "triangle_right", DASHES["restricted"]),
    "top_k": Look("#DDF8A8", "#3A3F04", "triangle_left", DASHES["restricted"]),
    "linear": Look("#FC9BC4", "#792861", "diamond", DASHES["linear"]),
    "retnet": Look("#7846EA", "#9376B1", "plus", DASHES["linear"]),
    "gla": Look("#AEADFD", "#4201AF", "cross", DASHES["linear"]),
    "mamba2": Look("#C3257D", "#460023", "star", DASHES["linear"]),
    "deltanet": Look("#C92B1E", "#9B0E40", "hourglass", DASHES["linear"]),
    "gated_deltanet": Look("#B382B9", "#360251", "bow_tie", DASHES["linear"]),
}
"""By variant name. Smallest ΔE2000 of all 91 pairs under simulated colour blindness (Machado 2009): 10.0 dark, 9.3 light."""

FAMILY_LOOKS: dict[Family, Look] = {
    "softmax": Look(DARK.edge, LIGHT.edge, "square", DASHES["softmax"]),
    "restricted": Look(DARK.edge, LIGHT.edge, "triangle_up", DASHES["restricted"]),
    "linear": Look(DARK.edge, LIGHT.edge, "diamond", DASHES["linear"]),
}
"""For a variant without a colour of its own: grey, with its family's dash and marker."""


def look(variant_name: str, beside: Collection[str] = ()) -> Look:
    """The look of a variant: its own, its parent's (`Variant.like`) hollow, or its family's in grey.

    Args:
        variant_name: a name of the catalogue, or any other, which is grey.
        beside: names of the variants whose lines are on the same plot.
    """
    found = LOOKS.get(variant_name)
    if found is not None:
        return found
    variant = variants().get(variant_name)
    if variant is None:
        return FAMILY_LOOKS["softmax"]
    parent = LOOKS.get(variant.like, FAMILY_LOOKS[variant.family])
    hollow = variant.like in LOOKS
    return replace(parent, dash=DASHES[variant.family], hollow=hollow, thin=hollow and variant.like in beside)


# Memory terms: colour says how a term grows. (dark, light)
_TERM_COLOURS: dict[str, tuple[str, str]] = {
    "scores": ("#D0583C", "#B5472F"),
    "weights": ("#EBA283", "#E0A48F"),
    "q k v out": ("#5B6B7D", "#8A97A6"),
    "workspace": ("#8797AB", "#B4BFCB"),
    "latent": ("#3D4B5B", "#5F6D7D"),
    "KV cache": ("#3D4B5B", "#5F6D7D"),
    "LSE": ("#C9D2DC", "#3C4856"),
    "state": ("#A994F0", "#7C6BC4"),
}
_GROWTH_TERMS: dict[Growth, str] = {"n2": "scores", "n": "workspace", "constant": "state"}


def term_colour(term_name: str, growth: Growth, tokens: Tokens) -> str:
    """Colour of a memory term's bar; a name that the table lacks takes the colour of its growth."""
    dark, light = _TERM_COLOURS.get(term_name, _TERM_COLOURS[_GROWTH_TERMS[growth]])
    return dark if tokens.dark else light


def luminance(colour: str) -> float:
    """Relative luminance of `#RRGGBB`, 0 to 1 (WCAG 2.2)."""
    red, green, blue = bytes.fromhex(colour[1:])
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_on(colour: str) -> str:
    """Black or white, whichever is stronger on a filled bar."""
    return max(("#000000", "#FFFFFF"), key=lambda text: contrast(text, colour))


@functools.lru_cache(maxsize=16)
def colour_table(name: ColourMap, tokens: Tokens) -> tuple[int, ...]:
    """256 colours `0xAARRGGBB` for the codes of a `protocol.Picture`: values, then masked, not computed, NaN, Inf."""
    stem: str = name if name != "signed" else "signed_dark" if tokens.dark else "signed_light"
    colours = colour_map(stem)
    table = [_argb(colours[round(code / MAX_CODE * 255)]) for code in range(MAX_CODE + 1)]
    table += [_argb(_bytes(tokens.plot))] * (256 - len(table))
    for code, colour in ((MASKED, tokens.mask), (NOT_COMPUTED, tokens.plot), (NAN, NAN_COLOUR), (INF, INF_COLOUR)):
        table[code] = _argb(_bytes(colour))
    return tuple(table)


def _bytes(colour: str) -> Rgb:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _argb(colour: Rgb) -> int:
    red, green, blue = colour
    return 0xFF000000 | red << 16 | green << 8 | blue

"""In which order variants are listed, and what a click or a drag makes of the checked ones. Pure: no Qt.

The list keeps the catalogue's places; the checked ones stand in the order of the map's panels on the places that they have
among them. So a check moves no row, and a drag moves only checked ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnscope_engine.variant import Family, Variant

ALWAYS_SHOWN = 5
GROUPS: dict[Family, str] = {
    "restricted": "Softmax, restricted",
    "linear": "Linear and recurrent",
    "softmax": "Latent and gated softmax",
}
"""Heads of the groups, in their order. The family of a variant is its group."""


def main_list(variants: Mapping[str, Variant], checked: Sequence[str]) -> list[str]:
    """The rows above the groups: the first five, and every one that is in use."""
    names = [name for index, name in enumerate(variants) if index < ALWAYS_SHOWN or name in checked]
    places = iter([name for name in checked if name in names])
    return [next(places) if name in checked else name for name in names]


def grouped(variants: Mapping[str, Variant], checked: Sequence[str]) -> dict[Family, list[str]]:
    """The rest, by group; empty groups are left out."""
    above = set(main_list(variants, checked))
    found = {
        family: [name for name, variant in variants.items() if variant.family == family and name not in above]
        for family in GROUPS
    }
    return {family: names for family, names in found.items() if names}


def toggled(variants: Mapping[str, Variant], checked: Sequence[str], name: str) -> tuple[str, ...]:
    """`checked` with one more or one less, each at the place where it is listed."""
    if name in checked:
        return tuple(other for other in checked if other != name)
    listed = main_list(variants, checked)
    if name not in listed:
        return (*checked, name)
    return tuple(other for other in listed if other in checked or other == name)


def moved(checked: Sequence[str], name: str, place: int) -> tuple[str, ...]:
    """`checked` with one of them at another place."""
    others = [other for other in checked if other != name]
    place = min(max(place, 0), len(others))
    return (*others[:place], name, *others[place:])

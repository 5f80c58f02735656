"""More variants than the program has: a newcomer from a folder of its own, one without a map, a catalogue of thirty."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

from attnscope_engine import catalogue
from attnscope_engine import variants as package
from attnscope_engine.variant import Family, Variant, no_visible, no_weights

NEWCOMER = Path(__file__).with_name("newcomer.py")


@contextmanager
def added(folder: Path) -> Iterator[Variant]:
    """Puts the newcomer's file, and nothing else, where the catalogue looks; the engine of `engine_command` looks there, too."""
    shutil.copy(NEWCOMER, folder / "newcomer.py")
    package.__path__.append(str(folder))
    catalogue.variants.cache_clear()
    try:
        yield catalogue.find("newcomer")
    finally:
        package.__path__.remove(str(folder))
        sys.modules.pop(f"{package.__name__}.newcomer", None)
        catalogue.variants.cache_clear()


def engine_command(folder: Path) -> tuple[str, ...]:
    """The real engine of the processor, which knows the variants of the folder as well."""
    code = (
        f"from attnscope_engine import variants; variants.__path__.append({str(folder)!r}); "
        "from attnscope_engine.__main__ import main; raise SystemExit(main())"
    )
    return (sys.executable, "-c", code, "--device", "cpu")


def without_map() -> Variant:
    """A variant of which no map exists."""
    return dataclasses.replace(
        catalogue.find("linear"),
        name="mapless",
        title="Mapless",
        order=98,
        weights=no_weights,
        visible=no_visible,
        why_no_map="Mapless has no map: its output is not linear in V.",
    )


@contextmanager
def catalogue_of(*more: Variant) -> Iterator[None]:
    """The catalogue with these variants at its end, as the modules see it that ask for it."""
    every = MappingProxyType({**catalogue.variants(), **{variant.name: variant for variant in more}})
    with mock.patch.object(catalogue, "variants", lambda: every), _everywhere(every):
        yield


@contextmanager
def _everywhere(every: Any) -> Iterator[None]:
    """Modules that took the function by name."""
    holders = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("attnscope") and getattr(module, "variants", None) is catalogue_variants
    ]
    for module in holders:
        module.variants = lambda: every  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in holders:
            module.variants = catalogue_variants  # type: ignore[attr-defined]


catalogue_variants = catalogue.variants

TWENTY_FIVE: tuple[tuple[str, str, Family, str, str], ...] = (
    ("alibi", "ALiBi", "softmax", "softmax_naive", "softmax_tiled"),
    ("softcap", "Softcap", "softmax", "softmax_naive", "softmax_tiled"),
    ("sink_bias", "Sink bias", "softmax", "softmax_naive", "softmax_tiled"),
    ("mla", "MLA", "softmax", "", "softmax_tiled"),
    ("fox", "FoX", "softmax", "", "softmax_tiled"),
    ("differential", "Differential", "softmax", "fox", "softmax_tiled"),
    ("gqa", "GQA", "softmax", "softmax_tiled", "softmax_tiled"),
    ("pattern", "Block mask", "restricted", "", "chunked"),
    ("strided", "Strided", "restricted", "pattern", "chunked"),
    ("dilated", "Dilated window", "restricted", "sliding_window", "sliding_window"),
    ("bigbird", "BigBird", "restricted", "pattern", "sliding_window"),
    ("document", "Documents", "restricted", "pattern", "chunked"),
    ("prefix", "Prefix", "restricted", "pattern", "sliding_window"),
    ("top_k", "Top-k", "restricted", "", "chunked"),
    ("nsa", "NSA", "restricted", "top_k", "chunked"),
    ("moba", "MoBA", "restricted", "top_k", "chunked"),
    ("performer", "Performer", "linear", "linear", "linear"),
    ("retnet", "RetNet", "linear", "", "linear"),
    ("lightning", "Lightning", "linear", "retnet", "linear"),
    ("gla", "GLA", "linear", "", "linear"),
    ("mamba2", "Mamba-2", "linear", "", "linear"),
    ("deltanet", "DeltaNet", "linear", "", "linear"),
    ("gated_deltanet", "Gated DeltaNet", "linear", "", "linear"),
    ("kda", "KDA", "linear", "gated_deltanet", "linear"),
    ("based", "Based", "linear", "linear", "linear"),
)
"""(name, title, family, like, whose copy)"""


def twenty_five() -> tuple[Variant, ...]:
    """Copies of the program's own under the names of those that are to come."""
    return tuple(
        dataclasses.replace(catalogue.find(copy), name=name, title=title, family=family, like=like, order=10 + index)
        for index, (name, title, family, like, copy) in enumerate(TWENTY_FIVE)
    )

"""More variants than the program has: a newcomer from a folder of its own, one without a map, a catalogue of thirty."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attnscope_engine import catalogue
from attnscope_engine import variants as package
from attnscope_engine.variant import Family

NEWCOMER = {"newcomer": Path(__file__).with_name("newcomer.py").read_text(encoding="utf-8")}
"""Name → text of its file."""

MAPLESS = {
    "mapless": """
from dataclasses import replace
from attnscope_engine.variant import no_visible, no_weights
from attnscope_engine.variants.linear import VARIANT as PARENT
VARIANT = replace(
    PARENT, name="mapless", title="Mapless", order=98, like="linear", weights=no_weights, visible=no_visible,
    why_no_map="Mapless has no map: its output is not linear in V.",
)
"""
}


@contextmanager
def added(folder: Path, files: Mapping[str, str]) -> Iterator[None]:
    """Puts files, and nothing else, where the catalogue looks; the engine of `engine_command` looks there, too."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    package.__path__.append(str(folder))
    catalogue.variants.cache_clear()
    try:
        yield
    finally:
        package.__path__.remove(str(folder))
        for name in files:
            sys.modules.pop(f"{package.__name__}.{name}", None)
        catalogue.variants.cache_clear()


def engine_command(folder: Path) -> tuple[str, ...]:
    """The real engine of the processor, which knows the variants of the folder as well."""
    code = (
        f"from attnscope_engine import variants; variants.__path__.append({str(folder)!r}); "
        "from attnscope_engine.__main__ import main; raise SystemExit(main())"
    )
    return (sys.executable, "-c", code, "--device", "cpu")


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


def twenty_five() -> dict[str, str]:
    """Copies of the program's own under the names of those that are to come."""
    return {
        name: "from dataclasses import replace\n"
        f"from attnscope_engine.variants.{copy} import VARIANT as PARENT\n"
        f"VARIANT = replace(PARENT, name={name!r}, title={title!r}, family={family!r}, like={like!r}, order={10 + index})\n"
        for index, (name, title, family, like, copy) in enumerate(TWENTY_FIVE)
    }

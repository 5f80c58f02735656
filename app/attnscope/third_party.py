"""What Attnscope is made of besides itself, for About: of the bundle's THIRD_PARTY.md, else of what is installed. No Qt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from attnscope.build_facts import assets_folder

FILE = "THIRD_PARTY.md"
"""Beside the assets of a bundle; `packaging/licences.py` writes it."""
ROW = re.compile(r"^\| (.+?) \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
TEXT = re.compile(r"^### Text (\d+)\n\n(.*?)\n\n(`{3,})text\n(.*?)\n\3$", re.MULTILINE | re.DOTALL)
FROM_SOURCE = "Attnscope runs from its source here. The licence texts came with the package, in its folder .dist-info of:"


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is bundled or installed."""

    name: str
    version: str
    licence: str
    words: str
    """Its licence texts, one after the other; from source a sentence that says where they are."""


def third_party(folder: Path | None = None) -> tuple[Part, ...]:
    """All parts by name, of the bundle's file in `folder` (default: of the assets), else of the packages that are needed here."""
    folder = folder or assets_folder()
    try:
        page = (folder / FILE).read_text(encoding="utf-8") if folder is not None else ""
    except (OSError, UnicodeDecodeError):
        page = ""
    return read(page) or installed()


def read(page: str) -> tuple[Part, ...]:
    """The parts that a THIRD_PARTY.md holds; none of a text that is not one."""
    texts = {number: f"{about}\n\n{words}" for number, about, _, words in TEXT.findall(page)}
    table = page.partition("\n## ")[0]
    found = []
    for name, version, licence, source, links in ROW.findall(table):
        numbers = re.findall(r"#text-(\d+)", links)
        if numbers and all(number in texts for number in numbers):
            words = "\n\n\n".join([source, *(texts[number] for number in numbers)])
            found.append(Part(name.replace("\\|", "|"), version, licence, words))
    return tuple(found)


def installed(root: str = "attnscope") -> tuple[Part, ...]:
    """The distributions that `root` pulls in, by name, with those of its extras that are installed; not what only tests use."""
    waiting, known = [root], {}
    while waiting:
        name = waiting.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if plain(name) in known:
            continue
        known[plain(name)] = distribution
        asked = distribution.requires or ()
        kept = [
            words for words in asked if "extra" not in words or (plain(name) == root and not re.search("extra == .test", words))
        ]
        waiting += [re.split(r"[^\w.-]", words, maxsplit=1)[0] for words in kept]
    known.pop(root, None)
    return tuple(part_of(known[key]) for key in sorted(known))


def plain(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def part_of(distribution: metadata.Distribution) -> Part:
    about = distribution.metadata
    classified = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or () if line.startswith("License ::")]
    expression, whole = ("".join(about.get_all(field) or ()).strip() for field in ("License-Expression", "License"))
    short = whole if "\n" not in whole and len(whole) < 80 else ""  # some put the whole text there
    licence = expression or short or ", ".join(classified) or "see its text"
    return Part(distribution.name, distribution.version, licence, f"{FROM_SOURCE}\n{distribution.locate_file('')}")

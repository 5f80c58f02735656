"""Where add-ons lie: `<data folder>/attnscope/addons/<name>`, each with a manifest that says for which Python it was made."""

from __future__ import annotations

from pathlib import Path

import msgspec
import platformdirs
from msgspec import Struct

from attnscope_engine.addons.lock import ABOUT, addons

MANIFEST = "addon.json"
PARTS = ".parts"
"""Files fetched, whole or in part."""


class Manifest(Struct, frozen=True):
    """Written last into an add-on's folder: where it stands, the add-on is whole."""

    name: str
    identity: str
    target: str
    bytes: int
    """On the disk."""
    packages: tuple[str, ...]
    """Such as `torch 2.13.0`."""


def default_root() -> Path:
    """The folder of all add-ons of this user."""
    return platformdirs.user_data_path("attnscope", appauthor=False) / "addons"


def manifest(root: Path, name: str) -> Manifest | None:
    """None where the add-on is not there, or not whole."""
    try:
        found = msgspec.json.decode((root / name / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.name == name else None


def installed(root: Path) -> dict[str, Manifest]:
    """Every add-on that is there and whole, usable or not."""
    return {name: found for name in ABOUT if (found := manifest(root, name)) is not None}


def why_not_used(found: Manifest, target: str) -> str:
    """A sentence for an add-on of another Python, system or release; empty for one that this program can use."""
    if found.target != target:
        return f"It was made for {target_words(found.target)}; this program is {target_words(target)}: add it again."
    current = addons(target).get(found.name)
    if current is None or current.identity != found.identity:
        return f"It holds other versions ({', '.join(found.packages[:1])}) than this release was tested with: add it again."
    return ""


def target_words(target: str) -> str:
    """`cp311-linux_x86_64` as a person reads it."""
    python, _, system = target.partition("-")
    number = python.removeprefix("cp")
    return f"Python {number[:1]}.{number[1:]} on {system}" if system else "for a system without add-ons"


def parts_bytes(root: Path, files: tuple[str, ...]) -> int:
    """Of these files, what is fetched already."""
    total = 0
    for file in files:
        for path in (root / PARTS / file, root / PARTS / f"{file}.part"):
            if path.is_file():
                total += path.stat().st_size
    return total

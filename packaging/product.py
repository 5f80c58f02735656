"""What the product is called and where its pieces lie: every recipe of this folder reads it here. Standard library only."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
"""Everything built goes here, and nothing else does."""

NAME = "Attnscope"
COMMAND = "attnscope"
ID = "org.attnscope.Attnscope"
"""Reverse-DNS: desktop entry, icon, AppStream component, macOS bundle, Windows' class of files."""
SUMMARY = "An oscilloscope for attention"
DEVELOPER = "The Attnscope developers"
LICENCE = "Apache-2.0"
MIME = "application/vnd.attnscope"
SUFFIX = ".attnscope"
"""Of a saved session."""
FLAVOURS = ("all", "small")
"""`all` runs on an NVIDIA GPU as it is; `small` has no CuPy, which can be added later."""

ICON = ROOT / "assets" / "attnscope_assets" / "icons" / "attnscope.svg"
ICON_256 = ICON.with_name("attnscope-256.png")
LICENCE_FILE = ROOT / "LICENSE"
THIRD_PARTY = DIST / "THIRD_PARTY.md"
"""Names, versions and licence texts of all that is bundled; `licences.py` makes it."""


def version() -> str:
    """Of `pyproject.toml`. Raises: ValueError where that has none."""
    found = re.search(r'^version = "([^"]+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError("pyproject.toml has no version")
    return found[1]


def bundle(flavour: str) -> Path:
    """The folder that PyInstaller made: `attnscope`, `_internal/`."""
    return DIST / flavour / COMMAND

"""Which Attnscope this is: version, commit, and whether it runs from its source or from a bundle. No Qt, no heavy import."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from attnscope import __version__

STAMP = "build.json"
"""Beside the assets of a bundle; `packaging/stamp.py` writes it."""
GIT_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """How this program came to be. Empty texts: not known."""

    version: str
    commit: str = ""
    built: str = ""
    """Day of the bundle's commit, `2026-11-24`; empty from source."""
    flavour: str = ""
    """Of the bundle; empty from source."""
    dirty: bool = False
    """Whether the source had changes that no commit holds."""

    def program(self) -> str:
        """What files say they were made by: `Attnscope 0.1.0 (abc123def456, changed)`."""
        inside = [word for word in (self.commit, "changed" if self.dirty else "") if word]
        return f"Attnscope {self.version} ({', '.join(inside)})" if inside else f"Attnscope {self.version}"

    def build(self) -> str:
        """Such as `from source, commit abc123def456, with changes` or `bundle all, commit …, built of 2026-11-24`."""
        parts = [f"bundle {self.flavour}" if self.flavour else "from source"]
        parts.append(f"commit {self.commit}{' with changes' if self.dirty else ''}" if self.commit else "commit unknown")
        if self.built:
            parts.append(f"of {self.built}")
        return ", ".join(parts)


def version_line() -> str:
    """What `attnscope --version` prints: never asks git, which may take its time."""
    stamp = stamped()
    said = [word for word in (stamp and stamp.commit and f"commit {stamp.commit}", stamp and stamp.flavour) if word]
    return f"attnscope {__version__}" + (f" ({', '.join(said)})" if said else "")


@functools.cache
def build_facts() -> BuildFacts:
    """Of the bundle's stamp, else of the checkout, else only the version. May wait for git: not for the window's start."""
    return stamped() or of_checkout(Path(__file__).resolve().parents[2]) or BuildFacts(__version__)


def assets_folder() -> Path | None:
    """Where the assets lie, without importing them; None when they are not installed."""
    found = importlib.util.find_spec("attnscope_assets")
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def stamped(folder: Path | None = None) -> BuildFacts | None:
    """What the stamp in `folder` (default: of the assets) says; None without one, or with one that is not whole."""
    folder = folder or assets_folder()
    try:
        data = (folder / STAMP).read_bytes() if folder is not None else b""
    except OSError:
        return None
    if not data:
        return None
    import json

    try:
        said = json.loads(data)
        return BuildFacts(
            str(said["version"]), str(said["commit"]), str(said["built"]), str(said["flavour"]), said["dirty"] is True
        )
    except (ValueError, KeyError, TypeError):
        return None


def of_checkout(root: Path) -> BuildFacts | None:
    """What git says of the checkout at `root`; None when it is none, or git is not there, refuses, or does not answer."""
    if not (root / ".git").exists():
        return None
    import subprocess

    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    commit = done.stdout.strip()
    if done.returncode or not commit:
        return None
    return BuildFacts(__version__, commit.removesuffix("-dirty"), dirty=commit.endswith("-dirty"))

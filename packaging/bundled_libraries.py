"""Libraries in a bundle that no wheel brought: PyInstaller takes them from the system that builds, with licences of their own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from distributions import Held, LicenceError, Text, is_library

REFUSED = {
    "libreadline": "readline",
    "libhistory": "readline",
    "libgdbm": "_gdbm",
    "libgdbm_compat": "_dbm",
}
"""Libraries under the GPL without an exception, and the module that pulls each in: they can not stand beside NVIDIA's."""
OF_PYTHON = re.compile(r"^(libpython3|python3\d*\.dll|Python$)")


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the system that builds."""

    name: str
    version: str
    copyright: str
    """Its licence text."""


Row = tuple[str, str, str, str, tuple[Text, ...]]
"""Name, version, licence, source, texts."""


def system_parts(bundle: Path, held: Iterable[Held], owner: Callable[[str], Package | None] | None = None) -> list[Row]:
    """One row for each package of the system whose libraries the bundle holds. `owner`: of a library's file name; default dpkg.

    Raises:
        LicenceError: a library may not be bundled, or is nobody's.

    """
    found: dict[str, Package] = {}
    for name in foreign(bundle, held):
        if module := REFUSED.get(name.split(".")[0]):
            raise LicenceError(f"{name} in the bundle is under the GPL: leave out the module {module}, which needs it.")
        package = (owner or owner_by_dpkg)(name)
        if package is None:
            raise LicenceError(f"{name} in the bundle belongs to no wheel of it and to no package of this system.")
        found[package.name] = package
    return [
        (
            one.name,
            one.version,
            "see its text",
            f"https://packages.debian.org/source/{one.name}",
            (Text("copyright", one.copyright),),
        )
        for _, one in sorted(found.items())
    ]


def foreign(bundle: Path, held: Iterable[Held]) -> list[str]:
    """File names of the shared libraries that neither a wheel nor Python itself brought, sorted."""
    known = {path.rpartition("/")[2] for one in held for path in one.libraries}
    names = set()
    for path in bundle.rglob("*"):
        inside = path.relative_to(bundle).parts
        if path.is_file() and is_library(path.name) and path.name not in known:
            if OF_PYTHON.search(path.name) or any(part.startswith(("lib-dynload", "python3")) for part in inside[:-1]):
                continue
            names.add(path.name)
    return sorted(names)


def owner_by_dpkg(name: str) -> Package | None:
    """The Debian package that has a library of this name in a folder of libraries, by its source package."""
    try:
        listed = subprocess.run(["dpkg-query", "-S", f"*/{name}"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return None
    for line in listed.splitlines():
        package, _, path = line.partition(": ")
        text = Path("/usr/share/doc") / package.split(":")[0].split(",")[0] / "copyright"
        if re.match(rf"(/usr)?/lib/([^/]+-linux-gnu[^/]*/)?{re.escape(name)}$", path) and text.is_file():
            asked = ["dpkg-query", "-W", "-f", "${source:Package} ${source:Version}", package.split(",")[0]]
            source, version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
            return Package(source, version, text.read_text(encoding="utf-8", errors="replace"))
    return None

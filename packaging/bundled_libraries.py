"""Libraries in a bundle that no wheel brought: PyInstaller takes them from the system that builds, with licences of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from distributions import Held, LicenceError, is_library

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
    """A package of the system that builds, by its source: one package may have several libraries."""

    name: str
    version: str
    copyright: str
    """Its licence text."""


def system_packages(
    bundle: Path, held: Iterable[Held], owners: Callable[[list[str]], dict[str, Package]] | None = None
) -> list[Package]:
    """The packages of the system whose libraries the bundle holds, by name. `owners` of file names: dpkg by default.

    Raises:
        LicenceError: a library may not be bundled, or is nobody's.

    """
    names = foreign(bundle, held)
    for name in names:
        if module := REFUSED.get(name.split(".")[0]):
            raise LicenceError(f"{name} in the bundle is under the GPL: leave out the module {module}, which needs it.")
    found = (owners or owners_by_dpkg)(names)
    for name in names:
        if name not in found:
            raise LicenceError(f"{name} in the bundle belongs to no wheel of it and to no package of this system.")
    return [package for _, package in sorted({package.name: package for package in found.values()}.items())]


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


def owners_by_dpkg(names: list[str]) -> dict[str, Package]:
    """The Debian package of each name that lies in a folder of libraries, as its source package; none without dpkg."""
    if not names or shutil.which("dpkg-query") is None:
        return {}
    asked = ["dpkg-query", "-S", *(f"*/{name}" for name in names)]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    found: dict[str, Package] = {}
    for line in sorted(listed.splitlines()):
        owner, _, path = line.partition(": ")
        folder, _, name = path.rpartition("/")
        if name in names and name not in found and re.fullmatch(r"(/usr)?/lib(/[^/]+-linux-gnu[^/]*)?", folder):
            package = owner.split(",")[0]
            text = Path("/usr/share/doc") / package.split(":")[0] / "copyright"
            if text.is_file():
                found[name] = Package(*source_of(package), text.read_text(encoding="utf-8", errors="replace"))
    return found


def source_of(package: str) -> tuple[str, str]:
    """Source package and version of an installed Debian package."""
    asked = ["dpkg-query", "-W", "-f", "${source:Package} ${source:Version}", package]
    source, version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return source, version

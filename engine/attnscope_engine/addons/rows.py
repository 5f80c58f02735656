"""Each add-on as a list shows it: what it brings, how much it is, and how it stands with it here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from msgspec import Struct

from attnscope_engine.addons.fitting import Machine, fitting, why_unfit
from attnscope_engine.addons.folder import default_root, installed, parts_bytes, why_not_used
from attnscope_engine.addons.lock import addons, this_target
from attnscope_engine.addons.using import CUPY, cupy_package, provided

Standing = Literal["absent", "installed", "stale", "unfit", "own"]
OWN_PACKAGE = {"torch": "torch", "cublas13": "nvidia-cublas", "cublas12": "nvidia-cublas-cu12"}


class Row(Struct, frozen=True):
    """One add-on."""

    name: str
    title: str
    brings: str
    bytes: int
    """To fetch."""
    host: str
    """From where."""
    standing: Standing
    reason: str = ""
    """A sentence, for `stale`, `unfit` and `own`; for `absent` what speaks against fetching it."""
    disk_bytes: int = 0
    """Of an installed one."""
    parts_bytes: int = 0
    """Fetched already, of an absent one."""
    fits: bool = False
    """Whether these are the GPU parts for this machine."""
    fetchable: bool = True
    """False: from files only."""


def rows(machine: Machine, root: Path | None = None, target: str | None = None) -> tuple[Row, ...]:
    """All add-ons that exist for this system. To be asked before `use`: what is on the path counts as the program's own."""
    root, target = root or default_root(), this_target() if target is None else target
    there = installed(root)
    own_cupy = cupy_package(sys.path)
    best = fitting(machine.driver, machine.capability)
    found = []
    for name, addon in addons(target).items():
        about = addon.about
        standing: Standing = "absent"
        reason = ""
        disk = there[name].bytes if name in there else 0
        unfit = why_unfit(name, machine.driver, machine.capability)
        if not unfit and best and name in ("gpu12", "cublas12") and best == "gpu13":
            unfit = "The parts for CUDA 13 fit this GPU."
        if name in there:
            reason = why_not_used(there[name], target)
            standing = "stale" if reason else "installed"
        elif CUPY.get(own_cupy) == name or provided(OWN_PACKAGE.get(name, name), sys.path):
            standing, reason = "own", "The program has it already."
        elif unfit:
            standing, reason = "unfit", unfit
        elif addon.unchecked:
            reason = f"From files only: this release does not know the check sum of {addon.unchecked[0].name} itself."
        found.append(
            Row(
                name=name,
                title=about.title,
                brings=about.brings,
                bytes=addon.bytes,
                host=addon.host,
                standing=standing,
                reason=reason,
                disk_bytes=disk,
                parts_bytes=parts_bytes(root, tuple(wheel.file for wheel in addon.wheels))
                if standing in ("absent", "stale")
                else 0,
                fits=name.replace("cublas", "gpu") == best,
                fetchable=not addon.unchecked,
            )
        )
    return tuple(found)

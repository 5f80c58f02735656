"""How the engine comes to use add-ons: their folders go onto its path before anything imports CuPy or torch."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

from attnscope_engine.addons.fitting import Machine, fitting, read_machine
from attnscope_engine.addons.folder import default_root, installed, why_not_used
from attnscope_engine.addons.lock import this_target

CUPY = {"cupy-cuda13x": "gpu13", "cupy-cuda12x": "gpu12"}
"""Package that provides CuPy → the add-on that holds it."""
CUDA_FOLDER = {"gpu13": "cu13", "gpu12": "cuda_nvrtc"}
"""Where below `nvidia/` the wheels of each keep the compiler."""


def usable(root: Path, target: str) -> tuple[str, ...]:
    """Names of the add-ons that are there and made for this program."""
    return tuple(name for name, found in installed(root).items() if not why_not_used(found, target))


def provided(package: str, path: list[str]) -> str:
    """The entry of `path` whose distribution this is, "" for none."""
    for entry in path:
        if any(importlib.metadata.distributions(name=package, path=[entry])):
            return entry
    return ""


def cupy_package(path: list[str]) -> str:
    """Name of the package whose CuPy an import would take: the first of `path`. Empty when there is none."""
    found = [(path.index(entry), package) for package in CUPY if (entry := provided(package, path))]
    return min(found)[1] if found else ""


def order(names: tuple[str, ...], own: str, fits: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which add-ons go before the program's own packages, and which behind them.

    Behind is the rule. GPU parts that fit this machine go before a CuPy of the program's own (`own`, "" for none) that does
    not; cuBLAS and CuPy of one CUDA version belong together.
    """
    major = fits.removeprefix("gpu")
    if not major or f"gpu{major}" not in names or CUPY.get(own, "") in ("", fits):
        ordered = sorted(names, key=lambda name: not major or not name.endswith(major))
        return (), tuple(ordered)
    first = tuple(name for name in names if name in (f"gpu{major}", f"cublas{major}"))
    return first, tuple(name for name in names if name not in first)


def is_contested(names: tuple[str, ...], own: str) -> bool:
    """Whether two kinds of GPU parts are there, so that the driver must be asked which of them fits."""
    return len({name for name in names if name in CUDA_FOLDER} | ({CUPY[own]} if own else set())) > 1


def use(root: Path | None = None, target: str | None = None) -> tuple[str, ...]:
    """Puts the folders of usable add-ons onto `sys.path`, at its end where nothing speaks for another place. Names of them.

    Where CuPy will come from an add-on, CUDA_PATH says where its libraries are: else it would start `sys.executable` to look
    for them, which in a frozen program is the program itself.
    """
    root = root or default_root()
    if not root.is_dir():
        return ()
    names = usable(root, this_target() if target is None else target)
    if not names:
        return ()
    own = cupy_package(sys.path)
    machine = read_machine() if is_contested(names, own) else Machine()
    first, last = order(names, own, fitting(machine.driver, machine.capability))
    sys.path[:0] = [str(root / name) for name in first]
    sys.path.extend(str(root / name) for name in last)
    name = CUPY.get(cupy_package(sys.path), "")
    if name in names and provided(next(package for package in CUPY if CUPY[package] == name), sys.path) == str(root / name):
        os.environ["CUDA_PATH"] = str(root / name / "nvidia" / CUDA_FOLDER[name])
    return names

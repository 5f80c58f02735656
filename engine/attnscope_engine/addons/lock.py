"""What add-ons exist, and which files each is made of here: read from `lock.json`, which `packaging/addon_lock.py` writes."""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from attnscope_engine.addons import AddonError

LOCK = Path(__file__).with_name("lock.json")
SYSTEMS = {
    ("linux", "x86_64"): "linux_x86_64",
    ("win32", "amd64"): "win_amd64",
    ("darwin", "arm64"): "macosx_arm64",
}
"""(`sys.platform`, `platform.machine()` in small letters) → the name that `lock.json` uses."""


class Wheel(Struct, frozen=True):
    """One file of an add-on."""

    name: str
    version: str
    file: str
    url: str
    sha256: str
    """Empty: not known, so this file is never fetched, only taken from a folder."""
    bytes: int
    targets: tuple[str, ...] = msgspec.field(name="for")
    """Such as `cp311-linux_x86_64`."""


class About(Struct, frozen=True):
    """What a person reads of an add-on."""

    title: str
    brings: str


ABOUT = {
    "gpu13": About("GPU parts, CUDA 13", "CuPy and NVIDIA's compiler, for NVIDIA GPUs with driver 580 or newer."),
    "gpu12": About("GPU parts, CUDA 12", "The same for drivers 525 to 579, and for GPUs older than compute capability 7.5."),
    "cublas13": About("cuBLAS, CUDA 13", "Only Naive on a GPU needs it: it multiplies there with NVIDIA's library."),
    "cublas12": About("cuBLAS, CUDA 12", "Only Naive on a GPU needs it: it multiplies there with NVIDIA's library."),
    "torch": About("torch for the CPU", "The CPU engine on torch instead of NumPy: bf16, and attention fused into one call."),
}
"""In the order in which they are listed."""


class Addon(Struct, frozen=True):
    """An add-on as it is for one Python on one system."""

    name: str
    wheels: tuple[Wheel, ...]

    @property
    def about(self) -> About:
        return ABOUT[self.name]

    @property
    def bytes(self) -> int:
        """To fetch."""
        return sum(wheel.bytes for wheel in self.wheels)

    @property
    def identity(self) -> str:
        """The same for the same files."""
        return hashlib.sha256("\n".join(sorted(wheel.file for wheel in self.wheels)).encode()).hexdigest()[:16]

    @property
    def host(self) -> str:
        """From where the files come, as a person reads it."""
        return " and ".join(sorted({wheel.url.split("/")[2] for wheel in self.wheels}))

    @property
    def unchecked(self) -> tuple[Wheel, ...]:
        """Files whose SHA-256 is not known."""
        return tuple(wheel for wheel in self.wheels if not wheel.sha256)


def this_target() -> str:
    """Which Python runs on which system, such as `cp311-linux_x86_64`; empty where no add-on exists for the system."""
    system = SYSTEMS.get((sys.platform, platform.machine().lower()), "")
    return f"cp{sys.version_info.major}{sys.version_info.minor}-{system}" if system else ""


@functools.cache
def _all() -> dict[str, tuple[Wheel, ...]]:
    return msgspec.json.decode(LOCK.read_bytes(), type=dict[str, tuple[Wheel, ...]])


def addons(target: str) -> dict[str, Addon]:
    """All that exist for a target, in the order of `ABOUT`."""
    found = {}
    for name in ABOUT:
        wheels = tuple(wheel for wheel in _all()[name] if target in wheel.targets)
        if wheels:
            found[name] = Addon(name, wheels)
    return found


def find(name: str, target: str) -> Addon:
    """Raises: AddonError for one that does not exist, or not for this target."""
    if name not in ABOUT:
        raise AddonError(f"There is no add-on {name!r}; there are: {', '.join(ABOUT)}.")
    found = addons(target)
    if name not in found:
        raise AddonError(f"{ABOUT[name].title} does not exist for this system ({target or sys.platform}).")
    return found[name]


def megabytes(size: float) -> str:
    """Decimal, as file managers and package indexes count."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"

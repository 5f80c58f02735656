"""Which GPU parts fit a machine: decided by what its driver and its card can, asked through ctypes without CuPy."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from msgspec import Struct

DRIVER_LIBRARY = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
NEEDS: dict[str, tuple[int, str, tuple[int, int]]] = {"gpu13": (13000, "580", (7, 5)), "gpu12": (12000, "525", (5, 0))}
"""Add-on → CUDA version that the driver must know (as `cuDriverGetVersion` says it), first driver that does, first compute
capability that its compiler knows. The first that fits is taken."""
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR."""


class Machine(Struct, frozen=True):
    """What the NVIDIA driver says."""

    driver: int = 0
    """Such as 13000; 0 without a driver."""
    capability: tuple[int, int] | None = None
    """Of the first GPU; None without one."""


def fitting(driver: int, capability: tuple[int, int] | None) -> str:
    """`gpu13`, `gpu12`, or "" where neither can run."""
    return next((name for name in NEEDS if not why_unfit(name, driver, capability)), "")


def why_unfit(name: str, driver: int, capability: tuple[int, int] | None) -> str:
    """Why a GPU part can not run here, as a sentence; empty when it can, and for what needs no GPU."""
    part = name.replace("cublas", "gpu")
    if part not in NEEDS:
        return ""
    version, release, first = NEEDS[part]
    if not driver:
        return "No NVIDIA driver is found here."
    if driver < version:
        return f"It needs driver {release} or newer; this one knows CUDA {driver // 1000}.{driver % 1000 // 10}."
    if capability is None:
        return "No NVIDIA GPU is found here."
    if capability < first:
        return f"It needs compute capability {first[0]}.{first[1]}; this GPU has {capability[0]}.{capability[1]}."
    return ""


def is_offer(sentence: str) -> bool:
    """Whether why there is no GPU can be mended by an add-on: such a sentence names its parts."""
    return " parts " in sentence


def read_machine() -> Machine:
    """Asks the driver. A broken one may hang or end the process: the window asks in a child."""
    name = DRIVER_LIBRARY.get(sys.platform)
    try:
        driver: Any = ctypes.CDLL(name) if name else None
    except OSError:
        driver = None
    return Machine() if driver is None else asked(driver)


def asked(driver: Any) -> Machine:
    """What this driver library says."""
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return Machine()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return Machine(version.value)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, 0)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, 0)
    return Machine(version.value, (major.value, minor.value))

"""Which device the engine computes on: the GPU when one can be used, else the processor, with the reason in a sentence."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import Any, Literal

from attnscope_engine.addons import fitting
from attnscope_engine.addons.lock import addons, megabytes, this_target
from attnscope_engine.addons.using import CUPY, cupy_package
from attnscope_engine.devices import Device, DeviceFault

Wanted = Literal["auto", "cpu", "cuda"]

DRIVER_VERSION_FILE = Path("/proc/driver/nvidia/version")
CUPY_NEEDS = {package: fitting.NEEDS[addon] for package, addon in CUPY.items()}
"""CuPy's package → what `fitting.NEEDS` says of it."""

NO_DRIVER = "No NVIDIA driver found: everything runs on the CPU."
REASONS = {
    34: "The CUDA driver library found is a stub without a driver: install the NVIDIA driver, or use the CPU.",
    46: "The GPU is in use by another program alone (code 46): end that program, or use the CPU.",
    100: "No CUDA device found (code 100): switch the GPU on, or unset CUDA_VISIBLE_DEVICES if that hides it.",
    802: "The GPU is not ready yet (code 802): start the NVIDIA fabric manager, or try again in a minute.",
    803: "The NVIDIA driver and its library differ in version (code 803): restart this machine to finish the driver's update.",
    804: "The CUDA compatibility library does not support this GPU (code 804): remove it, or update the driver.",
    999: "The NVIDIA driver answers with an unknown error (code 999): restart this machine, or reload the nvidia_uvm module.",
}
"""What `cuInit` or `cuDeviceGetCount` answered → a sentence with what to do."""


def pick(wanted: Wanted) -> tuple[Device, str]:
    """The device, and why it is not a GPU: a sentence, empty when it is one or when the CPU was asked for."""
    if wanted != "cpu":
        reason = why_no_gpu()
        if not reason:
            try:
                return _cuda_device(), ""
            except (DeviceFault, ImportError, OSError, RuntimeError) as error:
                reason = f"The GPU could not be used: {_sentence(error)}"
    else:
        reason = ""
    from attnscope_engine.devices.cpu import CpuDevice

    return CpuDevice(), reason


def _cuda_device() -> Device:
    from attnscope_engine.devices.cuda import CudaDevice

    return CudaDevice()


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if text.endswith(".") else f"{text}."


def why_no_gpu() -> str:
    """Empty when a driver, a device and CuPy are there, else the first thing missing. Costs milliseconds: imports nothing."""
    name = fitting.DRIVER_LIBRARY.get(sys.platform)
    if name is None:
        return "CUDA does not exist on this system: everything runs on the CPU."
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return NO_DRIVER
    return _why_driver_not(driver) or _why_cupy_not(driver)


def _why_driver_not(driver: Any) -> str:
    code = int(driver.cuInit(0))
    count = ctypes.c_int(0)
    if code == 0:
        code = int(driver.cuDeviceGetCount(ctypes.byref(count)))
    if code == 0 and count.value == 0:
        code = 100
    if code == 35:
        package = _installed_cupy()
        return _too_old(_driver_release(), CUPY_NEEDS.get(package, fitting.NEEDS["gpu12"])[1], package)
    return (
        ""
        if code == 0
        else REASONS.get(code, f"The NVIDIA driver answers with error {code}: restart this machine, or use the CPU.")
    )


def _why_cupy_not(driver: Any) -> str:
    package = _installed_cupy()
    machine = fitting.asked(driver)
    if not package:
        fits = fitting.fitting(machine.driver, machine.capability)
        if not fits:
            return f"{fitting.why_unfit('gpu12', machine.driver, machine.capability)} Everything runs on the CPU."
        return f"A GPU is there, but the {_parts(fits)} are not: add them, or use the CPU."
    version, release, capability = CUPY_NEEDS.get(package, (0, "", (0, 0)))
    if machine.driver < version:
        return _too_old(_driver_release(), release, package)
    if machine.capability is not None and machine.capability < capability:
        have, need = (".".join(map(str, pair)) for pair in (machine.capability, capability))
        return f"This GPU's compute capability {have} is older than {need}: {_way_out(package)}."
    return ""


def _too_old(have: str, need: str, package: str) -> str:
    """Code 35: the driver can not run what is installed."""
    driver = f"Driver {have}" if have else "The NVIDIA driver"
    return f"{driver} is older than {need}: {_way_out(package)}."


def _way_out(package: str) -> str:
    return f"the {_parts('gpu12', 'can be used ')}" if package == "cupy-cuda13x" else "update it, or use the CPU"


def _parts(name: str, verb: str = "") -> str:
    """`CUDA 12 parts (230 MB)`; the window offers what a sentence with these words speaks of (`fitting.is_offer`)."""
    addon = addons(this_target()).get(name)
    size = f" {verb}({megabytes(addon.bytes)})" if addon else f" {verb}".rstrip()
    return f"CUDA {name.removeprefix('gpu')} parts{size}"


def _installed_cupy() -> str:
    """Name of the package that provides CuPy, empty when there is none."""
    return cupy_package(sys.path) or ("cupy" if importlib.util.find_spec("cupy") is not None else "")


def _driver_release() -> str:
    """First number of the driver's release, such as "580"; empty where it can not be had."""
    try:
        first = DRIVER_VERSION_FILE.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return ""
    numbers = [word for word in first.split() if word[:1].isdigit() and "." in word]
    return numbers[0].split(".")[0] if numbers else ""

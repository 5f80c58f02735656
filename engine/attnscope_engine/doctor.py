"""What this machine has of what the engine can use, and what to do about each thing that is missing.

Run as a process of its own (`python -m attnscope_engine.doctor` prints JSON): a broken driver may hang or abort it. Words after
it are architectures, such as `sm_90a`, that a kernel is compiled for, whether or not such a card is here.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
import time
from importlib import metadata

from msgspec import Struct, to_builtins


class Check(Struct, frozen=True):
    """One finding."""

    name: str
    ok: bool
    needed: bool
    """False: the product works without it, slower or with less."""
    text: str
    advice: str = ""
    """What to do when it is not ok."""


CUBLAS_ADVICE = (
    "Needed for Naive on an NVIDIA GPU only: `attnscope addon add cublas13` (or cublas12), or 'attnscope[gpu13]' for pip."
)


LEAST_SHARED_BYTES = 99 << 10
"""Of a block, on the cards since sm_80 that have least."""


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def version_of(*names: str) -> str:
    """Version of the first installed distribution of these, or ""."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def check_python() -> Check:
    fine = sys.version_info >= (3, 11)
    return Check("Python", fine, True, platform.python_version(), "" if fine else "Install Python 3.11 or newer.")


def check_gpu() -> Check:
    """The device that the engine would take, found as the engine finds it."""
    from attnscope_engine.devices.pick import pick

    device, why_not = pick("auto")
    facts = device.facts
    if facts.kind == "cuda":
        text = f"{facts.name}, {facts.arch}, driver {facts.driver}, {facts.total_bytes / 2**30:.1f} GiB"
        return Check("GPU", True, False, text)
    text = f"not used: everything runs on {facts.name} ({facts.library}, {facts.threads} threads)"
    return Check("GPU", False, False, text, why_not)


def check_cupy() -> Check:
    version = version_of("cupy-cuda13x", "cupy-cuda12x", "cupy")
    advice = "Needed for an NVIDIA GPU only: `attnscope addon add gpu13` (driver 580 or newer) or gpu12 (525) brings it."
    return Check("CuPy", bool(version), False, version or "not installed", "" if version else advice)


def check_nvrtc() -> Check:
    from attnscope_engine.devices import nvrtc

    try:
        return Check("NVRTC", True, False, nvrtc.version())
    except Exception as error:  # noqa: BLE001 (whatever the library does, the doctor goes on)
        advice = "Needed for an NVIDIA GPU only: it comes with the add-on gpu13 or gpu12."
        return Check("NVRTC", False, False, f"not found ({error})", advice)


def check_addons() -> Check:
    """What was added to the program, and what of it is not used."""
    from attnscope_engine.addons.folder import default_root, installed, why_not_used
    from attnscope_engine.addons.lock import this_target

    there = installed(default_root())
    unused = {name: why for name, found in there.items() if (why := why_not_used(found, this_target()))}
    used = [f"{name} ({', '.join(found.packages[:1])})" for name, found in there.items() if name not in unused]
    text = "; ".join([*used, *(f"{name} is not used" for name in unused)]) or "none"
    return Check("Add-ons", not unused, False, text, " ".join(f"{name}: {why}" for name, why in unused.items()))


def check_cublas() -> Check:
    version = version_of("nvidia-cublas", "nvidia-cublas-cu12")
    if version:
        return Check("cuBLAS", True, False, version)
    if importlib.util.find_spec("cupy") is not None:
        from attnscope_engine.devices import cuda_products

        try:
            cuda_products.load()
            return Check("cuBLAS", True, False, "of the CUDA toolkit")
        except Exception as error:  # noqa: BLE001 (whatever the library does, the doctor goes on)
            return Check("cuBLAS", False, False, f"not found ({first_line(error)})", CUBLAS_ADVICE)
    return Check("cuBLAS", False, False, "not installed", CUBLAS_ADVICE)


def check_torch() -> Check:
    if importlib.util.find_spec("torch") is None:
        advice = "The CPU engine then runs on numpy, without bf16. `attnscope addon add torch` brings it."
        return Check("torch", False, False, "not installed", advice)
    return Check("torch", True, False, version_of("torch"))


def check_model() -> Check:
    from attnscope_engine.model.location import MODEL_NAME, find_model

    path = find_model()
    if path is None:
        advice = "Run `python3 run.py` once: it fetches and checks it."
        return Check("Language model", False, False, f"{MODEL_NAME} is not there", advice)
    return Check("Language model", True, False, f"{MODEL_NAME} at {path}")


def examine() -> list[Check]:
    """All findings, in the order of a reader's interest."""
    found = []
    for check in (check_python, check_gpu, check_addons, check_cupy, check_nvrtc, check_cublas, check_torch, check_model):
        try:
            found.append(check())
        except Exception as error:  # noqa: BLE001 (one broken part must not hide the others)
            name = check.__name__.removeprefix("check_")
            found.append(Check(name, False, False, f"could not be examined: {type(error).__name__}: {error}"))
    return found


def check_compiler(arch: str) -> Check:
    """Flash's own text at head_dim 128, compiled now: nothing is taken from the cache of kernels."""
    from attnscope_engine import cuda
    from attnscope_engine.cuda import hopper
    from attnscope_engine.devices import cubins, nvrtc
    from attnscope_engine.scores import ScoreChange

    if arch == "sm_90a":
        defines = hopper.plan(128, 8192, 8192, 8192, True, "fp16").defines("fp16", True)
    else:
        defines = cuda.softmax_tiling("Flash", 128, "fp16", LEAST_SHARED_BYTES, 0).defines(True)
    options = cubins.flags({**defines, **ScoreChange(0, False).defines()})
    name = f"Kernel, {arch}"
    began = time.monotonic()
    try:
        code, _ = nvrtc.compile_cubin(cubins.source_of("softmax_tiled"), "softmax_tiled.cu", arch, options)
    except Exception as error:  # noqa: BLE001 (whatever the compiler does, the doctor says it)
        return Check(name, False, True, f"does not compile: {first_line(error)}", "NVRTC of CUDA 13 compiles sm_75 to sm_120.")
    return Check(name, True, True, f"Flash compiled in {time.monotonic() - began:.1f} s, {len(code) / 1024:.0f} KiB")


def main() -> int:
    from attnscope_engine.addons.using import use

    use()
    found = examine() + [check_compiler(arch) for arch in sys.argv[1:]]
    sys.stdout.write(json.dumps([to_builtins(check) for check in found]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

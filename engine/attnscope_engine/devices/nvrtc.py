"""CUDA C++ to machine code through NVRTC, called directly: it needs no driver, no GPU, no CUDA headers and no CuPy."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

OPTIONS = ("--std=c++17", "-default-device", "--ptxas-options=-v")
"""Given with every compilation. The last makes the log tell registers, shared memory and spills of each kernel."""

MAJORS = (13, 12)
"""CUDA versions whose NVRTC is looked for, the first found being used."""


_one_at_a_time = threading.Lock()
"""NVRTC 13 has ended the process when two threads compiled at once (twice in some thousand compilations)."""


class NvrtcMissing(Exception):
    """NVRTC is not installed. The text says what to install."""


class CompileError(Exception):
    """NVRTC refused the source."""

    def __init__(self, text: str, log: str) -> None:
        super().__init__(text)
        self.log = log
        """What the compiler said, with lines of the source named."""


def _names(major: int) -> tuple[str, ...]:
    if sys.platform == "win32":
        return (f"nvrtc64_{major}0_0.dll",)
    return (f"libnvrtc.so.{major}",)


def _roots() -> Iterator[Path]:
    """Of wheels, in the order of the path: GPU parts that were put before the program's own come first."""
    entries = [*sys.path, getattr(sys, "_MEIPASS", "")]
    yield from dict.fromkeys(Path(entry) for entry in entries if entry)


def _folders(root: Path, major: int) -> Iterator[Path]:
    """Where a wheel keeps it, installed, in a frozen program, or in an add-on."""
    for package in (f"cu{major}", "cuda_nvrtc"):
        for folder in ("lib", "bin", "bin/x86_64"):
            yield root / "nvidia" / package / folder


def _toolkits() -> Iterator[Path]:
    """Where an installed toolkit keeps it."""
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        if os.environ.get(variable):
            for folder in ("lib64", "lib", "bin", "bin/x64"):
                yield Path(os.environ[variable]) / folder


def _candidates() -> Iterator[str]:
    places = [(major, folder) for root in _roots() for major in MAJORS for folder in _folders(root, major)]
    places += [(major, folder) for major in MAJORS for folder in _toolkits()]
    for major, folder in places:
        for name in _names(major):
            if (folder / name).is_file():
                yield str(folder / name)
    for major in MAJORS:
        yield from _names(major)


@functools.cache
def _library() -> ctypes.CDLL:
    for candidate in _candidates():
        try:
            library = ctypes.CDLL(candidate)
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    raise NvrtcMissing("NVRTC, NVIDIA's run-time compiler, is not installed: pip install nvidia-cuda-nvrtc")


def _check(code: int, doing: str) -> None:
    if code:
        text = _library().nvrtcGetErrorString(code).decode()
        raise CompileError(f"NVRTC could not {doing}: {text}", "")


@functools.cache
def version() -> str:
    """Such as `13.5`. Raises: NvrtcMissing."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "tell its version")
    return f"{major.value}.{minor.value}"


@functools.cache
def architectures() -> tuple[str, ...]:
    """What this NVRTC compiles for, such as `sm_90`. Raises: NvrtcMissing."""
    library, count = _library(), ctypes.c_int()
    _check(library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "count its architectures")
    numbers = (ctypes.c_int * count.value)()
    _check(library.nvrtcGetSupportedArchs(numbers), "name its architectures")
    return tuple(f"sm_{number}" for number in numbers)


def compile_cubin(source: str, name: str, arch: str, options: Sequence[str] = ()) -> tuple[bytes, str]:
    """Machine code and the compiler's log.

    Args:
        source: all of the text; nothing is looked for in folders.
        name: the file name that the log shows.
        arch: such as `sm_90`.
        options: beside `OPTIONS`.

    Raises:
        CompileError: with the log, naming lines.
        NvrtcMissing: there is no NVRTC.
    """
    with _one_at_a_time:
        return _compiled(source, name, arch, options)


def _compiled(source: str, name: str, arch: str, options: Sequence[str]) -> tuple[bytes, str]:
    library, program = _library(), ctypes.c_void_p()
    text = source.encode()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), text, name.encode(), 0, None, None), "start")
    try:
        flags = [flag.encode() for flag in (f"--gpu-architecture={arch}", *OPTIONS, *options)]
        code = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        log = _string(program, library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog).rstrip(b"\0").decode(errors="replace")
        if code:
            first = next((line for line in log.splitlines() if "error" in line), log.strip().partition("\n")[0])
            raise CompileError(f"{name} does not compile for {arch}: {first}", log)
        return _string(program, library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _string(program: ctypes.c_void_p, size_of: ctypes._NamedFuncPointer, get: ctypes._NamedFuncPointer) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)), "tell a size")
    buffer = ctypes.create_string_buffer(size.value)
    _check(get(program, buffer), "give its output")
    return buffer.raw

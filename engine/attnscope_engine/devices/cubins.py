"""Compiled kernels, kept on disk between starts.

Shared `.cuh` text is put into the source here, not looked for by the compiler, so that a change of it changes the key. Two
engines may write the same file at once, and a home that is full or read-only only means that nothing is kept.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import platformdirs

from attnscope_engine.cuda import wgmma
from attnscope_engine.devices import nvrtc
from attnscope_engine.variant import Tick

log = logging.getLogger(__name__)

INCLUDE = re.compile(r'#include "(\w+\.cuh)"')

DEVICE = "device"
"""The one kernel file that belongs to no variant: inputs and ceilings."""

DIGEST_BYTES = 32

TICK_EVERY_S = 0.005


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code of one kernel file."""

    key: str
    """Hash of source, options, architecture and compiler: what a measurement is filed with."""
    code: bytes
    seconds: float = 0.0
    """Time the compiler took; 0 when it was kept from before."""


def file_text(name: str) -> str:
    """A file of kernel text: `.cuh` and the device's own lie in `cuda/`, a variant's beside its Python file; one is written."""
    if name == wgmma.NAME:
        return wgmma.text()
    folder = "cuda" if name.endswith(".cuh") or name == f"{DEVICE}.cu" else "variants"
    return (resources.files("attnscope_engine") / folder / name).read_text(encoding="utf-8")


def source_of(stem: str, read: Callable[[str], str] = file_text) -> str:
    """All text of one kernel: each `#include "x.cuh"` replaced by that file the first time, with its line numbers kept."""
    seen: set[str] = set()

    def expanded(name: str) -> str:
        lines = [f'#line 1 "{name}"\n']
        for number, line in enumerate(read(name).splitlines(keepends=True), 1):
            wanted = INCLUDE.match(line)
            if wanted is None:
                lines.append(line)
            elif wanted[1] not in seen:
                seen.add(wanted[1])
                lines.append(f'{expanded(wanted[1])}#line {number + 1} "{name}"\n')
            else:
                lines.append("\n")
        return "".join(lines)

    return expanded(f"{stem}.cu")


def architecture(capability: tuple[int, int], source: str) -> str:
    """The target for a card. Instructions that only one chip has need its own target, which runs nowhere else."""
    target = f"sm_{capability[0]}{capability[1]}"
    return f"{target}a" if capability == (9, 0) and "wgmma" in source else target


def flags(defines: Mapping[str, int]) -> tuple[str, ...]:
    """Constants of a kernel as compiler options, in one order."""
    return tuple(f"-D{name}={value}" for name, value in sorted(defines.items()))


def key_of(source: str, arch: str, options: tuple[str, ...]) -> str:
    """Name of the file in the cache."""
    parts = (source, arch, *nvrtc.OPTIONS, *options, nvrtc.version())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


class CubinCache:
    """Get a kernel compiled once for each architecture and set of constants. Safe from several threads and processes."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or platformdirs.user_cache_path("attnscope") / "cubins"
        self._memory: dict[str, Cubin] = {}
        self._compiling: dict[str, Future[Cubin]] = {}
        self._lock = threading.Lock()
        self._warned = False

    def get(self, stem: str, arch: str, defines: Mapping[str, int], tick: Tick = lambda: None) -> Cubin:
        """From memory, else from the disk, else compiled: in the background, while `tick` is called here.

        A tick that raises leaves the compiler at work: whoever asks next gets what it made.

        Raises: CompileError, NvrtcMissing, Interrupted (from `tick`).
        """
        source, options = source_of(stem), flags(defines)
        key = key_of(source, arch, options)
        with self._lock:
            if key in self._memory:
                return self._memory[key]
            if key not in self._compiling:
                self._compiling[key] = Future()
                work = (self._compiling[key], key, source, f"{stem}.cu", arch, options)
                threading.Thread(target=self._fill, args=work, name=f"compiles {stem}", daemon=True).start()
            future = self._compiling[key]
        while not wait((future,), TICK_EVERY_S).done:
            tick()
        return future.result()

    def _fill(self, future: Future[Cubin], key: str, source: str, name: str, arch: str, options: tuple[str, ...]) -> None:
        """The future ends with the cubin, or with what the compiler said; a failure is tried again by who asks again."""
        try:
            found = self._read(key)
            cubin = found if found is not None else self._compile(key, source, name, arch, options)
        except BaseException as error:  # noqa: BLE001 it is raised where the cubin was asked for
            with self._lock:
                del self._compiling[key]
            future.set_exception(error)
            return
        with self._lock:
            self._memory[key] = cubin
            del self._compiling[key]
        future.set_result(cubin)

    def _compile(self, key: str, source: str, name: str, arch: str, options: tuple[str, ...]) -> Cubin:
        start = time.monotonic()
        code, _ = nvrtc.compile_cubin(source, name, arch, options)
        cubin = Cubin(key, code, time.monotonic() - start)
        self._write(cubin)
        return cubin

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.cubin"

    def _read(self, key: str) -> Cubin | None:
        try:
            data = self._path(key).read_bytes()
        except OSError:
            return None
        digest, code = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if not code or hashlib.sha256(code).digest() != digest:
            return None  # cut short or spoilt: compiled again and written over
        return Cubin(key, code)

    def _write(self, cubin: Cubin) -> None:
        temporary = ""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=self._folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(cubin.code).digest() + cubin.code)
            Path(temporary).replace(self._path(cubin.key))
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            if not self._warned:
                log.warning("compiled kernels are not kept: %s", error)
                self._warned = True

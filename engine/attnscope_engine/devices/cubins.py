"""Compiled kernels, kept on disk between starts.

A kernel's source is all shared `.cuh` text with its own `.cu` after it, so that a change of any of them changes the key. Two
engines may write the same file at once, and a home that is full or read-only only means that nothing is kept.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import platformdirs

from attnscope_engine.devices import nvrtc

log = logging.getLogger(__name__)

SHARED = ("ptx.cuh", "tiles.cuh", "softmax_tiles.cuh")
"""Text before every kernel, in this order: each uses only those before it. A kernel pays only for what it calls."""

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code of one kernel file."""

    key: str
    """Hash of source, options, architecture and compiler: what a measurement is filed with."""
    code: bytes
    seconds: float = 0.0
    """Time the compiler took; 0 when it was kept from before."""


def shared_text(name: str) -> str:
    """One file of `cuda/`."""
    return (resources.files("attnscope_engine") / "cuda" / name).read_text(encoding="utf-8")


def source_of(stem: str, shared: tuple[str, ...] = SHARED) -> str:
    """All text of one kernel, with line numbers of the files it is made of."""
    parts = [(name, shared_text(name)) for name in shared]
    own = (resources.files("attnscope_engine") / "variants" / f"{stem}.cu").read_text(encoding="utf-8")
    return "".join(f'#line 1 "{name}"\n{text}' for name, text in [*parts, (f"{stem}.cu", own)])


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
        self._lock = threading.Lock()
        self._warned = False

    def get(self, stem: str, arch: str, defines: Mapping[str, int]) -> Cubin:
        """Raises: CompileError, NvrtcMissing."""
        source, options = source_of(stem), flags(defines)
        key = key_of(source, arch, options)
        with self._lock:
            if key in self._memory:
                return self._memory[key]
        found = self._read(key)
        cubin = found if found is not None else self._compile(key, source, f"{stem}.cu", arch, options)
        with self._lock:
            return self._memory.setdefault(key, cubin)

    def _compile(self, key: str, source: str, name: str, arch: str, options: tuple[str, ...]) -> Cubin:
        import time

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

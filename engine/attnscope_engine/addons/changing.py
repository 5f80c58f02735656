"""Adding and removing: a kill at any moment leaves either no add-on or a whole one, and two programs never change at once."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from attnscope_engine.addons import AddonCancelled, AddonError
from attnscope_engine.addons.fetching import FIRST_WAIT_S, fetch, sha256_of
from attnscope_engine.addons.folder import MANIFEST, PARTS, Manifest, default_root, manifest, parts_bytes, why_not_used
from attnscope_engine.addons.lock import ABOUT, Addon, Wheel, find, megabytes, this_target
from attnscope_engine.addons.unpacking import delete, identity, unpack, unpacked_bytes

GROWTH = 4
"""An add-on takes up to so many times its download on the disk (torch: 3.9): asked for before anything is fetched."""
FRESH, GONE = ".fresh-", ".gone-"
"""Folders being filled, and folders being deleted: nobody uses them, and the next change sweeps them away."""
RATE_S = 3.0
"""The rate shown is that of the last seconds."""


class Progress(Struct, frozen=True):
    """How far it is."""

    done: int
    total: int
    """Bytes, of the step."""
    doing: str
    """"fetching" or "unpacking"."""
    rate: float = 0.0
    """Bytes a second; 0 while not known."""


Show = Callable[[Progress], None]
Cancelled = Callable[[], bool]


class Rate:
    """Bytes a second over the last few seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def at(self, done: int, now: float) -> float:
        self._marks.append((now, done))
        while now - self._marks[0][0] > RATE_S and len(self._marks) > 2:
            self._marks.popleft()
        (began, first), elapsed = self._marks[0], now - self._marks[0][0]
        return (done - first) / elapsed if elapsed > 0 and began < now else 0.0


def add(
    name: str,
    show: Show = lambda _: None,
    cancelled: Cancelled = lambda: False,
    *,
    source: Path | None = None,
    root: Path | None = None,
    target: str | None = None,
    first_wait_s: float = FIRST_WAIT_S,
) -> Manifest:
    """Fetch, check, unpack, put in place.

    Args:
        name: of the add-on.
        show: told how far it is, in this thread.
        cancelled: asked between blocks; what is fetched is then kept.
        source: a folder with the wheel files; nothing is then fetched.
        root: of the add-ons, the user's own where none is given.
        target: Python and system, this program's where none is given.
        first_wait_s: before the second try of a connection.

    Raises:
        AddonError: with the sentence.
        AddonCancelled: nothing has changed but the parts.
    """
    root, target = root or default_root(), this_target() if target is None else target
    addon = find(name, target)
    try:
        with locked(root):
            sweep(root)
            there = manifest(root, name)
            if there is not None and not why_not_used(there, target):
                return there
            if source is None:
                wheels = _fetched(addon, root, show, cancelled, first_wait_s)
            else:
                wheels = _given(addon, source, cancelled)
            made = _put(addon, wheels, target, root, show, cancelled)
            for wheel in addon.wheels:
                (root / PARTS / wheel.file).unlink(missing_ok=True)
            return made
    except OSError as error:
        raise AddonError(_refused_by_system(error, root)) from error


def remove(name: str, *, root: Path | None = None) -> bool:
    """Whether it was there; fetched parts of it are deleted too. Raises: AddonError."""
    root, addon = root or default_root(), find(name, this_target())
    if not root.is_dir():
        return False
    try:
        with locked(root):
            sweep(root)
            for wheel in addon.wheels:
                for file in (wheel.file, f"{wheel.file}.part"):
                    (root / PARTS / file).unlink(missing_ok=True)
            was_there = manifest(root, name) is not None
            _out_of_use(root / name)
            return was_there
    except OSError as error:
        raise AddonError(_refused_by_system(error, root)) from error


def _out_of_use(folder: Path) -> None:
    """Without its manifest it is no add-on; what a running program on Windows keeps open is swept away later."""
    (folder / MANIFEST).unlink(missing_ok=True)
    if folder.exists():
        with suppress(PermissionError):
            _away(folder)


def _away(folder: Path) -> None:
    """Out of use at once, then deleted. Raises: OSError, where a program on Windows has it loaded."""
    gone = Path(tempfile.mkdtemp(prefix=GONE, dir=folder.parent))
    folder.replace(gone / folder.name)
    delete(gone)


def sweep(root: Path) -> None:
    """Deletes what a killed program left: folders that were being filled or deleted, and those without a manifest."""
    for prefix in (FRESH, GONE):
        for folder in root.glob(f"{prefix}*"):
            delete(folder)
    for name in ABOUT:
        if (root / name).exists() and manifest(root, name) is None:
            delete(root / name)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Only one program changes add-ons at a time; the system takes the lock from one that is killed. Raises: AddonError."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            raise AddonError("Another Attnscope is changing add-ons now: wait until it is done, then try again.") from error
        yield


def tidy(root: Path | None = None) -> None:
    """`sweep`, unless another program is at work, or nothing was ever added."""
    root = root or default_root()
    if root.is_dir():
        with suppress(AddonError, OSError), locked(root):
            sweep(root)


def _lock(file: IO[bytes]) -> None:
    """Raises: OSError when another has it."""
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ---------------------------------------------------------------- the files


def _fetched(addon: Addon, root: Path, show: Show, cancelled: Cancelled, first_wait_s: float) -> list[Path]:
    if addon.unchecked:
        wheel = addon.unchecked[0]
        raise AddonError(
            f"{wheel.file} is not fetched: its check sum is not known to this release. Fetch it from {wheel.url} yourself, the "
            f"other files as `attnscope addon files {addon.name}` lists them, and add it from that folder."
        )
    parts = root / PARTS
    parts.mkdir(exist_ok=True)
    files = tuple(wheel.file for wheel in addon.wheels)
    _ask_room(root, addon.bytes * (1 + GROWTH) - parts_bytes(root, files), addon.about.title)
    rate, before, wheels = Rate(), 0, []
    for wheel in addon.wheels:

        def told(have: int, before: int = before) -> None:
            done = before + have
            show(Progress(done, addon.bytes, "fetching", rate.at(done, time.monotonic())))

        wheels.append(fetch(wheel, parts, told, cancelled, first_wait_s=first_wait_s))
        before += wheel.bytes
        told(0, before)
    return wheels


def _given(addon: Addon, source: Path, cancelled: Cancelled) -> list[Path]:
    """The files of a folder, each checked."""
    missing = [wheel.file for wheel in addon.wheels if not (source / wheel.file).is_file()]
    if missing:
        many = f"{len(missing)} of {len(addon.wheels)} files are" if len(missing) > 1 else f"{missing[0]} is"
        named = f", the first is {missing[0]}" if len(missing) > 1 else ""
        raise AddonError(f"{many} not in {source}{named}; `attnscope addon files {addon.name}` lists where they come from.")
    for wheel in addon.wheels:
        _check(wheel, source / wheel.file, cancelled)
    return [source / wheel.file for wheel in addon.wheels]


def _check(wheel: Wheel, path: Path, cancelled: Cancelled) -> None:
    if wheel.sha256:
        digest = sha256_of(path, cancelled)
        if digest != wheel.sha256:
            raise AddonError(
                f"{path.name} has SHA-256 {digest[:12]}…, not {wheel.sha256[:12]}…: it is another file, and is not used."
            )
        return
    name, version = identity(path)
    if (name.lower(), version) != (wheel.name.lower(), wheel.version):
        raise AddonError(f"{path.name} holds {name} {version}, not {wheel.name} {wheel.version}: it is not used.")


# ---------------------------------------------------------------- into place


def _put(addon: Addon, wheels: list[Path], target: str, root: Path, show: Show, cancelled: Cancelled) -> Manifest:
    total = sum(unpacked_bytes(wheel) for wheel in wheels)
    _ask_room(root, total, addon.about.title)
    fresh = Path(tempfile.mkdtemp(prefix=FRESH, dir=root))
    try:
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            show(Progress(done, total, "unpacking"))

        for wheel in wheels:
            unpack(wheel, fresh, step, cancelled)
        packages = tuple(f"{wheel.name} {wheel.version}" for wheel in addon.wheels)
        made = Manifest(addon.name, addon.identity, target, done, packages)
        (fresh / MANIFEST).write_bytes(msgspec.json.encode(made))
        fresh.chmod(0o755)
        if hasattr(os, "sync"):
            os.sync()  # a pulled plug must not leave a manifest beside files that never reached the disk
        if cancelled():
            raise AddonCancelled
        if (root / addon.name).exists():
            _away(root / addon.name)
        fresh.replace(root / addon.name)
        return made
    except BaseException:
        delete(fresh)
        raise


def _ask_room(root: Path, needed: int, title: str) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise AddonError(f"{title} needs about {megabytes(needed)} of disk, {root} has {megabytes(free)} free: make room there.")


def _refused_by_system(error: OSError, root: Path) -> str:
    where = error.filename or root
    return f"{where}: {(error.strerror or str(error)).lower()}. Nothing was changed."

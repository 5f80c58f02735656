"""Where files lie, how they are written, and how much of one is read: the only way that the window's process writes a file."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import platformdirs

APP = "attnscope"


def data_folder() -> Path:
    """Results, the model, add-ons."""
    return platformdirs.user_data_path(APP, appauthor=False)


def config_folder() -> Path:
    """Preferences."""
    return platformdirs.user_config_path(APP, appauthor=False)


def state_folder() -> Path:
    """Logs and what is kept from start to start."""
    return platformdirs.user_state_path(APP, appauthor=False)


def atomic_write(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, or leave it as it was: a full disk, a crash or a pulled plug never leaves half a file.

    Qt's own QSaveFile is not used because its commit can report success for a file that a full disk has cut short.

    Raises:
        OSError: `path` is untouched and nothing is left beside it.

    """
    folder = path.resolve().parent
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path.resolve())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system lets a folder be opened."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_limited(path: Path, limit: int) -> bytes:
    """The whole file.

    Raises:
        OSError: it can not be read.
        ValueError: it is larger than `limit` bytes; the text names both sizes.

    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        size = max(path.stat().st_size, len(data))
        raise ValueError(f"{path.name} is {megabytes(size)} long; files up to {megabytes(limit)} are read")
    return data


def move_aside(path: Path) -> Path:
    """Rename a damaged file so that it is kept and no longer in the way. Raises: OSError."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.replace(aside)
    return aside


def save_failure(path: Path, error: OSError, needed: int) -> str:
    """The sentence for a file that could not be saved."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in _FULL:
        reason = f"no space left (needs {megabytes(needed)}{_free(path)})"
    kept = " Your previous file is untouched." if path.exists() else ""
    return f"Could not save {path.name}: {reason}.{kept}"


_FULL = (27, 28, 122)
"""EFBIG, ENOSPC, EDQUOT."""


def _free(path: Path) -> str:
    try:
        return f", has {megabytes(shutil.disk_usage(path.resolve().parent).free)}"
    except OSError:
        return ""


def megabytes(size: int) -> str:
    """Size of a file, decimal as in file managers."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"

"""A wheel is a zip file (PEP 427): its members go into one folder, and nothing of it is run."""

from __future__ import annotations

import email.parser
import re
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from attnscope_engine.addons import AddonCancelled, AddonError

SPREAD = ("purelib", "platlib")
"""Parts of a wheel's `.data` folder that belong beside its other files; scripts, headers and manuals are left out."""
BLOCK = 1 << 20


def place(member: str) -> PurePosixPath | None:
    """Where a member goes, relative to the folder; None for what is left out.

    Raises: AddonError for a name that would leave the folder.
    """
    parts = PurePosixPath(member).parts
    if not parts or member.startswith("/") or "\\" in member or ":" in member or ".." in parts or "\0" in member:
        raise AddonError(
            f"The member {member!r} would leave its folder: the file is damaged or was tampered with, and is not used."
        )
    if parts[0].endswith(".data"):
        return PurePosixPath(*parts[2:]) if len(parts) > 2 and parts[1] in SPREAD else None
    return PurePosixPath(*parts)


def unpacked_bytes(wheel: Path) -> int:
    """On the disk. Raises: AddonError, OSError."""
    with opened(wheel) as archive:
        return sum(info.file_size for info in archive.infolist())


def unpack(wheel: Path, folder: Path, step: Callable[[int], None], cancelled: Callable[[], bool]) -> None:
    """All of a wheel into `folder`; `step` is told how many bytes were written.

    Raises:
        AddonError: a member that would leave the folder or is a link, a damaged file.
        AddonCancelled, OSError.
    """
    with opened(wheel) as archive:
        members = [(info, place(info.filename)) for info in archive.infolist()]
        for info, where in members:
            if stat.S_ISLNK(info.external_attr >> 16):
                raise AddonError(f"{wheel.name} holds a link, {info.filename!r}: the file was tampered with, and is not used.")
            if where is None or info.is_dir():
                continue
            target = folder / where
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with archive.open(info) as member, target.open("wb") as out:
                    while block := member.read(BLOCK):
                        if cancelled():
                            raise AddonCancelled
                        out.write(block)
                        step(len(block))
            except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
                raise AddonError(f"{wheel.name} is damaged ({error}): fetch it again.") from error
            if (info.external_attr >> 16) & stat.S_IXUSR:
                target.chmod(target.stat().st_mode | 0o755)


def opened(wheel: Path) -> zipfile.ZipFile:
    """Raises: AddonError for a file that is no zip, OSError."""
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise AddonError(f"{wheel.name} is no wheel ({error}): fetch it again.") from error


def identity(wheel: Path) -> tuple[str, str]:
    """Name and version as the wheel's own METADATA says them, without a local part such as `+cpu`.

    Raises: AddonError, OSError.
    """
    with opened(wheel) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        if len(names) != 1:
            raise AddonError(f"{wheel.name} does not say what it is: it is no wheel.")
        text = archive.read(names[0]).decode(errors="replace")
    message = email.parser.HeaderParser().parsestr(text)
    return str(message["Name"]), str(message["Version"]).partition("+")[0]


def delete(folder: Path) -> None:
    """A folder and all in it, as far as it can be deleted."""
    shutil.rmtree(folder, ignore_errors=True)

"""Sessions: the settings and the measurements on the screen, as one `.attnscope` file that may come from anybody.

Opening one runs nothing, and reads no file that it names: a source of q and k becomes the sample text until the person has
agreed (`Session.asks_for`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
from attnscope_engine.protocol import FileSource, Measured, TextSource
from msgspec import Struct

from attnscope.files import atomic_write, read_limited, save_failure
from attnscope.resolve import resolve
from attnscope.state import SAMPLE_TEXT, Settings
from attnscope.typed_json import BadJsonError, decode

SUFFIX = ".attnscope"
FORMAT: Literal["attnscope-session"] = "attnscope-session"
VERSION = 1
MAX_BYTES = 16 * 1024 * 1024


class SessionError(Exception):
    """The session could not be read or saved. Its text is a sentence that names the file and the cause."""


class Session(Struct, frozen=True):
    """What a file holds."""

    settings: Settings
    measurements: tuple[Measured, ...] = ()
    asks_for: str = ""
    """Path of a file of q and k that the session shows: to be read only when the person agrees."""

    def with_file(self) -> Settings:
        """The settings once the person has agreed."""
        return msgspec.structs.replace(self.settings, source=FileSource(self.asks_for)) if self.asks_for else self.settings


class _Head(Struct, frozen=True):
    """Read first, and whatever else the file holds: enough to say what it is."""

    format: str = ""
    version: int = 0


class _Content(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["attnscope-session"]
    version: int
    app: str
    settings: Settings
    measurements: tuple[Measured, ...] = ()


def to_bytes(settings: Settings, measurements: Iterable[Measured], app: str) -> bytes:
    """The content of a session file."""
    content = _Content(FORMAT, VERSION, app, settings, tuple(measurements))
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def save_session(path: Path, settings: Settings, measurements: Iterable[Measured], app: str) -> None:
    """Write a session; `path` is replaced whole or not at all.

    Raises:
        SessionError: with the sentence to show.

    """
    data = to_bytes(settings, measurements, app)
    if len(data) > MAX_BYTES:
        raise SessionError(f"Could not save {path.name}: it would be {len(data):,} bytes, and sessions end at {MAX_BYTES:,}.")
    try:
        atomic_write(path, data)
    except OSError as error:
        raise SessionError(save_failure(path, error, len(data))) from error


def load_session(path: Path) -> Session:
    """Read a session file.

    Raises:
        SessionError: with the sentence to show. Nothing else is raised, whatever the file holds.

    """
    try:
        data = read_limited(path, MAX_BYTES)
    except OSError as error:
        raise SessionError(f"Could not open {path.name}: {(error.strerror or str(error)).lower()}.") from error
    except ValueError as error:
        raise SessionError(f"Could not open {error}.") from error
    return parse_session(data, path.name)


def parse_session(data: bytes, name: str = "the session") -> Session:
    """The session in `data`, its settings made possible here.

    Raises:
        SessionError: with the sentence to show.

    """
    try:
        head = decode(data, _Head)
        if head.format != FORMAT:
            raise BadJsonError(f"is not a session: its format is {head.format[:40]!r}, not {FORMAT!r}")
        if head.version > VERSION:
            raise BadJsonError(f"was written by a newer release (version {head.version}; this one reads up to {VERSION})")
        content = decode(data, _Content)
        _check(content.measurements)
    except BadJsonError as error:
        raise SessionError(f"{name} {error}.") from error
    settings, asks_for = content.settings, ""
    if isinstance(settings.source, FileSource):
        asks_for = settings.source.path
        settings = msgspec.structs.replace(settings, source=TextSource(SAMPLE_TEXT))
    return Session(resolve(settings), content.measurements, asks_for)


def _check(measurements: tuple[Measured, ...]) -> None:
    """Refuse points that no clock and no allocator can have given."""
    for index, point in enumerate(measurements):
        for field in ("time_s", "p20_s", "p80_s"):
            value = getattr(point, field)
            if not (math.isfinite(value) and value > 0):
                raise BadJsonError(f"measurements.{index}.{field} must be over 0 (was {value:g})")
        if point.peak_bytes < 0 or point.samples < 1:
            raise BadJsonError(f"measurements.{index} has {point.samples} samples and a peak of {point.peak_bytes} bytes")

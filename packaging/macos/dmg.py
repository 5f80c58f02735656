"""Makes the disk image of a bundle, on a Mac.

python packaging/macos/dmg.py FLAVOUR

Needs dmgbuild (pip install dmgbuild==1.6.7). Sign the program before (sign.sh), the image after.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import icon_files
import product


def app(flavour: str) -> Path:
    """The folder that PyInstaller made on a Mac."""
    return product.DIST / flavour / f"{product.NAME}.app"


def image(flavour: str, machine: str) -> Path:
    """`machine`: arm64 or x86_64, whatever the program was built on."""
    name = product.COMMAND if flavour == "all" else f"{product.COMMAND}-{flavour}"
    return product.DIST / f"{name}-{product.version()}-macos-{machine}.dmg"


def settings(program: Path) -> dict[str, Any]:
    """dmgbuild's: a window with the program beside a link to Applications, to be dragged there."""
    return {
        "format": "ULMO",  # LZMA, which every macOS since 10.15 opens
        "filesystem": "HFS+",
        "files": [str(program)],
        "symlinks": {"Applications": "/Applications"},
        "icon": str(icon_files.APPLE_ICON),
        "icon_locations": {program.name: (140, 160), "Applications": (400, 160)},
        "window_rect": ((200, 200), (540, 340)),
        "default_view": "icon-view",
        "icon_size": 112,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the disk image of a bundle, on a Mac.")
    parser.add_argument("flavour", choices=product.FLAVOURS)
    flavour: str = parser.parse_args().flavour
    if platform.system() != "Darwin":
        raise SystemExit("A disk image can only be made on a Mac.")
    program = app(flavour)
    if not program.is_dir():
        raise SystemExit(f"{program} is not there: make the bundle first")
    target = image(flavour, platform.machine())
    importlib.import_module("dmgbuild").build_dmg(str(target), product.NAME, settings=settings(program))
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

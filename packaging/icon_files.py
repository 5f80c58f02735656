"""The icon as each system wants it: PNG by size (Linux), one .ico (Windows), one .icns (macOS). Standard library only.

python packaging/icon_files.py     writes windows/attnscope.ico and macos/attnscope.icns, which are kept with the sources
"""

from __future__ import annotations

import struct
from pathlib import Path

import product

SIZES = (16, 22, 24, 32, 48, 64, 128, 256, 512)
"""Pixels; `render_app_icon.py` draws them."""
HERE = Path(__file__).parent
WINDOWS_ICON, APPLE_ICON = HERE / "windows" / f"{product.COMMAND}.ico", HERE / "macos" / f"{product.COMMAND}.icns"
WINDOWS_SIZES = (16, 24, 32, 48, 64, 256)
APPLE_TYPES = (
    (b"icp4", 16),
    (b"icp5", 32),
    (b"ic07", 128),
    (b"ic08", 256),
    (b"ic09", 512),
    (b"ic11", 32),
    (b"ic12", 64),
    (b"ic13", 256),
)
"""Each with the pixels of its PNG; ic11 to ic13 are 16, 32 and 128 points on a screen of double density."""


def png(size: int) -> Path:
    """The picture of that many pixels; the one of 256 is the application's own."""
    return product.ICON_256 if size == 256 else HERE / "icons" / f"{product.COMMAND}-{size}.png"


def ico(pictures: dict[int, bytes]) -> bytes:
    """A Windows icon of PNGs (by their pixels), which every Windows since Vista reads at each size.

    Source: "Icons", Microsoft Learn: a directory of 6 + 16 bytes a picture, where 256 pixels are written as 0.
    """
    head = struct.pack("<HHH", 0, 1, len(pictures))
    place = len(head) + 16 * len(pictures)
    entries, bodies = b"", b""
    for size, picture in sorted(pictures.items()):
        entries += struct.pack("<BBBBHHII", size % 256, size % 256, 0, 0, 1, 32, len(picture), place + len(bodies))
        bodies += picture
    return head + entries + bodies


def icns(pictures: list[tuple[bytes, bytes]]) -> bytes:
    """An Apple icon of PNGs, each with its four-letter type: a big-endian length before each and before the whole."""
    body = b"".join(kind + struct.pack(">I", 8 + len(picture)) + picture for kind, picture in pictures)
    return b"icns" + struct.pack(">I", 8 + len(body)) + body


def windows_icon() -> bytes:
    return ico({size: png(size).read_bytes() for size in WINDOWS_SIZES})


def apple_icon() -> bytes:
    return icns([(kind, png(size).read_bytes()) for kind, size in APPLE_TYPES])


def main() -> None:
    for path, data in ((WINDOWS_ICON, windows_icon()), (APPLE_ICON, apple_icon())):
        path.write_bytes(data)
        print(path)


if __name__ == "__main__":
    main()

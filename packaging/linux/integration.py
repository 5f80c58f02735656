"""What tells a Linux desktop about the program: menu entry, type of files, AppStream component, icons."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import icon_files
import product

TEMPLATES = Path(__file__).with_name("templates")
RELEASE = re.compile(r"^## \[?(\d+\.\d+\.\d+)\]?\s*[-–—(]\s*(\d{4}-\d\d-\d\d)", re.MULTILINE)
"""A version's heading in CHANGELOG.md: "## 0.1.0 – 2026-11-24", brackets round the version allowed."""


def filled(name: str) -> str:
    """The text of a template with the product's names in it.

    Raises: ValueError: it asks for a name that there is not.
    """
    names = {
        "NAME": product.NAME,
        "COMMAND": product.COMMAND,
        "ID": product.ID,
        "SUMMARY": product.SUMMARY,
        "LICENCE": product.LICENCE,
        "DEVELOPER": product.DEVELOPER,
        "MIME": product.MIME,
        "SUFFIX": product.SUFFIX,
        "RELEASES": releases((product.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
    }
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    for key, value in names.items():
        text = text.replace(f"@{key}@", value)
    left = re.search(r"@[A-Z]+@", text)
    if left:
        raise ValueError(f"{name} asks for {left[0]}, which has no value")
    return text


def releases(changelog: str) -> str:
    """AppStream's list of the versions that have a date; "" while there are none."""
    lines = [f'    <release version="{version}" date="{date}"/>\n' for version, date in RELEASE.findall(changelog)]
    return "  <releases>\n" + "".join(lines) + "  </releases>\n" if lines else ""


def files() -> dict[str, bytes]:
    """Everything below `share/` (of /usr or of ~/.local) by its path there."""
    icons = "icons/hicolor"
    result = {
        f"applications/{product.ID}.desktop": filled("application.desktop").encode(),
        f"mime/packages/{product.ID}.xml": filled("mime.xml").encode(),
        f"metainfo/{product.ID}.metainfo.xml": filled("metainfo.xml").encode(),
        f"{icons}/scalable/apps/{product.ID}.svg": product.ICON.read_bytes(),
    }
    for size in icon_files.SIZES:
        result[f"{icons}/{size}x{size}/apps/{product.ID}.png"] = icon_files.png(size).read_bytes()
    return result


def write(folder: Path, names: dict[str, bytes]) -> None:
    """Each file below `folder`, readable by everybody; scripts (`#!`) can be run."""
    for name, data in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)

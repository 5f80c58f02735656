"""Has the system's own tools read what package.py made.

python packaging/linux/check.py [FILE …]     checks these packages, or all in dist/

Needs desktop-file-utils, appstream, libxml2-utils, shared-mime-info and rpm (apt-get install); the Python tests look at the same
texts without them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import integration
import product

TOOLS = ("desktop-file-validate", "appstreamcli", "xmllint", "update-mime-database", "dpkg-deb", "rpm", "xz")


def passes(*words: str | Path) -> bool:
    """Whether a tool is content; what it says is shown."""
    answer = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    print("ok  " if answer.returncode == 0 else "FAIL", *(Path(word).name for word in map(str, words)))
    text = (answer.stdout + answer.stderr).strip()
    if text and (answer.returncode or words[0] == "appstreamcli"):
        print("     " + text.replace("\n", "\n     "))
    return answer.returncode == 0


def desktop_texts(share: Path) -> list[bool]:
    """Desktop entry, media type and AppStream component, as they are installed below `share`."""
    entry, component = share / f"applications/{product.ID}.desktop", share / f"metainfo/{product.ID}.metainfo.xml"
    media = share / f"mime/packages/{product.ID}.xml"
    results = [
        passes("desktop-file-validate", "--warn-kde", entry),
        passes("appstreamcli", "validate", "--no-net", component),
        passes("xmllint", "--noout", component, media),
        passes("update-mime-database", share / "mime"),
    ]
    known = (share / "mime" / "globs2").read_text(encoding="utf-8")
    found = f"{product.MIME}:*{product.SUFFIX}" in known
    print("ok  " if found else "FAIL", f"*{product.SUFFIX} is {product.MIME}")
    return [*results, found]


def package(path: Path) -> list[bool]:
    """Whether it is whole, and every digest in it right."""
    if path.suffix == ".deb":
        return [passes("dpkg-deb", "--info", path), readable_deb(path)]
    if path.suffix == ".rpm":
        return [passes("rpm", "-K", "--nosignature", path), passes("rpm", "-qp", "--list", path)]
    return [passes("xz", "--test", path)]


def readable_deb(path: Path) -> bool:
    """Whether its files can be unpacked, and have the sums that it lists."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        if not passes("dpkg-deb", "--raw-extract", path, folder):
            return False
        answer = subprocess.run(["md5sum", "--quiet", "--check", "DEBIAN/md5sums"], cwd=folder)
        print("ok  " if answer.returncode == 0 else "FAIL", "md5sums of", path.name)
        return answer.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Has the system's own tools read what package.py made.")
    parser.add_argument("files", nargs="*", type=Path)
    files: list[Path] = parser.parse_args().files
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise SystemExit(
            f"Not here: {', '.join(missing)}. apt-get install desktop-file-utils appstream libxml2-utils shared-mime-info rpm"
        )
    with tempfile.TemporaryDirectory() as folder:
        integration.write(Path(folder), integration.files())
        results = desktop_texts(Path(folder))
    for path in files or sorted(path for path in product.DIST.glob("*") if path.suffix in {".deb", ".rpm", ".xz"}):
        results += package(path)
    if not all(results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

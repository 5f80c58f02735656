"""Makes the Windows installer of a bundle, on Linux or Windows.

python packaging/windows/installer.py FLAVOUR [--payload FOLDER]

Needs NSIS 3.08 with its 64-bit stubs, which Debian's and Ubuntu's have (apt-get install nsis).
The payload is made on Windows (PyInstaller builds for the system it runs on): `attnscope.exe`, the window, and `attnscopec.exe`,
the same program with a console, for the commands.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import icon_files
import product

SCRIPT = Path(__file__).with_name("attnscope.nsi")
PROGRAMS = (f"{product.COMMAND}.exe", f"{product.COMMAND}c.exe")


def setup_path(flavour: str, version: str) -> Path:
    name = product.COMMAND if flavour == "all" else f"{product.COMMAND}-{flavour}"
    return product.DIST / f"{name}-{version}-windows-x86_64-setup.exe"


def quoted(path: Path, base: str) -> str:
    """A path below `base` as NSIS wants it: "$" and quotes would be read as its own."""
    text = "\\".join(path.parts).replace("$", "$$").replace("`", "$\\`")
    return f"`{base}\\{text}`"


def removal(stage: Path) -> str:
    """The macro that removes what lies in `stage` from $INSTDIR, and nothing else: files, then folders, where empty."""
    paths = sorted(path.relative_to(stage) for path in stage.rglob("*"))
    files = [f"  Delete {quoted(path, '$INSTDIR')}" for path in paths if not (stage / path).is_dir()]
    folders = [f"  RMDir {quoted(path, '$INSTDIR')}" for path in reversed(paths) if (stage / path).is_dir()]
    return "\n".join(["!macro RemoveInstalledFiles", *files, *folders, "!macroend", ""])


def write_stage(stage: Path, payload: Path) -> None:
    """Everything that is installed: the payload (which holds the licences of others), the icon of files, our licence."""
    shutil.copytree(payload, stage)
    shutil.copy2(icon_files.WINDOWS_ICON, stage / icon_files.WINDOWS_ICON.name)
    shutil.copy2(product.LICENCE_FILE, stage / "LICENSE.txt")


def size_kib(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1024


def definitions(stage: Path, target: Path, version: str) -> dict[str, str]:
    """What the script is told."""
    return {
        "NAME": product.NAME,
        "COMMAND": product.COMMAND,
        "ID": product.ID,
        "DEVELOPER": product.DEVELOPER,
        "LICENCE": product.LICENCE,
        "MIME": product.MIME,
        "SUFFIX": product.SUFFIX,
        "VERSION": version,
        "TARGET": str(target),
        "STAGE": str(stage / "*"),
        "ICON": str(icon_files.WINDOWS_ICON),
        "SIZE_KIB": str(size_kib(stage)),
    }


def make(payload: Path, target: Path, version: str) -> None:
    """Raises: SystemExit: makensis is not there; CalledProcessError: it failed or warned."""
    tool = shutil.which("makensis")
    if tool is None:
        raise SystemExit("makensis is not there: apt-get install nsis")
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / "stage"
        write_stage(stage, payload)
        values = definitions(stage, target, version)
        for name, path, data in (
            ("FILES", Path(folder) / "files.nsh", removal(stage).encode("utf-8-sig")),
            ("LICENCE_FILE", Path(folder) / "licence.txt", product.LICENCE_FILE.read_bytes().replace(b"\n", b"\r\n")),
        ):
            path.write_bytes(data)
            values[name] = str(path)
        words = [f"-D{name}={value}" for name, value in values.items()]
        subprocess.run([tool, "-V2", "-WX", "-INPUTCHARSET", "UTF8", *words, str(SCRIPT)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the Windows installer of a bundle.")
    parser.add_argument("flavour", choices=product.FLAVOURS)
    parser.add_argument("--payload", type=Path, help="another folder than the bundle in dist/")
    options = parser.parse_args()
    payload: Path = (options.payload or product.bundle(options.flavour)).resolve()
    missing = [name for name in PROGRAMS if not (payload / name).is_file()]
    if missing:
        raise SystemExit(f"{payload} holds no {missing[0]}: make the bundle on Windows, and name its folder with --payload")
    product.DIST.mkdir(parents=True, exist_ok=True)
    target = setup_path(options.flavour, product.version())
    start = time.monotonic()
    make(payload, target, product.version())
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()

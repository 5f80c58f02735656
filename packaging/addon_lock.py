#!/usr/bin/env python3
"""Writes `engine/attnscope_engine/addons/lock.json`: the wheels of every add-on, pinned as `constraints.txt` says.

`python packaging/addon_lock.py [--index URL]`. It reads an index's project pages (PEP 503, PEP 691); the index is pip's own
(`pip config get global.index-url`) unless one is named. What is written is the public address of each file, its SHA-256 and
size. The CPU build of torch for Linux is not on PyPI: it comes from PyTorch's index; where that one can not be reached, its
SHA-256 stays empty, and the program then takes that wheel from a folder only.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

import product
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from packaging import tags

LOCK = product.ROOT / "engine" / "attnscope_engine" / "addons" / "lock.json"
CONSTRAINTS = product.ROOT / "constraints.txt"
PYPI = "https://pypi.org/simple"
FILES = "https://files.pythonhosted.org/packages/"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH_BYTES = {"2.13.0": 191_794_682}
"""Of the Linux CPU build for CPython 3.11, told while its index can not be reached; a size, not a promise."""

PYTHONS = {"cp311": (3, 11), "cp312": (3, 12)}
NVIDIA = ("linux_x86_64", "win_amd64")
EVERYWHERE = (*NVIDIA, "macosx_arm64")
ADDONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gpu13": (("cupy-cuda13x", "cuda-pathfinder", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-ml-py"), NVIDIA),
    "gpu12": (
        ("cupy-cuda12x", "cuda-pathfinder", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-runtime-cu12", "nvidia-ml-py"),
        NVIDIA,
    ),
    "cublas13": (("nvidia-cublas",), NVIDIA),
    "cublas12": (("nvidia-cublas-cu12",), NVIDIA),
    "torch": (
        ("torch", "filelock", "fsspec", "Jinja2", "MarkupSafe", "mpmath", "networkx", "sympy", "typing_extensions"),
        EVERYWHERE,
    ),
}
"""Add-on → its packages, and the systems it exists for. NumPy is the program's own."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of an index's page."""

    file: str
    url: str
    sha256: str
    size: int


def pinned() -> dict[str, str]:
    """Canonical name → version."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def configured_index() -> str:
    """Pip's own index, else PyPI."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or PYPI


def project(index: str, name: str) -> tuple[Found, ...]:
    """All files of a project. Raises: OSError."""
    address = f"{index.rstrip('/')}/{canonicalize_name(name)}/"
    request = urllib.request.Request(address, headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.1"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
        if "json" in answer.headers.get("Content-Type", ""):
            return tuple(_of_json(entry, address) for entry in json.loads(text)["files"] if not entry.get("yanked"))
    return tuple(
        Found(urllib.parse.unquote(url.rpartition("/")[2]), urllib.parse.urljoin(address, url), sha256, 0)
        for url, sha256 in re.findall(r'href="([^"#]+)#sha256=([0-9a-f]{64})"', text)
    )


def _of_json(entry: dict[str, Any], address: str) -> Found:
    url = urllib.parse.urljoin(address, entry["url"])
    return Found(entry["filename"], url, entry["hashes"].get("sha256", ""), int(entry.get("size") or 0))


def public(url: str) -> str:
    """The address that everybody reaches: a mirror keeps PyPI's paths. Raises: ValueError."""
    if url.startswith(FILES):
        return url
    _, mark, path = url.partition("/packages/")
    if not mark:
        raise ValueError(f"{url} does not tell where PyPI keeps this file: name another --index")
    return FILES + path


def platforms(system: str) -> list[str]:
    """Platform tags of wheels that run there, best first. Linux: glibc 2.35 and newer is what the program asks for."""
    if system == "win_amd64":
        return ["win_amd64"]
    if system == "macosx_arm64":
        return [*tags.mac_platforms((14, 0), "arm64")]
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    names = []
    for minor in range(35, 4, -1):
        names.append(f"manylinux_2_{minor}_x86_64")
        if minor in legacy:
            names.append(f"{legacy[minor]}_x86_64")
    return [*names, "linux_x86_64"]


def best(files: tuple[Found, ...], version: str, python: str, system: str) -> Found | None:
    """The wheel that pip would take."""
    wanted = [
        *tags.cpython_tags(PYTHONS[python], platforms=platforms(system)),
        *tags.compatible_tags(PYTHONS[python], interpreter=python, platforms=platforms(system)),
    ]
    rank = {tag: place for place, tag in enumerate(wanted)}
    ranked: list[tuple[int, Found]] = []
    for found in files:
        try:
            _, its_version, _, its_tags = parse_wheel_filename(found.file)
        except InvalidWheelFilename:
            continue
        places = [rank[tag] for tag in its_tags if tag in rank]
        if places and its_version.public == version:
            ranked.append((min(places), found))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def linux_torch(version: str, python: str) -> Found:
    """The CPU build of PyTorch's own index, without SHA-256 where that can not be reached."""
    try:
        found = best(project(TORCH_INDEX, "torch"), version, python, "linux_x86_64")
        if found is not None and found.sha256:
            return found
    except (OSError, urllib.error.URLError) as error:
        print(f"  {TORCH_INDEX} can not be reached ({error}): torch for Linux keeps an empty SHA-256")
    file = f"torch-{version}+cpu-{python}-{python}-manylinux_2_28_x86_64.whl"
    return Found(file, f"{TORCH_INDEX}/{urllib.parse.quote(file)}", "", TORCH_BYTES.get(version, 0))


def wheels(name: str, index: str, versions: dict[str, str]) -> list[dict[str, object]]:
    """The entries of one add-on. Raises: OSError, ValueError for a wheel that no index has."""
    packages, systems = ADDONS[name]
    merged: dict[str, dict[str, Any]] = {}
    for package in packages:
        version = versions[canonicalize_name(package)]
        files = project(index, package)
        for system in systems:
            for python in PYTHONS:
                if package == "torch" and system == "linux_x86_64":
                    found: Found | None = linux_torch(version, python)
                else:
                    found = best(files, version, python, system)
                if found is None:
                    raise ValueError(f"{package} {version} has no wheel for {python} on {system}")
                url = found.url if found.url.startswith(TORCH_INDEX) else public(found.url)
                entry = merged.setdefault(
                    found.file,
                    {
                        "name": package,
                        "version": version,
                        "file": found.file,
                        "url": url,
                        "sha256": found.sha256,
                        "bytes": found.size,
                    },
                )
                entry.setdefault("for", []).append(f"{python}-{system}")
    return [*merged.values()]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--index", default="", help="address of a simple index (default: pip's own)")
    arguments = parser.parse_args()
    index, versions = arguments.index or configured_index(), pinned()
    lock = {}
    for name in ADDONS:
        print(f"{name} …")
        lock[name] = wheels(name, index, versions)
    LOCK.write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")
    print(f"{LOCK.relative_to(product.ROOT)}: {sum(map(len, lock.values()))} wheels")
    return 0


if __name__ == "__main__":
    sys.exit(main())

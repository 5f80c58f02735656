"""The bill of materials of a bundle, CycloneDX 1.6: what it holds, in which versions, under which licences.

python packaging/sbom.py --out dist/attnscope-all.cdx.json [--flavour all|small] [--environment PYTHON]
                         [--wheels FOLDER] [--bundle FOLDER]

Versions are those of `constraints.txt`; an installed package of another version is an error. Hashes of wheels are given for
those that lie in `--wheels`, as `pip download` left them: an installed package does not know the hash of its wheel. With
`--bundle`, what came from the build machine's system (OpenSSL, SQLite, …) is in it too. The same packages give the same bytes:
there is no timestamp, and the serial number is derived from the content.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bundled_libraries
import distributions
import product
from bundled_libraries import Package
from distributions import Held, LicenceError
from licences import elsewhere
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

Component = dict[str, Any]
"""One entry of the document, as JSON has it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--flavour", choices=product.FLAVOURS, default="all")
    parser.add_argument("--environment", metavar="PYTHON")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="what PyInstaller made")
    options = parser.parse_args()
    if options.environment is not None:
        return elsewhere(options.environment, __file__)
    try:
        held = distributions.closure(distributions.wanted(options.flavour), distributions.installed())
        check_lock(held, lock())
        others = bundled_libraries.system_packages(options.bundle, held) if options.bundle else []
        bill = document(options.flavour, held, wheel_hashes(options.wheels) if options.wheels else {}, others)
    except LicenceError as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(bill, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    print(f"{options.out}: {len(bill['components'])} components, {bill['serialNumber']}")
    return 0


def lock(path: Path = product.ROOT / "constraints.txt") -> dict[str, str]:
    """Version by canonical name."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if words := line.partition("#")[0].strip():
            requirement = Requirement(words)
            pins[str(canonicalize_name(requirement.name))] = str(requirement.specifier).removeprefix("==")
    return pins


def check_lock(held: Iterable[Held], pins: Mapping[str, str]) -> None:
    """Raises: LicenceError, when what is installed is not what the lock says."""
    for one in held:
        pinned = pins.get(one.key)
        if pinned is None:
            raise LicenceError(f"{one.name} {one.version} belongs to the bundle but constraints.txt does not pin it.")
        if one.version.partition("+")[0] != pinned:
            raise LicenceError(f"{one.name} {one.version} is installed, but constraints.txt says {pinned}.")


def wheel_hashes(folder: Path) -> dict[tuple[str, str], str]:
    """SHA-256 of each wheel in a folder, by canonical name and version."""
    found = {}
    for path in sorted(folder.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(path.name)
        with path.open("rb") as file:
            found[str(name), str(version)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def document(
    flavour: str, held: Iterable[Held], hashes: Mapping[tuple[str, str], str], others: Iterable[Package] = ()
) -> dict[str, Any]:
    """The whole bill; its serial number is a hash of the rest. `others`: what the bundle has of the system that builds."""
    held = tuple(held)
    asked = sorted(str(canonicalize_name(one.name)) for one in distributions.wanted(flavour))
    refs = {one.key: purl(one.key, one.version) for one in held}
    program = root(flavour)
    besides = [model(), python(), *map(of_system, others)]
    own = [*(part["bom-ref"] for part in besides), *(refs[key] for key in asked if key in refs)]
    depends = {program["bom-ref"]: own} | {part["bom-ref"]: [] for part in besides}
    depends |= {refs[one.key]: [refs[need] for need in one.needs] for one in held}
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": program},
        "components": [*besides, *(component(one, hashes.get((one.key, one.version), "")) for one in held)],
        "dependencies": [{"ref": ref, "dependsOn": sorted(needs)} for ref, needs in sorted(depends.items())],
    }
    content = json.dumps(bill, sort_keys=True)
    return bill | {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"}


def root(flavour: str) -> Component:
    """Attnscope itself."""
    return {
        "type": "application",
        "bom-ref": f"{product.COMMAND}-{flavour}@{product.version()}",
        "name": f"{product.COMMAND}-{flavour}",
        "version": product.version(),
        "description": product.SUMMARY,
        "licenses": [{"expression": product.LICENCE}],
    }


def component(held: Held, sha256: str) -> Component:
    """One package. Qt and NVIDIA's libraries are in their wheels, which the descriptions say."""
    found: Component = {
        "type": "library",
        "bom-ref": purl(held.key, held.version),
        "name": held.name,
        "version": held.version,
        "purl": purl(held.key, held.version),
        "licenses": [{"expression": held.licence}],
        "externalReferences": [{"type": "distribution", "url": held.source}],
    }
    if sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if inside := carried(held):
        found["description"] = f"Carries {', '.join(inside)}"
    return found


def carried(held: Held) -> list[str]:
    """What a wheel carries of others: Qt, NVIDIA's libraries, and what lies in its folder of libraries."""
    if held.key == "pyside6-essentials":
        return [f"Qt {held.version}"]
    paths = [path.rpartition("/") for path in held.libraries]
    names = {name for folder, _, name in paths if folder.endswith((".libs", ".dylibs")) or folder.startswith("nvidia/")}
    return sorted({re.split(r"[-.]", name)[0] for name in names})


def model() -> Component:
    """The language model, by the hash that the program checks it against."""
    from attnscope_engine.model.location import FILE_NAME, FILE_SHA256, MODEL_NAME, WHEEL, WHEEL_SHA256

    package, _, version = WHEEL.partition("==")
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{FILE_NAME}",
        "name": MODEL_NAME,
        "version": "Q4_1",
        "description": f"{FILE_NAME}, taken out of the package {WHEEL}, which is not installed",
        "licenses": [{"expression": "Apache-2.0"}],
        "hashes": [{"alg": "SHA-256", "content": FILE_SHA256}],
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{package}/{version}/",
                "hashes": [{"alg": "SHA-256", "content": WHEEL_SHA256}],
            }
        ],
    }


def python() -> Component:
    """The interpreter that runs this, and is bundled."""
    version = platform.python_version()
    return {
        "type": "platform",
        "bom-ref": f"pkg:generic/python@{version}",
        "name": "Python",
        "version": version,
        "purl": f"pkg:generic/python@{version}",
        "licenses": [{"expression": "PSF-2.0"}],
    }


def of_system(package: Package) -> Component:
    """Libraries of the system that builds; Debian states no licence of a whole package."""
    ref = f"pkg:deb/debian/{quote(package.name)}@{quote(package.version)}?arch=source"
    return {"type": "library", "bom-ref": ref, "name": package.name, "version": package.version, "purl": ref}


def purl(key: str, version: str) -> str:
    """Package URL (purl-spec, type pypi): the name in lower case with `-`."""
    return f"pkg:pypi/{key}@{quote(version)}"


if __name__ == "__main__":
    sys.exit(main())

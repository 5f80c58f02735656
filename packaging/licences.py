"""THIRD_PARTY.md: everything that a bundle holds besides Attnscope, with every licence text once.

python packaging/licences.py --out dist/THIRD_PARTY.md [--flavour all|small] [--environment PYTHON] [--bundle FOLDER]

`--environment` is the interpreter whose installed packages are bundled (default: the one that runs this). With `--bundle`, the
libraries that came from the build machine's system are listed too, and a library that nothing accounts for is an error.
The same packages give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

import bundled_libraries
import distributions
import product
from bundled_libraries import Package
from distributions import Held, LicenceError, Text

ASSETS = product.ROOT / "assets" / "attnscope_assets"
sys.path.insert(0, str(product.ROOT / "engine"))

ALIASES = {
    "brotlicommon": "brotli",
    "brotlidec": "brotli",
    "openjp": "openjpeg",
    "scipy_openblas": "openblas",
    "sharpyuv": "webp",
    "webpdemux": "webp",
    "webpmux": "webp",
}
"""Libraries that a licence file calls by another name than their own file does."""


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the table."""

    name: str
    version: str
    licence: str
    source: str
    texts: tuple[Text, ...]


def main() -> int:
    options = arguments()
    if options.environment is not None:
        return elsewhere(options.environment, __file__)
    try:
        words = third_party(options.flavour, options.bundle)
    except LicenceError as error:
        print(f"licences: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(words, encoding="utf-8", newline="\n")
    print(f"{options.out}: {words.count(chr(10)):,} lines")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--flavour", choices=product.FLAVOURS, default="all")
    parser.add_argument("--environment", metavar="PYTHON")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="what PyInstaller made")
    return parser.parse_args()


def elsewhere(interpreter: str, script: str) -> int:
    """Run the script of this process again with another interpreter, whose packages it then sees."""
    return subprocess.call([interpreter, script, *without_environment(sys.argv[1:])])


def without_environment(words: Sequence[str]) -> list[str]:
    """The same arguments for the interpreter that was named by `--environment PYTHON` or `--environment=PYTHON`."""
    rest: list[str] = []
    after = False
    for word in words:
        if not after and not word.startswith("--environment"):
            rest.append(word)
        after = word == "--environment"
    return rest


def third_party(flavour: str, bundle: Path | None = None) -> str:
    """The whole file. Raises: LicenceError."""
    have = distributions.installed()
    held = distributions.closure(distributions.wanted(flavour), have)
    for one in held:
        check_libraries(one)
    parts = [part_of(one) for one in held]
    parts += [python(), qt(held), fonts(), model()]
    if "pyinstaller" in have:
        parts.append(bootloader(text_of_bootloader(have["pyinstaller"]), have["pyinstaller"].version))
    if bundle is not None:
        parts += map(of_system, bundled_libraries.system_packages(bundle, held))
    return page(flavour, sorted(parts, key=lambda part: part.name.casefold()), notes(flavour, held))


def part_of(held: Held) -> Part:
    return Part(held.name, held.version, held.licence, held.source, held.texts)


def check_libraries(held: Held) -> None:
    """Raises: LicenceError, when a wheel carries a library of somebody else that its licence texts do not name."""
    words = " ".join(text.words for text in held.texts).casefold()
    for path in held.libraries:
        folder, _, name = path.rpartition("/")
        if folder.endswith((".libs", ".dylibs")) and library_name(name) not in words:
            raise LicenceError(f"{held.name} carries {name}, but its licence texts do not name {library_name(name)}.")


def library_name(file: str) -> str:
    """What a library is called in prose: `libfreetype-57f805ba.so.6.20.6` is freetype."""
    stem = re.split(r"[-.]", file)[0].removeprefix("lib").lower()
    stem = re.sub(r"[\d_]+$", "", stem)
    return ALIASES.get(stem, stem)


def python() -> Part:
    """The interpreter and its standard library. Raises: LicenceError, when its text is not where Python keeps it."""
    places = [Path(sysconfig.get_path("stdlib")) / "LICENSE.txt", Path(sys.base_prefix) / "LICENSE.txt"]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise LicenceError(f"Python's own licence text is not at {places[0]}.")
    version = platform.python_version()
    words = found.read_text(encoding="utf-8")
    return Part("Python", version, "PSF-2.0", f"https://www.python.org/ftp/python/{version}/", (Text("LICENSE.txt", words),))


def qt(held: Iterable[Held]) -> Part:
    """Qt itself, which PySide6's wheel carries."""
    wheel = next(one for one in held if one.key == "pyside6-essentials")
    source = f"https://download.qt.io/archive/qt/{'.'.join(wheel.version.split('.')[:2])}/{wheel.version}/"
    return Part("Qt", wheel.version, "LGPL-3.0-only", source, distributions.kept_texts("qt", distributions.kept()))


def fonts() -> Part:
    files = sorted((ASSETS / "fonts").glob("*OFL*.txt"))
    return Part("IBM Plex", "Sans, Mono", "OFL-1.1", "https://github.com/IBM/plex", tuple(map(asset, files)))


def model() -> Part:
    """The language model whose maps are shown."""
    from attnscope_engine.model.location import MODEL_NAME, WHEEL

    files = sorted((ASSETS / "text").glob("smollm2-*.txt"))
    source = f"https://pypi.org/project/{WHEEL.replace('==', '/')}/"
    return Part(MODEL_NAME, "Q4_1", "Apache-2.0", source, tuple(map(asset, files)))


def asset(path: Path) -> Text:
    return Text(path.name, path.read_text(encoding="utf-8"))


def text_of_bootloader(distribution: Distribution) -> tuple[Text, ...]:
    return distributions.licence_texts(distribution, distributions.Kept(distributions.KEPT, {}, {}, {}))


def bootloader(texts: tuple[Text, ...], version: str) -> Part:
    """The small program that starts the bundle; its exception lets it start anything."""
    licence = "GPL-2.0-or-later WITH Bootloader-exception"
    return Part("PyInstaller's bootloader", version, licence, f"https://pypi.org/project/pyinstaller/{version}/", texts)


def of_system(package: Package) -> Part:
    """Debian gives no expression for a whole package: its text says the licence of each part."""
    source = f"https://packages.debian.org/source/{package.name}"
    return Part(package.name, package.version, "see its text", source, (Text("copyright", package.copyright),))


def notes(flavour: str, held: Iterable[Held]) -> list[str]:
    """What the licences ask to be said besides their texts."""
    version = next(one.version for one in held if one.key == "pyside6-essentials")
    said = [
        f"**Qt {version}, PySide6 and shiboken6** are used under LGPL-3.0-only and are not changed. They are files of their own "
        "(`_internal/PySide6`, `_internal/shiboken6`): put other builds of the same version line in their place and start the "
        "program again. You may change them for that, and take apart what you need to in order to find faults in your change. "
        f"Sources: https://download.qt.io/archive/qt/{'.'.join(version.split('.')[:2])}/{version}/ and "
        f"https://download.qt.io/official_releases/QtForPython/pyside6/. Qt's text also names the code of "
        "others inside Qt; the list for its newest version is at https://doc.qt.io/qt-6/licenses-used-in-qt.html.",
        "**Libraries inside packages** (OpenBLAS and GCC's runtime in numpy, picture formats in pillow, FreeType and others in "
        "matplotlib) have their licences in the texts of those packages.",
    ]
    if flavour == "all":
        said.append(
            "**NVIDIA's NVRTC and CUDA runtime** (`libnvrtc`, `libnvrtc-builtins`, `libcudart`) are distributed as Attachment A "
            "of the CUDA Toolkit's licence allows, as parts of this program; that licence is among the texts."
        )
    return said


def page(flavour: str, parts: Sequence[Part], said: Iterable[str]) -> str:
    """Title, table, notes, texts: Markdown that `attnscope.third_party` reads back."""
    numbers: dict[str, int] = {}
    words: dict[int, str] = {}
    owners: dict[int, list[str]] = {}
    rows = []
    for part in parts:
        if not part.texts:
            raise LicenceError(f"{part.name} has no licence text.")
        mine: list[int] = []
        for text in part.texts:
            number = numbers.setdefault(fingerprint(text.words), len(numbers) + 1)
            words.setdefault(number, tidy(text.words))
            owners.setdefault(number, []).append(f"{part.name}: {short_name(text.name)}")
            mine += [] if number in mine else [number]
        links = ", ".join(f"[{number}](#text-{number})" for number in mine)
        rows.append(f"| {cell(part.name)} | {cell(part.version)} | {cell(part.licence)} | {cell(part.source)} | {links} |")
    lines = [
        f"# Third-party software in {product.NAME} {product.version()} ({flavour})",
        "",
        f"{product.NAME} itself is licensed under {product.LICENCE}. This is what its bundle holds besides.",
        "",
        "| Name | Version | Licence | From | Texts |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "## Notes",
        "",
        "\n\n".join(said),
        "",
        "## Texts",
    ]
    for number in sorted(words):
        fence = "`" * max(3, longest_run(words[number]) + 1)
        about = "; ".join(dict.fromkeys(owners[number]))
        lines += ["", f"### Text {number}", "", about, "", f"{fence}text", words[number], fence]
    return "\n".join(lines) + "\n"


def fingerprint(words: str) -> str:
    """The same for texts that differ in white space only."""
    return hashlib.sha256(" ".join(words.split()).encode()).hexdigest()


def tidy(words: str) -> str:
    """Lines without trailing space, none empty at either end."""
    return "\n".join(line.rstrip() for line in words.replace("\f", "\n").splitlines()).strip("\n")


def short_name(path: str) -> str:
    """Of `x.dist-info/licenses/LICENSE`: LICENSE."""
    return re.sub(r"^[^/]+\.dist-info/(licenses/)?", "", path)


def cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")


def longest_run(words: str) -> int:
    return max((len(run) for run in re.findall("`+", words)), default=0)


if __name__ == "__main__":
    sys.exit(main())

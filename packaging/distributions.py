"""Which installed distributions a bundle holds, under which licences: what `licences.py` and `sbom.py` both start from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import product
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS: Mapping[str, tuple[str, ...]] = {"all": ("gpu13",), "small": ()}
"""What of `pyproject.toml` each flavour holds besides the dependencies."""
LEFT_OUT = frozenset({"nvidia-cublas"})
"""Not in any bundle though an extra names it: cuBLAS is as large as all the rest, and one variant uses it. It is an add-on."""
KEPT = Path(__file__).parent / "licence_texts"

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Those that mean one licence; "BSD License" may be any of four."""
TEXT_NAME = re.compile(r"(?<![a-z])(licen[cs]e|copying|notice|copyright|eula)(?![a-rt-z])", re.IGNORECASE)
"""A word of its own: Beulah, a place in North Dakota, has a time zone."""
TEXT_ENDINGS = {"", ".txt", ".md", ".rst"}


class LicenceError(Exception):
    """Something that may not be bundled as it is; the text is the sentence for the person who builds."""


@dataclass(frozen=True, slots=True)
class Text:
    """One licence text and what it is called where it was found."""

    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Held:
    """One distribution that the bundle holds."""

    name: str
    """As its project writes it."""
    version: str
    licence: str
    """SPDX expression."""
    texts: tuple[Text, ...]
    source: str
    """Address."""
    needs: tuple[str, ...]
    """Canonical names of the distributions that it pulls in here."""
    libraries: tuple[str, ...]
    """Paths of the shared libraries inside."""

    @property
    def key(self) -> str:
        """The canonical name: lower case, `-` for `_` and `.`."""
        return str(canonicalize_name(self.name))


@dataclass(frozen=True, slots=True)
class Kept:
    """What `licence_texts/kept.toml` says of packages that do not say it themselves."""

    folder: Path
    texts: Mapping[str, list[str]]
    sources: Mapping[str, str]
    expressions: Mapping[str, str]


def kept(folder: Path = KEPT) -> Kept:
    """Raises: LicenceError, when a text is named that is not there, or has no source."""
    told = tomllib.loads((folder / "kept.toml").read_text(encoding="utf-8"))
    for files in told["texts"].values():
        for file in files:
            if not (folder / file).is_file():
                raise LicenceError(f"{file} is named by kept.toml but is not in {folder.name}.")
            if file not in told["sources"]:
                raise LicenceError(f"kept.toml does not say where {file} is from.")
    return Kept(folder, told["texts"], told["sources"], told["expressions"])


def wanted(flavour: str, project: Path = product.ROOT / "pyproject.toml") -> list[Requirement]:
    """What `pyproject.toml` asks for this flavour."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    words = list(table["dependencies"])
    for extra in EXTRAS[flavour]:
        words += table["optional-dependencies"][extra]
    return [found for found in map(Requirement, words) if canonicalize_name(found.name) not in LEFT_OUT]


def installed(folders: Iterable[str] | None = None) -> dict[str, metadata.Distribution]:
    """Distributions by canonical name; the first of a name wins, as it does on import. Default: this interpreter's own."""
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions() if folders is None else metadata.distributions(path=list(folders)):
        found.setdefault(str(canonicalize_name(distribution.name)), distribution)
    return found


def closure(
    asked: Iterable[Requirement], have: Mapping[str, metadata.Distribution], told: Kept | None = None
) -> tuple[Held, ...]:
    """Everything that `asked` pulls in on this platform, by canonical name.

    Raises:
        LicenceError: one is not installed, or says no licence, or has no licence text.

    """
    told = told or kept()
    extras: dict[str, set[str]] = {}
    needs: dict[str, set[str]] = {}
    waiting = [(requirement, "") for requirement in asked]
    while waiting:
        requirement, asker = waiting.pop()
        key = str(canonicalize_name(requirement.name))
        if asker:
            needs[asker].add(key)
        more = set(requirement.extras) - extras.get(key, set())
        if key in extras and not more:
            continue
        if key not in have:
            raise LicenceError(f"{requirement.name} belongs to the bundle but is not installed in this environment.")
        extras.setdefault(key, set()).update(more)
        needs.setdefault(key, set())
        waiting += [(pulled, key) for pulled in pulls(have[key], extras[key])]
    return tuple(held(have[key], sorted(needs[key]), told) for key in sorted(extras))


def pulls(distribution: metadata.Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    """What a distribution with these extras asks for on this platform."""
    for words in distribution.requires or ():
        requirement = Requirement(words)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *sorted(extras))):
            yield requirement


def held(distribution: metadata.Distribution, needs: Iterable[str], told: Kept) -> Held:
    """Raises: LicenceError."""
    files = [str(file) for file in distribution.files or ()]
    return Held(
        name=distribution.name,
        version=distribution.version,
        licence=licence(distribution, told),
        texts=licence_texts(distribution, told),
        source=f"https://pypi.org/project/{canonicalize_name(distribution.name)}/{distribution.version}/",
        needs=tuple(needs),
        libraries=tuple(sorted(file for file in files if is_library(file))),
    )


def is_library(name: str) -> bool:
    """Whether a file is a shared library, a module in machine code or not."""
    return re.search(r"(\.so(\.\d+)*|\.dll|\.dylib|\.pyd)$", name) is not None


def licence(distribution: metadata.Distribution, told: Kept) -> str:
    """Its SPDX expression: of the metadata, else of the one classifier that means one licence, else what is kept.

    Raises: LicenceError, when none of them says it.
    """
    about = distribution.metadata
    for said in (*(about.get_all("License-Expression") or ()), *(about.get_all("License") or ())):
        if expression := spdx(said):
            return expression
    classified = {CLASSIFIERS[line] for line in about.get_all("Classifier") or () if line in CLASSIFIERS}
    if len(classified) == 1:
        return classified.pop()
    key = str(canonicalize_name(distribution.name))
    if key in told.expressions:
        return told.expressions[key]
    raise LicenceError(
        f"{distribution.name} {distribution.version} names no SPDX licence: read its text, then add it to kept.toml."
    )


def spdx(words: str) -> str:
    """The words as an SPDX expression, or "" when they are none."""
    try:
        return str(canonicalize_license_expression(words)) if words and len(words) < 500 else ""
    except InvalidLicenseExpression:
        return ""


def licence_texts(distribution: metadata.Distribution, told: Kept) -> tuple[Text, ...]:
    """Every licence text that came with a distribution, else those kept for it.

    Raises: LicenceError, when there is neither, or a text is kept for one that brings its own.
    """
    found = [Text(str(file), text_of(distribution, file)) for file in distribution.files or () if is_text(str(file))]
    found = [text for text in found if text.words.strip()]
    key = str(canonicalize_name(distribution.name))
    files = told.texts.get(key, [])
    if found and files:
        raise LicenceError(f"{distribution.name} brings its own licence text now: take it out of kept.toml.")
    if not found and not files:
        raise LicenceError(
            f"{distribution.name} {distribution.version} has no licence text: ask its project for one, "
            f"or keep it in {told.folder.name}/ and name it and its source in kept.toml."
        )
    return tuple(sorted(found, key=lambda text: text.name)) or kept_texts(key, told)


def kept_texts(key: str, told: Kept) -> tuple[Text, ...]:
    """Those that `kept.toml` names for a package or for Qt."""
    return tuple(Text(file, (told.folder / file).read_text(encoding="utf-8")) for file in sorted(told.texts.get(key, [])))


def is_text(path: str) -> bool:
    """Whether a file of a distribution is a licence text: by its folder `licenses/` of the metadata, or by its name."""
    folder, _, name = path.rpartition("/")
    if re.search(r"\.dist-info/licenses(/|$)", folder):
        return True
    stem, dot, ending = name.rpartition(".")
    return TEXT_NAME.search(stem if dot else name) is not None and f"{dot}{ending if dot else ''}".lower() in TEXT_ENDINGS


def text_of(distribution: metadata.Distribution, file: metadata.PackagePath) -> str:
    """Its words; old texts may be in Latin-1."""
    data = Path(str(distribution.locate_file(file))).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")

"""Licences: nothing that is bundled goes without its text, and none is listed that is not bundled."""

from __future__ import annotations

import re
from pathlib import Path

import bundled_libraries
import distributions
import licences
import pytest
from attnscope.third_party import read
from bundled_libraries import Package
from distributions import Held, Kept, LicenceError, Text
from packages_made_up import install
from packaging.requirements import Requirement


def nothing_kept(folder: Path) -> Kept:
    return Kept(folder, {}, {}, {})


def closure(folder: Path, *asked: str, told: Kept | None = None) -> tuple[Held, ...]:
    found = distributions.installed([str(folder)])
    return distributions.closure([Requirement(words) for words in asked], found, told or nothing_kept(folder))


def held(name: str, text: str, *libraries: str) -> Held:
    return Held(name, "1.0", "MIT", (Text("LICENSE", text),), "https://example.org/", (), libraries)


def test_that_what_is_pulled_in_is_held_and_what_is_not_wanted_is_not(tmp_path: Path) -> None:
    install(tmp_path, "front", needs=("Middle_Part[fast]>=1", "for-tests; extra == 'test'", "elsewhere; sys_platform == 'none'"))
    install(tmp_path, "middle-part", needs=("quick; extra == 'fast'", "slow; extra == 'slow'", "front"))
    install(tmp_path, "quick")
    install(tmp_path, "bystander")
    found = closure(tmp_path, "front")
    assert [one.key for one in found] == ["front", "middle-part", "quick"]
    assert {one.key: one.needs for one in found} == {"front": ("middle-part",), "middle-part": ("front", "quick"), "quick": ()}


def test_that_a_package_without_a_licence_text_is_refused_unless_one_is_kept(tmp_path: Path) -> None:
    install(tmp_path, "silent", text=None)
    with pytest.raises(LicenceError, match=r"silent 1\.0 has no licence text"):
        closure(tmp_path, "silent")
    (tmp_path / "words.txt").write_text("You may.")
    told = Kept(tmp_path, {"silent": ["words.txt"]}, {"words.txt": "a letter"}, {})
    assert closure(tmp_path, "silent", told=told)[0].texts == (Text("words.txt", "You may."),)


def test_that_an_empty_licence_file_is_no_text(tmp_path: Path) -> None:
    install(tmp_path, "blank", text=" \n")
    with pytest.raises(LicenceError, match="no licence text"):
        closure(tmp_path, "blank")


def test_that_a_text_is_kept_only_as_long_as_it_is_needed(tmp_path: Path) -> None:
    install(tmp_path, "talks")
    (tmp_path / "words.txt").write_text("You may.")
    with pytest.raises(LicenceError, match="brings its own"):
        closure(tmp_path, "talks", told=Kept(tmp_path, {"talks": ["words.txt"]}, {"words.txt": "a letter"}, {}))


def test_that_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    install(tmp_path, "front", needs=("gone",))
    with pytest.raises(LicenceError, match="gone belongs to the bundle but is not installed"):
        closure(tmp_path, "front")


@pytest.mark.parametrize(
    ("said", "expression"),
    [
        ("License-Expression: mit or apache-2.0", "MIT OR Apache-2.0"),
        ("License: BSD-3-Clause", "BSD-3-Clause"),
        ("Classifier: License :: OSI Approved :: Apache Software License", "Apache-2.0"),
    ],
)
def test_that_a_licence_is_an_spdx_expression_wherever_it_is_said(tmp_path: Path, said: str, expression: str) -> None:
    install(tmp_path, "one", licence=said)
    assert closure(tmp_path, "one")[0].licence == expression


@pytest.mark.parametrize("said", ["License: BSD", "Classifier: License :: OSI Approved :: BSD License", ""])
def test_that_a_licence_that_could_be_several_is_asked_for(tmp_path: Path, said: str) -> None:
    install(tmp_path, "one", licence=said)
    with pytest.raises(LicenceError, match="names no SPDX licence"):
        closure(tmp_path, "one")
    assert closure(tmp_path, "one", told=Kept(tmp_path, {}, {}, {"one": "BSD-2-Clause"}))[0].licence == "BSD-2-Clause"


def test_that_licence_files_are_known_by_folder_or_name() -> None:
    texts = {
        "x-1.dist-info/licenses/any/name",
        "x/LICENSE_DEJAVU",
        "x/COPYING",
        "x/a license - of maps.txt",
        "x-1.dist-info/LICENCE.md",
    }
    others = {"x/license.py", "x/zoneinfo/Beulah", "x/core.so", "x-1.dist-info/METADATA", "x/licensee.txt"}
    assert {path for path in texts | others if distributions.is_text(path)} == texts


def test_that_a_library_of_somebody_else_must_be_named_in_the_texts() -> None:
    licences.check_libraries(
        held("pictures", "... LIBWEBP ... FREETYPE2 ...", "p.libs/libsharpyuv-00.so.0", "p.libs/libfreetype-5.so.6")
    )
    licences.check_libraries(held("own", "nothing", "own/_core.cpython-311-x86_64-linux-gnu.so"))
    with pytest.raises(LicenceError, match=r"pictures carries libtiff-20b7e810\.so\.6\.3\.0"):
        licences.check_libraries(held("pictures", "FREETYPE2", "p.libs/libtiff-20b7e810.so.6.3.0"))


def test_that_a_text_stands_once_and_is_read_back_whole() -> None:
    tricky = "A licence\n\n````text\n### Text 7\n````\n\n  with | bars, ``` fences"
    parts = [
        licences.Part("a|b", "1", "MIT", "https://a/", (Text("LICENSE", tricky),)),
        licences.Part("c", "2", "MIT", "https://c/", (Text("COPYING", f"\n{tricky}  \n"), Text("NOTICE", "Thanks."))),
    ]
    page = licences.page("small", parts, ["**A note.**"])
    assert page.count("with | bars") == 1
    back = read(page)
    assert [(part.name, part.version, part.licence) for part in back] == [("a|b", "1", "MIT"), ("c", "2", "MIT")]
    assert tricky in back[0].words
    assert tricky in back[1].words
    assert "Thanks." in back[1].words
    assert "Thanks." not in back[0].words


def test_that_the_small_bundle_s_page_names_all_that_it_holds_and_is_the_same_twice() -> None:
    page = licences.third_party("small")
    assert page == licences.third_party("small")
    parts = {part.name: part for part in read(page)}
    assert {"Python", "Qt", "IBM Plex", "SmolLM2-135M-Instruct", "numpy", "pyqtgraph", "PySide6_Essentials"} <= parts.keys()
    assert not {"pytest", "torch", "attnscope", "cupy-cuda13x", "nvidia-cuda-nvrtc"} & parts.keys()
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in parts["Qt"].words
    assert "Unicode, Inc." in parts["Qt"].words
    assert "SIL OPEN FONT LICENSE" in parts["IBM Plex"].words.upper()
    assert "Name: OpenBLAS" in parts["numpy"].words
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", page.partition("## Texts")[0])


def test_that_the_parts_for_a_gpu_belong_to_the_bundle_that_says_all() -> None:
    names = {requirement.name for requirement in distributions.wanted("all")}
    assert {"cupy-cuda13x", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime"} <= names
    assert "nvidia-cublas" not in names
    assert names > {requirement.name for requirement in distributions.wanted("small")}


def test_that_every_kept_text_is_there_and_has_a_source(tmp_path: Path) -> None:
    assert distributions.kept().texts["shiboken6"]
    (tmp_path / "kept.toml").write_text('[texts]\n"x" = ["gone.txt"]\n[sources]\n[expressions]\n')
    with pytest.raises(LicenceError, match=r"gone\.txt is named"):
        distributions.kept(tmp_path)
    (tmp_path / "gone.txt").write_text("You may.")
    with pytest.raises(LicenceError, match=r"where gone\.txt is from"):
        distributions.kept(tmp_path)


def bundle_of(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_that_libraries_of_the_building_system_are_listed_with_their_text(tmp_path: Path) -> None:
    bundle = bundle_of(
        tmp_path,
        "_internal/libssl.so.3",
        "_internal/libcrypto.so.3",
        "_internal/libpython3.11.so.1.0",
        "_internal/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
        "_internal/wheel/core.abi3.so",
        "_internal/base_library.zip",
    )
    wheel = held("wheel", "MIT", "wheel/core.abi3.so")
    owners = {name: Package("openssl", "3.0", "OpenSSL's words") for name in ("libssl.so.3", "libcrypto.so.3")}
    packages = bundled_libraries.system_packages(bundle, [wheel], lambda names: {name: owners[name] for name in names})
    assert packages == [Package("openssl", "3.0", "OpenSSL's words")]
    part = licences.of_system(packages[0])
    assert (part.name, part.version, part.texts[0].words) == ("openssl", "3.0", "OpenSSL's words")


def test_that_a_library_of_nobody_is_refused(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "_internal/libmystery.so.1")
    with pytest.raises(LicenceError, match=r"libmystery\.so\.1 in the bundle belongs to no wheel"):
        bundled_libraries.system_packages(bundle, [], lambda names: {})


def test_that_a_library_under_the_gpl_is_refused(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "_internal/libreadline.so.8")
    with pytest.raises(LicenceError, match="leave out the module readline"):
        bundled_libraries.system_packages(bundle, [], lambda names: {name: Package("readline8", "8", "GPL") for name in names})


@pytest.mark.skipif(
    not Path("/usr/share/doc/zlib1g/copyright").is_file(), reason="this system keeps no copyright files of Debian's"
)
def test_that_debian_says_whose_a_library_is() -> None:
    found = bundled_libraries.owners_by_dpkg(["libz.so.1", "libmystery.so.1"])
    assert {name: package.name for name, package in found.items()} == {"libz.so.1": "zlib"}
    assert "Gailly" in found["libz.so.1"].copyright


def test_that_another_interpreter_gets_the_same_arguments_but_not_itself() -> None:
    words = ["--out", "x", "--environment", "/py", "--flavour", "small", "--environment=/py"]
    assert licences.without_environment(words) == ["--out", "x", "--flavour", "small"]

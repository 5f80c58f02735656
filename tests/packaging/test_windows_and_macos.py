"""Icons, lists and property lists that are made for systems that the tests do not run on."""

from __future__ import annotations

import plistlib
import re
import struct
import subprocess
import sys
from pathlib import Path

import icon_files
import installer
import product
import pytest
from dmg import image, settings
from info_plist import SESSION, info_plist

MACOS = Path(icon_files.APPLE_ICON).parent


def test_that_the_windows_icon_holds_each_picture_at_its_place() -> None:
    data = icon_files.WINDOWS_ICON.read_bytes()
    assert data == icon_files.windows_icon()
    zero, kind, count = struct.unpack_from("<HHH", data)
    assert (zero, kind, count) == (0, 1, len(icon_files.WINDOWS_SIZES))
    for index, size in enumerate(icon_files.WINDOWS_SIZES):
        width, height, _, _, _, bits, length, start = struct.unpack_from("<BBBBHHII", data, 6 + 16 * index)
        assert (width or 256, height or 256, bits) == (size, size, 32)
        assert data[start : start + length] == icon_files.png(size).read_bytes()


def test_that_the_apple_icon_is_as_long_as_it_says_and_holds_each_type() -> None:
    data = icon_files.APPLE_ICON.read_bytes()
    assert data == icon_files.apple_icon()
    assert data[:8] == b"icns" + struct.pack(">I", len(data))
    at, kinds = 8, []
    while at < len(data):
        kinds.append((data[at : at + 4], int.from_bytes(data[at + 24 : at + 28], "big")))  # the width in a PNG's first chunk
        at += int.from_bytes(data[at + 4 : at + 8], "big")
    assert tuple(kinds) == icon_files.APPLE_TYPES


def test_that_the_uninstaller_removes_what_was_installed_files_first_and_deep_folders_before_their_parents(
    tmp_path: Path,
) -> None:
    for name in ("attnscope.exe", "_internal/a $b.txt", "_internal/deep/er/größe.dll"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    lines = installer.removal(tmp_path).splitlines()
    assert lines[0] == "!macro RemoveInstalledFiles"
    assert lines[1:-1] == [
        r"  Delete `$INSTDIR\_internal\a $$b.txt`",
        r"  Delete `$INSTDIR\_internal\deep\er\größe.dll`",
        r"  Delete `$INSTDIR\attnscope.exe`",
        r"  RMDir `$INSTDIR\_internal\deep\er`",
        r"  RMDir `$INSTDIR\_internal\deep`",
        r"  RMDir `$INSTDIR\_internal`",
    ]
    assert lines[-1] == "!macroend"


def test_that_the_windows_installer_is_told_every_name_that_it_asks_for(tmp_path: Path) -> None:
    script = installer.SCRIPT.read_text(encoding="utf-8")
    given = {*installer.definitions(tmp_path, tmp_path / "setup.exe", "1.2.3"), "FILES", "LICENCE_FILE"}
    own = set(re.findall(r"!define (\w+)", script)) | {"EXE", "FOLDER", "PERSONAL", "__COUNTER__"}
    asked = set(re.findall(r"\$\{([A-Z_]+)\}", script))
    assert asked <= given | own
    assert given <= asked


def test_that_the_windows_installer_asks_for_no_rights_and_writes_for_one_person_only() -> None:
    script = installer.SCRIPT.read_text(encoding="utf-8")
    assert "RequestExecutionLevel user" in script
    assert not re.search(r"\b(HKLM|HKCR|SHCTX|\$PROGRAMFILES)", script)
    assert script.count("RMDir /r") == 1  # what the person made, when the person asks for it


def test_that_macos_is_told_the_type_of_a_session_that_the_product_saves() -> None:
    told = plistlib.loads(plistlib.dumps(info_plist()))
    assert told == info_plist()
    (kind,), (exported,) = told["CFBundleDocumentTypes"], told["UTExportedTypeDeclarations"]
    assert kind["LSItemContentTypes"] == [exported["UTTypeIdentifier"]] == [SESSION]
    assert exported["UTTypeTagSpecification"]["public.filename-extension"] == [product.SUFFIX[1:]]
    assert told["CFBundleIdentifier"] == product.ID
    assert told["CFBundleShortVersionString"] == product.version()
    assert told["NSHighResolutionCapable"] is True
    assert kind["CFBundleTypeIconFile"] == icon_files.APPLE_ICON.name


def test_that_the_entitlements_are_a_property_list_of_switches() -> None:
    with (MACOS / "entitlements.plist").open("rb") as file:
        found = plistlib.load(file)
    assert found
    assert all(name.startswith("com.apple.security.cs.") and value is True for name, value in found.items())


def test_that_the_disk_image_shows_the_program_beside_applications() -> None:
    told = settings(Path("/x/Attnscope.app"))
    assert set(told["icon_locations"]) == {"Attnscope.app", *told["symlinks"]}
    assert image("small", "arm64").name == f"attnscope-small-{product.version()}-macos-arm64.dmg"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_that_signing_without_a_mac_or_an_identity_is_refused_in_a_sentence(tmp_path: Path) -> None:
    program = tmp_path / "Attnscope.app"
    program.mkdir()
    answer = subprocess.run(
        ["/bin/sh", MACOS / "sign.sh", program], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert re.fullmatch(
        r"(Signing for macOS needs a Mac|SIGNING_IDENTITY is not set: nothing was signed\. .*)\.\n", answer.stderr
    )

"""What an installer tells a Linux desktop, read as the desktop reads it."""

from __future__ import annotations

import configparser
import xml.etree.ElementTree as ET

import icon_files
import integration
import product
import pytest
from attnscope import application
from attnscope.session import SUFFIX
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

MIME_NAMESPACE = "{http://www.freedesktop.org/standards/shared-mime-info}"


def entry() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys have capitals
    parser.read_string(integration.files()[f"applications/{product.ID}.desktop"].decode())
    return parser["Desktop Entry"]


def component(name: str) -> ET.Element:
    return ET.fromstring(integration.files()[name])


def test_that_the_menu_entry_starts_the_command_with_one_file_and_has_the_products_icon() -> None:
    found = entry()
    assert found["Type"] == "Application"
    assert found["Exec"] == f"{product.COMMAND} %f"
    assert found["TryExec"] == product.COMMAND
    assert found["Icon"] == product.ID
    assert found["MimeType"] == f"{product.MIME};"
    assert found["Categories"].split(";")[0] == "Science"
    assert all(found[key].endswith(";") for key in ("Categories", "Keywords", "MimeType"))
    assert {"Name": product.NAME, "Comment": product.SUMMARY}.items() <= dict(found).items()


def test_that_the_window_is_the_one_of_the_menu_entry(qtbot: QtBot) -> None:
    before = QGuiApplication.desktopFileName()
    application.name_application()
    try:
        assert QGuiApplication.desktopFileName() == product.ID
        assert QGuiApplication.applicationName() == entry()["StartupWMClass"]  # Qt's window class on X11
    finally:
        QGuiApplication.setDesktopFileName(before)


def test_that_saved_sessions_are_of_the_type_that_is_declared() -> None:
    kind = component(f"mime/packages/{product.ID}.xml").find(f"{MIME_NAMESPACE}mime-type")
    assert kind is not None
    assert kind.get("type") == product.MIME
    assert [glob.get("pattern") for glob in kind.iter(f"{MIME_NAMESPACE}glob")] == [f"*{SUFFIX}"]
    assert SUFFIX == product.SUFFIX
    assert [parent.get("type") for parent in kind.iter(f"{MIME_NAMESPACE}sub-class-of")] == ["application/json"]


def test_that_the_software_centre_finds_entry_command_licence_age_rating_and_maker() -> None:
    root = component(f"metainfo/{product.ID}.metainfo.xml")
    assert root.get("type") == "desktop-application"
    assert root.findtext("id") == product.ID
    assert root.findtext("launchable") == f"{product.ID}.desktop"
    assert root.findtext("provides/binary") == product.COMMAND
    assert root.findtext("provides/mediatype") == product.MIME
    assert root.findtext("project_license") == product.LICENCE
    assert root.findtext("developer/name") == product.DEVELOPER
    rating = root.find("content_rating")
    assert rating is not None
    assert rating.get("type") == "oars-1.1"
    assert len(root.findtext("summary") or "") <= 35
    assert [text.text for text in root.iter("category")] == entry()["Categories"].rstrip(";").split(";")


def test_that_only_dated_versions_of_the_changelog_are_releases() -> None:
    changelog = "## Unreleased\n\n## [0.2.0] - 2027-01-31\n### Added\n## 0.1.0 – 2026-12-01\n"
    found = ET.fromstring(integration.releases(changelog)).iter("release")
    assert [(one.get("version"), one.get("date")) for one in found] == [("0.2.0", "2027-01-31"), ("0.1.0", "2026-12-01")]
    assert integration.releases("## Unreleased\n### Added\n") == ""


@pytest.mark.parametrize("size", icon_files.SIZES)
def test_that_an_icon_has_the_size_of_its_folder(size: int) -> None:
    data = integration.files()[f"icons/hicolor/{size}x{size}/apps/{product.ID}.png"]
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == (size, size)


def test_that_a_template_without_a_value_is_refused(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text").write_text("@NAME@ @NOBODY@", encoding="utf-8")
    monkeypatch.setattr(integration, "TEMPLATES", tmp_path)
    with pytest.raises(ValueError, match="@NOBODY@"):
        integration.filled("text")

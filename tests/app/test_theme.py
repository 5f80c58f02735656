"""The theme dresses the application, follows the system, and nothing else holds a colour."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import attnscope
import pytest
from attnscope.looks import DARK, LIGHT, LOOKS, look
from attnscope.marks import draw_swatch, marker_path
from attnscope.theme import _FONTS, Theme, font, icon, load_fonts
from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontInfo, QFontMetricsF, QGuiApplication, QImage, QPainter, QPalette
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot


def test_that_every_shipped_face_is_read_and_used(qtbot: QtBot) -> None:
    assert load_fonts() == ()
    for role, (family, pixels, weight) in _FONTS.items():
        face = font(role)
        assert QFontInfo(face).family() == family, role
        assert (face.pixelSize(), face.weight()) == (pixels, weight)


def test_that_all_digits_are_equally_wide_in_every_role(qtbot: QtBot) -> None:
    for role in _FONTS:
        metrics = QFontMetricsF(font(role))
        assert len({metrics.horizontalAdvance(digit) for digit in "0123456789"}) == 1, role


def test_that_licences_lie_beside_the_fonts() -> None:
    folder = resources.files("attnscope_assets") / "fonts"
    for family in ("Sans", "Mono"):
        assert "SIL OPEN FONT LICENSE" in (folder / f"IBMPlex{family}-OFL.txt").read_text(encoding="utf-8").upper()


ICONS = sorted(
    entry.name[:-4] for entry in (resources.files("attnscope_assets") / "icons").iterdir() if entry.name.endswith(".svg")
)


@pytest.mark.parametrize("name", [name for name in ICONS if name != "attnscope"])
def test_that_an_icon_is_drawn_in_the_colour_asked_for(qtbot: QtBot, name: str) -> None:
    picture = icon(name, "#FF0000").pixmap(QSize(16, 16), 2.0).toImage()
    seen = [picture.pixelColor(x, y) for x in range(picture.width()) for y in range(picture.height())]
    assert picture.width() == 32
    assert any(colour.alpha() > 200 for colour in seen)
    assert all(colour.green() == colour.blue() == 0 for colour in seen if colour.alpha() == 255)


def test_that_a_missing_icon_is_named(qtbot: QtBot) -> None:
    with pytest.raises(FileNotFoundError, match="no-such"):
        icon("no-such", "#000000")


def test_that_the_mode_decides_and_is_announced_once(qtbot: QtBot) -> None:
    theme = Theme("dark")
    assert theme.tokens == DARK
    with qtbot.waitSignal(theme.changed):
        theme.set_mode("light")
    assert theme.tokens == LIGHT
    assert QGuiApplication.palette().color(QPalette.ColorRole.Window) == QColor(LIGHT.panel)
    with qtbot.assertNotEmitted(theme.changed):
        theme.set_mode("light")


def test_that_a_theme_of_the_system_follows_it(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    theme = Theme("system")
    monkeypatch.setattr(theme, "_wanted", lambda: LIGHT)
    with qtbot.waitSignal(theme.changed):
        QGuiApplication.styleHints().colorSchemeChanged.emit(Qt.ColorScheme.Light)
    assert theme.tokens == LIGHT


def test_that_a_dressed_button_changes_with_the_theme(qtbot: QtBot) -> None:
    theme, button, gone = Theme("dark"), QPushButton(), QPushButton()
    theme.dress(button, "pin")
    theme.dress(gone, "pin")
    gone.deleteLater()
    QGuiApplication.sendPostedEvents(gone, 0)
    before = button.icon().cacheKey()
    theme.set_mode("light")
    assert button.icon().cacheKey() != before
    assert button.icon().cacheKey() == icon("pin", LIGHT.text2).cacheKey()


def show_active(qtbot: QtBot, window: QWidget) -> None:
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()


def test_that_the_focus_ring_comes_by_keys_and_not_by_clicks(qtbot: QtBot) -> None:
    theme, window = Theme("dark"), QWidget()
    row = QHBoxLayout(window)
    one, two = QLineEdit(), QLineEdit()
    row.addWidget(one)
    row.addWidget(two)
    qtbot.addWidget(window)
    show_active(qtbot, window)
    one.setFocus()
    assert theme._ring.ringed() is None
    QTest.keyClick(one, Qt.Key.Key_Tab)
    assert theme._ring.ringed() is two
    QTest.mouseClick(one, Qt.MouseButton.LeftButton)
    assert theme._ring.ringed() is None


def test_that_the_focus_ring_outlives_the_dialog_that_it_was_in(qtbot: QtBot) -> None:
    theme = Theme("dark")
    for _ in range(2):
        dialog = QDialog()
        row = QHBoxLayout(dialog)
        one, two = QLineEdit(), QLineEdit()
        row.addWidget(one)
        row.addWidget(two)
        show_active(qtbot, dialog)
        one.setFocus()
        QTest.keyClick(one, Qt.Key.Key_Tab)
        assert theme._ring.ringed() is two
        dialog.deleteLater()
        QGuiApplication.sendPostedEvents(None, 0)
        qtbot.wait(1)


@pytest.mark.parametrize("name", LOOKS)
def test_that_a_marker_is_about_as_large_as_it_says(qtbot: QtBot, name: str) -> None:
    box = marker_path(look(name).marker, 10.0).boundingRect()
    assert min(box.width(), box.height()) >= 5.5
    assert max(box.width(), box.height()) <= 14
    assert abs(box.center().x()) < 1.1
    assert abs(box.center().y()) < 1.1


def test_that_swatches_of_two_variants_differ_in_shape_alone(qtbot: QtBot) -> None:
    drawn = set()
    for name in LOOKS:
        picture = QImage(32, 14, QImage.Format.Format_ARGB32)
        picture.fill(0)
        painter = QPainter(picture)
        draw_swatch(painter, QRectF(0, 0, 32, 14), look(name), DARK)
        painter.end()
        drawn.add(bytes(picture.convertToFormat(QImage.Format.Format_Alpha8).constBits()))
    assert len(drawn) == len(LOOKS)


COLOUR_HOLDERS = {"looks.py", "colour_maps.py"}


def test_that_no_other_file_of_the_window_holds_a_colour() -> None:
    root = Path(attnscope.__file__).parent
    hexes = re.compile(r"#(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b|QColor\(\s*\d")
    papers = {"figures", "cli"}  # make documents of their own
    files = [file for file in root.rglob("*.py") if file.name not in COLOUR_HOLDERS and not papers & set(file.parts)]
    assert len(files) > 20
    found = {f"{file.relative_to(root)}:{line}" for file in files for line in hexes.findall(file.read_text(encoding="utf-8"))}
    assert not found

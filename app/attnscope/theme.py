"""The window's dress: one of two token sets turned into palette, style sheet, fonts and icons.

`Theme` follows the system until told otherwise. Widgets ask it for `tokens` when they paint and repaint on `changed`; none
of them holds a colour.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from importlib import resources
from pathlib import Path
from typing import Literal

from PySide6.QtCore import QByteArray, QObject, QRectF, QSize, Qt, QTemporaryDir, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QAbstractButton, QApplication
from shiboken6 import isValid

from attnscope.focus_ring import FocusRing
from attnscope.looks import DARK, LIGHT, Tokens
from attnscope.marks import LINE_WIDTH, MARKER_SIZE, draw_marker, draw_swatch, fill_marker, line_pen, marker_path
from attnscope.stylesheet import PICTURES, style_sheet

__all__ = [
    "LINE_WIDTH",
    "MARKER_SIZE",
    "FontRole",
    "Theme",
    "ThemeMode",
    "draw_marker",
    "draw_swatch",
    "fill_marker",
    "font",
    "icon",
    "line_pen",
    "load_fonts",
    "marker_path",
]

ThemeMode = Literal["system", "light", "dark"]
FontRole = Literal[
    "n_field",
    "title",
    "body",
    "body_medium",
    "label",
    "label_medium",
    "heading",
    "tick",
    "number",
    "number_medium",
    "token",
    "token_medium",
]
SANS, MONO = "IBM Plex Sans", "IBM Plex Mono"
_NORMAL, _MEDIUM, _BOLD = QFont.Weight.Normal, QFont.Weight.Medium, QFont.Weight.DemiBold

# Sizes are pixels, never points: points depend on what the screen claims to be.
_FONTS: dict[FontRole, tuple[str, int, QFont.Weight]] = {
    "n_field": (MONO, 20, _MEDIUM),
    "title": (SANS, 16, _BOLD),
    "body": (SANS, 13, _NORMAL),
    "body_medium": (SANS, 13, _MEDIUM),
    "label": (SANS, 12, _NORMAL),
    "label_medium": (SANS, 12, _MEDIUM),
    "heading": (SANS, 12, _BOLD),
    "tick": (SANS, 11, _NORMAL),
    "number": (MONO, 12, _NORMAL),
    "number_medium": (MONO, 12, _MEDIUM),
    "token": (SANS, 15, _NORMAL),
    "token_medium": (SANS, 15, _MEDIUM),
}


@functools.cache
def load_fonts() -> tuple[str, ...]:
    """Make the shipped faces known to Qt, once; the files that Qt could not read."""
    folder = resources.files("attnscope_assets") / "fonts"
    failed = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        data = entry.read_bytes() if entry.name.endswith(".ttf") else b""
        if data and QFontDatabase.addApplicationFontFromData(QByteArray(data)) < 0:
            failed.append(entry.name)
    return tuple(failed)


@functools.cache
def font(role: FontRole) -> QFont:
    """The face of a role. Shared: copy it before changing it."""
    load_fonts()
    family, pixels, weight = _FONTS[role]
    face = QFont(family)
    face.setPixelSize(pixels)
    face.setWeight(weight)
    return face


@functools.cache
def _drawing(name: str) -> str:
    return (resources.files("attnscope_assets") / "icons" / f"{name}.svg").read_text(encoding="utf-8")


def _coloured(name: str, colour: str) -> bytes:
    return _drawing(name).replace("currentColor", colour).encode()


@functools.cache
def icon(name: str, colour_hex: str) -> QIcon:
    """A 16 px icon in one colour, sharp at 100 to 300 %. Raises: FileNotFoundError for a name that has no drawing."""
    renderer = QSvgRenderer(QByteArray(_coloured(name, colour_hex)))
    found = QIcon()
    for ratio in (1, 2, 3):
        picture = QPixmap(QSize(16 * ratio, 16 * ratio))
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        renderer.render(painter, QRectF(0, 0, 16 * ratio, 16 * ratio))
        painter.end()
        picture.setDevicePixelRatio(ratio)
        found.addPixmap(picture)
    return found


def palette(tokens: Tokens) -> QPalette:
    """For what the style sheet does not reach: native dialogs' ground, placeholder text, links."""
    role = QPalette.ColorRole
    colours = {
        role.Window: tokens.panel,
        role.WindowText: tokens.text1,
        role.Base: tokens.raised,
        role.AlternateBase: tokens.panel,
        role.Text: tokens.text1,
        role.Button: tokens.raised,
        role.ButtonText: tokens.text1,
        role.BrightText: tokens.danger,
        role.Highlight: tokens.accent,
        role.HighlightedText: tokens.on_accent,
        role.Link: tokens.accent,
        role.LinkVisited: tokens.accent,
        role.ToolTipBase: tokens.raised,
        role.ToolTipText: tokens.text1,
        role.PlaceholderText: tokens.text3,
        role.Light: tokens.hover,
        role.Midlight: tokens.hover,
        role.Mid: tokens.line,
        role.Dark: tokens.edge,
        role.Shadow: tokens.plot,
        role.Accent: tokens.accent,
    }
    found = QPalette()
    for each, colour in colours.items():
        found.setColor(each, QColor(colour))
    for each in (role.WindowText, role.Text, role.ButtonText):
        found.setColor(QPalette.ColorGroup.Disabled, each, QColor(tokens.text3))
    return found


class Theme(QObject):
    """The tokens in force. One exists; it dresses the application."""

    changed = Signal()
    """After the application has its new palette and sheet: repaint with `tokens`."""
    font = staticmethod(font)

    def __init__(self, mode: ThemeMode = "system", parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.tokens = DARK
        self.mode: ThemeMode = mode
        self._buttons: list[tuple[weakref.ref[QAbstractButton], str, str]] = []
        self._pictures = QTemporaryDir()  # a style sheet takes pictures from files only
        load_fonts()
        hints = QGuiApplication.styleHints()
        hints.colorSchemeChanged.connect(self._system_changed)
        hints.accessibility().contrastPreferenceChanged.connect(self._system_changed)
        QApplication.setFont(font("body"))
        self._ring = FocusRing(self)
        self._apply()

    def set_mode(self, mode: ThemeMode) -> None:
        """Follow the system, or stay light or dark."""
        self.mode = mode
        if self._wanted() != self.tokens:
            self._apply()

    def dress(self, button: QAbstractButton, name: str, token: str = "text2") -> None:
        """Give a button an icon that changes colour with the theme."""
        self._buttons = [entry for entry in self._buttons if entry[0]() is not None]
        self._buttons.append((weakref.ref(button), name, token))
        button.setIconSize(QSize(16, 16))
        button.setIcon(icon(name, getattr(self.tokens, token)))

    def _wanted(self) -> Tokens:
        hints = QGuiApplication.styleHints()
        # A system that does not say gets dark: it is the instrument's own ground, and maps are darkest there.
        light = self.mode == "light" or (self.mode == "system" and hints.colorScheme() == Qt.ColorScheme.Light)
        tokens = LIGHT if light else DARK
        wants_contrast = hints.accessibility().contrastPreference() == Qt.ContrastPreference.HighContrast
        return tokens.high_contrast() if wants_contrast else tokens

    def _system_changed(self) -> None:
        self.set_mode(self.mode)

    def _apply(self) -> None:
        self.tokens = self._wanted()
        folder = Path(self._pictures.path()) / ("dark" if self.tokens.dark else "light")
        with contextlib.suppress(OSError):  # a full disk costs two small pictures, not the window
            folder.mkdir(exist_ok=True)
            for name, token in PICTURES.items():
                (folder / f"{name}.svg").write_bytes(_coloured(name, getattr(self.tokens, token)))
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        app.setStyle("Fusion")
        app.setPalette(palette(self.tokens))
        app.setStyleSheet(style_sheet(self.tokens, folder))
        for reference, name, token in self._buttons:
            button = reference()
            if button is not None and isValid(button):
                button.setIcon(icon(name, getattr(self.tokens, token)))
        self._ring.set_colour(self.tokens.accent)
        self.changed.emit()

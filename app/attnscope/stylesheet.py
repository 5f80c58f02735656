"""The one Qt style sheet, filled from a set of colour tokens. No Qt.

A widget chooses its dress by a property: `kind` of a button ("accent", "quiet", "small", "icon"), `segment` of a button in
a row ("first", "middle", "last"), `role` of a label ("label", "hint", "danger", "warn"), `bad` of a field. Sizes are
logical pixels.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from string import Template

from attnscope.looks import Tokens

PICTURES = {"check": "on_accent", "chevron-down": "text2", "chevron-right": "text2"}
"""Icons that the style sheet shows, each with the token that colours it."""

_SHEET = Template("""
QWidget { color: $text1; }
QMainWindow, QDialog, QWidget[ground="window"] { background: $window; }
QWidget[ground="panel"] { background: $panel; }
QWidget[ground="plot"] { background: $plot; }
QLabel { background: transparent; }
QLabel[role="label"] { color: $text2; }
QLabel[role="hint"] { color: $text3; }
QLabel[role="danger"] { color: $danger; }
QLabel[role="warn"] { color: $warn; }
QLabel:disabled { color: $text3; }
QFrame[hairline="true"] { background: $line; border: none; }
QFrame[dropline="true"] { background: $accent; border: none; }

QMenuBar { background: $window; border-bottom: 1px solid $line; padding: 0 4px; }
QMenuBar::item { background: transparent; padding: 5px 9px; }
QMenuBar::item:selected, QMenu::item:selected { background: $hover; color: $text1; }
QMenu { background: $panel; border: 1px solid $line; padding: 4px 0; }
QMenu::item { padding: 5px 24px 5px 24px; }
QMenu::item:disabled { color: $text3; }
QMenu::separator { height: 1px; background: $line; margin: 4px 0; }
QToolTip { background: $raised; color: $text1; border: 1px solid $line; padding: 6px 8px; }
QStatusBar { background: $panel; border-top: 1px solid $line; }
QStatusBar::item { border: none; }

QPushButton { background: $raised; border: 1px solid $line; border-radius: 4px; padding: 3px 10px; min-height: 18px; }
QPushButton:hover, QPushButton:pressed { background: $hover; }
QPushButton:disabled { background: transparent; color: $text3; }
QPushButton[kind="accent"] { background: $accent; border-color: $accent; color: $on_accent; font-weight: 600; }
QPushButton[kind="accent"]:disabled { background: transparent; border-color: $line; color: $text3; }
QPushButton[kind="quiet"] { background: transparent; border-color: transparent; color: $text2; }
QPushButton[kind="quiet"]:hover { background: $hover; color: $text1; }
QPushButton[kind="quiet"]:disabled { color: $text3; }
QPushButton[kind="small"] { padding: 0 8px; min-height: 14px; }
QToolButton { background: transparent; border: 1px solid transparent; border-radius: 4px; padding: 3px 6px; color: $text2; }
QToolButton:hover { background: $hover; color: $text1; }
QToolButton:disabled { color: $text3; }
QToolButton[kind="icon"] { padding: 0; }
QToolButton::menu-indicator { image: none; }
QToolButton[segment] { background: $raised; border: 1px solid $line; border-radius: 0; padding: 3px 9px; }
QToolButton[segment="middle"], QToolButton[segment="last"] { border-left: none; }
QToolButton[segment="first"], QToolButton[segment="only"] { border-top-left-radius: 4px; border-bottom-left-radius: 4px; }
QToolButton[segment="last"], QToolButton[segment="only"] { border-top-right-radius: 4px; border-bottom-right-radius: 4px; }
QToolButton[segment]:hover { background: $hover; }
QToolButton[segment]:checked { background: $tint; color: $text1; }
QToolButton[segment]:disabled { background: transparent; color: $text3; }

QLineEdit, QPlainTextEdit, QTextEdit, QAbstractSpinBox, QComboBox {
  background: $raised; border: 1px solid $line; border-bottom-color: $edge; border-radius: 4px; padding: 0 7px;
  selection-background-color: $accent; selection-color: $on_accent; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QAbstractSpinBox:focus { border-bottom-color: $accent; }
QLineEdit[kind="hand"] { border-bottom: 2px solid $accent; padding-right: 9px; }
QLineEdit[bad="true"] { border: 1px solid $danger; }
QLineEdit:disabled, QComboBox:disabled { background: transparent; color: $text3; border-color: $line; }
QComboBox { padding: 0 4px 0 7px; min-height: 24px; border-bottom-color: $line; }
QComboBox[kind="field"] { border-bottom-color: $edge; }
QComboBox:hover { background: $hover; }
QComboBox::drop-down { border: none; width: 20px; }
QComboBox::down-arrow { image: url("$folder/chevron-down.svg"); width: 14px; height: 14px; }
QComboBox QAbstractItemView { background: $raised; border: 1px solid $line; padding: 2px 0; outline: none;
  selection-background-color: $tint; selection-color: $text1; }

QCheckBox { spacing: 7px; background: transparent; }
QCheckBox:disabled { color: $text3; }
QCheckBox::indicator { width: 12px; height: 12px; border: 1px solid $edge; border-radius: 3px; background: $raised; }
QCheckBox::indicator:hover { border-color: $text2; }
QCheckBox::indicator:checked { background: $accent; border-color: $accent; image: url("$folder/check.svg"); }
QCheckBox::indicator:disabled { background: transparent; border-color: $line; }

QTabBar { background: transparent; qproperty-drawBase: 0; }
QTabBar::tab { background: transparent; color: $text2; padding: 10px 14px 8px 14px; border: none;
  border-bottom: 2px solid transparent; }
QTabBar::tab:hover { color: $text1; }
QTabBar::tab:selected { color: $text1; border-bottom: 2px solid $accent; }

QSplitter::handle { background: $line; }
QSplitter::handle:horizontal { width: 1px; }
QSplitter::handle:vertical { height: 1px; }
QMainWindow::separator { background: $line; width: 1px; height: 1px; }
QDockWidget { color: $text1; }
QDockWidget::title { background: $panel; padding: 6px 12px; text-align: left; }
QScrollArea { background: transparent; border: none; }
QScrollBar:vertical { background: transparent; width: 10px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; }
QScrollBar::handle { background: $groove; border-radius: 3px; margin: 2px; min-height: 24px; min-width: 24px; }
QScrollBar::handle:hover { background: $edge; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QTableView, QListView, QTreeView { background: $panel; border: 1px solid $line; gridline-color: $line; outline: none;
  alternate-background-color: $panel; selection-background-color: $tint; selection-color: $text1; }
QTableView::item { padding: 0 5px; border: none; }
QHeaderView::section { background: $panel; color: $text3; border: none; border-bottom: 1px solid $line; padding: 4px 8px; }
QTableCornerButton::section { background: $panel; border: none; }
QProgressBar { background: $hover; border: none; text-align: center; color: transparent; max-height: 6px; min-height: 6px; }
QProgressBar::chunk { background: $accent; }
""")


def style_sheet(tokens: Tokens, folder: Path) -> str:
    """The sheet; `folder` holds `PICTURES` as coloured SVG files."""
    return _SHEET.substitute(asdict(tokens), folder=folder.as_posix())

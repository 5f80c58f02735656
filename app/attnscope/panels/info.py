"""Windows that only tell: keys, diagnostics, about. None of them holds the main window up."""

from __future__ import annotations

import platform
import sys

import msgspec
from PySide6 import __version__ as pyside_version
from PySide6.QtCore import Qt, qVersion
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QScrollArea, QVBoxLayout, QWidget

from attnscope.actions import COMMANDS, PAGE_KEYS
from attnscope.build_facts import build_facts
from attnscope.files import config_folder, data_folder, state_folder
from attnscope.panels.licences import Licences
from attnscope.quantities import bytes_text
from attnscope.state import State
from attnscope.theme import font
from attnscope.third_party import third_party


def told(parent: QWidget, title: str) -> QWidget:
    """An empty window of its own that goes with its parent and frees itself when closed."""
    window = QWidget(parent, Qt.WindowType.Window)
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    window.setProperty("ground", "panel")
    window.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
    window.setWindowTitle(title)
    return window


def plain(text: str, role: str = "label") -> QLabel:
    """A label that shows its text literally, whatever it holds."""
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setText(text)
    label.setFont(font("label"))
    label.setProperty("role", role)
    return label


def keys_window(parent: QWidget) -> QWidget:
    """Every command that has a key, then the keys of the plots."""
    window = told(parent, "Keys")
    window.resize(520, 620)
    inside = QWidget()
    grid = QGridLayout(inside)
    grid.setContentsMargins(16, 12, 16, 12)
    grid.setHorizontalSpacing(24)
    grid.setVerticalSpacing(6)
    rows = [(", ".join(command.keys), command.hint or command.label) for command in COMMANDS if command.keys]
    for number, (keys, words) in enumerate([*rows, *PAGE_KEYS]):
        key = plain(keys, "")
        key.setFont(font("number_medium"))
        grid.addWidget(key, number, 0)
        grid.addWidget(plain(words), number, 1)
    grid.setColumnStretch(1, 1)
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(inside)
    column = QVBoxLayout(window)
    column.setContentsMargins(0, 0, 0, 0)
    column.addWidget(area)
    return window


def diagnostics_window(parent: QWidget, state: State, log: str) -> QWidget:
    """The report, and a button that copies it."""
    window = told(parent, "Diagnostics")
    window.resize(640, 520)
    report = report_text(state, log)
    text = QPlainTextEdit(report)
    text.setReadOnly(True)
    text.setFont(font("number"))
    text.setAccessibleName("Report")
    copy = QPushButton("Copy report")
    copy.setProperty("kind", "accent")
    copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(report))
    close = QPushButton("Close")
    close.clicked.connect(window.close)
    row = QHBoxLayout()
    row.addStretch(1)
    row.addWidget(close)
    row.addWidget(copy)
    column = QVBoxLayout(window)
    column.setContentsMargins(16, 16, 16, 16)
    column.addWidget(text)
    column.addLayout(row)
    return window


def about_window(parent: QWidget) -> QWidget:
    """Name, version, build, and the way to the licences."""
    window = told(parent, "About Attnscope")
    column = QVBoxLayout(window)
    column.setContentsMargins(24, 20, 24, 16)
    column.setSpacing(8)
    facts = build_facts()
    title = plain(f"Attnscope {facts.version}", "")
    title.setFont(font("title"))
    column.addWidget(title)
    for line in (
        "An oscilloscope for attention: what each variant does, and what it costs on this machine.",
        f"Build: {facts.build()}.",
        f"Python {platform.python_version()}, Qt {qVersion()}, PySide6 {pyside_version}.",
        "Licence: Apache-2.0. Fonts: IBM Plex, OFL-1.1. Model: SmolLM2-135M-Instruct, Apache-2.0. Qt: LGPL-3.",
    ):
        words = plain(line)
        words.setWordWrap(True)
        column.addWidget(words)
    licences = QPushButton("Licences…")
    licences.clicked.connect(lambda: licences_window(parent).show())
    close = QPushButton("Close")
    close.clicked.connect(window.close)
    row = QHBoxLayout()
    row.setContentsMargins(0, 8, 0, 0)
    row.addStretch(1)
    row.addWidget(licences)
    row.addWidget(close)
    column.addLayout(row)
    window.setFixedSize(440, column.totalHeightForWidth(440))
    return window


def licences_window(parent: QWidget) -> QWidget:
    """Everything that is bundled, with its licence texts."""
    window = told(parent, "Licences")
    window.resize(720, 660)
    column = QVBoxLayout(window)
    column.setContentsMargins(16, 16, 16, 12)
    column.addWidget(Licences(third_party()))
    return window


def report_text(state: State, log: str) -> str:
    """What a person pastes into a report: versions, device, engine, settings, paths, the end of the log."""
    live = state.live
    device, vitals = live.device, live.vitals
    facts = build_facts()
    lines = [
        f"Attnscope {facts.version}, {facts.build()}",
        f"Python {platform.python_version()} ({sys.executable})",
        f"System {platform.platform()}",
        f"Qt {qVersion()}, PySide6 {pyside_version}, platform {QGuiApplication.platformName()}",
        f"Engine {live.phase}, restarted {live.restarts} times",
    ]
    if device is not None:
        lines.append(f"Device {device.name}, {device.kind} {device.arch}, driver {device.driver or '–'}, {device.library}")
    if live.why_no_gpu:
        lines.append(f"GPU {live.why_no_gpu}")
    if vitals is not None:
        lines.append(f"Memory {bytes_text(vitals.free_bytes)} free of {bytes_text(vitals.total_bytes)}")
    if live.ceilings is not None:
        lines.append(f"Ceilings {msgspec.json.encode(live.ceilings).decode()}")
    lines += [f"Data {data_folder()}", f"Preferences {config_folder()}", f"Log {state_folder()}"]
    lines.append(f"Settings {msgspec.json.encode(state.settings).decode()}")
    lines += ["", "Engine log:", log.strip() or "(empty)"]
    return "\n".join(lines)

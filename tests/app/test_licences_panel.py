"""Licences in About: what is listed, and that a search finds lines and places."""

from __future__ import annotations

from pathlib import Path

import pytest
from attnscope.panels import info
from attnscope.panels.licences import Licences
from attnscope.third_party import FROM_SOURCE, Part, installed, read, third_party
from packages_made_up import install
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QLineEdit, QPlainTextEdit, QPushButton, QTableWidget, QWidget
from pytestqt.qtbot import QtBot

PARTS = (
    Part("alpha", "1", "MIT", "Permission of alpha."),
    Part("beta", "2", "BSD-3-Clause", "\n".join(f"line {number} of beta" for number in range(200)) + "\nWARRANTY\nWARRANTY"),
)


def text_of(panel: QWidget) -> QPlainTextEdit:
    found = panel.findChild(QPlainTextEdit)
    assert found is not None
    return found


def shown(panel: QWidget) -> list[str]:
    table = panel.findChild(QTableWidget)
    assert table is not None
    return [table.item(row, 0).text() for row in range(table.rowCount()) if not table.isRowHidden(row)]


def test_that_all_parts_are_listed_and_the_first_is_read(qtbot: QtBot) -> None:
    panel = Licences(PARTS)
    qtbot.addWidget(panel)
    assert shown(panel) == ["alpha", "beta"]
    assert text_of(panel).toPlainText() == "Permission of alpha."


def test_that_a_word_narrows_the_list_and_is_found_in_the_text(qtbot: QtBot) -> None:
    panel = Licences(PARTS)
    qtbot.addWidget(panel)
    field = panel.findChild(QLineEdit)
    assert field is not None
    qtbot.keyClicks(field, "warranty")
    assert shown(panel) == ["beta"]
    first = text_of(panel).textCursor()
    assert first.selectedText() == "WARRANTY"
    qtbot.keyClick(field, Qt.Key.Key_Return)
    second = text_of(panel).textCursor()
    assert (second.selectedText(), second.position() > first.position()) == ("WARRANTY", True)
    qtbot.keyClick(field, Qt.Key.Key_Return)
    assert text_of(panel).textCursor().position() == first.position()


def test_that_a_word_that_is_nowhere_leaves_nothing_and_clearing_brings_all_back(qtbot: QtBot) -> None:
    panel = Licences(PARTS)
    qtbot.addWidget(panel)
    field = panel.findChild(QLineEdit)
    assert field is not None
    field.setText("nowhere")
    assert (shown(panel), text_of(panel).toPlainText()) == ([], "")
    assert any(label.text() == "0 of 2" for label in panel.findChildren(QLabel))
    field.clear()
    assert shown(panel) == ["alpha", "beta"]
    assert text_of(panel).toPlainText() == "Permission of alpha."


def test_that_about_says_the_build_and_opens_the_licences(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "third_party", lambda: PARTS)
    parent = QWidget()
    qtbot.addWidget(parent)
    about = info.about_window(parent)
    assert any(label.text() == f"Build: {info.build_facts().build()}." for label in about.findChildren(QLabel))
    next(button for button in about.findChildren(QPushButton) if button.text() == "Licences…").click()
    panel = parent.findChild(Licences)
    assert panel is not None
    assert panel.isVisible()
    assert shown(panel) == ["alpha", "beta"]


def test_that_from_source_the_packages_are_listed_without_those_of_tests() -> None:
    parts = {part.name: part for part in installed()}
    assert {"numpy", "pyqtgraph", "PySide6_Essentials", "shiboken6"} <= parts.keys()
    assert not {"pytest", "ruff", "hypothesis", "attnscope"} & parts.keys()
    assert parts["numpy"].words.startswith(FROM_SOURCE)
    assert parts["contourpy"].licence == "BSD License"


def test_that_a_circle_of_packages_ends_and_a_missing_one_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "made-up-front", needs=("Made_Up.Back>=1", "made-up-gone"))
    install(tmp_path, "made-up-back", needs=("made-up-front",), licence="License: Zlib")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [(part.name, part.licence) for part in installed("made-up-front")] == [("made-up-back", "Zlib")]


def test_that_the_bundle_s_file_is_read_and_a_broken_one_is_as_none(tmp_path: Path) -> None:
    page = (
        "# T\n\n| a | 1 | MIT | https://a/ | [1](#text-1) |\n\n## Texts\n\n### Text 1\n\na: LICENSE\n\n```text\nYou may.\n```\n"
    )
    (tmp_path / "THIRD_PARTY.md").write_text(page)
    (part,) = third_party(tmp_path)
    assert (part.name, part.words) == ("a", "https://a/\n\n\na: LICENSE\n\nYou may.")
    (tmp_path / "THIRD_PARTY.md").write_text("nothing of the kind")
    assert read("nothing of the kind") == ()
    assert len(third_party(tmp_path)) > 5

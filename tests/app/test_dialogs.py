"""Dialogs: what they offer, what they give back, and that Cancel changes nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from attnscope.figure_process import FigureProcess
from attnscope.figures.data import memory_figure
from attnscope.figures.job import Copies, FigureJob
from attnscope.panels.edit_text import EditTextDialog
from attnscope.panels.export_dialog import ExportDialog
from attnscope.panels.info import about_window, diagnostics_window, keys_window, report_text
from attnscope.panels.preferences_dialog import PreferencesDialog
from attnscope.preferences import Preferences
from attnscope.state import Answer, Live, State
from attnscope_engine.protocol import Choice, DeviceFacts, ReadText, Refusal, TextSource, Workload
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QPlainTextEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot

JOB = FigureJob(memory_figure(Workload(seq_len=512, dtype="fp32"), (Choice("softmax_naive"),), (), on="cpu"), dpi=60)


def button(widget: QWidget, text: str) -> QPushButton:
    return next(found for found in widget.findChildren(QPushButton) if found.text().replace("&", "") == text)


def test_that_preferences_give_back_what_was_chosen(qtbot: QtBot) -> None:
    dialog = PreferencesDialog(Preferences(theme="dark", device="cpu", recent=("a",)))
    qtbot.addWidget(dialog)
    assert dialog.preferences() == Preferences(theme="dark", device="cpu", recent=("a",))
    dialog._budget.setValue(2.5)
    assert dialog.preferences().measure_budget_s == 2.5
    button(dialog, "Restore Defaults").click()
    assert dialog.preferences() == Preferences(recent=("a",))


def test_that_a_text_is_given_back_and_an_empty_one_refused(qtbot: QtBot) -> None:
    dialog = EditTextDialog(State())
    qtbot.addWidget(dialog)
    editor = dialog.findChild(QPlainTextEdit)
    assert editor is not None
    editor.setPlainText("hello")
    assert dialog.source() == TextSource("hello")
    editor.setPlainText("")
    assert not button(dialog, "Show this text").isEnabled()


def test_that_a_text_too_long_offers_its_first_or_last_tokens(qtbot: QtBot) -> None:
    refusal = Refusal("too_long", "9,412 tokens; this model reads 8,192.", largest_seq_len=8192)
    source = TextSource("long")
    state = State(live=Live(answers={"text": Answer(ReadText(source), refusal=refusal)}))
    dialog = EditTextDialog(state)
    qtbot.addWidget(dialog)
    button(dialog, "Use the last 8,192").click()
    assert dialog.source().keep == "last"
    assert dialog.result() == EditTextDialog.DialogCode.Accepted


def test_that_export_writes_the_chosen_format_with_its_ending(qtbot: QtBot, tmp_path: Path) -> None:
    dialog = ExportDialog(JOB, "memory")
    qtbot.addWidget(dialog)
    dialog.open()
    dialog._format.setCurrentIndex(dialog._format.findData("csv"))
    assert not dialog._dpi.isEnabled()
    dialog._file.setText(str(tmp_path / "figure"))
    with qtbot.waitSignal(dialog.saved, timeout=20_000):
        dialog.save()
    assert (tmp_path / "figure.csv").read_text().startswith("# Attnscope")
    assert list(tmp_path.iterdir()) == [tmp_path / "figure.csv"]


def test_that_a_failed_export_says_why_and_can_be_tried_again(qtbot: QtBot, tmp_path: Path) -> None:
    dialog = ExportDialog(JOB, "memory")
    qtbot.addWidget(dialog)
    dialog.open()
    dialog._format.setCurrentIndex(dialog._format.findData("json"))
    dialog._file.setText(str(tmp_path / "no" / "where.json"))
    with qtbot.waitSignal(dialog.failed, timeout=20_000) as failed:
        dialog.save()
    assert "where.json" in failed.args[0]
    assert button(dialog, "Save").isEnabled()


def test_that_the_preview_is_drawn_by_a_child(qtbot: QtBot) -> None:
    dialog = ExportDialog(JOB, "memory")
    qtbot.addWidget(dialog)
    dialog.open()
    qtbot.waitUntil(lambda: not dialog._preview.pixmap().isNull(), timeout=30_000)
    assert dialog._preview.pixmap().deviceIndependentSize().width() <= 320


def test_that_a_child_that_fails_is_one_sentence(qtbot: QtBot) -> None:
    process = FigureProcess()
    said: list[str] = []
    broken = msgspec.structs.replace(JOB, figure=msgspec.structs.replace(JOB.figure, bars=()))
    process.start(msgspec.structs.replace(broken, preset="nonsense"), lambda _data: said.append("drawn"), said.append)  # type: ignore[arg-type]
    qtbot.waitUntil(lambda: bool(said), timeout=20_000)
    assert said[0].startswith("The figure could not be drawn")
    assert len(said[0].splitlines()) == 1


def test_that_copies_hold_three_forms(qtbot: QtBot) -> None:
    process = FigureProcess()
    got: list[bytes] = []
    process.start(JOB, got.append, lambda text: pytest.fail(text), copies=True)
    qtbot.waitUntil(lambda: bool(got), timeout=30_000)
    three = msgspec.msgpack.decode(got[0], type=Copies)
    assert three.png[:4] == b"\x89PNG"
    assert "<svg" in three.svg.decode()
    assert three.table.startswith("variant\t")


def test_that_the_report_names_device_and_settings_and_is_copied(qtbot: QtBot) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    state = State(live=Live(device=DeviceFacts("k", "cpu", "Test <b>processor</b>", 1), why_no_gpu="No NVIDIA driver found."))
    assert "No NVIDIA driver found." in report_text(state, "")
    window = diagnostics_window(parent, state, "last words")
    button(window, "Copy report").click()
    copied = QGuiApplication.clipboard().text()
    assert "Test <b>processor</b>" in copied
    assert copied.endswith("last words")


def test_that_every_key_is_listed(qtbot: QtBot) -> None:
    from attnscope.actions import COMMANDS

    parent = QWidget()
    qtbot.addWidget(parent)
    words = {label.text() for label in keys_window(parent).findChildren(QLabel)}
    for command in COMMANDS:
        if command.keys:
            assert ", ".join(command.keys) in words
    assert any("Attnscope" in label.text() for label in about_window(parent).findChildren(QLabel))


def test_that_no_key_belongs_to_two_commands() -> None:
    from attnscope.actions import COMMANDS

    keys = [key for command in COMMANDS for key in command.keys]
    assert len(keys) == len(set(keys))
    assert len({command.id for command in COMMANDS}) == len(COMMANDS)

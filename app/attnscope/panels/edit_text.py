"""The dialog for the text whose attention is shown."""

from __future__ import annotations

from attnscope_engine.protocol import TextSource
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from attnscope.quantities import count
from attnscope.state import SAMPLE_TEXT, State
from attnscope.theme import font

MAX_CHARACTERS = 2_000_000


class EditTextDialog(QDialog):
    """Type or paste; the model reads it when the dialog is accepted."""

    def __init__(self, state: State, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Edit text")
        self.resize(620, 380)
        source = state.settings.source
        self._editor = QPlainTextEdit(source.text if isinstance(source, TextSource) else SAMPLE_TEXT)
        self._editor.setFont(font("token"))
        self._editor.setAccessibleName("Text")
        self._editor.setPlaceholderText("Type or paste a text; the model reads up to 8,192 tokens.")
        self._note = QLabel()
        self._note.setProperty("role", "hint")
        self._note.setFont(font("label"))
        self._keep: str = source.keep if isinstance(source, TextSource) else "all"
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        self._buttons.button(QDialogButtonBox.StandardButton.Ok).setText("Show this text")
        self._buttons.button(QDialogButtonBox.StandardButton.Ok).setProperty("kind", "accent")
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(8)
        column.addWidget(self._editor)
        column.addWidget(self._note)
        self._choice = self._too_long(state)
        if self._choice is not None:
            column.addWidget(self._choice)
        column.addWidget(self._buttons)
        self._editor.textChanged.connect(self._changed)
        self._changed()

    def source(self) -> TextSource:
        """What was typed, and which part of a text that is too long to read."""
        keep = self._keep if self._keep in {"first", "last"} else "all"
        return TextSource(self._editor.toPlainText(), keep)  # type: ignore[arg-type]

    def _too_long(self, state: State) -> QWidget | None:
        """The choice for a text that the model refused: its first or its last tokens."""
        answer = state.live.answers.get("text")
        if answer is None or answer.refusal is None or answer.refusal.reason != "too_long":
            return None
        box = QWidget()
        row = QHBoxLayout(box)
        row.setContentsMargins(0, 0, 0, 0)
        words = QLabel(answer.refusal.text)
        words.setProperty("role", "danger")
        words.setWordWrap(True)
        row.addWidget(words, 1)
        limit = count(answer.refusal.largest_seq_len or 8192)
        for keep in ("first", "last"):
            button = QPushButton(f"Use the {keep} {limit}")
            button.clicked.connect(lambda _checked=False, keep=keep: self._take(keep))
            row.addWidget(button)
        return box

    def _take(self, keep: str) -> None:
        self._keep = keep
        self.accept()

    def _changed(self) -> None:
        length = len(self._editor.toPlainText())
        ok = self._buttons.button(QDialogButtonBox.StandardButton.Ok)
        if not length:
            self._note.setText("The text is empty: type at least one word.")
        elif length > MAX_CHARACTERS:
            self._note.setText(f"The text must have at most {count(MAX_CHARACTERS)} characters (has {count(length)}).")
        else:
            self._note.setText(f"{count(length)} characters. The map's length is the text's own; n on the left sets the costs.")
        ok.setEnabled(0 < length <= MAX_CHARACTERS)

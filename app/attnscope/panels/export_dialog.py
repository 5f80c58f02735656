"""Export: a live preview at true proportion, and how the figure is written."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
from PySide6.QtCore import QByteArray, QSize, QStandardPaths, Qt, QTimer, Signal
from PySide6.QtGui import QPixmap
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from attnscope.figure_process import FigureProcess
from attnscope.figures.job import FORMATS, PRESET_SIZE_MM, FigureJob, Format, Preset, provenance_line
from attnscope.files import atomic_write, save_failure
from attnscope.panels.info import plain

PREVIEW = (320, 240)
PREVIEW_AFTER_MS = 120
PRESETS: dict[Preset, str] = {
    "screen": "As on screen",
    "one_column": "One column, 84 mm",
    "two_columns": "Two columns, 174 mm",
    "slide": "Slide, 16:9",
}
PICTURES = {"png", "svg", "pdf"}


class ExportDialog(QDialog):
    """Choose, look, save or copy. The figure is drawn in a child process; the dialog stays quick."""

    saved = Signal(str)
    failed = Signal(str)
    copy_wanted = Signal(object)
    """A `FigureJob` for the clipboard."""

    def __init__(self, job: FigureJob, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export")
        self.resize(640, 420)
        self._base = job
        self._previews = FigureProcess(self)
        self._writer = FigureProcess(self)
        self._preview = QLabel()
        self._preview.setFixedSize(*PREVIEW)
        self._preview.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._preview.setAccessibleName("Preview")
        self._build_fields(name)
        row = QHBoxLayout()
        row.setSpacing(16)
        row.addWidget(self._preview, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(self._form, 1)
        self._note = plain("", "hint")
        self._note.setWordWrap(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(12)
        column.addLayout(row)
        column.addStretch(1)
        column.addWidget(self._note)
        column.addLayout(self._button_row())
        self._later = QTimer(self, singleShot=True, interval=PREVIEW_AFTER_MS)
        self._later.timeout.connect(self._draw_preview)
        self._changed()

    def _build_fields(self, name: str) -> None:
        self._format = QComboBox()
        for format_ in FORMATS:
            self._format.addItem(format_.upper(), format_)
        self._preset = QComboBox()
        for preset, text in PRESETS.items():
            self._preset.addItem(text, preset)
        self._dpi = QSpinBox()
        self._dpi.setRange(50, 1200)
        self._dpi.setValue(300)
        self._dpi.setSuffix(" dpi")
        self._dark = QComboBox()
        self._dark.addItem("Light", False)
        self._dark.addItem("Dark", True)
        self._legend = QCheckBox("Legend")
        self._legend.setChecked(True)
        self._caption = QCheckBox("Provenance line")
        self._caption.setChecked(True)
        self._title = QLineEdit()
        self._title.setPlaceholderText("none")
        folder = Path(QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation) or Path.home())
        self._file = QLineEdit(str(folder / f"attnscope-{name}.png"))
        self._form = QFormLayout()
        for label, field in (
            ("Format", self._format),
            ("Size", self._preset),
            ("Resolution", self._dpi),
            ("Theme", self._dark),
            ("Title", self._title),
            ("", self._legend),
            ("", self._caption),
            ("File", self._file),
        ):
            self._form.addRow(label, field)
            if label:
                field.setAccessibleName(label)
        for combo in (self._format, self._preset, self._dark):
            combo.currentIndexChanged.connect(self._changed)
        self._dpi.valueChanged.connect(self._changed)
        self._title.textChanged.connect(self._changed)
        for check in (self._legend, self._caption):
            check.toggled.connect(self._changed)

    def _button_row(self) -> QHBoxLayout:
        self._save = QPushButton("Save")
        self._save.setProperty("kind", "accent")
        self._save.setDefault(True)
        self._save.clicked.connect(self.save)
        browse = QPushButton("Browse…")
        browse.clicked.connect(self._browse)
        copy = QPushButton("Copy")
        copy.clicked.connect(lambda: self.copy_wanted.emit(msgspec.structs.replace(self.job(), format="png")))
        cancel = QPushButton("Cancel")
        cancel.clicked.connect(self.reject)
        row = QHBoxLayout()
        row.addWidget(browse)
        row.addStretch(1)
        for button in (cancel, copy, self._save):
            row.addWidget(button)
        return row

    def job(self) -> FigureJob:
        """The figure as chosen now."""
        return msgspec.structs.replace(
            self._base,
            format=cast("Format", self._format.currentData()),
            preset=cast("Preset", self._preset.currentData()),
            dpi=self._dpi.value(),
            dark=bool(self._dark.currentData()),
            legend=self._legend.isChecked(),
            caption=self._caption.isChecked(),
            title=self._title.text(),
        )

    def path(self) -> Path:
        """Where it goes, with the format's ending whatever was typed."""
        typed = Path(self._file.text().strip() or "attnscope").expanduser()
        suffix = f".{self.job().format}"
        return typed if typed.suffix.lower() == suffix else typed.with_name(typed.name + suffix)

    def _changed(self) -> None:
        job = self.job()
        picture = job.format in PICTURES
        for widget in (self._preset, self._dark, self._legend, self._caption, self._title):
            widget.setEnabled(picture)
            widget.setToolTip("" if picture else f"Off: {job.format.upper()} holds the numbers, not a picture.")
        self._dpi.setEnabled(job.format == "png")
        self._dpi.setToolTip("" if job.format == "png" else f"Off: {job.format.upper()} has no pixels.")
        typed = Path(self._file.text())
        if typed.suffix.lower().lstrip(".") in FORMATS:
            self._file.setText(str(typed.with_suffix(f".{job.format}")))
        fonts = "Fonts embedded. " if job.format == "pdf" else "Text stays text. " if job.format == "svg" else ""
        self._note.setText(f"{fonts}Inside the file: {provenance_line(job.provenance) or 'provenance'}.")
        self._later.start()

    def _draw_preview(self) -> None:
        job = self.job()
        width = PRESET_SIZE_MM[job.preset][0] / 25.4
        ratio = self.devicePixelRatioF()
        dpi = max(50, min(300, round(PREVIEW[0] * ratio / width)))
        small = msgspec.structs.replace(job, format="png", dpi=dpi)
        self._previews.start(small, self._show_preview, self._note.setText)

    def _show_preview(self, data: bytes) -> None:
        pixmap = QPixmap()
        pixmap.loadFromData(QByteArray(data))
        ratio = self.devicePixelRatioF()
        scaled = pixmap.scaled(
            QSize(*PREVIEW) * ratio,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        scaled.setDevicePixelRatio(ratio)
        self._preview.setPixmap(scaled)

    def _browse(self) -> None:
        format_ = self.job().format
        path, _ = QFileDialog.getSaveFileName(self, "Export", str(self.path()), f"{format_.upper()} (*.{format_})")
        if path:
            self._file.setText(path)

    def save(self) -> None:
        """Draw and write; the dialog closes when the file is there."""
        self._save.setEnabled(False)
        self._writer.start(self.job(), self._write, self._not_drawn)

    def _write(self, data: bytes) -> None:
        path = self.path()
        try:
            atomic_write(path, data)
        except OSError as error:
            self._not_drawn(save_failure(path, error, len(data)))
            return
        self.saved.emit(str(path))
        self.accept()

    def _not_drawn(self, text: str) -> None:
        self._save.setEnabled(True)
        self._note.setText(text)
        self.failed.emit(text)

    def done(self, result: int) -> None:
        self._later.stop()
        self._previews.stop()
        self._writer.stop()
        super().done(result)

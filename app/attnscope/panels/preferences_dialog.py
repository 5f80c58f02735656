"""Preferences: edits a copy, so that Cancel really cancels."""

from __future__ import annotations

from typing import Literal

import msgspec
from PySide6.QtWidgets import QComboBox, QDialog, QDialogButtonBox, QDoubleSpinBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from attnscope.preferences import Preferences
from attnscope.theme import font

THEMES: dict[Literal["system", "light", "dark"], str] = {"system": "Follow the system", "light": "Light", "dark": "Dark"}
DEVICES: dict[Literal["auto", "cpu"], str] = {"auto": "GPU when there is one", "cpu": "Always the CPU"}


class PreferencesDialog(QDialog):
    """Looks, device and time for one measurement."""

    def __init__(self, preferences: Preferences, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Preferences")
        self._base = preferences
        self._theme = QComboBox()
        for theme, text in THEMES.items():
            self._theme.addItem(text, theme)
        self._device = QComboBox()
        for device, text in DEVICES.items():
            self._device.addItem(text, device)
        self._budget = QDoubleSpinBox()
        self._budget.setRange(0.1, 60)
        self._budget.setSingleStep(0.1)
        self._budget.setDecimals(1)
        self._budget.setSuffix(" s")
        self._budget.setToolTip("Wall time for the repeats of one measurement; at least 3 repeats are taken whatever it is.")
        form = QFormLayout()
        form.setVerticalSpacing(10)
        form.setHorizontalSpacing(16)
        form.addRow("Looks", self._theme)
        form.addRow("Compute on", self._device)
        form.addRow("Time a measurement takes", self._budget)
        note = QLabel("A change of the device restarts the engine; nothing measured is lost.")
        note.setProperty("role", "hint")
        note.setFont(font("label"))
        standard = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(standard.Ok | standard.Cancel | standard.RestoreDefaults)
        buttons.button(standard.Ok).setProperty("kind", "accent")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        buttons.button(standard.RestoreDefaults).clicked.connect(lambda: self._fill(Preferences()))
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(12)
        column.addLayout(form)
        column.addWidget(note)
        column.addWidget(buttons)
        self._fill(preferences)

    def _fill(self, preferences: Preferences) -> None:
        self._theme.setCurrentIndex(self._theme.findData(preferences.theme))
        self._device.setCurrentIndex(self._device.findData(preferences.device))
        self._budget.setValue(preferences.measure_budget_s)

    def preferences(self) -> Preferences:
        """What was chosen; everything that the dialog does not show is as before."""
        return msgspec.structs.replace(
            self._base,
            theme=self._theme.currentData(),
            device=self._device.currentData(),
            measure_budget_s=round(self._budget.value(), 1),
        )

"""The window of add-ons and the process behind it: one of each, made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from attnscope.addon_process import AddonProcess
    from attnscope.panels.addons_dialog import AddonsDialog


class AddonsWindow(QObject):
    """Opens it beside `over`; `changed` is told a sentence when an add-on came or went."""

    def __init__(self, over: QWidget, changed: Callable[[str], None]) -> None:
        super().__init__(over)
        self._over, self._changed = over, changed
        self.process: AddonProcess | None = None
        self.dialog: AddonsDialog | None = None

    def open(self) -> None:
        """Or bring the open one to the front."""
        from attnscope.addon_process import AddonProcess  # here: what fetches takes longer to import than to open
        from attnscope.panels.addons_dialog import AddonsDialog

        if self.process is None:
            self.process = AddonProcess(parent=self)
        if self.dialog is None:
            self.dialog = AddonsDialog(self.process, self._over)
            self.dialog.changed.connect(self._changed)
            self.dialog.finished.connect(self._closed)
        self.dialog.show()
        self.dialog.activateWindow()

    def stop(self) -> None:
        """End what is done to add-ons; what is fetched is kept."""
        if self.process is not None:
            self.process.stop()

    def _closed(self) -> None:
        dialog, self.dialog = self.dialog, None
        if dialog is not None:
            dialog.deleteLater()

"""Figures are drawn in a child process: matplotlib takes a second to start, and the window never waits."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec
from PySide6.QtCore import QObject, QProcess

from attnscope.figures.job import FigureJob

Done = Callable[[bytes], None]
Failed = Callable[[str], None]


class FigureProcess(QObject):
    """Draws one figure at a time; a newer job ends the one before."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None

    @property
    def busy(self) -> bool:
        return self._process is not None

    def start(self, job: FigureJob, done: Done, failed: Failed, *, copies: bool = False) -> None:
        """Draw; then call `done` with the file's bytes (`copies`: those of a `Copies`), or `failed` with a sentence."""
        self.stop()
        process = QProcess(self)
        self._process = process

        def ended(code: int, status: QProcess.ExitStatus) -> None:
            if process is not self._process:
                return
            self._process = None
            output = bytes(process.readAllStandardOutput().data())
            errors = bytes(process.readAllStandardError().data()).decode(errors="replace").strip()
            process.deleteLater()
            if code == 0 and status == QProcess.ExitStatus.NormalExit and output:
                done(output)
            else:
                failed(f"The figure could not be drawn: {errors.splitlines()[-1] if errors else f'exit code {code}'}")

        process.finished.connect(ended)
        process.start(sys.executable, ["-m", "attnscope.figures", *(["--copies"] if copies else [])])
        process.write(msgspec.msgpack.encode(job))
        process.closeWriteChannel()

    def stop(self) -> None:
        """End what is being drawn; nobody is told."""
        process, self._process = self._process, None
        if process is not None:
            process.blockSignals(True)
            process.kill()
            process.waitForFinished(1000)
            process.deleteLater()

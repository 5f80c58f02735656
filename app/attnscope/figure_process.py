"""Figures are drawn in a child process: matplotlib takes a second to start, and the window never waits."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from PySide6.QtCore import QObject, QProcess

from attnscope import programs
from attnscope.figures.job import FigureJob

Done = Callable[[bytes], None]
Failed = Callable[[str], None]


class FigureProcess(QObject):
    """Draws one figure at a time; a newer job ends the one before.

    One QProcess serves them all: `engine_process` says why none is deleted.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None
        self._told: tuple[Done, Failed] | None = None
        """Whom to tell of the figure that is being drawn."""

    @property
    def busy(self) -> bool:
        return self._told is not None

    def start(self, job: FigureJob, done: Done, failed: Failed, *, copies: bool = False) -> None:
        """Draw; then call `done` with the file's bytes (`copies`: those of a `Copies`), or `failed` with a sentence."""
        self.stop()
        if self._process is None or self._process.state() != QProcess.ProcessState.NotRunning:
            self._process = QProcess(self)
            self._process.finished.connect(self._ended)
        self._told = done, failed
        program, *arguments = programs.command("figures", *(["--copies"] if copies else []))
        self._process.start(program, arguments)
        self._process.write(msgspec.msgpack.encode(job))
        self._process.closeWriteChannel()

    def _ended(self, code: int, status: QProcess.ExitStatus) -> None:
        process = self.sender()
        if process is not self._process or self._process is None or self._told is None:
            return
        (done, failed), self._told = self._told, None
        output = bytes(self._process.readAllStandardOutput().data())
        errors = bytes(self._process.readAllStandardError().data()).decode(errors="replace").strip()
        if code == 0 and status == QProcess.ExitStatus.NormalExit and output:
            done(output)
        else:
            failed(f"The figure could not be drawn: {errors.splitlines()[-1] if errors else f'exit code {code}'}")

    def stop(self) -> None:
        """End what is being drawn; nobody is told."""
        self._told = None
        if self._process is not None and self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.kill()
            self._process.waitForFinished(1000)

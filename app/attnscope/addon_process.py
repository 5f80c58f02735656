"""Add-ons are listed, fetched and removed in a child process: the window never waits, and a broken driver ends the child only."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from attnscope_engine.addons.__main__ import Said
from PySide6.QtCore import QObject, QProcess, QTimer, Signal

from attnscope import programs

CANCEL_MS = 2000
"""A child that waits for the network may need so long to notice; then it is killed, which loses nothing either."""

_decode = msgspec.json.Decoder(Said).decode


class AddonProcess(QObject):
    """One thing at a time. One QProcess serves them all: `engine_process` says why none is deleted."""

    said = Signal(object)
    """A `Said`; the last of each job has `ended`."""

    def __init__(self, command: Sequence[str] = (), parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._command = tuple(command) or programs.command("addons")
        self._process = QProcess(self)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._failed)
        self._ended: Said | None = None
        self._silent = False
        self._cancelled = False
        self._killer = QTimer(self, singleShot=True, interval=CANCEL_MS)
        self._killer.timeout.connect(self._process.kill)

    @property
    def busy(self) -> bool:
        return self._process.state() != QProcess.ProcessState.NotRunning

    def start(self, *words: str) -> bool:
        """`list`, `add NAME [--from FOLDER]` or `remove NAME`. False while another is at work."""
        if self.busy:
            return False
        self._ended, self._silent, self._cancelled = None, False, False
        self._process.start(self._command[0], [*self._command[1:], *words])
        return True

    def cancel(self) -> None:
        """Its input ends, and with it the work; what is fetched is kept."""
        if self.busy:
            self._cancelled = True
            self._process.closeWriteChannel()
            self._killer.start()

    def stop(self) -> None:
        """End it now, for the window goes; nobody is told. A kill at any moment leaves no half add-on."""
        self._silent = True
        if self.busy:
            self._process.kill()
            self._process.waitForFinished(1000)

    def _read(self) -> None:
        while self._process.canReadLine():
            line = bytes(self._process.readLine().data())
            try:
                said = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # a library's chatter
            if said.ended:
                self._ended = said  # told when the process is gone, so that the next can be started at once
            elif not self._silent:
                self.said.emit(said)

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        self._killer.stop()
        if self._ended is not None:
            self._tell(self._ended)
        elif self._cancelled:
            self._tell(Said(ended="cancelled"))
        else:
            errors = bytes(self._process.readAllStandardError().data()).decode(errors="replace").strip()
            how = f"exit code {code}" if status == QProcess.ExitStatus.NormalExit else "it was killed"
            self._tell(Said(ended="failed", text=f"Add-ons can not be changed: {errors.splitlines()[-1] if errors else how}."))

    def _failed(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._tell(Said(ended="failed", text=f"{self._command[0]}: {self._process.errorString()}."))

    def _tell(self, said: Said) -> None:
        if not self._silent:
            self.said.emit(said)

"""What engines write to stderr: the last lines in memory, everything in a log file that does not grow without end."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

MAX_LINES = 400
MAX_LINE = 2000
MAX_FILE = 1_000_000
"""Bytes; then the file becomes `.1` and a new one begins."""


class EngineLog:
    """Keeps the end of an engine's stderr. A log that can not be written is done without."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._rest = ""
        self._file = self._opened()

    def note(self, text: str) -> None:
        """A line of our own, with the time."""
        self._keep(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def feed(self, data: bytes) -> None:
        """Bytes of stderr, cut anywhere."""
        lines = (self._rest + data.decode("utf-8", "replace")).split("\n")
        self._rest = lines.pop()[-MAX_LINE:]
        for line in lines:
            self._keep(line.rstrip("\r"))

    def text(self) -> str:
        """The last lines."""
        return "\n".join((*self._lines, self._rest) if self._rest else self._lines)

    def last_words(self) -> str:
        """The last line that the engine itself wrote, empty when there is none."""
        lines = [line.strip() for line in (*self._lines, self._rest) if line.strip()]
        said = [line for line in lines if not line.startswith("20")]
        return said[-1][:200] if said else ""

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _keep(self, line: str) -> None:
        line = line[:MAX_LINE]
        self._lines.append(line)
        if self._file is None:
            return
        try:
            self._file.write(line.encode("utf-8", "replace") + b"\n")
            if self._file.tell() > MAX_FILE:
                self._file.close()
                self._file = self._opened()
        except OSError:
            self._file = None

    def _opened(self) -> BinaryIO | None:
        if self.path is None:
            return None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size > MAX_FILE:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
            return self.path.open("ab", buffering=0)
        except OSError:
            return None

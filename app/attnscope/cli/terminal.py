"""What a terminal shows: a progress bar on stderr, and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

BAR = 24
REDRAW_S = 0.1


class ProgressBar:
    """One line on stderr while a list of jobs is done; on anything but a terminal only a line now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._terminal = sys.stderr.isatty()
        self._drawn_at = 0.0
        self._began = time.monotonic()
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.clear()

    def show(self, done: float, text: str) -> None:
        """`done` of `total` jobs; parts of a job count as fractions."""
        now = time.monotonic()
        if not self._terminal or now - self._drawn_at < REDRAW_S:
            return
        self._drawn_at = now
        share = done / self._total if self._total else 1.0
        left = f"{(now - self._began) * (1 - share) / share:.0f} s left" if share > 0.02 else ""
        filled = round(BAR * share)
        line = f"[{'█' * filled}{'·' * (BAR - filled)}] {int(done)} of {self._total}  {text}  {left}"
        sys.stderr.write(f"\r{line:<{self._width}}")
        sys.stderr.flush()
        self._width = len(line)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.clear()
        print(text, file=sys.stderr)

    def clear(self) -> None:
        if self._terminal and self._width:
            sys.stderr.write(f"\r{'':<{self._width}}\r")
            sys.stderr.flush()
            self._width = 0


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the first aligned left, numbers right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *(line(row) for row in rows)])

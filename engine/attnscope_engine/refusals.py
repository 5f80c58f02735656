"""How code that serves a job says no: one exception that carries what the window will show."""

from __future__ import annotations

from attnscope_engine.protocol import Refusal


class JobRefused(Exception):
    """The job can not be done as asked. Answered by `protocol.Refused`, never by a traceback."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


def invalid(text: str) -> JobRefused:
    """A value that is out of range or a file that is not what it should be; `text` names both and the way out."""
    return JobRefused(Refusal("invalid", text))


def unsupported(text: str) -> JobRefused:
    """Something this machine or installation can not do."""
    return JobRefused(Refusal("unsupported", text))


def too_long(text: str, seq_len: int, largest: int) -> JobRefused:
    """More tokens than this job takes; `largest` is what it does take."""
    return JobRefused(Refusal("too_long", text, seq_len=seq_len, largest_seq_len=largest))

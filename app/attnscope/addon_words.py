"""What the window and the command line say of add-ons. Pure: no Qt."""

from __future__ import annotations

from attnscope_engine.addons.changing import Progress
from attnscope_engine.addons.lock import megabytes
from attnscope_engine.addons.rows import Row


def standing_words(row: Row) -> str:
    """How it stands with an add-on, in a line."""
    match row.standing:
        case "installed":
            return f"installed, {megabytes(row.disk_bytes)}"
        case "stale":
            return f"not used: {_inside(row.reason)}"
        case "unfit":
            return f"does not fit: {_inside(row.reason)}"
        case "own":
            return row.reason
    here = f"{megabytes(row.parts_bytes)} of {megabytes(row.bytes)} are fetched" if row.parts_bytes else "not here"
    return f"{here}. {row.reason}" if row.reason else here


def _inside(sentence: str) -> str:
    """Behind a colon."""
    return sentence[:1].lower() + sentence[1:]


def source_words(row: Row) -> str:
    """From where it comes and how much it is, said before anything starts."""
    if not row.fetchable:
        return f"{megabytes(row.bytes)}, from files"
    left = row.bytes - row.parts_bytes
    return f"{megabytes(left)} from {row.host}"


def progress_words(progress: Progress) -> str:
    """Such as `59 of 131 MB, 45 %, 12 MB/s`; the narrow space keeps number and unit together."""
    share = progress.done / progress.total if progress.total else 1.0
    amount = f"{megabytes(progress.done).removesuffix(' MB')} of {megabytes(progress.total)}"
    words = f"{amount}, {share:.0%}".replace("%", " %")
    if progress.doing == "unpacking":
        return f"unpacking {words}"
    return f"{words}, {rate_words(progress.rate)}" if progress.rate else words


def rate_words(rate: float) -> str:
    """Bytes a second, such as `12.4 MB/s`."""
    return f"{rate / 1e6:.1f} MB/s" if rate >= 1e5 else f"{rate / 1e3:.0f} kB/s"

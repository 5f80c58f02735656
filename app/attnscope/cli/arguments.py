"""The command line's grammar: one parser, one file a command."""

from __future__ import annotations

import argparse
import sys

from attnscope.build_facts import version_line
from attnscope.cli import addon, bench, compare, doctor, engine, map, report, variants  # noqa: A004 (the command is called map)
from attnscope.cli.shape import UsageError
from attnscope.headless_engine import EngineGoneError

DESCRIPTION = """\
Attnscope, an oscilloscope for attention: what each variant does (maps) and what it costs on this machine (time, memory).

With no command it opens the window:   attnscope [SESSION.attnscope | TEXT.txt | QK.npz]
"""
EXAMPLES = """\
examples:
  attnscope compare --variants softmax_naive,softmax_tiled,linear --seq-len 512:8192 --heads 8 --out figures
  attnscope map --variants softmax_tiled,chunked --param chunked.chunk_size=8 --out map.svg
  attnscope map --text-file letter.txt --layer 13 --head 8 --out map.pdf
  attnscope report --out out
  attnscope doctor

exit codes: 0 done, 1 failed, 2 wrong option, 3 no display, 130 interrupted
"""


class Parser(argparse.ArgumentParser):
    """Wrong options end as one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")


def parser() -> argparse.ArgumentParser:
    """The whole grammar."""
    top = Parser(prog="attnscope", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=version_line())
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in (compare, map, report, variants, doctor, addon, bench, engine):
        command.add(commands)
    return top


def run(words: list[str]) -> int:
    """Read the words and carry them out; whatever goes wrong is a sentence on stderr and an exit code."""
    try:
        arguments = parser().parse_args(words)
        code: int = arguments.run(arguments)
    except UsageError as error:
        print(f"attnscope: {error}", file=sys.stderr)
        return 2
    except EngineGoneError as error:
        print(f"attnscope: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"attnscope: {what}{(error.strerror or str(error)).lower()}.", file=sys.stderr)
        return 1
    return code

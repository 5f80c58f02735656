"""`attnscope engine`: the compute process on this terminal's stdin and stdout, as the window starts it (also over ssh)."""

from __future__ import annotations

import argparse
import subprocess
import sys

from attnscope import programs


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("engine", help="serve the engine's protocol on stdin and stdout", description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what to compute on (default: auto)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if sys.stdin.isatty():
        print(
            "attnscope: this speaks frames to a program, not to a terminal; attnscope compare --help is for people.",
            file=sys.stderr,
        )
        return 2
    return subprocess.run(programs.command("engine", "--device", arguments.device), check=False).returncode

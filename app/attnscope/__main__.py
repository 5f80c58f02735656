"""`attnscope`: the window, or one of the commands. The arguments are read before anything heavy is imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from attnscope import programs

COMMANDS = ("compare", "map", "variants", "doctor", "addon", "engine", "report", "bench")
NO_DISPLAY = 3
"""Exit code when a window was asked for and none can open."""


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 failed, 2 wrong option, 3 no display, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words and (program := programs.named(words[0])):
            return programs.become(program, words[1:])
        if words and words[0] == "--version":
            from attnscope.build_facts import version_line

            print(version_line())
            return 0
        if words and (words[0] in COMMANDS or words[0] in {"-h", "--help"}):
            from attnscope.cli.arguments import run

            return run(words)
        return window(words)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def has_display() -> bool:
    """Whether Qt can be asked for a window at all; on Linux a missing display makes it abort, which nobody can catch."""
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))


def window(words: list[str]) -> int:
    """Open the window, with a session, a text or q and k when one is named."""
    wrong = [word for word in words if word.startswith("-")]
    if wrong or len(words) > 1:
        print(
            f"attnscope: {(wrong or words[1:])[0]!r} is no command; there are: {', '.join(COMMANDS)}. See attnscope --help.",
            file=sys.stderr,
        )
        return 2
    if words and not Path(words[0]).exists():
        print(f"attnscope: {words[0]!r} is neither a command ({', '.join(COMMANDS)}) nor a file.", file=sys.stderr)
        return 2
    if not has_display():
        print("No display: the window can not open here.", file=sys.stderr)
        print("The same job without one:  attnscope report --out out     (or attnscope compare --help)", file=sys.stderr)
        return NO_DISPLAY
    if sys.platform.startswith("linux"):
        os.environ.setdefault("QT_QPA_PLATFORM", "wayland;xcb")
    from attnscope.application import start

    return start(Path(words[0]) if words else None)


if __name__ == "__main__":
    sys.exit(main())

"""The processes that this program starts beside itself, by name: from source with `python -m`, frozen by its own executable.

A frozen program has no `python`: `sys.executable` is the window. A name that stands here is the only way to anything else, and
whatever a library asks of "the Python interpreter" (`-m`, `-c`) is refused, so that none can open window after window.
"""

from __future__ import annotations

import sys

MODULES = {
    "engine": "attnscope_engine",
    "addons": "attnscope_engine.addons",
    "engine-doctor": "attnscope_engine.doctor",
    "figures": "attnscope.figures",
    "qt-probe": "attnscope.qt_probe",
    "bench-cpu": "attnscope_engine.bench_cpu",
    "bench-exact": "attnscope_engine.bench_exact",
    "bench-family": "attnscope_engine.bench_family",
    "bench-window": "attnscope.bench_window",
}
"""What each runs, as `python -m` would."""


def is_frozen() -> bool:
    """Whether this is the program of an installer, with everything in its own folder."""
    return bool(getattr(sys, "frozen", False))


def command(program: str, *arguments: str) -> tuple[str, ...]:
    """The words that start one of MODULES. Raises: KeyError for another."""
    module = MODULES[program]
    if is_frozen():
        return (sys.executable, f"--{program}", *arguments)
    return (sys.executable, "-m", module, *arguments)


def named(word: str) -> str:
    """The program that an argument such as `--engine` asks for, "" when it asks for none."""
    name = word.removeprefix("--")
    return name if word == f"--{name}" and name in MODULES else ""


def become(program: str, arguments: list[str]) -> int:
    """Run one of MODULES as this process, with these arguments. The exit code is 0 unless it ends the process itself."""
    import runpy

    sys.argv = [sys.argv[0], *arguments]
    runpy.run_module(MODULES[program], run_name="__main__", alter_sys=True)
    return 0

"""`attnscope bench`: speed against others, as ratios within one run, with device and shape."""

from __future__ import annotations

import argparse
import subprocess

from attnscope import programs
from attnscope.cli.shape import UsageError

BENCHES = ("cpu", "exact", "family", "window")
"""Each is `bench-<name>` among the programs."""
WITH_OPTIONS = ("exact", "family")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="time the product against others on this machine", description=__doc__)
    parser.add_argument(
        "name",
        choices=BENCHES,
        help="cpu: Flash on the processor against torch's scaled_dot_product_attention; exact: our attention on an NVIDIA GPU "
        "against cuDNN, torch, FlexAttention and flash-attn; family: our linear, recurrent and masked attention there "
        "against fla and FlexAttention; window: start and slider",
    )
    parser.add_argument("--json", metavar="FILE", help="exact, family: write everything measured, with provenance")
    parser.add_argument("--quick", action="store_true", help="exact, family: a few cells of each kind, each for a shorter time")
    parser.add_argument(
        "--groups", metavar="NAMES", help="exact, family: only these kinds of cells, such as grid,window or D128,masks"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """In a process of its own: this one imports neither torch nor cupy."""
    words = ["--quick"] if arguments.quick else []
    for name in ("json", "groups"):
        if getattr(arguments, name) is not None:
            words += [f"--{name}", getattr(arguments, name)]
    if words and arguments.name not in WITH_OPTIONS:
        known = " and ".join(f"bench {name}" for name in WITH_OPTIONS)
        raise UsageError(f"Option {words[0]} is of {known}, not of bench {arguments.name}. See attnscope bench --help.")
    return subprocess.run(programs.command(f"bench-{arguments.name}", *words), check=False).returncode

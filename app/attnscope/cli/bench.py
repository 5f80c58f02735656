"""`attnscope bench`: speed against others, as ratios within one run, with device and shape."""

from __future__ import annotations

import argparse
import subprocess
import sys

BENCHES = {"cpu": "attnscope_engine.bench_cpu", "window": "attnscope.bench_window"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="time the product against others on this machine", description=__doc__)
    parser.add_argument(
        "name",
        choices=tuple(BENCHES),
        help="cpu: Flash on the processor against torch's scaled_dot_product_attention; window: start and slider",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """In a process of its own: this one imports neither torch nor cupy."""
    return subprocess.run([sys.executable, "-m", BENCHES[arguments.name]], check=False).returncode

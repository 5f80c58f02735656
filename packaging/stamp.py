"""build.json: what a bundle knows of how it was made, for `--version`, `doctor` and About. Standard library only.

python packaging/stamp.py FOLDER --flavour all        FOLDER is the bundle's `_internal/attnscope_assets`
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import product

FILE = "build.json"
"""`attnscope.build_facts` reads it from the folder of the assets."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--flavour", choices=product.FLAVOURS, required=True)
    options = parser.parse_args()
    print(write(options.folder, options.flavour))
    return 0


def write(folder: Path, flavour: str) -> Path:
    """Write the stamp into `folder` and return its path.

    The day is the commit's, not the clock's, so that the same commit gives the same bundle. Outside of a checkout
    commit and day are empty.
    """
    commit, _, day = git("log", "-1", "--abbrev=12", "--format=%h %cs").partition(" ")
    facts = {
        "version": product.version(),
        "commit": commit,
        "built": day,
        "flavour": flavour,
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
    }
    path = folder / FILE
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8", newline="\n")
    return path


def git(*words: str) -> str:
    """What git says of this checkout, "" where there is no git or no checkout."""
    try:
        done = subprocess.run(["git", "-C", product.ROOT, *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())

"""The recipes are scripts that import each other by name: their folders go on the path, as when one is started."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "packaging"
for folder in (FOLDER, *(FOLDER / name for name in ("linux", "windows", "macos"))):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

"""Machine code of a compiled kernel as text."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np


def disassembler() -> str | None:
    """nvdisasm of an installed toolkit, or of its wheel."""
    wheels = Path(np.__file__).parents[1] / "nvidia"
    return shutil.which("nvdisasm") or next(map(str, wheels.glob("cu*/bin/nvdisasm")), None)


def instructions(cubin: bytes, folder: Path) -> tuple[list[str], dict[str, int]]:
    """SASS in order, and where its labels stand; `.text.<kernel>` is where that kernel begins."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    found = disassembler()
    assert found
    text = subprocess.run([found, "-c", path], capture_output=True, text=True, check=True).stdout
    lines: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        label = re.match(r"(\.L_x_\d+|\.text\.\w+):", line)
        instruction = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line)
        if label:
            labels[label[1]] = len(lines)
        elif instruction:
            lines.append(instruction[1])
    return lines, labels


def of_kernel(lines: list[str], labels: dict[str, int], kernel: str) -> list[str]:
    """The SASS of one kernel of several."""
    first = labels[f".text.{kernel}"]
    return lines[first : min((x for label, x in labels.items() if label.startswith(".text.") and x > first), default=len(lines))]

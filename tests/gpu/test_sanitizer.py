"""The kernels under compute-sanitizer, at sizes that fill no tile: nothing found, and a planted bug found in the same run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sanitized_calls
from attnscope_engine.devices.pick import why_no_gpu

SANITIZER = shutil.which("compute-sanitizer")
CALLS = Path(sanitized_calls.__file__)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu() or "a GPU is here"),
    pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer is not on the PATH"),
]


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("tool", sanitized_calls.PLANTED)
def test_that_a_tool_finds_the_planted_bug_and_nothing_else(tool: str, portable: bool) -> None:
    command = [str(SANITIZER), "--tool", tool, sys.executable, str(CALLS), tool, *(["--portable"] if portable else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    ours, mark, planted = done.stdout.partition(sanitized_calls.MARK)
    assert mark, done.stdout[-3000:] + done.stderr[-3000:]
    found = [line for line in ours.splitlines() if line.startswith("=========") and "COMPUTE-SANITIZER" not in line]
    assert not found, "\n".join(found[:40])
    assert "planted" in planted, planted
    print(planted.strip().splitlines()[-1])

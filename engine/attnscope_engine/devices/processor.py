"""What this machine's processor is called."""

from __future__ import annotations

import importlib
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Such as "AMD EPYC 7763 64-Core Processor"; the architecture where the system has no name for it."""
    name = ""
    if sys.platform == "linux":
        name = _from_cpuinfo()
    elif sys.platform == "darwin":
        name = _from_sysctl()
    elif sys.platform == "win32":
        name = _from_windows_registry()
    return " ".join(name.split()) or platform.processor() or platform.machine() or "processor"


def _from_cpuinfo() -> str:
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    named = (line.partition(":")[2] for line in lines if line.startswith(("model name", "Model", "Hardware")))
    return next(named, "")


def _from_sysctl() -> str:
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=2, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _from_windows_registry() -> str:
    registry: Any = importlib.import_module("winreg")  # exists on Windows alone
    try:
        with registry.OpenKey(registry.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
            return str(registry.QueryValueEx(key, "ProcessorNameString")[0])
    except OSError:
        return ""

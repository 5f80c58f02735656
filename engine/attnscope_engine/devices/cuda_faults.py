"""Errors of CUDA, CuPy and NVRTC as the one exception that the engine knows. Imports no CuPy."""

from __future__ import annotations

from attnscope_engine.devices import DeviceFault
from attnscope_engine.devices.nvrtc import CompileError, NvrtcMissing

STICKY = frozenset({700, 702, 710, 714, 715, 716, 717, 718, 719, 214, 220, 226})
"""Codes after which every call of the process fails: the CUDA documentation says to end it."""

OUT_OF_MEMORY = 2

KNOWN = (RuntimeError, MemoryError, CompileError, NvrtcMissing)
"""What `fault_of` is worth asking about: CuPy's errors are RuntimeErrors with a status, or MemoryErrors."""


def fault_of(error: Exception) -> DeviceFault | None:
    """The fault that `error` stands for; None when it is none of the device's."""
    if isinstance(error, DeviceFault):
        return error
    if isinstance(error, CompileError):
        return DeviceFault(f"{error}\n{error.log}", kind="compile")
    if isinstance(error, NvrtcMissing):
        return DeviceFault(str(error), kind="compile")
    if isinstance(error, MemoryError):
        return DeviceFault(str(error), code=OUT_OF_MEMORY, kind="memory")
    code = getattr(error, "status", None)
    if code is None:
        return None
    kind = "memory" if code == OUT_OF_MEMORY else "device"
    return DeviceFault(str(error), code=int(code), sticky=int(code) in STICKY, kind=kind)

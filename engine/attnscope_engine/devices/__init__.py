"""Where a variant runs: the processor, or a CUDA GPU.

A device prepares a call and times it; `measure.py` decides how often and what the numbers are worth. `pick` is an `if`.
"""

from __future__ import annotations

from typing import Protocol

from attnscope_engine.protocol import Ceilings, DeviceFacts, Measure, Vitals
from attnscope_engine.variant import Tick


class DeviceFault(Exception):
    """The device failed. After a sticky fault nothing it answers can be believed: the engine ends."""

    def __init__(self, text: str, *, code: int = 0, sticky: bool = False, kind: str = "device") -> None:
        super().__init__(text)
        self.code = code
        self.sticky = sticky
        self.kind = kind
        """`memory`, `compile` or `device`, as in `protocol.Failure`."""


class Prepared(Protocol):
    """One attention call, compiled, with its inputs on the device."""

    def time_once(self, tick: Tick) -> float:
        """Seconds of one forward call (device time on a GPU). Raises: Interrupted (from `tick`), DeviceFault."""
        ...

    def peak_bytes(self, tick: Tick) -> int:
        """Peak of the bytes held during one forward call, inputs and output included, as counted by the allocator."""
        ...

    def provenance(self) -> dict[str, str]:
        """How the numbers were had: library versions, timing method, kernel hash, seed."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class Device(Protocol):
    """A processor or a GPU."""

    @property
    def facts(self) -> DeviceFacts: ...

    def vitals(self) -> Vitals: ...

    def clock_mhz(self) -> int:
        """Clock of the processing units now, 0 when unknown."""
        ...

    def calibrate(self, tick: Tick) -> Ceilings: ...

    def prepare(self, job: Measure, tick: Tick) -> Prepared:
        """`tick` is called where this takes long.

        Raises: Unsupported (a setting this device can not run), Interrupted (from `tick`), DeviceFault.
        """
        ...

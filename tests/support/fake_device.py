"""A device whose calls do what a test says: the engine is real, only the hardware is not."""

from __future__ import annotations

import time
from collections.abc import Callable

from attnscope_engine.protocol import Ceilings, DeviceFacts, Measure, Vitals
from attnscope_engine.variant import Tick

Call = Callable[[Measure, Tick], None]


class FakeDevice:
    """Counts what was asked of it in `calls`, and runs `on_call` in the place of an attention call."""

    def __init__(self, on_call: Call | None = None, free_bytes: int = 1 << 34, on_prepare: Call | None = None) -> None:
        self.on_call = on_call or (lambda job, tick: tick())
        self.on_prepare = on_prepare or (lambda job, tick: None)
        self.on_vitals: Callable[[], None] = lambda: None
        self.free_bytes = free_bytes
        self.calls: list[str] = []
        self.facts = DeviceFacts("fake:1", "cpu", "Fake", 1 << 34, threads=1, library="fake 1")

    def vitals(self) -> Vitals:
        self.on_vitals()
        return Vitals(self.free_bytes, self.facts.total_bytes)

    def clock_mhz(self) -> int:
        return 1000

    def calibrate(self, tick: Tick) -> Ceilings:
        tick()
        return Ceilings(self.facts.key, {"fp32": 1e9, "bf16": 1e9, "fp16": 1e9}, 1e9, 1e9, 1e-6, time.time())

    def prepare(self, job: Measure, tick: Tick) -> FakeCall:
        self.calls.append(f"prepare {job.workload.seq_len}")
        self.on_prepare(job, tick)
        return FakeCall(self, job)


class FakeCall:
    def __init__(self, device: FakeDevice, job: Measure) -> None:
        self._device, self._job = device, job

    def time_once(self, tick: Tick) -> float:
        self._device.calls.append(f"call {self._job.workload.seq_len}")
        self._device.on_call(self._job, tick)
        return 0.001

    def peak_bytes(self, tick: Tick) -> int:
        return 4096

    def provenance(self) -> dict[str, str]:
        return {"method": "fake"}

    def close(self) -> None:
        self._device.calls.append("close")

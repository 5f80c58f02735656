"""One CUDA device for all tests of this folder, which skip themselves where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from attnscope_engine.devices.cuda import CudaDevice


@pytest.fixture(scope="session")
def device() -> CudaDevice:
    from attnscope_engine.devices.pick import why_no_gpu

    reason = why_no_gpu()
    if reason:
        pytest.skip(reason)
    from attnscope_engine.devices.cuda import CudaDevice

    return CudaDevice()


@pytest.fixture
def free_bytes(device: Any) -> int:
    """What an allocation could get now."""
    device.release()
    return int(device.vitals().free_bytes)

"""How much memory a torch call holds at its peak, by every allocation that torch's own allocator makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def peak_of_torch(call: Callable[[], Any], torch: Any) -> int:
    """Bytes held at the peak of `call` beyond those held before it, kernels' own scratch included.

    The recorder is the one behind torch's first profiler: 0.1 ms an operation, where the present one takes 1 ms and prints.
    Its events carry sizes only, in the order of the allocations, which is all that is needed.
    """
    autograd = torch.autograd
    experimental = torch._C._profiler._ExperimentalConfig()
    config = autograd.ProfilerConfig(autograd.ProfilerState.CPU, False, True, False, False, False, experimental)
    autograd._enable_profiler_legacy(config)
    try:
        call()
    finally:
        threads = autograd._disable_profiler_legacy()
    held = peak = 0
    for events in threads:
        for event in events:
            if event.kind() == "memory_alloc":
                held += event.cpu_memory_usage()
                peak = max(peak, held)
    return peak

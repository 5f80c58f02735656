"""A process for `compute-sanitizer` to watch: calls of odd sizes that must be clean, then one planted bug that must not be.

Run as `python sanitized_calls.py TOOL`. What the sanitizer says after the line MARK is of the planted bug.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from attnscope_engine import catalogue
from attnscope_engine.devices import nvrtc
from attnscope_engine.devices.cuda import CudaDevice, Scratch, from_bits
from attnscope_engine.protocol import Dtype, Workload

MARK = "--- from here on, a planted bug"

PLANTED = {
    "memcheck": "values[threadIdx.x + 64] = 1.f;",
    "initcheck": "values[threadIdx.x] += 1.f;",
    "racecheck": "__shared__ float x[64]; x[threadIdx.x] = 1.f; values[threadIdx.x] = x[63 - threadIdx.x];",
    "synccheck": """__shared__ unsigned long long barrier;
asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"((unsigned)__cvta_generic_to_shared(&barrier)) : "memory");""",
}
"""By tool: the body of a kernel of 64 threads on 64 floats that nothing has written."""

CALLS: tuple[tuple[str, Dtype, tuple[int, int, int, int], int, bool, dict[str, int]], ...] = (
    ("softmax_tiled", "bf16", (2, 1, 113, 203), 64, True, {}),
    ("softmax_tiled", "fp16", (2, 2, 203, 113), 128, False, {}),
    ("softmax_tiled", "bf16", (1, 1, 333, 333), 96, True, {}),
    ("softmax_tiled", "bf16", (1, 1, 257, 190), 192, True, {}),
    ("softmax_tiled", "fp16", (2, 1, 131, 300), 256, False, {}),
    ("softmax_tiled", "fp32", (2, 1, 65, 97), 80, True, {}),
    ("softmax_tiled", "bf16", (4, 1, 3, 2049), 128, True, {}),
    ("softmax_tiled", "bf16", (3, 1, 113, 203), 64, True, {"softcap": 30, "alibi": True}),
    ("softmax_tiled", "fp16", (3, 1, 3, 2049), 64, False, {"softcap": 30, "alibi": True}),
    ("sliding_window", "bf16", (2, 1, 401, 401), 64, True, {"window_size": 70, "sinks": 5}),
    ("sliding_window", "fp16", (1, 1, 333, 431), 128, True, {"window_size": 129}),
    ("softmax_naive", "bf16", (2, 1, 113, 203), 64, True, {}),
    ("chunked", "bf16", (2, 1, 300, 300), 64, True, {"chunk_size": 70}),
    ("linear", "bf16", (2, 1, 301, 301), 64, True, {}),
    ("linear", "fp16", (1, 1, 77, 205), 128, False, {}),
    ("performer", "bf16", (2, 1, 113, 203), 64, True, {"features": 40}),
    ("performer", "fp32", (2, 1, 77, 77), 80, False, {}),
    ("differential", "bf16", (2, 1, 113, 203), 64, True, {}),
    ("moba", "bf16", (2, 1, 300, 333), 64, True, {"block_size": 50, "top_k": 3}),
)
"""Variant, dtype, (H, G, N, M), head_dim, causal, parameters."""

ONE_LANE_ARRIVES = ("linear", "performer")
"""Whose Hopper kernels hand shared memory on by a warp's own barrier and one arrival of its first lane at a barrier in memory.

racecheck reports each such hand-over (on an H100 most as 992 of 1,024 pairs: those of the 31 other lanes). Their order is
checked by the model of the chip in `tests/engine`, which runs threads in random order on poisoned memory.
"""


def run(device: CudaDevice, tool: str) -> None:
    """Every call once, on workspaces that nothing has written before.

    Raises: AssertionError where a number of the output was left as it was before. (initcheck can not tell: it does not see the
    stores of Hopper's copy engine.)
    """
    rng = np.random.default_rng(3)
    for name, dtype, (heads, kv_heads, n, m), head_dim, causal, values in CALLS:
        if tool == "racecheck" and name in ONE_LANE_ARRIVES and not device.portable:
            continue
        variant = catalogue.find(name)
        workload = Workload(seq_len=n, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, causal=causal)
        shapes = ((1, heads, n, head_dim), (1, kv_heads, m, head_dim), (1, kv_heads, m, head_dim))
        with device.stream:
            q, k, v = (device.upload(rng.standard_normal(shape, np.float32), dtype) for shape in shapes)
            out = device.upload(np.full(q.shape, np.nan, np.float32), dtype)
            device.call(variant, q, k, v, out, workload, variant.parse(values), Scratch())
            device.stream.synchronize()
            assert not np.isnan(from_bits(out.get(), dtype)).any(), (name, head_dim)


def plant(device: CudaDevice, tool: str) -> None:
    """Runs the bug that `tool` is there to see."""
    text = f'extern "C" __global__ void planted(float* values) {{ {PLANTED[tool]} }}'
    code, _ = nvrtc.compile_cubin(text, "planted.cu", device.facts.arch)
    module: Any = device.cupy.cuda.function.Module()
    module.load(code)
    memory = device.cupy.cuda.Memory(256)  # straight from the driver, so that behind the last float nothing is allocated
    values = device.cupy.ndarray((64,), "float32", device.cupy.cuda.MemoryPointer(memory, 0))
    module.get_function("planted")((1, 1, 1), (64, 1, 1), (values,))
    device.cupy.cuda.runtime.deviceSynchronize()


if __name__ == "__main__":
    card = CudaDevice(portable="--portable" in sys.argv)
    run(card, sys.argv[1])
    print(MARK, flush=True)
    plant(card, sys.argv[1])

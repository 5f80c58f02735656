"""What a card reaches at most, measured in about half a second: products, copies, exponentials, launches."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from attnscope_engine.cuda import DTYPE_CODE, STORED
from attnscope_engine.devices import cubins
from attnscope_engine.devices.cuda import CudaDevice
from attnscope_engine.protocol import Ceilings, Dtype
from attnscope_engine.variant import Tick, Unsupported

TARGET_S = 0.02
"""Length of a timed loop, once it is known how long it takes."""

THREADS, CHAINS = 256, 8
"""As in `device.cu`: threads of a block, independent results of a thread."""

STEP: dict[Dtype, int] = {"fp32": 8, "bf16": 16, "fp16": 16}
LAUNCHES = 200

LARGE_PRODUCT = 8192
"""Rows and columns: enough that every multiprocessor is busy for a millisecond."""


def ceilings(device: CudaDevice, tick: Tick) -> Ceilings:
    """Measured now.

    `flops_per_s`: the larger of what tensor cores reach with operands in registers (fp32: three TF32 products for one) and of
    cuBLAS' own large product, which on Hopper has instructions that are faster. `bytes_per_s` counts what is read and what is
    written. `launch_s` is one launch inside a graph.
    """
    with device.stream:
        flops: dict[Dtype, float] = {}
        for dtype in device.facts.dtypes:
            tick()
            flops[dtype] = max(_products_per_s(device, dtype), _large_product_per_s(device, dtype))
        tick()
        exps = _exponentials_per_s(device)
        tick()
        moved = _bytes_per_s(device)
        tick()
        launch = _launch_s(device)
    device.release()
    return Ceilings(device.facts.key, flops, moved, exps, launch, taken_at=time.time())


def _seconds(device: CudaDevice, work: Callable[[], None], repeats: int = 3) -> float:
    """Least device time of one `work`, after one run that warms up."""
    start, end = device.cupy.cuda.Event(), device.cupy.cuda.Event()
    work()
    times = []
    for _ in range(repeats):
        start.record(device.stream)
        work()
        end.record(device.stream)
        end.synchronize()
        times.append(float(device.cupy.cuda.get_elapsed_time(start, end)) / 1e3)
    return max(min(times), 1e-9)


def _loop_rate(device: CudaDevice, entry: str, dtype: Dtype, per_round: int) -> float:
    """Results a second of a loop kernel, `per_round` a thread and round."""
    kernel = device.kernel(cubins.DEVICE, entry, {"DTYPE": DTYPE_CODE[dtype]})
    out = device.cupy.empty((1,), "float32")
    blocks = 8 * device.multiprocessors

    def run(rounds: int) -> float:
        return _seconds(device, lambda: kernel((blocks, 1, 1), THREADS, (out, np.int32(rounds))))

    rounds = 256
    rounds = max(rounds, int(rounds * TARGET_S / run(rounds)))
    return blocks * THREADS * per_round * rounds / run(rounds)


def _products_per_s(device: CudaDevice, dtype: Dtype) -> float:
    warp_flops = 2 * 16 * 8 * STEP[dtype]
    return _loop_rate(device, "products", dtype, CHAINS * warp_flops // 32)


def _large_product_per_s(device: CudaDevice, dtype: Dtype) -> float:
    """Of cuBLAS on a large square product of 16-bit numbers; 0 where it is not installed, or the card has no room."""
    size = LARGE_PRODUCT
    free = int(device.cupy.cuda.runtime.memGetInfo()[0])
    if dtype == "fp32" or 3 * size * size * 2 > free // 4:
        return 0.0
    left, right, out = (device.cupy.empty((1, size, size), STORED[dtype]) for _ in range(3))
    for seed, array in enumerate((left, right)):
        device.fill_normal(array, dtype, seed)
    try:
        seconds = _seconds(device, lambda: device.multiply(left, right, out, dtype, size**-0.5, False), 5)
    except Unsupported:
        return 0.0
    return 2 * size**3 / seconds


def _exponentials_per_s(device: CudaDevice) -> float:
    return _loop_rate(device, "exponentials", "fp16", CHAINS)


def _bytes_per_s(device: CudaDevice) -> float:
    free = int(device.cupy.cuda.runtime.memGetInfo()[0])
    size = min(max(8 * device.cache_bytes, 64 << 20), free // 4) // 4
    source, target = device.cupy.empty((size,), "float32"), device.cupy.empty((size,), "float32")
    device.fill_normal(source, "fp32", 0)
    moved = 2 * int(source.nbytes)
    return moved / _seconds(device, lambda: target.data.copy_from_device_async(source.data, source.nbytes), 10)


def _launch_s(device: CudaDevice) -> float:
    kernel = device.kernel(cubins.DEVICE, "nothing", {"DTYPE": DTYPE_CODE["fp16"]})
    out = device.cupy.empty((1,), "float32")
    device.stream.begin_capture()
    try:
        for _ in range(LAUNCHES):
            kernel((1, 1, 1), 32, (out,))
    finally:
        graph = device.stream.end_capture()
    return _seconds(device, lambda: graph.launch(device.stream)) / LAUNCHES

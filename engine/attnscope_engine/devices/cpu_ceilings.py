"""What the processor reaches: matrix products, copies, exponentials, and what the smallest call costs.

Each is the best of a few repeats, since a ceiling is what was reached once, and done as the variants do it: values of 16
bits are also tried widened to fp32, which is the faster way on processors without instructions for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from attnscope_engine import catalogue
from attnscope_engine.protocol import Ceilings, Dtype, Workload
from attnscope_engine.variant import Tick

SIDE = 1024
"""Of the square matrices multiplied in fp32; 16-bit ones are a quarter, as some processors are a hundred times slower at them."""

COPIED_BYTES = 1 << 27
"""More than caches hold."""

EXPONENTIALS = 1 << 20


def ceilings(device: str, dtypes: tuple[Dtype, ...], xp: Any, tick: Tick) -> Ceilings:
    """Measured now, in about half a second. Raises: Interrupted, from `tick`."""
    single = _normal((SIDE, SIDE), xp)
    fp32 = 2 * SIDE**3 / _best(lambda: xp.matmul(single, single), 4, tick)
    flops = {dtype: fp32 if dtype == "fp32" else max(_narrow(dtype, xp, tick), _widened(dtype, xp, tick)) for dtype in dtypes}
    source = xp.ones(COPIED_BYTES // 4, dtype=xp.float32)
    target = xp.zeros_like(source)
    bytes_per_s = 2 * COPIED_BYTES / _best(lambda: _copy(target, source), 3, tick)
    exponents = _normal((EXPONENTIALS,), xp)
    powers = xp.empty_like(exponents)
    exps_per_s = EXPONENTIALS / _best(lambda: xp.exp(exponents, out=powers), 8, tick)
    launch_s = _best(_smallest_call(xp), 50, tick)
    return Ceilings(device, flops, bytes_per_s, exps_per_s, launch_s, time.time())


def _best(call: Callable[[], Any], repeats: int, tick: Tick) -> float:
    """Seconds of the fastest of `repeats` calls after one to warm up."""
    call()
    best = math.inf
    for _ in range(repeats):
        tick()
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _narrow(dtype: Dtype, xp: Any, tick: Tick) -> float:
    """Operations a second with the 16-bit values themselves; 0 on numpy, whose product of them is no matrix product."""
    if xp.__name__ != "torch":
        return 0.0
    side = SIDE // 4
    a = _stored(_normal((side, side), xp), dtype, xp)
    return 2 * side**3 / _best(lambda: xp.matmul(a, a), 3, tick)


def _widened(dtype: Dtype, xp: Any, tick: Tick) -> float:
    """Operations a second with both matrices widened to fp32 each time."""
    a = _stored(_normal((SIDE, SIDE), xp), dtype, xp)

    def product() -> Any:
        return xp.matmul(_stored(a, "fp32", xp), _stored(a, "fp32", xp))

    return 2 * SIDE**3 / _best(product, 2, tick)


def _stored(x: Any, dtype: Dtype, xp: Any) -> Any:
    name = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[dtype]
    return x.to(getattr(xp, name)) if xp.__name__ == "torch" else x.astype(name)


def _normal(shape: tuple[int, ...], xp: Any) -> Any:
    if xp.__name__ == "torch":
        return xp.randn(*shape, generator=xp.Generator().manual_seed(0))
    return xp.random.default_rng(0).standard_normal(shape, dtype=xp.float32)


def _copy(target: Any, source: Any) -> None:
    target[...] = source


def _smallest_call(xp: Any) -> Callable[[], Any]:
    """Attention of one token to itself: nothing but the way there and back."""
    workload = Workload(seq_len=1, num_heads=1, num_kv_heads=1, head_dim=8, dtype="fp32")
    variant = catalogue.find("softmax_tiled")
    q = _normal((1, 1, 1, 8), xp)
    return lambda: variant.run_cpu(q, q, q, workload, variant.params(), xp, lambda: None)

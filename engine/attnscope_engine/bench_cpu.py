"""Flash on the processor against torch's own `scaled_dot_product_attention`, as ratios within one process."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

from attnscope_engine import catalogue
from attnscope_engine.devices.cpu import CpuDevice, normal_inputs
from attnscope_engine.protocol import Choice, Measure, Workload

SEQ_LENS = (1024, 2048, 4096, 8192)
ROUNDS = 9
AIM = 1.15


def cpu_against_sdpa(seq_lens: tuple[int, ...] = SEQ_LENS, rounds: int = ROUNDS) -> list[tuple[Workload, float, float]]:
    """`(workload, seconds of Flash, seconds of torch)`, medians, taken in turns so that both see the same machine.

    Raises: DeviceFault when torch does not load.
    """
    device = CpuDevice("torch")
    torch = device.xp
    flash = catalogue.find("softmax_tiled")
    found = []
    for seq_len in seq_lens:
        for dtype in device.facts.dtypes:
            workload = Workload(seq_len=seq_len, dtype=dtype)
            q, k, v = normal_inputs(Measure(workload, Choice(flash.name)), torch)
            ours, theirs = [], []
            with torch.inference_mode():
                for turn in range(rounds + 1):
                    one = _timed(lambda: flash.run_cpu(q, k, v, workload, flash.params(), torch, _no_tick))  # noqa: B023 called at once
                    other = _timed(lambda: _sdpa(torch, q, k, v))  # noqa: B023 called at once
                    if turn:  # the first warms up
                        ours.append(one)
                        theirs.append(other)
            found.append((workload, statistics.median(ours), statistics.median(theirs)))
    return found


def _sdpa(torch: Any, q: Any, k: Any, v: Any) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _no_tick() -> None:
    """Nothing interrupts a benchmark."""


def main() -> int:
    from attnscope_engine.addons.using import use

    use()
    facts = CpuDevice("torch").facts
    write = sys.stdout.write
    write(f"{facts.name}, {facts.threads} threads, {facts.library}. 9 query, 3 key heads of 64, causal; medians of {ROUNDS}.\n")
    write(f"{'n':>6}  {'dtype':5}  {'Flash':>10}  {'torch':>10}  {'ratio':>6}\n")
    worst = 0.0
    for workload, ours, theirs in cpu_against_sdpa():
        worst = max(worst, ours / theirs)
        write(f"{workload.seq_len:>6,}  {workload.dtype:5}  {1e3 * ours:7.2f} ms  {1e3 * theirs:7.2f} ms  {ours / theirs:6.3f}\n")
    write(f"largest ratio {worst:.3f}, aim at most {AIM}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

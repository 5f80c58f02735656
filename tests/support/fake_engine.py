"""The engine's process with a fake device: `python fake_engine.py`. What a measurement does is chosen by its sequence length."""

from __future__ import annotations

import enum
import os
import sys
import time

from attnscope_engine.pipes import FrameWriter, take_stdio


class Does(enum.IntEnum):
    """Sequence lengths of calls that only tick; sit in BLAS; write to fd 1; break the device; tick for 30 s; run a child."""

    TICK = 64
    BLAS = 128
    PRINTS = 192
    STICKY = 256
    SLOW = 320
    SPAWNS = 384


def on_call(job, tick) -> None:
    if job.workload.seq_len in (Does.BLAS, Does.SLOW):
        sys.stderr.write("started\n")
        sys.stderr.flush()
    match job.workload.seq_len:
        case Does.BLAS:
            import numpy as np

            one = np.ones((3000, 3000))
            for _ in range(100):
                one @ one
        case Does.PRINTS:
            os.write(1, b"a library says hello\n" * 10)
        case Does.STICKY:
            from attnscope_engine.devices import DeviceFault

            raise DeviceFault("an illegal memory access was encountered", code=700, sticky=True)
        case Does.SLOW:
            for _ in range(30_000):
                time.sleep(0.001)
                tick()
        case Does.SPAWNS:
            import subprocess

            subprocess.run(["/bin/sh", "-c", "echo from a child; cat"], check=True)
    tick()


def main() -> None:
    requests, replies = take_stdio()
    from attnscope_engine.__main__ import hello, settle_process
    from attnscope_engine.mailbox import Mailbox
    from attnscope_engine.pipes import listen
    from attnscope_engine.sources import Sources
    from attnscope_engine.worker import serve
    from fake_device import FakeDevice

    settle_process()
    mailbox = Mailbox()
    listen(requests, mailbox)
    device, writer = FakeDevice(on_call), FrameWriter(replies)
    writer.send(hello(device, ""))
    serve(device, Sources(), mailbox, writer)


if __name__ == "__main__":
    main()

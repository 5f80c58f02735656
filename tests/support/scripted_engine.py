"""An engine that misbehaves on purpose: `python scripted_engine.py MODE [--delay S] [--on VARIANT] [--first FILE N]`.

It speaks the real protocol over the real pipes, so that the window's side is tested through a process and not through mocks.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from pathlib import Path

from attnscope_engine import protocol as p

NO_DRIVER = "No NVIDIA driver found: everything runs on the CPU."
NO_PARTS = "A GPU is there, but the CUDA 13 parts (131 MB) are not: add them, or use the CPU."
HELLO_LATE_S = 60.0


def command(mode: str = "ok", *, delay: float = 0.0, on: str = "", first: tuple[Path, int] | None = None) -> tuple[str, ...]:
    """The argument list that starts it. `first`: misbehave only in the first N processes, counted in a file; then be ok."""
    words = [sys.executable, __file__, mode, "--delay", str(delay), "--on", on]
    if first:
        words += ["--first", str(first[0]), str(first[1])]
    return tuple(words)


def device(key: str = "fake") -> p.DeviceFacts:
    return p.DeviceFacts(key, "cpu", "A made-up processor", 8 << 30, threads=2)


class Engine:
    def __init__(self, mode: str, delay: float, on: str) -> None:
        self.mode, self.delay, self.on = mode, delay, on
        self.out = os.dup(1)
        self.requests: queue.Queue[p.Request] = queue.Queue()
        self.cancelled: set[int] = set()

    def send(self, message: p.Message) -> None:
        self.write(p.frame(message))

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.out, rest) :]

    def read(self) -> None:
        receiver = p.Receiver()
        while data := os.read(0, 1 << 16):
            for payload in receiver.feed(data):
                request = p.decode_request(payload)
                if isinstance(request, p.Cancel):
                    self.cancelled.add(request.id)
                self.requests.put(request)
        os._exit(0)

    def hello(self) -> None:
        match self.mode:
            case "dies_on_hello":
                sys.stderr.write("ModuleNotFoundError: No module named 'attention'\n")
                sys.stderr.flush()
                os._exit(3)
            case "mute":
                time.sleep(HELLO_LATE_S)
            case "polluting":
                self.write(b"Last login: Tue Nov 24 on ttys001\n")
            case "wrong_protocol":
                self.write(_framed(b"\x83\xa4type\xa5hello\xa8protocol\xcd\x03\xe7\xa5extra\x01"))
                return
            case "no_hello":
                self.send(p.Vitals(1, 2))
                return
        why = {"no_driver": NO_DRIVER, "no_parts": NO_PARTS}.get(self.mode, "")
        shown = device(self.on if self.mode == "other_device" else "fake")
        self.send(p.Hello(p.PROTOCOL, "0.0", os.getpid(), "3.11", shown, why))

    def serve(self) -> None:
        threading.Thread(target=self.read, daemon=True).start()
        self.hello()
        if self.mode == "flood":
            while True:
                self.send(p.Vitals(int(time.monotonic() * 1e6), 8 << 30))
        self.send(p.Vitals(6 << 30, 8 << 30))
        while True:
            request = self.requests.get()
            if isinstance(request, p.Run):
                self.answer(request)

    def answer(self, run: p.Run) -> None:
        variant = run.job.choice.variant if isinstance(run.job, p.Measure) else run.slot
        delay = 0.0
        if self.on in ("", variant):
            self.misbehave(run)
            delay = self.delay
        until = time.monotonic() + delay
        while time.monotonic() < until:
            if run.id in self.cancelled:
                self.send(p.Cancelled(run.id))
                return
            self.send(p.Progress(run.id, 1 - (until - time.monotonic()) / delay, "half way"))
            time.sleep(0.02)
        self.send(p.Result(run.id, payload_of(run.job)))

    def misbehave(self, run: p.Run) -> None:
        match self.mode:
            case "dies":
                sys.stderr.write("terminate called\n")
                sys.stderr.flush()
                os.kill(os.getpid(), 9)
            case "silent":
                time.sleep(1000)
            case "garbage":
                self.write(b"Segmentation fault (core dumped) in kernel\n")
            case "huge":
                self.write(p.HEADER.pack(p.MAGIC, 1 << 30, 0))
            case "half":
                self.write(p.frame(p.Result(run.id, payload_of(run.job)))[:-3])
                time.sleep(1000)
            case "stale":
                for id_ in (run.id - 1, run.id + 1000, -1):
                    self.send(p.Result(id_, p.Ceilings("stale", {"fp32": 1.0}, 1.0, 1.0, 1.0, 0.0)))
            case "sticky":
                self.write(
                    p.frame(p.Failure(run.id, "device", "GPU fault in Window at n = 128 (code 700).", 700, sticky=True))
                    + p.frame(p.Result(run.id, payload_of(run.job)))
                )
                os._exit(70)
            case "refuses":
                self.send(p.Refused(run.id, p.Refusal("memory", "It does not fit")))
                self.answer(_other(self.requests))
            case "fails":
                self.send(p.Failure(run.id, "compile", "Linear at n = 4,096 did not compile.", detail="ptxas: no such register"))
                self.answer(_other(self.requests))
            case "answer_then_die":
                self.send(p.Result(run.id, payload_of(run.job)))
                os._exit(1)


def _other(requests: queue.Queue[p.Request]) -> p.Run:
    """The next request that is one: this one has been answered."""
    while not isinstance(request := requests.get(), p.Run):
        pass
    return request


def payload_of(job: p.Job) -> p.Payload:
    """An answer of the right shape; times follow n, so that a test can tell one from another."""
    match job:
        case p.Calibrate():
            return p.Ceilings("fake", {"fp32": 1e11, "bf16": 1e11, "fp16": 1e11}, 1e10, 1e9, 1e-6, time.time())
        case p.Measure(workload=workload, choice=choice):
            seconds = workload.seq_len * 1e-6
            return p.Measured(workload, choice, "fake", seconds, seconds, seconds, 3, 1000, time.time())
        case p.ReadText(source=source):
            tokens = tuple(source.text.split(" "))
            heads = tuple(
                p.HeadFacts(layer, head, 0.1, 0.1, 0.0, 1.0, 1.0, 0.1 * layer + 0.01 * head, len(tokens) - 1, 0)
                for layer in range(3)
                for head in range(4)
            )
            return p.TextRead(source, tokens, "fake", 3, 4, 2, 8, 100, heads)
        case p.DrawMap(rows=rows, columns=columns, factor=factor, panels=panels):
            shape = ((rows[1] - rows[0]) // factor or 1, (columns[1] - columns[0]) // factor or 1)
            codes = p.Array("u1", shape, bytes(shape[0] * shape[1]))
            return p.MapDrawn(job, rows[1], tuple(p.Picture(codes, 0.0, 1.0, "linear") for _ in panels))
        case p.ReadRow(panels=panels):
            patch = p.Array("f4", (21, 21), bytes(21 * 21 * 4))
            row = p.Row(p.Array("f4", (4,), bytes(16)), patch, 1.0, 2.0, 0.1, 1.0, 1.0)
            return p.RowRead(job, (row,) * len(panels))
        case p.DrawHeads(size=size):
            return p.HeadsDrawn(job, p.Array("u1", (3, 4, size, size), bytes(12 * size * size)))


def _framed(payload: bytes) -> bytes:
    import zlib

    return p.HEADER.pack(p.MAGIC, len(payload), zlib.crc32(payload)) + payload


def _one_more(path: Path) -> int:
    """How many processes have counted themselves in this file, this one included."""
    with path.open("ab") as file:
        file.write(b".")
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--on", default="")
    parser.add_argument("--first", nargs=2)
    parser.add_argument("--device")
    options = parser.parse_args()
    mode = options.mode
    if options.first and _one_more(Path(options.first[0])) > int(options.first[1]):
        mode = "ok"
    Engine(mode, options.delay, options.on).serve()


if __name__ == "__main__":
    main()

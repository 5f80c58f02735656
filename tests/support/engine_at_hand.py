"""An engine process for a test: sends requests, collects replies, and says how it ended."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attnscope_engine.protocol import Receiver, Reply, Request, decode_reply, frame

FAKE = [sys.executable, str(Path(__file__).with_name("fake_engine.py"))]
REAL = [sys.executable, "-m", "attnscope_engine", "--device", "cpu"]


class EngineAtHand:
    """Use as a context manager; at its end the process is gone."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self._receiver = Receiver()
        self.replies: list[Reply] = []

    def __enter__(self) -> EngineAtHand:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self.process.wait()

    def send(self, *messages: Request) -> None:
        self.send_bytes(b"".join(frame(message) for message in messages))

    def send_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def until(self, wanted: Callable[[Reply], bool], timeout_s: float = 20) -> Reply:
        """The first reply, from the beginning on, that is wanted."""
        deadline, looked_at = time.monotonic() + timeout_s, 0
        while True:
            for reply in self.replies[looked_at:]:
                if wanted(reply):
                    return reply
            looked_at = len(self.replies)
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"no such reply within {timeout_s} s; {self.replies}")

    def _read(self, timeout_s: float) -> bool:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        if not select.select([fd], [], [], max(0, timeout_s))[0]:
            return False
        data = os.read(fd, 1 << 20)
        self.replies += [decode_reply(payload) for payload in self._receiver.feed(data)]
        return bool(data)

    def rest(self) -> list[Reply]:
        """All replies until the engine closes its pipe."""
        while self._read(20):
            pass
        return self.replies

    def until_started(self) -> None:
        """Until a fake device says on stderr that its call began."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line == b"started\n", line

    def ended(self, timeout_s: float = 20) -> int:
        """Exit code."""
        return self.process.wait(timeout_s)

    def stderr(self) -> str:
        """All that it wrote there; it must have ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

"""The engine as a program: how it is started, and what is to be thought of what it sends. No Qt."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from attnscope_engine.protocol import PROTOCOL, ProtocolFault

from attnscope import programs

SLEPT_S = 2.0
"""A jump of the clock that counts sleep against the one that does not: the computer slept."""


def default_command(device: str = "auto") -> tuple[str, ...]:
    """The engine of this installation."""
    return programs.command("engine", "--device", device)


def on_cpu(command: Sequence[str]) -> tuple[str, ...]:
    """The same command, for the processor."""
    words = list(command)
    if "--device" in words[:-1]:
        words[words.index("--device") + 1] = "cpu"
        return tuple(words)
    return (*words, "--device", "cpu")


class AnyHello(msgspec.Struct, tag="hello", frozen=True):
    """A hello of any protocol: enough to see that it is another one."""

    protocol: int
    engine_version: str = ""


_any_hello = msgspec.msgpack.Decoder(AnyHello)


def wrong_protocol(payload: bytes) -> str:
    """The sentence for an engine of another release; empty for one of ours, or when this is no hello at all."""
    try:
        hello = _any_hello.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    if hello.protocol == PROTOCOL:
        return ""
    version = f" (release {hello.engine_version[:20]})" if hello.engine_version else ""
    return f"The engine{version} speaks protocol {hello.protocol}, this window {PROTOCOL}: install both from the same release."


def fault_words(fault: ProtocolFault) -> str:
    """A violation, going on from "The engine"."""
    text = str(fault)
    return f"sent {text}" if text.startswith("invalid data") else f"sent invalid data ({text})"


def slept_s() -> float:
    """Seconds that this computer has slept since it was started; 0 where the system does not tell."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boot) - time.clock_gettime(time.CLOCK_MONOTONIC) if boot is not None else 0.0

"""The engine's process: `python -m attnscope_engine [--device auto|cpu|cuda] [--model PATH]`.

Speaks frames of `protocol` on its standard input and output; started by the window, by the command line, or through ssh.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import msgspec

if TYPE_CHECKING:
    from attnscope_engine.devices import Device
    from attnscope_engine.protocol import Hello

USAGE = "usage: attnscope-engine [--device auto|cpu|cuda] [--model PATH] | --version"
EXIT_USAGE = 2
OOM_SCORE = "500"
"""When memory ends, Linux is to end the engine, which starts again in a moment, and not the window."""


class Options(msgspec.Struct, frozen=True):
    """The command line."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    model: Path | None = None


def main() -> NoReturn:
    """Serve until the input ends. Exit codes: 0 end of input or `Shutdown`, 2 bad arguments, 65 bad input, 70 a fault."""
    options = parsed(sys.argv[1:])
    if sys.stdin is None or sys.stdin.isatty():
        refuse("attnscope-engine reads frames from a pipe, not from a terminal. Start attnscope instead.")
    # Before anything that could print is imported: from here on fd 1 leads to stderr.
    from attnscope_engine.pipes import EXIT_FAULT, take_stdio

    requests, replies = take_stdio()
    # Before anything imports CuPy or torch, which an add-on may bring.
    from attnscope_engine.addons.using import use

    use()
    settle_process()
    try:
        run(options, requests, replies)
    except BaseException:  # noqa: BLE001 whatever it was, the one way out is a code that the supervisor knows
        traceback.print_exc()
    os._exit(EXIT_FAULT)


def run(options: Options, requests: int, replies: int) -> NoReturn:
    """Listen, say hello as soon as there is a device, then load the rest and serve.

    Listening comes first: a driver that hangs and a library that loads slowly must not outlive the window.
    """
    from attnscope_engine.mailbox import Mailbox
    from attnscope_engine.pipes import FrameWriter, listen

    mailbox = Mailbox()
    listen(requests, mailbox)
    from attnscope_engine.devices.pick import pick

    device, why_no_gpu = pick(options.device)
    writer = FrameWriter(replies)
    writer.send(hello(device, why_no_gpu))
    from attnscope_engine.sources import Sources
    from attnscope_engine.worker import serve

    serve(device, Sources(options.model), mailbox, writer)


def hello(device: Device, why_no_gpu: str) -> Hello:
    """The first frame."""
    from attnscope_engine import __version__
    from attnscope_engine.protocol import PROTOCOL, Hello

    python = ".".join(str(part) for part in sys.version_info[:3])
    return Hello(PROTOCOL, __version__, os.getpid(), python, device.facts, why_no_gpu)


def parsed(arguments: list[str]) -> Options:
    """Read the command line; ends the process with a sentence and code 2 when it can not be read."""
    if arguments == ["--version"]:
        from attnscope_engine import __version__

        sys.stdout.write(f"attnscope-engine {__version__}\n")
        sys.exit(0)
    names = arguments[::2]
    for name in names:
        if name not in ("--device", "--model"):
            refuse(f"attnscope-engine: unknown argument {name!r}. {USAGE}")
    if len(arguments) % 2:
        refuse(f"attnscope-engine: {arguments[-1]} needs a value. {USAGE}")
    values = {name.removeprefix("--"): value for name, value in zip(names, arguments[1::2], strict=True)}
    device = values.get("device", "auto")
    if device not in ("auto", "cpu", "cuda"):
        refuse(f"attnscope-engine: --device is auto, cpu or cuda (was {device!r}). {USAGE}")
    model = Path(values["model"]) if "model" in values else None
    return msgspec.convert({"device": device, "model": model}, Options)


def refuse(sentence: str) -> NoReturn:
    """End with `sentence` on stderr and code 2."""
    sys.stderr.write(sentence + "\n")
    sys.exit(EXIT_USAGE)


def settle_process() -> None:
    """Make faults visible on stderr, leave Ctrl+C to the window, and be the first to go when memory ends."""
    faulthandler.enable()
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")


if __name__ == "__main__":
    main()

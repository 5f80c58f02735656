"""The engine's two pipes: requests in, replies out, and nothing else ever written between the replies."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable

from attnscope_engine.mailbox import Mailbox
from attnscope_engine.protocol import Cancel, Message, ProtocolFault, Receiver, Run, Shutdown, decode_request, frame

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_PROTOCOL = 65
EXIT_FAULT = 70
READ_BYTES = 1 << 16

EndProcess = Callable[[int], object]
"""`os._exit` in the engine: an engine that ends owes nobody a clean-up, and no thread may delay it."""


def take_stdio() -> tuple[int, int]:
    """Private copies of file descriptors 0 and 1, `(requests, replies)`.

    Afterwards fd 0 reads nothing and fd 1 leads to stderr, so that no library, in Python or below it, can read a request
    or write between two replies. To be called before any such library is imported.
    """
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(requests, os.O_BINARY)
        msvcrt.setmode(replies, os.O_BINARY)
    return requests, replies


class FrameWriter:
    """Writes whole frames. Only the main thread owns one; a reader that is slow makes it wait, never grow."""

    def __init__(self, fd: int, end_process: EndProcess = os._exit) -> None:
        self._fd = fd
        self._end_process = end_process

    def send(self, message: Message) -> None:
        """Write `message`; ends the process when nobody reads any more.

        Raises:
            ValueError: the message is larger than a frame may be.
        """
        rest = memoryview(frame(message))
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._end_process(EXIT_OK)


def listen(fd: int, mailbox: Mailbox) -> None:
    """Start the thread that runs `read_requests`."""
    threading.Thread(target=read_requests, args=(fd, mailbox), name="requests", daemon=True).start()


def read_requests(fd: int, mailbox: Mailbox, end_process: EndProcess = os._exit) -> None:
    """Feed `mailbox` until the pipe closes, then end the process, whatever the main thread is in the middle of.

    Runs in a thread of its own. `Shutdown` ends the process at once, with 0 as at the end of the pipe; bytes that are no
    request of ours end it with `EXIT_PROTOCOL`.
    """
    code = EXIT_FAULT
    try:
        _deliver(fd, mailbox)
        code = EXIT_OK
    except ProtocolFault as fault:
        sys.stderr.write(f"attnscope-engine: {fault}\n")
        code = EXIT_PROTOCOL
    except OSError:
        code = EXIT_OK
    except Exception:  # noqa: BLE001 a reader that died silently would leave an engine that nobody can stop
        traceback.print_exc()
    finally:
        end_process(code)


def _deliver(fd: int, mailbox: Mailbox) -> None:
    """Return at the end of the pipe or at `Shutdown`."""
    receiver = Receiver()
    while data := os.read(fd, READ_BYTES):
        for payload in receiver.feed(data):
            match decode_request(payload):
                case Run() as run:
                    mailbox.put(run)
                case Cancel(id=id_):
                    mailbox.cancel(id_)
                case Shutdown():
                    return

"""On a process's path, Python runs this before anything else: whoever asks for an address that is not this machine's fails, and
a file says who it was. Children inherit it.

The hook is told of what Python's own socket module does, and so of urllib, http and ssl. Qt's network module it would not see.
"""

import os
import sys
from pathlib import Path

LOG = os.environ["ATTNSCOPE_TEST_NETWORK_LOG"]
LOCAL = {"", "localhost", "127.0.0.1", "::1"}
WATCHED = {
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyaddr",
    "socket.gethostbyname",
    "socket.sendmsg",
    "socket.sendto",
}


def say(kind, words):
    with Path(LOG).open("a", encoding="utf-8") as file:
        file.write(f"{kind} {words}\n")


def place(event, arguments):
    """The host that an event is about, None where it names none: a path of a local socket, or one that is connected already."""
    target = arguments[0] if event.startswith("socket.get") else arguments[1]
    if isinstance(target, tuple):
        target = target[0]
        return target.decode() if isinstance(target, bytes) else str(target)
    if event.startswith("socket.get"):
        return target.decode() if isinstance(target, bytes) else str(target or "")
    return None


def watch(event, arguments):
    if event in WATCHED:
        host = place(event, arguments)
        if host is not None and host not in LOCAL:
            say("tried", f"{event} {host}")
            raise PermissionError(f"This test forbids the network: {event} {host}")


say("started", " ".join(sys.orig_argv[1:]).replace("\n", " "))
sys.addaudithook(watch)

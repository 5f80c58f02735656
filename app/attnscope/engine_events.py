"""What can happen to an engine, and what can be done about it: the words that the supervisor and its two owners share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["stopped", "waiting", "starting", "ready", "killing", "gave_up"]
ALIVE: frozenset[Phase] = frozenset({"starting", "ready", "killing"})
"""Phases in which there is a process."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Times in seconds."""

    delays: tuple[float, ...] = (0.0, 0.5, 2.0, 8.0)
    limit: int = 5
    window: float = 180.0
    stable: float = 60.0
    hello: float = 20.0
    frame: float = 3.0
    silent: float = 3.0
    end: float = 10.0
    """From kill to exit; a process that takes longer is held by its driver."""
    least_deadline: float = 2.0
    deadline_factor: float = 10.0
    unknown_deadline: float = 90.0
    """For a job whose time can not be predicted."""
    pause: float = 2.0
    """A gap between ticks that re-arms the time-outs."""


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Begin:
    """The person's program wants an engine."""


@dataclass(frozen=True, slots=True)
class Launched:
    """The process runs."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Its first frame has come, and speaks our protocol."""


@dataclass(frozen=True, slots=True)
class WrongProtocol:
    text: str
    """A sentence for the person."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Bytes have come: how many frames they complete, and whether another has begun."""

    frames: int
    partial: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A job was sent."""

    key: str
    what: str
    """As a notice names it: "Window, n = 65,536"."""
    expected_s: float | None = None
    urgency: int = 0
    """Of several jobs the engine works on the one with the smallest."""
    allowance_s: float = 0.0
    """For what happens once in an engine's life: compiling, importing."""


@dataclass(frozen=True, slots=True)
class Began:
    """The engine has told progress of this job: it is the one in work."""

    key: str


@dataclass(frozen=True, slots=True)
class Answered:
    """Result, refusal, failure or cancellation."""

    key: str


@dataclass(frozen=True, slots=True)
class Exited:
    code: int
    """Negative: the number of the signal that ended it."""
    tail: str = ""
    """Last line of what it wrote to stderr."""


@dataclass(frozen=True, slots=True)
class Fault:
    """It does what no engine of ours does."""

    text: str
    """Goes on from "The engine": "sent invalid data (…)"."""


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """A sticky failure: nothing that it says from now on is true."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """The computer slept."""


@dataclass(frozen=True, slots=True)
class UserRestart:
    """The person asked for a new engine."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes; a few times a second."""


Told = Begin | Launched | Hello | WrongProtocol | Heard | Asked | Began | Answered
Event = Told | Exited | Fault | DeviceLost | Suspended | UserRestart | Tick


# ---------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process after this many seconds. Replaces a start that has not been carried out."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process at once."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """The process does not end: listen to it no more."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Ask again for everything that is wanted."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Do not ask for this job again unless the person does."""

    key: str


@dataclass(frozen=True, slots=True)
class Notice:
    level: Literal["warn", "danger"]
    text: str
    actions: tuple[tuple[str, str], ...]
    """(button, action id)."""


@dataclass(frozen=True, slots=True)
class Status:
    """A passing line; empty clears it."""

    text: str


Action = Start | Kill | Abandon | Replay | SetAside | Notice | Status

SHOW_LOG = ("Show log", "show_log")
START_AGAIN = ("Start again", "restart_engine")
USE_CPU = ("Use the CPU", "use_cpu")

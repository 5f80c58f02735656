"""When the engine is started, killed, restarted or given up: a pure state machine, without Qt and without a clock.

`step(supervisor, event, now)` looks the phase and the event up in `_TABLE` and returns the next supervisor with the actions
that whoever owns the process carries out. What is not in the table changes nothing: an event may always come late.

Rules: one engine at a time; restarts after 0, 0.5, 2 and 8 s; after 5 falls in 3 minutes it stops and asks the person; 60 s
without a fall clears the count; the job that ended the engine twice is set aside. Time-outs have two stages, and a pause of
the whole window (sleep, a debugger) re-arms them, since then nobody listened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from attnscope.engine_events import (
    SHOW_LOG,
    START_AGAIN,
    USE_CPU,
    Abandon,
    Action,
    Answered,
    Asked,
    Began,
    Begin,
    DeviceLost,
    Event,
    Exited,
    Fault,
    Heard,
    Hello,
    Kill,
    Launched,
    Notice,
    Phase,
    Policy,
    Replay,
    SetAside,
    Start,
    Status,
    Suspended,
    Tick,
    UserRestart,
    WrongProtocol,
)


@dataclass(frozen=True, slots=True)
class Task:
    """A job that the engine has and has not answered."""

    asked: Asked
    at: float


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Everything known about the engine's life. Times are the caller's monotonic seconds."""

    policy: Policy = field(default_factory=Policy)
    phase: Phase = "stopped"
    since: float = 0.0
    """When the phase began."""
    heard_at: float = 0.0
    frame_at: float | None = None
    """When the first byte of an unfinished frame came."""
    ticked_at: float | None = None
    tasks: tuple[Task, ...] = ()
    """The one in work first, as far as is known."""
    falls: tuple[float, ...] = ()
    """When it fell, of the last minutes."""
    blamed: Mapping[str, int] = field(default_factory=dict)
    """How many engines each job ended."""
    fault: str = ""
    """Why it is being killed, going on from "The engine"."""
    then: Literal["count", "again", "give_up"] = "count"
    """What its end will mean."""
    story: str = ""
    """What to say when the next one is ready, up to "restarted in 0.9 s"."""
    ending: str = ""
    down_at: float = 0.0
    status: str = ""


Outcome = tuple[Supervisor, tuple[Action, ...]]


def step(supervisor: Supervisor, event: Event, now: float) -> Outcome:
    """The next supervisor, and what to do."""
    handler = _TABLE[supervisor.phase].get(type(event))
    return handler(supervisor, event, now) if handler else (supervisor, ())


def _to(s: Supervisor, phase: Phase, now: float, **changes: Any) -> Supervisor:
    return replace(s, phase=phase, since=now, heard_at=now, frame_at=None, **changes)


def _launch(s: Supervisor, _: Begin | UserRestart, now: float) -> Outcome:
    """A start that the person asked for: nothing is held against it."""
    return _to(s, "waiting", now, falls=(), blamed={}, story=""), (Start(0.0),)


def _launched(s: Supervisor, _: Launched, now: float) -> Outcome:
    return _to(s, "starting", now), ()


def _hello(s: Supervisor, _: Hello, now: float) -> Outcome:
    actions: tuple[Action, ...] = (Replay(),)
    if s.story:
        text = f"{s.story} in {_short(now - s.down_at)}. {s.ending}"
        actions = (Notice("warn", text, (SHOW_LOG,)), *actions)
    return _to(s, "ready", now, story="", tasks=()), actions


def _wrong_protocol(s: Supervisor, event: WrongProtocol, now: float) -> Outcome:
    notice = Notice("danger", event.text, (START_AGAIN, SHOW_LOG))
    return _to(s, "killing", now, then="give_up"), (Kill(), notice)


def _heard(s: Supervisor, event: Heard, now: float) -> Outcome:
    begun = now if event.frames or s.frame_at is None else s.frame_at
    s = replace(s, frame_at=begun if event.partial else None)
    if not event.frames:
        return s, ()
    actions = (Status(""),) if s.status else ()
    return replace(s, heard_at=now, status=""), actions


def _asked(s: Supervisor, event: Asked, now: float) -> Outcome:
    heard_at = s.heard_at if s.tasks else now
    tasks = sorted((*s.tasks, Task(event, now)), key=lambda task: task.asked.urgency)
    return replace(s, tasks=tuple(tasks), heard_at=heard_at), ()


def _began(s: Supervisor, event: Began, _: float) -> Outcome:
    first = [task for task in s.tasks if task.asked.key == event.key]
    return replace(s, tasks=(*first, *(task for task in s.tasks if task.asked.key != event.key))), ()


def _answered(s: Supervisor, event: Answered, _: float) -> Outcome:
    tasks = tuple(task for task in s.tasks if task.asked.key != event.key)
    blamed = {key: count for key, count in s.blamed.items() if key != event.key}
    return replace(s, tasks=tasks, blamed=blamed), ()


def _fault(s: Supervisor, event: Fault, now: float) -> Outcome:
    return _to(s, "killing", now, then="count", fault=event.text), (Kill(),)


def _device_lost(s: Supervisor, event: DeviceLost, now: float) -> Outcome:
    notice = Notice("danger", event.text, (("Try again", "try_again"), ("Report", "report")))
    s = replace(s, tasks=(), blamed={key: count for key, count in s.blamed.items() if key != event.key})
    return _to(s, "killing", now, then="count", fault="told"), (Kill(), SetAside(event.key), notice)


def _suspended(s: Supervisor, _: Suspended, now: float) -> Outcome:
    story, ending = "The computer slept; the engine restarted", "A measurement that spanned the sleep was discarded."
    return _to(s, "killing", now, then="again", story=story, ending=ending, down_at=now, tasks=()), (Kill(),)


def _user_restart(s: Supervisor, _: UserRestart, now: float) -> Outcome:
    return _to(s, "killing", now, then="again", falls=(), blamed={}, story="", tasks=()), (Kill(),)


def _fell(s: Supervisor, event: Exited, now: float) -> Outcome:
    """It ended, and nobody had asked it to."""
    actions: tuple[Action, ...] = (Status(""),) if s.status else ()
    blamed = dict(s.blamed)
    if s.tasks:
        key = s.tasks[0].asked.key
        blamed[key] = blamed.get(key, 0) + 1
        if blamed[key] >= 2:
            actions = (*actions, SetAside(key))
            del blamed[key]
    falls = (*(fall for fall in s.falls if now - fall < s.policy.window), now)
    story = "" if s.fault == "told" else _story(s, event)
    s = replace(s, falls=falls, blamed=blamed, tasks=(), fault="", status="", story=story, down_at=now)
    s = replace(s, ending="Nothing measured is lost.")
    if len(falls) >= s.policy.limit:
        said = f" It said: {event.tail}" if event.tail else ""
        count = {5: "five"}.get(s.policy.limit, str(s.policy.limit))
        text = f"The engine stopped {count} times in {s.policy.window / 60:.0f} minutes.{said}"
        return _to(s, "gave_up", now, story=""), (*actions, Notice("danger", text, (START_AGAIN, USE_CPU, SHOW_LOG)))
    delay = s.policy.delays[min(len(falls), len(s.policy.delays)) - 1]
    return _to(s, "waiting", now), (*actions, Start(delay))


def _ended(s: Supervisor, event: Exited, now: float) -> Outcome:
    """It ended because it was killed."""
    if s.then == "count":
        return _fell(s, event, now)
    if s.then == "give_up":
        return _to(s, "gave_up", now, then="count", tasks=()), ()
    return _to(s, "waiting", now, then="count"), (Start(0.0),)


def _tick_starting(s: Supervisor, _: Tick, now: float) -> Outcome:
    s, paused = _rearmed(s, now)
    if not paused and now - s.since > s.policy.hello:
        return _fault(s, Fault(f"did not answer within {s.policy.hello:.0f} s of its start"), now)
    return s, ()


def _tick_ready(s: Supervisor, _: Tick, now: float) -> Outcome:
    if s.falls and now - s.since >= s.policy.stable:
        s = replace(s, falls=())
    s, paused = _rearmed(s, now)
    if paused:
        return s, ()
    if s.frame_at is not None and now - s.frame_at > s.policy.frame:
        return _fault(s, Fault("stopped in the middle of a message"), now)
    if not s.tasks:
        return s, ()
    silent = now - s.heard_at
    if silent > max(deadline(s.policy, task) for task in s.tasks):
        return _fault(s, Fault(f"was silent for {silent:.0f} s"), now)
    text = _working(s.tasks[0], now) if silent >= s.policy.silent else ""
    if text == s.status:
        return s, ()
    return replace(s, status=text), (Status(text),)


def _tick_killing(s: Supervisor, _: Tick, now: float) -> Outcome:
    s, paused = _rearmed(s, now)
    if paused or now - s.since <= s.policy.end:
        return s, ()
    text = f"The engine is still there {s.policy.end:.0f} s after it was killed: its driver holds it until the computer restarts."
    return _to(s, "gave_up", now, then="count", tasks=()), (Abandon(), Notice("danger", text, (USE_CPU, SHOW_LOG)))


def _rearmed(s: Supervisor, now: float) -> tuple[Supervisor, bool]:
    """Whether nobody listened since the last tick; then every time-out begins anew."""
    paused = s.ticked_at is not None and now - s.ticked_at > s.policy.pause
    if not paused:
        return replace(s, ticked_at=now), False
    frame_at = now if s.frame_at is not None else None
    since = s.since if s.phase == "ready" else now
    return replace(s, ticked_at=now, heard_at=now, since=since, frame_at=frame_at), True


def deadline(policy: Policy, task: Task) -> float:
    """Seconds of silence after which this job's engine is taken for hung."""
    asked = task.asked
    known = None if asked.expected_s is None else max(policy.least_deadline, policy.deadline_factor * asked.expected_s)
    return (policy.unknown_deadline if known is None else known) + asked.allowance_s


def _working(task: Task, now: float) -> str:
    elapsed, expected = now - task.at, task.asked.expected_s
    if not expected or expected < 1:
        return f"working for {elapsed:.0f} s"
    return f"working, {min(99, round(100 * elapsed / expected))} % of about {expected:.0f} s"


def _story(s: Supervisor, event: Exited) -> str:
    said = s.fault or "stopped"
    if s.tasks:
        why = s.tasks[0].asked.what
    elif s.fault:
        return f"The engine {said} and restarted"
    else:
        why = f"signal {-event.code}" if event.code < 0 else f"exit code {event.code}"
    return f"The engine {said} ({why}) and restarted"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


Handler = Callable[[Supervisor, Any, float], Outcome]

_ALIVE: dict[type, Handler] = {Exited: _fell, Fault: _fault, Suspended: _suspended, UserRestart: _user_restart}
_TABLE: dict[Phase, dict[type, Handler]] = {
    "stopped": {Begin: _launch, UserRestart: _launch},
    "waiting": {Launched: _launched, Exited: _fell, UserRestart: _launch},
    "starting": {**_ALIVE, Hello: _hello, WrongProtocol: _wrong_protocol, Heard: _heard, Tick: _tick_starting},
    "ready": {
        **_ALIVE,
        Heard: _heard,
        Asked: _asked,
        Began: _began,
        Answered: _answered,
        DeviceLost: _device_lost,
        Tick: _tick_ready,
    },
    "killing": {Exited: _ended, Tick: _tick_killing, UserRestart: _user_restart},
    "gave_up": {Begin: _launch, UserRestart: _launch},
}

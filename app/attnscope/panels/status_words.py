"""The words of the status bar. Pure: no Qt, no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass

from attnscope_engine import catalogue
from attnscope_engine.protocol import DeviceFacts

from attnscope.quantities import count
from attnscope.state import Live, key_parts

SHOW_AFTER_S = 0.3
SLOW_AFTER_S = 3.0
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Work:
    """What the right end of the bar shows of the work in progress."""

    text: str
    done: float
    left: str
    """Time left, m:ss; empty while nothing can be said."""
    stop: str
    """Word on the button."""


def phase_words(live: Live) -> tuple[str, str]:
    """(words, token of the dot's colour)."""
    match live.phase:
        case "starting":
            return "starting · predictions are ready", "accent"
        case "restarting":
            return "starting again · predictions are ready", "warn"
        case "measuring":
            return "measuring", "accent"
        case "ready":
            device = live.device
            on_cpu = device is not None and device.kind == "cpu"
            return (f"ready on the CPU ({device.threads} threads)" if device and on_cpu else "ready"), "ok"
        case "gave_up":
            return "the engine stopped five times", "danger"
        case _:
            return "the engine is stopped", "danger"


def device_words(device: DeviceFacts | None) -> tuple[str, str]:
    """(name, architecture and driver, or the library that computes)."""
    if device is None:
        return "", ""
    parts = [device.arch, f"driver {device.driver.split('.')[0]}" if device.driver else ""]
    return device.name, " · ".join(part for part in parts if part) or device.library


def memory_words(live: Live) -> tuple[str, float]:
    """("1.4 of 79.6 GiB", share in use); empty while not known."""
    vitals = live.vitals
    if vitals is None or not vitals.total_bytes:
        return "", 0.0
    used = vitals.total_bytes - vitals.free_bytes
    return f"{used / _GIB:.1f} of {vitals.total_bytes / _GIB:.1f} GiB", min(max(used / vitals.total_bytes, 0.0), 1.0)


def clock_words(live: Live) -> str:
    return f"{count(live.vitals.clock_mhz)} MHz" if live.vitals and live.vitals.clock_mhz else ""


def work(live: Live, now: float, queue_since: float) -> Work | None:
    """What is in progress, None within the first 0.3 s. `now` and `queue_since` are monotonic seconds."""
    if live.queue:
        return _queue(live, now - queue_since) if now - queue_since >= SHOW_AFTER_S else None
    busy = live.busy
    if busy is None or now - busy.since < SHOW_AFTER_S:
        return None
    elapsed = now - busy.since
    total = elapsed / busy.done if busy.done > 0.01 else 0.0
    left = minutes(total - elapsed) if total else ""
    if elapsed < SLOW_AFTER_S or not total:
        return Work(busy.text, busy.done, left, "Cancel")
    return Work(f"working, {busy.done:.0%} of about {total:.0f} s".replace("%", " %"), busy.done, left, "Stop")


def minutes(seconds: float) -> str:
    """0:01, 12:30."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def _queue(live: Live, elapsed: float) -> Work:
    total = max(live.queue_total, len(live.queue))
    finished = total - len(live.queue)
    _, workload, choice = key_parts(live.queue[0])
    title = catalogue.find(choice.variant).title
    share = (finished + (live.busy.done if live.busy else 0.0)) / total
    left = minutes(elapsed / share - elapsed) if share > 0.02 else ""
    return Work(f"{title}, n = {count(workload.seq_len)} · {finished + 1} of {total}", share, left, "Cancel")

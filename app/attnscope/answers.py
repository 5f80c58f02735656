"""What an answer of the engine changes in the live state. Pure."""

from __future__ import annotations

from attnscope_engine.protocol import Ceilings, FileSource, MapDrawn, Measure, Measured

from attnscope.state import Answer, Live, Slot, measurement_key


def settled(live: Live, slot: Slot, answer: Answer) -> dict[str, object]:
    """Fields of `live` that change when `answer` arrives in `slot`."""
    changes: dict[str, object] = {"answers": {**live.answers, slot: answer}}
    match answer.payload:
        case Ceilings() as ceilings:
            changes["ceilings"] = ceilings
        case MapDrawn(job=drawn, seq_len=seq_len) if isinstance(drawn.source, FileSource):
            changes["file_seq_len"] = {**live.file_seq_len, drawn.source.path: seq_len}
    if isinstance(answer.job, Measure) and live.device is not None:
        key = measurement_key(live.device.key, answer.job.workload, answer.job.choice)
        if isinstance(answer.payload, Measured):
            changes["measurements"] = {**live.measurements, key: answer.payload}
            changes["set_aside"] = live.set_aside - {key}
        else:
            changes["set_aside"] = live.set_aside | {key}
        changes |= off_the_queue(live, key)
    return changes


def off_the_queue(live: Live, key: str) -> dict[str, object]:
    """A point of the list is done, whatever came of it."""
    if key not in live.queue:
        return {}
    queue = tuple(other for other in live.queue if other != key)
    if queue:
        return {"queue": queue}
    total = live.queue_total
    return {"queue": (), "queue_total": 0, "status": f"{total:,} point{'s' if total != 1 else ''} done."}

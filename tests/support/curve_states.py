"""Stores with a device, ceilings and measured points, for tests of the Scaling and Memory pages."""

from __future__ import annotations

from typing import Any

import msgspec
from app_states import READY, key_of
from attnscope import predictions
from attnscope.resolve import with_changes
from attnscope.state import Live, Settings, choice_of, effective_workload, one_call
from attnscope.store import Store
from attnscope_engine import protocol as p

CHECKED = ("softmax_tiled", "softmax_naive", "sliding_window", "linear")


def ready_store(live: Live = READY, **changes: Any) -> Store:
    """A store on the Scaling page with four variants checked, nothing measured."""
    wanted: dict[str, Any] = {"page": "scaling", "checked": CHECKED, "params": {}, "sweep_low": 256, "sweep_high": 8192} | changes
    return Store(with_changes(Settings(), **wanted), live)


def row(store: Store, variant: str, seq_len: int, slower: float = 1.1, **fields: Any) -> p.Measured:
    """A point at the store's settings, `slower` times its prediction, with 2 % between p20 and p80."""
    state = store.state
    workload = msgspec.structs.replace(one_call(effective_workload(state)), seq_len=seq_len)
    choice = choice_of(state.settings, variant)
    predicted, _ = predictions.predict_call(state, workload, choice)
    time_s = (predicted or 1e-3) * slower
    held = predictions.curve(state, variant, (seq_len,))[1][0]
    values: dict[str, Any] = {
        "time_s": time_s,
        "p20_s": time_s * 0.99,
        "p80_s": time_s * 1.01,
        "samples": 31,
        "peak_bytes": round(held * 1.02),
        "taken_at": 1000.0 + seq_len,
        "clock_mhz": 1755,
        "provenance": {"method": "CUDA graph replays over rotated inputs"},
    }
    assert state.live.device is not None
    return p.Measured(workload, choice, state.live.device.key, **(values | fields))


def put(store: Store, *rows: p.Measured) -> None:
    """As when they come from the engine."""
    store.update_live(measurements={**store.state.live.measurements, **{key_of(one): one for one in rows}})


def measured_store(live: Live = READY, low: int = 8, high: int = 13, **changes: Any) -> Store:
    """With a point of every checked variant at each power of two that fits."""
    store = ready_store(live, **changes)
    fitting = [
        row(store, name, 1 << power)
        for name in store.state.settings.checked
        for power in range(low, high + 1)
        if 1 << power <= predictions.wall(store.state, name)
    ]
    put(store, *fitting)
    return store

"""How numbers were had, in words."""

from __future__ import annotations

import time
from datetime import datetime

import msgspec
from attnscope.provenance import formula_text, how_measured, point_text, when
from attnscope.quantities import NARROW_SPACE
from attnscope_engine.protocol import Ceilings
from curve_states import ready_store, row


def plain(text: str) -> str:
    return text.replace(NARROW_SPACE, " ")


def test_that_a_point_tells_time_spread_repeats_clock_and_when() -> None:
    store = ready_store()
    noon = datetime(2026, 3, 4, 14, 2).timestamp()
    point = row(store, "softmax_tiled", 1024, time_s=1.65e-3, p20_s=1.64e-3, p80_s=1.66e-3, taken_at=noon)
    assert plain(point_text(point, noon + 60)) == "1.65 ms, p20–p80 1.64–1.66, 31 replays, 1,755 MHz, today 14:02"
    doubtful = msgspec.structs.replace(point, noise="only 3 repeats", samples=3, clock_mhz=0, provenance={})
    assert plain(point_text(doubtful, noon + 60)).endswith("3 runs, today 14:02; uncertain: only 3 repeats")


def test_that_a_spread_over_two_units_names_both() -> None:
    store = ready_store()
    point = row(store, "linear", 1024, time_s=9.9e-4, p20_s=9.8e-4, p80_s=1.02e-3)
    assert "p20–p80 980 µs–1.02 ms" in plain(point_text(point, time.time()))


def test_that_dates_grow_shorter_with_distance() -> None:
    now = datetime(2026, 3, 4, 14, 2).timestamp()
    assert when(datetime(2026, 3, 4, 9, 5).timestamp(), now) == "today 09:05"
    assert when(datetime(2026, 2, 21, 9, 5).timestamp(), now) == "21 Feb 09:05"
    assert when(datetime(2025, 2, 21, 9, 5).timestamp(), now) == "21 Feb 2025"


def test_that_the_method_counts_its_points_and_its_doubts() -> None:
    store = ready_store()
    rows = [row(store, "linear", 256, samples=7), row(store, "linear", 512, samples=60, noise="only 3 repeats", clock_mhz=1410)]
    text = how_measured(rows)
    assert text.startswith("Timing: CUDA graph replays over rotated inputs. 2 points, 7 to 60 replays each")
    assert "Clock 1,410 to 1,755 MHz." in text
    assert text.endswith("1 point is uncertain (≈).")
    assert how_measured([]) == ""


def test_that_the_formula_tells_this_devices_ceilings() -> None:
    text = plain(formula_text(Ceilings("d", {"bf16": 7.47e14}, 2.98e12, 4e12, 5e-6, 0.0), "bf16"))
    assert "747 TFLOP/s" in text
    assert "2.98 TB/s" in text
    assert "5.00 µs a launch" in text
    assert "the engine is measuring them" in formula_text(None, "bf16")

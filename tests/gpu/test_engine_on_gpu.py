"""Of the engine's process on a real GPU: it greets with the card, measures on it, and gives it back whole when it is killed."""

import time

import pytest
from attnscope_engine.catalogue import variants
from attnscope_engine.devices.pick import why_no_gpu
from attnscope_engine.protocol import Cancel, Cancelled, Choice, Hello, Measure, Refused, Result, Run, Vitals, Workload
from engine_at_hand import REAL, EngineAtHand

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu() or "a GPU is here")]
COMMAND = [*REAL[:3], "--device", "cuda"]
TILED = Choice("softmax_tiled")
PROCESSOR_ONLY = {"nsa"}


def measure(id_: int, choice: Choice, **fields) -> Run:
    return Run(id_, "measure", Measure(Workload(**fields), choice, budget_s=0.2))


def vitals(engine: EngineAtHand) -> Vitals:
    return engine.until(lambda reply: isinstance(reply, Vitals), 60)


def test_that_the_engine_greets_with_the_card_and_measures_every_variant_on_it():
    with EngineAtHand(COMMAND) as engine:
        hello = engine.until(lambda reply: isinstance(reply, Hello), 60)
        assert hello.device.kind == "cuda"
        assert hello.why_no_gpu == ""
        assert hello.device.arch.startswith("sm_")
        for id_, name in enumerate(variants(), 1):
            engine.send(measure(id_, Choice(name), seq_len=2048, dtype="fp16"))
            result = engine.until(lambda reply, id_=id_: isinstance(reply, Result | Refused) and reply.id == id_, 120)
            if name in PROCESSOR_ONLY:
                assert "NSA" in result.refusal.text
                continue
            assert isinstance(result, Result), result.refusal
            assert result.payload.device == hello.device.key
            assert 0 < result.payload.time_s < 1


def test_that_what_does_not_fit_the_card_is_refused_and_the_engine_goes_on():
    with EngineAtHand(COMMAND) as engine:
        engine.send(measure(1, Choice("softmax_naive"), seq_len=1 << 20, num_heads=64, num_kv_heads=64, dtype="fp16"))
        refused = engine.until(lambda reply: isinstance(reply, Refused), 60).refusal
        assert refused.needed_bytes > refused.free_bytes > 0
        engine.send(measure(2, Choice("softmax_naive"), seq_len=1024, dtype="fp16"))
        assert engine.until(lambda reply: isinstance(reply, Result), 60).id == 2


def test_that_an_engine_killed_at_work_leaves_the_card_empty_for_the_next():
    """Hello in a second or two the next time, with as much memory free as before."""
    with EngineAtHand(COMMAND) as engine:
        free = vitals(engine).free_bytes
    with EngineAtHand(COMMAND) as engine:
        engine.send(measure(1, TILED, seq_len=1 << 18, num_heads=16, num_kv_heads=16, dtype="fp16"))
        time.sleep(4)
        engine.process.kill()
        engine.ended()
    began = time.monotonic()
    with EngineAtHand(COMMAND) as engine:
        assert vitals(engine).free_bytes >= free - (64 << 20)
        print(f"ready again after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 6
        engine.send(measure(2, TILED, seq_len=1024, dtype="fp16"))
        engine.until(lambda reply: isinstance(reply, Result), 60)


def test_that_a_long_measurement_is_cancelled_between_launches():
    with EngineAtHand(COMMAND) as engine:
        engine.send(measure(1, TILED, seq_len=1 << 18, num_heads=16, num_kv_heads=16, dtype="fp16"))
        time.sleep(4)
        began = time.monotonic()
        engine.send(Cancel(1))
        reply = engine.until(lambda reply: isinstance(reply, Cancelled | Result), 60)
        print(f"{type(reply).__name__} after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 10

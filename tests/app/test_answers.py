"""Of answers: what one changes in the live state."""

import msgspec
from app_states import CEILINGS, READY, key_of, measured
from attnscope.answers import off_the_queue, settled
from attnscope.state import Answer
from attnscope_engine import protocol as p

POINT = measured("linear", 256)
KEY = key_of(POINT)
JOB = p.Measure(POINT.workload, POINT.choice)
QUEUED = msgspec.structs.replace(READY, queue=(KEY, "other"), queue_total=5, set_aside=frozenset({KEY}))


def test_that_a_measured_point_is_filed_taken_off_the_list_and_no_longer_set_aside():
    changes = settled(QUEUED, "measure", Answer(JOB, POINT))
    assert changes["measurements"] == {KEY: POINT}
    assert changes["queue"] == ("other",)
    assert changes["set_aside"] == frozenset()


def test_that_a_point_that_could_not_be_measured_is_set_aside_and_the_list_goes_on():
    for answer in (Answer(JOB, refusal=p.Refusal("memory", "no")), Answer(JOB, failure=p.Failure(1, "device", "no"))):
        changes = settled(msgspec.structs.replace(QUEUED, set_aside=frozenset()), "measure", answer)
        assert changes["set_aside"] == {KEY}
        assert changes["queue"] == ("other",)
        assert "measurements" not in changes


def test_that_the_last_point_ends_the_list_with_a_word():
    live = msgspec.structs.replace(READY, queue=(KEY,), queue_total=1)
    assert off_the_queue(live, KEY) == {"queue": (), "queue_total": 0, "status": "1 point done."}
    assert off_the_queue(live, "not on it") == {}


def test_that_other_slots_keep_their_answers():
    live = msgspec.structs.replace(READY, answers={"text": Answer(p.ReadText(p.TextSource("x")))})
    changes = settled(live, "calibrate", Answer(p.Calibrate(), CEILINGS))
    assert set(changes["answers"]) == {"text", "calibrate"}
    assert changes["ceilings"] == CEILINGS


def test_that_the_length_of_a_file_is_learned_from_its_map():
    job = p.DrawMap(p.FileSource("a.npz"), POINT.workload, 0, 0, (POINT.choice,), (0, 1), (0, 1))
    assert settled(READY, "map", Answer(job, p.MapDrawn(job, 77, ())))["file_seq_len"] == {"a.npz": 77}

"""Of jobs: their names in sentences, their identity, how long they should take, and that nothing impossible is sent."""

import msgspec
import pytest
from app_states import READY, key_of, measured, ready_state
from attnscope import jobs
from attnscope.state import Live, Settings, State, choice_of
from attnscope_engine import protocol as p

SOURCE = p.SyntheticSource()
WORKLOAD = Settings().workload
MEASURE = p.Measure(msgspec.structs.replace(WORKLOAD, seq_len=65536), choice_of(Settings(), "sliding_window"))
PANELS = (choice_of(Settings(), "softmax_tiled"), choice_of(Settings(), "chunked"))
ALL = [
    (MEASURE, "Window, n = 65,536"),
    (p.ReadText(p.TextSource("x")), "reading the text"),
    (p.DrawMap(SOURCE, WORKLOAD, 0, 0, PANELS, (0, 9), (0, 9)), "map of Flash and Chunked"),
    (p.ReadRow(SOURCE, WORKLOAD, 0, 0, PANELS, 1234, 0), "row 1,234 of the map"),
    (p.DrawHeads(SOURCE, WORKLOAD, PANELS[0]), "all heads"),
    (p.Calibrate(), "calibration"),
]


@pytest.mark.parametrize(("job", "name"), ALL)
def test_that_every_job_has_a_name_a_slot_and_an_identity_of_its_own(job, name):
    assert jobs.describe(job) == name
    assert jobs.SLOTS[type(job)] in jobs.URGENCY
    assert [other for other, _ in ALL if jobs.job_key("fake", other) == jobs.job_key("fake", job)] == [job]


def test_that_the_key_of_a_measurement_is_the_one_it_is_filed_under():
    point = measured()
    assert jobs.job_key("fake", p.Measure(point.workload, point.choice)) == key_of(point)


def test_that_only_what_a_formula_predicts_is_expected_to_take_a_time():
    state = ready_state()
    assert all(jobs.expected_s(state, job) is None for job, _ in ALL[1:])
    one_call, in_all = 0.0, jobs.expected_s(state, MEASURE)
    one_call, _ = jobs.predict_call(state, MEASURE.workload, MEASURE.choice)
    assert in_all > jobs.CALLS * one_call
    assert jobs.expected_s(State(live=Live()), MEASURE) is None


def test_that_the_first_of_a_kind_is_given_time_to_import_and_compile():
    assert jobs.asked(ready_state(READY), "measure", MEASURE, first=True).allowance_s == jobs.FIRST_TIME_S
    assert jobs.asked(ready_state(READY), "measure", MEASURE, first=False).allowance_s == 0
    assert jobs.kind_of(MEASURE) != jobs.kind_of(p.Measure(WORKLOAD, PANELS[0]))


@pytest.mark.parametrize(
    "job",
    [
        p.DrawHeads(SOURCE, WORKLOAD, PANELS[0], size=9999),
        p.DrawMap(SOURCE, WORKLOAD, -1, 0, PANELS, (0, 9), (0, 9)),
        p.ReadText(p.TextSource("half a pair \ud83d")),
        p.DrawMap(SOURCE, WORKLOAD, 0, 0, PANELS, (0, 2**70), (0, 9)),
        p.Measure(msgspec.structs.replace(WORKLOAD, seq_len=0), PANELS[0]),
    ],
)
def test_that_what_the_engine_would_take_for_a_fault_is_not_sent(job):
    with pytest.raises(ValueError):
        jobs.checked_frame(p.Run(1, "map", job))

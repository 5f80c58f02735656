"""Of the supervisor: whatever happens in whatever order, one engine at most, restarts by the rule, and an end that is said."""

from dataclasses import replace

import pytest
from attnscope.engine_events import (
    ALIVE,
    Abandon,
    Answered,
    Asked,
    Began,
    Begin,
    DeviceLost,
    Exited,
    Fault,
    Heard,
    Hello,
    Kill,
    Launched,
    Notice,
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
from attnscope.supervisor import Supervisor, step
from hypothesis import given, settings
from hypothesis import strategies as st

POLICY = Policy()


class Life:
    """A supervisor with a clock, and what it has said."""

    def __init__(self) -> None:
        self.supervisor, self.now, self.said = Supervisor(), 1000.0, []

    def tell(self, *events, after: float = 0.0):
        self.now += after
        actions = []
        for event in events:
            self.supervisor, new = step(self.supervisor, event, self.now)
            actions += new
        self.said += actions
        return actions

    def wait(self, seconds: float, tick: float = 0.2):
        """Time passes, with the ticks of a window that lives."""
        actions = []
        for _ in range(round(seconds / tick)):
            actions += self.tell(Tick(), after=tick)
        return actions

    def ready(self):
        self.tell(Begin(), Launched(), Hello())
        return self

    @property
    def phase(self):
        return self.supervisor.phase


def notices(actions):
    return [action.text for action in actions if isinstance(action, Notice)]


ASKED = Asked("key", "Window, n = 65,536", expected_s=0.1)


def test_that_it_starts_at_once_and_asks_again_when_ready():
    life = Life()
    assert life.tell(Begin()) == [Start(0.0)]
    assert life.tell(Launched(), Hello()) == [Replay()]
    assert life.phase == "ready"


def test_that_a_fall_is_told_with_what_it_was_doing_and_how_long_it_took():
    life = Life().ready()
    life.tell(ASKED)
    assert life.tell(Exited(-9)) == [Start(0.0)]
    actions = life.tell(Launched(), Hello(), after=0.9)
    assert notices(actions) == ["The engine stopped (Window, n = 65,536) and restarted in 0.9 s. Nothing measured is lost."]
    assert actions[-1] == Replay()


@pytest.mark.parametrize(("code", "why"), [(-9, "signal 9"), (3, "exit code 3")])
def test_that_a_fall_while_idle_says_how_it_ended(code, why):
    life = Life().ready()
    life.tell(Exited(code))
    assert f"The engine stopped ({why}) and restarted" in notices(life.tell(Launched(), Hello()))[0]


def test_that_restarts_wait_0_then_half_then_2_then_8_seconds_and_the_fifth_fall_gives_up():
    life = Life()
    life.tell(Begin())
    for _ in range(4):
        life.tell(Launched(), Hello(), Exited(1, "no memory"))
    starts = [action.after_s for action in life.said if isinstance(action, Start)][1:]
    assert starts == [0.0, 0.5, 2.0, 8.0]
    actions = life.tell(Launched(), Exited(1, "no memory"))
    assert life.phase == "gave_up"
    (notice,) = [action for action in actions if isinstance(action, Notice)]
    assert notice.text == "The engine stopped five times in 3 minutes. It said: no memory"
    assert [button for button, _ in notice.actions] == ["Start again", "Use the CPU", "Show log"]


def test_that_falls_longer_ago_than_three_minutes_do_not_count():
    life = Life()
    life.tell(Begin())
    for _ in range(20):
        life.tell(Launched(), Hello())
        life.wait(50)  # less than what clears the count
        life.tell(Exited(1))
    assert life.phase == "waiting"


def test_that_a_minute_without_a_fall_clears_the_count():
    life = Life()
    life.tell(Begin())
    for _ in range(4):
        life.tell(Launched(), Hello(), Exited(1))
    life.tell(Launched(), Hello())
    life.wait(61)
    assert Start(0.0) in life.tell(Exited(1))


def test_that_starting_again_by_hand_begins_with_a_clean_count():
    life = Life()
    life.tell(Begin())
    for _ in range(5):
        life.tell(Launched(), Exited(1))
    assert life.phase == "gave_up"
    assert life.tell(UserRestart()) == [Start(0.0)]
    assert life.tell(Launched(), Exited(1)) == [Start(0.0)]


def test_that_the_job_that_ended_it_twice_is_set_aside_and_an_innocent_one_is_not():
    life = Life().ready()
    life.tell(Asked("innocent", "x", urgency=5), Asked("key", "y", urgency=2))
    assert SetAside("key") not in life.tell(Exited(-11))
    life.tell(Launched(), Hello(), Asked("innocent", "x", urgency=5), Asked("key", "y", urgency=2))
    assert SetAside("key") in life.tell(Exited(-11))
    assert SetAside("innocent") not in life.said


def test_that_the_job_that_told_progress_is_the_one_in_work():
    life = Life().ready()
    life.tell(Asked("first", "x", urgency=0), Asked("in work", "y", urgency=5), Began("in work"), Exited(-9))
    assert life.supervisor.blamed == {"in work": 1}


def test_that_an_answer_clears_a_jobs_name():
    life = Life().ready()
    life.tell(ASKED, Exited(-9), Launched(), Hello(), ASKED, Answered("key"), ASKED)
    assert SetAside("key") not in life.tell(Exited(-9))


def test_that_a_silent_engine_is_spoken_of_after_3_s_and_killed_past_its_deadline():
    life = Life().ready()
    life.tell(Asked("key", "Flash, n = 1,048,576", expected_s=26.0))
    assert life.wait(2.8) == []
    texts = [action.text for action in life.wait(1.0) if isinstance(action, Status)]
    assert texts
    assert texts[0].startswith("working, 1")
    assert texts[0].endswith(" % of about 26 s")
    assert Kill() not in life.wait(250)
    assert Kill() in life.wait(10)
    life.tell(Exited(-9))
    told = notices(life.tell(Launched(), Hello(), after=0.5))
    assert told[0].startswith("The engine was silent for 260 s (Flash, n = 1,048,576) and restarted in ")


def test_that_the_deadline_is_two_seconds_at_the_least_and_longer_the_first_time():
    life = Life().ready()
    life.tell(Asked("key", "x", expected_s=0.001))
    assert Kill() not in life.wait(1.8)
    assert Kill() in life.wait(0.6)
    life = Life().ready()
    life.tell(Asked("key", "x", expected_s=0.001, allowance_s=30))
    assert Kill() not in life.wait(31.8)
    assert Kill() in life.wait(1)


def test_that_every_word_of_the_engine_puts_the_deadline_off_and_clears_the_line():
    life = Life().ready()
    life.tell(Asked("key", "x", expected_s=0.3))
    for _ in range(10):
        life.wait(2.8)
        life.tell(Heard(1, False))
    assert Kill() not in life.said
    life = Life().ready()
    life.tell(Asked("key", "x", expected_s=5.0))
    life.wait(4)
    assert life.tell(Heard(1, False)) == [Status("")]


def test_that_an_idle_engine_may_be_silent():
    life = Life().ready()
    assert life.wait(500) == []


def test_that_half_a_message_is_a_fault_after_3_s():
    life = Life().ready()
    life.tell(Heard(0, True))
    assert life.wait(2.8) == []
    assert Kill() in life.wait(0.6)


def test_that_whole_messages_put_off_the_end_of_the_next_one():
    life = Life().ready()
    for _ in range(10):
        life.tell(Heard(1, True))
        assert life.wait(2.5) == []


def test_that_no_hello_within_20_s_is_a_fault():
    life = Life()
    life.tell(Begin(), Launched())
    assert life.wait(19.8) == []
    assert Kill() in life.wait(0.6)
    life.tell(Exited(-9))
    assert "did not answer within 20 s of its start" in notices(life.tell(Launched(), Hello()))[0]


def test_that_a_window_that_was_stopped_itself_blames_nobody():
    """A debugger, a stopped process, a sleep that no clock told of: all time-outs begin anew."""
    life = Life().ready()
    life.tell(ASKED, Heard(0, True))
    life.tell(Tick())
    assert life.tell(Tick(), after=3600) == []
    assert life.wait(0.8) == []
    life.tell(Heard(1, False), Answered("key"))
    assert life.phase == "ready"


def test_that_another_protocol_is_a_sentence_and_no_restart():
    life = Life()
    life.tell(Begin(), Launched())
    actions = life.tell(WrongProtocol("The engine speaks protocol 9."))
    assert actions[0] == Kill()
    assert notices(actions) == ["The engine speaks protocol 9."]
    assert life.tell(Exited(-9)) == []
    assert life.phase == "gave_up"
    assert life.wait(600) == []


def test_that_a_lost_device_is_told_set_aside_and_restarted_without_a_second_notice():
    life = Life().ready()
    life.tell(ASKED)
    actions = life.tell(DeviceLost("key", "GPU fault in Window at n = 65,536 (code 700). This setting is set aside."))
    assert actions[:2] == [Kill(), SetAside("key")]
    assert actions[2].actions == (("Try again", "try_again"), ("Report", "report"))
    assert life.tell(Exited(70)) == [Start(0.0)]
    assert notices(life.tell(Launched(), Hello())) == []


def test_that_a_sleep_restarts_the_engine_and_counts_as_no_fall():
    life = Life().ready()
    for _ in range(10):
        life.tell(ASKED)
        assert life.tell(Suspended()) == [Kill()]
        assert life.tell(Exited(-9)) == [Start(0.0)]
        told = notices(life.tell(Launched(), Hello(), after=1.2))
        assert told == ["The computer slept; the engine restarted in 1.2 s. A measurement that spanned the sleep was discarded."]
    assert life.supervisor.blamed == {}


def test_that_a_process_that_does_not_end_is_abandoned_and_said():
    life = Life().ready()
    life.tell(ASKED, UserRestart())
    actions = life.wait(10.4)
    assert Abandon() in actions
    assert "still there 10 s after it was killed" in notices(actions)[0]
    assert life.phase == "gave_up"
    assert life.tell(UserRestart()) == [Start(0.0)]


def test_that_restarting_by_hand_while_waiting_does_not_wait():
    life = Life().ready()
    for _ in range(3):
        life.tell(Exited(1), Launched(), Hello())
    life.tell(Exited(1))
    assert life.tell(UserRestart()) == [Start(0.0)]


# ---------------------------------------------------------------- any order

KEYS = st.sampled_from(["a", "b", "c"])
EVENTS = st.one_of(
    st.just(Begin()),
    st.just(Launched()),
    st.just(Hello()),
    st.builds(WrongProtocol, st.just("The engine speaks protocol 2.")),
    st.builds(Heard, st.integers(0, 3), st.booleans()),
    st.builds(Asked, KEYS, st.just("x"), st.one_of(st.none(), st.floats(0, 100)), st.integers(0, 5), st.floats(0, 30)),
    st.builds(Began, KEYS),
    st.builds(Answered, KEYS),
    st.builds(Exited, st.integers(-15, 255), st.sampled_from(["", "boom"])),
    st.builds(Fault, st.just("sent invalid data")),
    st.builds(DeviceLost, KEYS, st.just("GPU fault.")),
    st.just(Suspended()),
    st.just(UserRestart()),
    st.just(Tick()),
)
SCRIPT = st.lists(st.tuples(EVENTS, st.one_of(st.floats(0, 0.3), st.floats(0, 200))), max_size=200)


@settings(max_examples=300, deadline=None)
@given(SCRIPT)
def test_that_any_events_in_any_order_keep_the_rules(script):
    """Events that come late, twice or never: the state stays one of the table's, and nothing it holds grows."""
    s, now = Supervisor(), 0.0
    for event, after in script:
        now += after
        s, actions = step(s, event, now)
        assert len(s.falls) <= POLICY.limit
        assert s.falls == tuple(sorted(s.falls))
        if s.phase in ALIVE:
            assert not [action for action in actions if isinstance(action, Start)]
        if s.phase == "gave_up":
            assert Kill() not in actions
        if s.phase != "ready":
            assert Replay() not in actions


FATES = st.sampled_from(["dies at start", "dies mute", "says hello", "speaks another protocol"])
DEEDS = st.sampled_from(["works", "falls", "hangs", "garbles", "half", "device lost", "sleep", "user", "nothing"])


class World:
    """A window and an operating system that obey: what is told to start starts, what is killed ends."""

    def __init__(self, fates, deeds) -> None:
        self.fates, self.deeds = list(fates), list(deeds)
        self.s, self.now = Supervisor(), 0.0
        self.alive, self.start_at, self.doomed = 0, None, False
        self.starts: list[float] = []
        self.by_hand: list[float] = []
        self.asked = 0

    def tell(self, event) -> None:
        self.s, actions = step(self.s, event, self.now)
        for action in actions:
            match action:
                case Start(after_s=after):
                    self.start_at = self.now + after
                case Kill():
                    self.doomed = True

    def turn(self) -> None:
        """A fifth of a second."""
        self.now += 0.2
        if self.doomed and self.alive:
            self.alive, self.doomed = 0, False
            self.tell(Exited(-9))
        elif self.start_at is not None and self.now >= self.start_at:
            self.start_at = None
            self.alive += 1
            assert self.alive == 1, "two engines"
            self.starts.append(self.now)
            self.tell(Launched())
            self.meet(self.fates.pop() if self.fates else "says hello")
        elif self.s.phase == "ready" and self.deeds:
            self.act(self.deeds.pop())
        self.tell(Tick())

    def meet(self, fate) -> None:
        match fate:
            case "dies at start":
                self.alive = 0
                self.tell(Exited(1, "boom"))
            case "says hello":
                self.tell(Hello())
            case "speaks another protocol":
                self.tell(WrongProtocol("The engine speaks protocol 2."))

    def act(self, deed) -> None:
        self.asked += 1
        key = f"k{self.asked % 3}"
        match deed:
            case "works":
                self.tell(Asked(key, "x", 0.1))
                self.tell(Heard(1, False))
                self.tell(Answered(key))
            case "falls":
                self.tell(Asked(key, "x", 0.1))
                self.alive = 0
                self.tell(Exited(-11))
            case "hangs":
                self.tell(Asked(key, "x", 0.1))
            case "garbles":
                self.tell(Fault("sent invalid data"))
            case "half":
                self.tell(Heard(0, True))
            case "device lost":
                self.tell(DeviceLost(key, "GPU fault."))
            case "sleep":
                self.tell(Suspended())
            case "user":
                self.by_hand.append(self.now)
                self.tell(UserRestart())


@settings(max_examples=200, deadline=None)
@given(st.lists(FATES, max_size=12), st.lists(DEEDS, max_size=40))
def test_that_there_is_never_a_second_engine_and_it_ends_ready_or_given_up(fates, deeds):
    world = World(fates, deeds)
    world.tell(Begin())
    for _ in range(40_000):
        world.turn()
        if (
            not world.deeds
            and not world.fates
            and world.s.phase in ("ready", "gave_up")
            and not world.doomed
            and not world.s.tasks
        ):
            break
        if world.s.phase == "gave_up":
            break
    assert world.s.phase in ("ready", "gave_up")
    assert world.alive == (world.s.phase == "ready")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["dies at start", "dies mute", "says hello"]), max_size=30),
    st.lists(st.sampled_from(["falls", "hangs", "garbles", "half"]), max_size=30),
)
def test_that_it_never_starts_more_often_than_the_rule_allows(fates, deeds):
    """At most five starts in any minute, whatever goes wrong, when no person starts it."""
    world = World(fates, deeds)
    world.tell(Begin())
    for _ in range(4000):
        world.turn()
        if world.s.phase == "gave_up":
            break
    for index, first in enumerate(world.starts):
        within = [start for start in world.starts[index:] if start - first < POLICY.stable]
        assert len(within) <= POLICY.limit


def test_that_the_policy_is_what_the_rule_is_read_from():
    life = Life()
    life.supervisor = replace(life.supervisor, policy=replace(POLICY, limit=2))
    life.tell(Begin(), Launched(), Exited(1), Launched(), Exited(1))
    assert life.phase == "gave_up"

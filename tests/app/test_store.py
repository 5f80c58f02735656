"""Of the store: one signal, in order; undo as a person expects it."""

import pytest
from app_states import measured
from attnscope.state import Settings
from attnscope.store import UNDO_STEPS, Store


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return Store(clock=clock)


def n(store):
    return store.state.settings.workload.seq_len


def test_that_a_change_is_told_once_with_old_and_new(store):
    seen = []
    store.changed.connect(lambda old, new: seen.append((old.settings.workload.seq_len, new.settings.workload.seq_len)))
    store.update(seq_len=128)
    store.update(seq_len=128)
    assert seen == [(4096, 128)]


def test_that_what_resolves_to_the_same_is_no_change(store):
    seen = []
    store.changed.connect(lambda *_: seen.append(1))
    store.update(layer=-7)
    store.update_live(hover=None)
    assert seen == []
    assert not store.can_undo


def test_that_a_change_made_while_one_is_told_comes_after_it_for_everybody(store):
    first, second = [], []

    def react(old, new):
        first.append(new.settings.workload.seq_len)
        if new.settings.workload.seq_len == 128:
            store.update(seq_len=256)

    store.changed.connect(react)
    store.changed.connect(lambda old, new: second.append((old.settings.workload.seq_len, new.settings.workload.seq_len)))
    store.update(seq_len=128)
    assert first == [128, 256]
    assert second == [(4096, 128), (128, 256)]


def test_that_a_drag_is_one_undo_step_however_long_it_takes(store, clock):
    for value in range(64, 1064, 10):
        store.update(seq_len=value)
        clock.now += 0.5
    store.undo()
    assert n(store) == 4096
    assert not store.can_undo
    store.redo()
    assert n(store) == 1054


def test_that_other_fields_or_a_pause_begin_another_step(store, clock):
    store.update(seq_len=128)
    store.update(batch=2)
    clock.now += 1.5
    store.update(batch=4)
    store.undo()
    assert store.state.settings.workload.batch == 2
    store.undo()
    assert store.state.settings.workload.batch == 1
    store.undo()
    assert n(store) == 4096


def test_that_a_drag_back_to_where_it_began_leaves_nothing_to_undo(store):
    store.update(seq_len=128)
    store.update(seq_len=4096)
    assert not store.can_undo
    store.undo()
    assert n(store) == 4096
    assert not store.can_redo


def test_that_a_change_after_undo_forgets_what_could_be_redone(store, clock):
    store.update(seq_len=128)
    store.undo()
    store.update(batch=2)
    assert not store.can_redo


def test_that_a_change_after_undo_is_a_step_of_its_own(store):
    store.update(seq_len=128)
    store.update(batch=3)
    store.undo()
    store.update(batch=5)
    store.undo()
    assert store.state.settings.workload.batch == 1
    assert n(store) == 128


def test_that_answers_of_the_engine_are_not_undone(store):
    store.update(seq_len=128)
    store.update_live(measurements={"key": measured()})
    store.undo()
    assert n(store) == 4096
    assert "key" in store.state.live.measurements


def test_that_opening_a_session_can_be_undone_at_once(store):
    store.update(seq_len=128)
    store.replace_settings(Settings(page="memory"))
    assert store.state.settings.page == "memory"
    store.undo()
    assert (store.state.settings.page, n(store)) == ("map", 128)


def test_that_history_does_not_grow_without_end(store, clock):
    for step in range(UNDO_STEPS + 50):
        clock.now += 2
        store.update(seq_len=64 + step)
    undone = 0
    while store.can_undo:
        store.undo()
        undone += 1
    assert undone == UNDO_STEPS


def test_that_a_parameter_is_clamped_and_its_default_not_stored(store):
    store.set_param("chunked", "chunk_size", 0)
    assert store.state.settings.params == {"chunked": {"chunk_size": 1}}
    store.set_param("chunked", "chunk_size", 2048)
    assert store.state.settings.params == {}


def test_that_a_parameter_that_does_not_exist_is_refused_with_those_that_do(store):
    with pytest.raises(ValueError, match="it has: window_size, sinks"):
        store.set_param("sliding_window", "width", 3)
    with pytest.raises(ValueError, match="no variant"):
        store.set_param("windowed", "width", 3)

"""What the map shows for a state: fresh, coarse or stale pictures, the row that is read, words where no map can be."""

from __future__ import annotations

import math

import msgspec
import pytest
from app_states import READY
from attnscope.map_feed import MapFeed
from attnscope.map_scene import CHOOSE, GAVE_UP, STARTING, Scene, same_subject, scene_of
from attnscope.state import SAMPLE_TEXT, Answer, Live, Settings
from attnscope.store import Store
from attnscope_engine import protocol as p
from map_states import WORDS, answer, replace_picture, store_of, synthetic
from pytestqt.qtbot import QtBot


def test_that_no_checked_variant_asks_for_one(qtbot: QtBot) -> None:
    scene = scene_of(store_of(checked=()).state)
    assert scene.message is not None
    assert scene.message.text == CHOOSE
    assert scene.panels == ()


@pytest.mark.parametrize(("phase", "words"), [("starting", STARTING), ("gave_up", GAVE_UP), ("ready", "")])
def test_that_a_panel_without_a_picture_says_why(qtbot: QtBot, phase: str, words: str) -> None:
    store = Store(live=msgspec.structs.replace(READY, phase=phase))
    assert scene_of(store.state).waiting == words


def test_that_the_sentence_shows_flash_beside_chunked_with_the_strongest_link_chosen(qtbot: QtBot) -> None:
    store = store_of()
    answer(store)
    scene = scene_of(store.state)
    assert [panel.title for panel in scene.panels] == ["Flash", "Chunked"]
    assert scene.head == "layer 2, head 3"
    assert scene.cell == (11, 1)
    assert scene.link() == "she → CEO"
    assert scene.tokens == WORDS
    assert scene.short
    exact, cut = (panel.weight(1) for panel in scene.panels)
    assert exact is not None
    assert exact > 0
    assert cut is not None
    assert math.isnan(cut)  # the chunk of 8 hides CEO from she
    assert scene.panels[0].drop is None
    assert 0 < (scene.panels[1].drop or 0) < 1


def test_that_a_text_has_the_place_of_a_sentence_before_it_is_read(qtbot: QtBot) -> None:
    scene = scene_of(store_of().state)
    assert scene.short
    assert scene.text == SAMPLE_TEXT


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seq_len": 256}, "n = 128"),
        ({"head": 2}, "layer 0, head 0"),
        ({"pool": "mean"}, "pool max"),
        ({"causal": False}, "causal"),
    ],
)
def test_that_a_stale_picture_stays_and_says_what_it_is_of(qtbot: QtBot, changes: dict[str, object], words: str) -> None:
    store = synthetic(128)
    fresh = scene_of(store.state)
    assert [panel.stale for panel in fresh.panels] == ["", ""]
    store.update(**changes)
    stale = scene_of(store.state)
    assert [panel.stale for panel in stale.panels] == [words, words]
    assert [panel.picture for panel in stale.panels] == [panel.picture for panel in fresh.panels]
    assert stale.seq_len == 128


def test_that_a_parameter_makes_only_its_own_panel_stale(qtbot: QtBot) -> None:
    store = synthetic(128)
    store.set_param("sliding_window", "window_size", 16)
    assert [panel.stale for panel in scene_of(store.state).panels] == ["", "w 1,024 · sinks 0"]


def test_that_another_rectangle_of_the_same_map_is_not_stale(qtbot: QtBot) -> None:
    store = synthetic(128)
    store.update(view=(0, 32, 0, 32))
    scene = scene_of(store.state)
    assert [panel.stale for panel in scene.panels] == ["", ""]
    assert not scene.fitted


def test_that_one_more_variant_leaves_the_others_pictures_fresh(qtbot: QtBot) -> None:
    store = synthetic(128)
    store.update(checked=("softmax_tiled", "sliding_window", "linear"))
    panels = scene_of(store.state).panels
    assert [bool(panel.picture) for panel in panels] == [True, True, False]
    assert [panel.stale for panel in panels] == ["", "", ""]


def test_that_swapping_the_panels_moves_their_pictures_with_them(qtbot: QtBot) -> None:
    store = synthetic(128)
    pictures = {panel.variant: panel.picture for panel in scene_of(store.state).panels}
    store.update(checked=("sliding_window", "softmax_tiled"))
    panels = scene_of(store.state).panels
    assert [panel.variant for panel in panels] == ["sliding_window", "softmax_tiled"]
    assert all(panel.picture is pictures[panel.variant] for panel in panels)


def test_that_weights_of_another_row_are_never_shown_as_this_one(qtbot: QtBot) -> None:
    store = synthetic(128, row=100, column=50)
    assert scene_of(store.state).rows[0].row is not None
    store.update(row=101)
    assert scene_of(store.state).rows[0].row is None


def test_that_the_pointer_reads_another_key_of_the_fixed_row_at_once(qtbot: QtBot) -> None:
    store = synthetic(128, row=100, column=50)
    store.update_live(hover=(3, 20))
    scene = scene_of(store.state)
    assert scene.cell == (100, 20)
    assert scene.rows[0].weight(20) is not None
    assert scene.rows[0].row_column == 50  # the patch round it is still that of the old key


def test_that_a_variant_that_does_not_fit_is_refused_while_the_other_stays(qtbot: QtBot) -> None:
    store = synthetic(128, checked=("softmax_naive", "softmax_tiled"))
    store.update(seq_len=1 << 20)
    naive, tiled = scene_of(store.state).panels
    assert naive.refusal is not None
    assert naive.refusal.largest_seq_len > 0
    assert tiled.refusal is None
    assert tiled.picture is not None


def test_that_n_refuses_nothing_on_the_map_of_a_text(qtbot: QtBot) -> None:
    store = store_of(checked=("softmax_naive", "softmax_tiled"))
    answer(store)
    store.update(seq_len=1 << 20)
    assert [panel.refusal for panel in scene_of(store.state).panels] == [None, None]


def test_that_a_text_that_is_too_long_offers_its_first_and_last_tokens(qtbot: QtBot) -> None:
    store = store_of(source=p.TextSource("long"))
    refusal = p.Refusal("too_long", "9,412 tokens; this model reads 8,192.", seq_len=9412, largest_seq_len=8192)
    store.update_live(answers={"text": Answer(p.ReadText(p.TextSource("long")), refusal=refusal)})
    message = scene_of(store.state).message
    assert message is not None
    assert message.text == "9,412 tokens; this model reads 8,192."
    assert [way.words for way in message.ways] == ["Use the first 8,192", "Use the last 8,192"]
    assert [getattr(way.value, "keep", "") for way in message.ways] == ["first", "last"]


def test_that_a_failure_is_said_in_its_own_sentence(qtbot: QtBot) -> None:
    store = synthetic(128)
    job = store.state.live.answers["map"].job
    failure = p.Failure(1, "internal", "The map could not be drawn.")
    store.update_live(answers={**store.state.live.answers, "map": Answer(job, failure=failure)})
    message = scene_of(store.state).message
    assert message is not None
    assert message.text == "The map could not be drawn."


def test_that_the_difference_is_one_panel_and_both_rows_are_still_read(qtbot: QtBot) -> None:
    store = synthetic(64, row=40, column=10, compare="difference")
    store.set_param("sliding_window", "window_size", 16)
    answer(store)
    scene = scene_of(store.state)
    (panel,) = scene.panels
    assert panel.is_difference
    assert [each.title for each in scene.rows] == ["Flash", "Window"]
    one, other = scene.rows[0].weight(30), scene.rows[1].weight(30)
    assert one is not None
    assert other is not None
    assert one < other  # the window shares the mass among fewer keys
    assert scene.weight(panel, 30) == pytest.approx(one - other)


def test_that_what_one_of_the_two_masks_counts_as_zero_in_the_difference(qtbot: QtBot) -> None:
    store = store_of(compare="difference")
    answer(store)
    scene = scene_of(store.state)
    assert scene.weight(scene.panels[0], 1) == pytest.approx(scene.rows[0].weight(1))


def test_that_rectangle_and_coarseness_do_not_make_another_subject(qtbot: QtBot) -> None:
    job = synthetic(128).state.live.answers["map"].job
    assert isinstance(job, p.DrawMap)
    assert same_subject(job, msgspec.structs.replace(job, rows=(0, 5), factor=4, panels=()))
    assert not same_subject(job, msgspec.structs.replace(job, head=1))


def test_that_the_sliders_n_costs_the_map_of_a_text_nothing(qtbot: QtBot) -> None:
    store = store_of()
    answer(store)
    feed = MapFeed(store)
    seen: list[Scene] = []
    feed.changed.connect(lambda _old, new: seen.append(new))
    for n in range(100, 200):
        store.update(seq_len=n)
    assert seen == []
    store.update(head=1)
    assert len(seen) == 1


def test_that_a_hidden_map_page_works_nothing_out(qtbot: QtBot) -> None:
    store = synthetic(128)
    feed = MapFeed(store)
    seen: list[Scene] = []
    feed.changed.connect(lambda _old, new: seen.append(new))
    store.update(page="scaling")
    store.update(seq_len=256)
    assert seen == []
    store.update(page="map")
    assert seen[-1].panels[0].stale == "n = 128"


def test_that_a_refused_picture_of_the_engine_shows_as_refused(qtbot: QtBot) -> None:
    store = synthetic(128)
    refusal = p.Refusal("unsupported", "Titans has no map: its output is not linear in V.", "softmax_tiled")
    replace_picture(store, 0, refusal=refusal)
    assert scene_of(store.state).panels[0].refusal == refusal


def test_that_a_state_without_an_engine_has_panels_all_the_same(qtbot: QtBot) -> None:
    scene = scene_of(Store(Settings(), Live()).state)
    assert [panel.title for panel in scene.panels] == ["Flash", "Chunked"]
    assert scene.seq_len == 0


def too_long(store: Store) -> None:
    job = scene_job(store)
    refusal = p.Refusal("too_long", "A map of 8,192 tokens is larger than 4,096 × 4,096.", seq_len=8192, largest_seq_len=4096)
    store.update_live(answers={**store.state.live.answers, "map": Answer(job, refusal=refusal)})


def scene_job(store: Store) -> p.Job:
    from attnscope.requests import wanted

    return wanted(store.state)["map"]


def test_that_a_synthetic_map_too_long_to_draw_offers_the_largest_n(qtbot: QtBot) -> None:
    store = synthetic(128)
    store.update(seq_len=8192)
    too_long(store)
    message = scene_of(store.state).message
    assert message is not None
    (way,) = message.ways
    assert (way.words, way.field, way.value) == ("Use n = 4,096", "seq_len", 4096)


def test_that_a_refusal_of_memory_keeps_its_panel_when_the_others_are_too_long_to_draw(qtbot: QtBot) -> None:
    store = synthetic(128, checked=("softmax_naive", "softmax_tiled"))
    store.update(seq_len=1 << 20)
    too_long(store)
    scene = scene_of(store.state)
    assert scene.message is None
    assert [panel.refusal.reason for panel in scene.panels if panel.refusal] == ["memory", "too_long"]

"""A variant that arrives as one file: window, map, curves, memory, figures, command line and sessions take it as it is.

The file is `support/newcomer.py`: linear, signed, heads that differ, with a parameter of each kind. Nothing else is told of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import map_states
import msgspec
import new_variants
import numpy as np
import pytest
from app_states import key_of, ready_state
from attnscope.cli.arguments import run as command_line
from attnscope.figures.data import map_figure, scaling_figure
from attnscope.figures.job import FigureJob
from attnscope.figures.render import render
from attnscope.looks import LOOKS, look
from attnscope.map_feed import MapFeed
from attnscope.memory import fits, peaks
from attnscope.panels.colour_bar import ColourBar
from attnscope.panels.row_table import RowTable
from attnscope.panels.token_strip import TokenStrip, share_of
from attnscope.panels.variants import VariantsPanel
from attnscope.plots.map_page import MapPage
from attnscope.plots.map_trace import largest_by_pixel, reach_of
from attnscope.plots.scaling_page import ScalingPage
from attnscope.requests import drawn_panels, wanted
from attnscope.scaling import curves
from attnscope.session import load_session, save_session
from attnscope.state import State, choice_of, one_call
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope_engine import catalogue
from attnscope_engine import protocol as p
from attnscope_engine.head_maps import MapCache
from attnscope_engine.maps import Fits, draw_heads, draw_map, read_row
from attnscope_engine.sources import Sources
from attnscope_engine.variant import Variant
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

NAME = "newcomer"
OTHER = {"chunk_size": 64, "decay": 0.75, "divided": False, "feature": "tanh"}
"""A value of each kind that is not the default."""
PLENTY = Fits("cpu", 1 << 44, 1 << 44)
NEEDLE = p.SyntheticSource("needle", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "more"
    place.mkdir()
    with new_variants.added(place, {**new_variants.NEWCOMER, **new_variants.MAPLESS}):
        yield place


@pytest.fixture
def variant(folder: Path) -> Variant:
    return catalogue.find(NAME)


@pytest.fixture
def theme(qtbot: QtBot) -> Theme:
    return Theme("dark")


def point(state: State, n: int, time_s: float = 1e-3) -> p.Measured:
    workload = one_call(msgspec.structs.replace(state.settings.workload, seq_len=n))
    return p.Measured(workload, choice_of(state.settings, NAME), "fake", time_s, time_s, time_s, 5, 4 << 20, 1.0)


# ---------------------------------------------------------------- parameters


def test_that_its_parameters_are_set_undone_saved_and_opened(variant: Variant, tmp_path: Path) -> None:
    store = Store()
    for name, value in OTHER.items():
        store.set_param(NAME, name, value)
    assert store.state.settings.params[NAME] == OTHER
    store.undo()
    assert store.state.settings.params[NAME] == {name: value for name, value in OTHER.items() if name != "feature"}
    store.redo()
    path = tmp_path / "it.attnscope"
    save_session(path, store.state.settings, [point(store.state, 1024)], "test")
    opened = load_session(path)
    assert opened.settings == store.state.settings
    assert opened.measurements[0].choice.params == OTHER


def test_that_wrong_values_of_a_session_become_what_they_may_have_meant(variant: Variant) -> None:
    wrong = {"chunk_size": 9999.7, "decay": 0.7512, "divided": "yes", "feature": "softmax", "gone": 1}
    state = ready_state(params={NAME: wrong})
    assert state.settings.params[NAME] == {"chunk_size": 256, "decay": 0.75}


def test_that_two_settings_of_a_flag_are_two_points_and_two_keys(variant: Variant) -> None:
    plain = ready_state(checked=(NAME,), params={})
    other = ready_state(checked=(NAME,), params={NAME: {"divided": False}})
    assert key_of(point(plain, 1024)) != key_of(point(other, 1024))
    live = msgspec.structs.replace(
        plain.live, measurements={key_of(each): each for each in (point(plain, 1024), point(other, 512))}
    )
    (curve,) = curves(State(plain.settings, live))
    assert [row.workload.seq_len for row in curve.points] == [1024]
    (curve,) = curves(State(other.settings, live))
    assert [row.workload.seq_len for row in curve.points] == [512]


# ---------------------------------------------------------------- the list


def test_that_it_stands_in_its_group_moves_up_when_used_and_the_group_stays_as_left(
    qtbot: QtBot, theme: Theme, variant: Variant
) -> None:
    store = Store()
    panel = VariantsPanel(store, theme)
    qtbot.addWidget(panel)
    panel.resize(308, 600)
    panel.show()
    assert panel.rows[NAME].isHidden()
    QTest.mouseClick(panel.groups["linear"], Qt.MouseButton.LeftButton)
    assert not panel.rows[NAME].isHidden()
    assert store.state.settings.groups == ("linear",)
    assert panel.rows[NAME].y() > panel.groups["linear"].y()
    store.update(checked=(NAME,))
    qtbot.waitUntil(lambda: panel.rows[NAME].y() < panel.groups["linear"].y())
    assert panel.rows[NAME].y() < panel.groups["linear"].y()
    store.update(checked=(), groups=())
    assert panel.rows[NAME].isHidden()
    again = VariantsPanel(Store(msgspec.structs.replace(store.state.settings, groups=("linear",))), theme)
    qtbot.addWidget(again)
    assert again.groups["linear"].isChecked()
    assert not again.rows[NAME].isHidden()


def test_that_each_kind_of_parameter_has_a_named_row_that_keys_can_reach(qtbot: QtBot, theme: Theme, variant: Variant) -> None:
    store = Store()
    panel = VariantsPanel(store, theme)
    qtbot.addWidget(panel)
    panel.resize(308, 600)
    store.update(checked=(NAME,), opened=NAME)
    with qtbot.waitActive(panel):
        panel.show()
        panel.activateWindow()
    rows = panel.parameters[NAME].controls
    assert [row.height() for row in rows.values()] == [26, 26, 26, 26]
    assert rows["divided"].box.accessibleName() == "÷ √D"
    QTest.keyClick(rows["divided"].box, Qt.Key.Key_Space)
    rows["feature"].choice.button("identity").setFocus()
    QTest.keyClick(rows["feature"].choice.button("identity"), Qt.Key.Key_Right)
    QTest.keyClick(rows["decay"].slider.slider, Qt.Key.Key_Left)
    QTest.keyClick(rows["chunk_size"].slider.slider, Qt.Key.Key_End)
    assert store.state.settings.params[NAME] == {"divided": False, "feature": "tanh", "decay": 0.89, "chunk_size": 256}
    assert panel.rows[NAME].facts.summary == "tanh · γ 0.89 · undivided"
    field = rows["decay"].slider.field
    field.selectAll()
    QTest.keyClicks(field, "1.2")
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert panel.parameters[NAME]._problem.text() == "decay must be 0.50 to 1.00 (was 1.2)."
    store.update(params={})
    assert [row.value for row in rows.values()] == [32, 0.9, True, "identity"]


def test_that_it_is_its_parent_hollow_and_half_as_wide_beside_it(variant: Variant) -> None:
    mine, parent = look(NAME), LOOKS["retnet"]
    assert (mine.dark, mine.light, mine.marker) == (parent.dark, parent.light, parent.marker)
    assert mine.hollow
    assert not mine.thin
    assert look(NAME, ("retnet", NAME)).thin
    assert not look("linear", ("linear", NAME)).thin


# ---------------------------------------------------------------- maps


def drawn(n: int = 60, difference: bool = False, scale: str = "log") -> p.MapDrawn:
    workload = p.Workload(seq_len=n, num_heads=4, num_kv_heads=4, head_dim=16, layers=1)
    panels = (p.Choice(NAME), p.Choice("softmax_tiled"))
    job = p.DrawMap(NEEDLE, workload, 0, 2, panels, (0, n), (0, n), scale=scale, difference=difference)
    return draw_map(job, Sources(), MapCache(), PLENTY, lambda: None)


def test_that_the_engine_draws_scores_about_zero_and_each_head_its_own(variant: Variant) -> None:
    mine, softmax = drawn().pictures
    assert (mine.signed, mine.scale, mine.low) == (True, "linear", -mine.high)
    assert (softmax.signed, softmax.scale) == (False, "log")
    workload = p.Workload(seq_len=60, num_heads=4, num_kv_heads=4, head_dim=16, layers=1)
    rows = [
        read_row(p.ReadRow(NEEDLE, workload, 0, head, (p.Choice(NAME),), 40, 10), Sources(), lambda: None).rows[0]
        for head in (0, 3)
    ]
    q, k = Sources().open(NEEDLE, workload, lambda: None).head(0, 3)
    expected = (q[40] @ k[:41].T) * 16**-0.5 * (1 - 0.1 / 4) ** np.arange(40, -1, -1)
    np.testing.assert_allclose(np.frombuffer(rows[1].weights.data, "<f4")[:41], expected, rtol=1e-4)
    assert rows[0].weights.data != rows[1].weights.data
    shares = np.abs(expected) / np.abs(expected).sum()
    assert rows[1].entropy_bits == pytest.approx(-(shares * np.log2(shares)).sum(), rel=1e-4)
    thumbs = draw_heads(
        p.DrawHeads(NEEDLE, workload, p.Choice(NAME), 8), Sources(), PLENTY, lambda: None, lambda done: None
    ).thumbs
    codes = np.frombuffer(thumbs.data, np.uint8)
    assert (codes[codes <= p.MAX_CODE] < p.MAX_CODE // 2 - 5).any(), "negative scores lie under the middle"


def page_of(qtbot: QtBot, theme: Theme, store: Store) -> MapPage:
    page = MapPage(store, theme)
    qtbot.addWidget(page)
    page.resize(960, 640)
    page.show()
    return page


def test_that_the_page_shows_scores_and_offers_nothing_that_they_do_not_have(
    qtbot: QtBot, theme: Theme, variant: Variant
) -> None:
    store = map_states.synthetic(300, checked=(NAME, "softmax_tiled"), row=200, column=150)
    page = page_of(qtbot, theme, store)
    scene = page.feed.scene
    mine, softmax = scene.rows
    assert mine.signed
    assert not mine.normalised
    assert not softmax.signed
    lines = {name: (value, after) for name, value, after in page.readout.cell.lines()}
    assert "weight" not in lines
    assert "probability" not in page.readout.table.words()
    assert lines["rank"][1].endswith("by size")
    table = {each.split(":")[0]: each for each in page.readout.table.words().split("; ")}
    assert "row sum, error –" in table["Newcomer"]
    assert "mass cut –" in table["Newcomer"]
    assert "row sum, error –" not in table["Flash"]
    assert [picture.signed for picture in page.readout.colours.pictures()] == [True, False]
    page.grab()
    store.update(compare="difference")
    map_states.answer(store)
    assert page.feed.scene.panels[0].is_difference
    page.grab()
    store.update(compare="heads")
    map_states.answer(store)
    page.grab()


def test_that_a_trace_of_scores_keeps_the_farthest_from_zero(variant: Variant) -> None:
    row = map_states.f4(np.array([0.5, -3.0, 1.0, np.nan, 0.0, 2.0]))
    assert reach_of(row) == 3.0
    assert largest_by_pixel(row, 0, 6, 3, signed=True) == [-3.0, 1.0, 2.0]
    assert largest_by_pixel(row, 0, 6, 3) == [0.5, 1.0, 2.0]
    assert reach_of(map_states.f4(np.array([np.nan, np.inf]))) == 0.0


def test_that_the_sentence_shows_scores_by_their_share_of_the_largest(qtbot: QtBot, theme: Theme, variant: Variant) -> None:
    store = map_states.store_of(checked=("softmax_tiled", NAME), page="map")
    map_states.answer(store)
    feed = MapFeed(store)
    strip = TokenStrip(store, theme, feed)
    table = RowTable(theme, feed, full=True)
    bar = ColourBar(store, theme, feed, full=False)
    for widget in (strip, table, bar):
        qtbot.addWidget(widget)
        widget.resize(700, widget.sizeHint().height())
        widget.grab()
    panel = feed.scene.rows[1]
    assert panel.row is not None
    shares = [share_of(panel, panel.weight(key)) for key in range(len(map_states.WORDS))]
    assert max(map(abs, shares)) == 1.0
    assert min(shares) < 0
    assert "−" in strip.words()


# ---------------------------------------------------------------- a variant without a map


def test_that_a_variant_without_a_map_says_why_in_its_panel_and_is_asked_for_no_map(
    qtbot: QtBot, theme: Theme, folder: Path
) -> None:
    store = map_states.synthetic(300, checked=("mapless", NAME, "softmax_tiled"), row=200, column=150, compare="side")
    page = page_of(qtbot, theme, store)
    assert [panel.title for panel in page.feed.scene.panels] == ["Mapless", "Newcomer", "Flash"]
    assert page.feed.scene.panels[0].why_no_map == "Mapless has no map: its output is not linear in V."
    assert [panel.title for panel in page.feed.scene.rows] == ["Newcomer", "Flash"]
    for job in wanted(store.state).values():
        assert "mapless" not in [choice.variant for choice in getattr(job, "panels", ())]
    page.grab()
    store.update(compare="difference")
    map_states.answer(store)
    assert page.feed.scene.panels[0].summary == "Newcomer − Flash"
    page.grab()
    store.update(checked=("mapless",), compare="side")
    map_states.answer(store)
    assert drawn_panels(store.state.settings) == ()
    assert not page.toolbar.compare.button("difference").isEnabled()
    page.grab()
    with pytest.raises(Exception, match="not linear in V"):
        read_row(p.ReadRow(NEEDLE, p.Workload(seq_len=9), 0, 0, (p.Choice("mapless"),), 1, 1), Sources(), lambda: None)


# ---------------------------------------------------------------- curves, memory, figures


def test_that_curves_memory_and_figures_take_it(qtbot: QtBot, theme: Theme, variant: Variant) -> None:
    state = ready_state(checked=(NAME, "mapless", "linear"), page="scaling", params={NAME: OTHER}, seq_len=1024)
    store = Store(
        state.settings, msgspec.structs.replace(state.live, measurements={key_of(point(state, 1024)): point(state, 1024)})
    )
    page = ScalingPage(store, theme)
    qtbot.addWidget(page)
    page.resize(960, 640)
    page.show()
    page.grab()
    mine = peaks(store.state)[0]
    assert mine.measured is not None
    kept = fits(store.state)[0]
    assert kept.summary == "tanh · γ 0.75 · undivided"
    workload = one_call(store.state.settings.workload)
    choices = [choice_of(store.state.settings, name) for name in store.state.settings.checked]
    figure = scaling_figure(workload, choices, [point(state, 1024)], (256, 1024), on="cpu", ceilings=state.live.ceilings)
    assert figure.time[0].measured
    for format_ in ("svg", "csv"):
        text = render(FigureJob(figure, format=format_)).decode()
        assert "Newcomer" in text or NAME in text
    maps = map_figure(drawn())
    assert [panel.signed for panel in maps.panels] == [True, False]
    assert b"score (signed)" in render(FigureJob(maps, format="svg"))


# ---------------------------------------------------------------- the command line


def test_that_the_catalogue_is_printed_with_growth_and_what_is_kept(variant: Variant, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["variants", "--heads", "2", "--head-dim", "16"]) == 0
    text = capsys.readouterr().out
    mine = text[text.index("newcomer\n") :]
    assert "operations grow as n², memory as n; a layer keeps 2.00\u202fKiB whatever n" in mine
    assert "divided = true (true or false): Divide scores by the root of D" in mine
    assert "feature = identity (one of identity, tanh): What is done to q and k first" in mine
    assert "decay = 0.9 (0.5 to 1 in steps of 0.01 a token)" in mine
    assert command_line(["variants", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found[NAME]["signed"] is True
    assert found["mapless"]["why_no_map"].startswith("Mapless has no map")
    assert (found["softmax_naive"]["operations_grow_as"], found["softmax_naive"]["memory_grows_as"]) == ("n²", "n²")
    assert found["linear"]["operations_grow_as"] == "n"
    assert (found["linear"]["kept_is_constant"], found["softmax_tiled"]["kept_is_constant"]) == (True, False)


def test_that_the_command_line_measures_and_draws_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("compare", "map"):
        monkeypatch.setattr(f"attnscope.cli.{module}.default_command", lambda *_: new_variants.engine_command(folder))
    params = ["--param", "newcomer.divided=off", "--param", "newcomer.feature=tanh", "--param", "newcomer.decay=0.8"]
    out = tmp_path / "map.svg"
    names = ["--variants", "newcomer,mapless"]
    assert command_line(["map", *names, "--synthetic", "needle", "--seq-len", "40", *params, "--out", str(out)]) == 0
    assert "Mapless has no map" in capsys.readouterr().err
    assert "tanh" in out.read_text()
    shape = ["--seq-len", "64", "--heads", "2", "--head-dim", "16", "--budget", "0.05", "--device", "cpu"]
    assert command_line(["compare", *names, *shape, *params, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert "newcomer" in json.dumps(rows)
    assert "0.8" in json.dumps(rows)


@pytest.mark.parametrize(
    ("param", "sentence"),
    [
        ("divided=perhaps", "--param newcomer.divided must be true or false (was 'perhaps')."),
        ("feature=softmax", "--param newcomer.feature must be one of identity, tanh (was 'softmax')."),
        ("decay=1.5", "--param newcomer.decay must be 0.5 to 1 in steps of 0.01 (was '1.5')."),
        ("chunk_size=7", "--param newcomer.chunk_size must be 8 to 256 (was 7)."),
        ("gone=7", "Newcomer: there is no parameter 'gone'; there are: chunk_size, decay, divided, feature."),
    ],
)
def test_that_a_wrong_parameter_is_one_sentence(
    variant: Variant, capsys: pytest.CaptureFixture[str], param: str, sentence: str
) -> None:
    words = ["map", "--variants", NAME, "--synthetic", "needle", "--param", f"newcomer.{param}"]
    assert command_line(words) == 2
    assert capsys.readouterr().err == f"attnscope: {sentence}\n"

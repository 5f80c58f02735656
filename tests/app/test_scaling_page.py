"""The Scaling page: marks stand where the data are, a slider's tick moves only the cursor, every state says what it is."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable

import msgspec
import pytest
from attnscope import predictions
from attnscope.plots.annotations import LEGEND_ROWS
from attnscope.plots.scaling_page import FOLD_WIDTH, ScalingPage
from attnscope.plots.traces import on_axis
from attnscope.quantities import NARROW_SPACE
from attnscope.state import Live, choice_of, one_call
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope_engine.devices.cpu import CpuDevice
from attnscope_engine.measure import measure
from attnscope_engine.protocol import Measure, Vitals
from curve_states import READY, measured_store, put, ready_store, row
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QHelpEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QToolTip, QWidget
from pytestqt.qtbot import QtBot

Open = Callable[..., ScalingPage]


@pytest.fixture
def theme(qapp: QApplication) -> Theme:
    return Theme("dark")


@pytest.fixture
def open_page(qtbot: QtBot, theme: Theme) -> Open:
    def build(store: Store, width: int = 1120, height: int = 800) -> ScalingPage:
        page = ScalingPage(store, theme)
        qtbot.addWidget(page)
        page.resize(width, height)
        page.show()
        qtbot.waitUntil(lambda: page.time.box.height() > 100)
        for _ in range(3):  # the scene tells of its last changes from the event loop
            QApplication.processEvents()
        return page

    return build


@pytest.fixture
def tips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of the tool tips shown; the offscreen platform can not raise their window."""
    shown: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda _at, text, _widget=None: shown.append(text.replace(NARROW_SPACE, " ")))
    return shown


def test_that_markers_stand_where_the_data_are(open_page: Open) -> None:
    store = measured_store()
    page = open_page(store)
    for name in store.state.settings.checked:
        marks = page.time.marks_of(name)
        xs, ys = marks.points.getData()
        rows = sorted(
            (one for one in store.state.live.measurements.values() if one.choice.variant == name),
            key=lambda one: one.workload.seq_len,
        )
        assert list(xs) == pytest.approx([math.log2(one.workload.seq_len) for one in rows])
        assert list(ys) == pytest.approx([math.log10(one.time_s) for one in rows])
        _, held = page.memory.marks_of(name).points.getData()
        assert list(held) == pytest.approx([math.log10(one.peak_bytes) for one in rows])
        for mark in on_axis(marks.trace.points):  # type: ignore[union-attr]
            assert page.time.box.geometry().contains(page.time.position_of(mark))


def test_that_a_line_ends_where_memory_ends_and_goes_on_dimmed(open_page: Open) -> None:
    store = ready_store()
    page = open_page(store)
    wall = predictions.wall(store.state, "softmax_naive")
    marks = page.time.marks_of("softmax_naive")
    assert marks.line.getData()[0][-1] == pytest.approx(math.log2(wall))
    assert marks.beyond.getData()[0][0] == pytest.approx(math.log2(wall))
    assert marks.beyond.opacity() == pytest.approx(0.3)
    assert [note.text for note in page.time.notes.notes.ends] == [f"memory ends at {wall:,}"]
    flash = page.time.marks_of("softmax_tiled")
    assert flash.line.getData()[0][-1] == pytest.approx(math.log2(predictions.wall(store.state, "softmax_tiled")))


def test_that_a_tick_of_the_slider_draws_no_curve_again(open_page: Open) -> None:
    store = measured_store(seq_len=1024)
    page = open_page(store)
    drawn = (page.time.pictures_drawn, page.memory.pictures_drawn)
    before = page.time.cursor_x
    for n in range(1100, 4000, 100):
        store.update(seq_len=n)
        QApplication.processEvents()
    assert (page.time.pictures_drawn, page.memory.pictures_drawn) == drawn
    assert page.time.cursor_x > before
    assert page.time.cursor_x == pytest.approx(page.memory.cursor_x, abs=0.5)
    assert page.time.flag is not None
    assert page.time.flag.n == 3900
    assert page.column.rows[0].time_s is not None


def test_that_a_new_point_touches_its_own_variant_only(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = measured_store()
    page = open_page(store)
    touched: list[str] = []
    for name in store.state.settings.checked:
        for item in (page.time.marks_of(name).points, page.time.marks_of(name).line):
            item.sigPlotChanged.connect(lambda *_, name=name: touched.append(name))
    put(store, row(store, "linear", 3000))
    assert set(touched) == {"linear"}


def test_that_dragging_the_flag_changes_n(open_page: Open, qtbot: QtBot) -> None:
    store = measured_store(seq_len=1024)
    page = open_page(store)
    flag = page.time.flag
    assert flag is not None
    start = flag.rect().center()
    there = page.time.box.geometry().left() + page.time.bottom.place(4096) - flag.x()
    qtbot.mousePress(flag, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(flag, QPoint(round(there), start.y()))
    assert store.state.settings.workload.seq_len == 4096
    qtbot.mouseRelease(flag, Qt.MouseButton.LeftButton)
    assert flag.geometry().center().x() == pytest.approx(page.time.cursor_x, abs=1.5)


def test_that_the_cursor_stays_in_view_when_n_leaves_the_range(open_page: Open) -> None:
    store = measured_store(seq_len=1024)
    page = open_page(store)
    store.update(seq_len=1 << 20)
    low, high = page.time.n_range()
    assert low < 1 << 20 < high
    assert page.time.cursor_x >= 0


def test_that_hovering_a_marker_tells_its_provenance(open_page: Open, tips: list[str]) -> None:
    store = measured_store()
    page = open_page(store)
    mark = page.time.marks_of("linear").marks()[2]
    at = page.time.position_of(mark).toPoint()
    QApplication.sendEvent(page.time.viewport(), QHelpEvent(QEvent.Type.ToolTip, at, page.time.mapToGlobal(at)))
    assert tips[0].startswith("<qt>Linear, n = 1,024<br>")
    assert "31 replays, 1,755 MHz" in tips[0]
    away = QPoint(page.time.width() - 4, 4)
    QApplication.sendEvent(page.time.viewport(), QHelpEvent(QEvent.Type.ToolTip, away, page.time.mapToGlobal(away)))
    assert page.time.mark_at(QPointF(away)) is None
    assert len(tips) == 1


def test_that_arrow_keys_walk_the_points_and_the_variants(open_page: Open, qtbot: QtBot, tips: list[str]) -> None:
    page = open_page(measured_store())
    assert page.time.chosen is None
    qtbot.keyClick(page.time, Qt.Key.Key_Right)
    assert page.time.chosen is not None
    first = page.time.chosen
    assert (first[0].variant, first[1].n) == ("softmax_tiled", 256)
    qtbot.keyClick(page.time, Qt.Key.Key_Right)
    qtbot.keyClick(page.time, Qt.Key.Key_Down)
    moved = page.time.chosen
    assert moved is not None
    assert (moved[0].variant, moved[1].n) == ("softmax_naive", 512)
    qtbot.keyClick(page.time, Qt.Key.Key_Return)
    assert "Naive, n = 512" in tips[0]
    qtbot.keyClick(page.time, Qt.Key.Key_Escape)
    assert page.time.chosen is None


def test_that_points_that_have_no_place_on_a_log_axis_are_counted(open_page: Open) -> None:
    store = measured_store()
    put(store, row(store, "linear", 16384, time_s=0.0, p20_s=0.0, p80_s=0.0), row(store, "linear", 32768, time_s=float("nan")))
    page = open_page(store)
    assert "2 points not on a log axis" in page.time.notes.notes.corner
    assert len(page.time.marks_of("linear").points.getData()[0]) == 6


def test_that_doubtful_points_are_marked(open_page: Open) -> None:
    store = measured_store()
    put(store, row(store, "linear", 2048, noise="only 3 repeats", p80_s=1.0))
    page = open_page(store)
    (note,) = page.time.notes.notes.noisy
    assert note.n == 2048
    xs, ys = page.time.marks_of("linear").whiskers.getData()
    assert list(xs) == pytest.approx([11, 11])
    assert ys[1] == pytest.approx(0)


def test_that_whiskers_shorter_than_their_marker_are_not_drawn(open_page: Open) -> None:
    page = open_page(measured_store())
    marks = page.time.marks_of("softmax_tiled")
    assert not len(marks.whiskers.getData()[0] if marks.whiskers.getData()[0] is not None else ())
    middle = page.time.marks_of("softmax_tiled").marks()[3].value
    page.time.set_value_range(middle * 0.95, middle * 1.05)
    assert len(marks.whiskers.getData()[0])


def test_that_every_empty_state_says_what_is_missing(open_page: Open) -> None:
    store = ready_store(Live(phase="starting"), checked=("softmax_tiled",))
    page = open_page(store)
    assert "the engine is measuring this machine's ceilings" in page.time.notes.notes.message
    assert page.toolbar.sweep.toolTip() == "Sweep is off: the engine is starting."
    assert not page.toolbar.sweep.isEnabled()
    assert not len(page.time.traces[0].ns)
    assert len(page.memory.traces[0].ns), "bytes need no ceilings"
    store.update_live(**{name: getattr(READY, name) for name in ("phase", "device", "vitals", "ceilings")})
    assert page.time.notes.notes.corner == ("Lines are predictions. Press F5 to measure here.",)
    assert page.toolbar.sweep.isEnabled()
    store.update(checked=())
    assert page._empty.isVisible()
    assert page._empty.text() == "Choose a variant on the left."


def test_that_what_the_toolbar_switches_off_is_gone(open_page: Open, qtbot: QtBot) -> None:
    store = measured_store()
    page = open_page(store)
    qtbot.mouseClick(page.toolbar.measured, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert not store.state.settings.show_measured
    assert not page.time.traces[0].points
    qtbot.mouseClick(page.toolbar.predicted, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert not len(page.time.traces[0].ns)
    qtbot.mouseClick(page.toolbar.memory, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert not page.memory.isVisible()
    assert not page.time.bottom.bare, "the only plot has the labels of n"


def test_that_a_fit_shows_its_slope_and_exists_for_times_only(open_page: Open) -> None:
    store = measured_store(show_fit=True)
    page = open_page(store)
    flash = page.time.traces[0]
    assert flash.slope == pytest.approx(2, abs=0.1)
    assert any(label.detail.startswith("slope ") for label in page.time.labels.labels)
    store.update(time_quantity="flops")
    assert page.time.traces[0].slope is None
    assert not page.toolbar.fit.isEnabled()
    assert page.toolbar.fit.toolTip().startswith("fit is off")


def test_that_rates_are_drawn_on_an_axis_of_rates(open_page: Open) -> None:
    store = measured_store()
    page = open_page(store)
    store.update(time_quantity="tokens")
    point = page.time.traces[0].points[0]
    assert point.value == pytest.approx(256 / point.row.time_s)
    assert all(tick.label.endswith("/s") for tick in page.time.left.ticks() if tick.label)


def test_that_the_sweep_button_becomes_stop_and_asks_the_window(open_page: Open, qtbot: QtBot) -> None:
    store = measured_store()
    page = open_page(store)
    with qtbot.waitSignal(page.action) as asked:
        page.toolbar.sweep.click()
    assert asked.args == ["sweep"]
    store.update_live(queue=("key",), queue_total=1)
    assert page.toolbar.stop.isVisible()
    assert not page.toolbar.sweep.isVisible()
    with qtbot.waitSignal(page.action) as asked:
        page.toolbar.stop.click()
    assert asked.args == ["cancel"]


def test_that_the_range_of_the_sweep_can_be_typed_and_stays_in_order(open_page: Open, qtbot: QtBot) -> None:
    store = measured_store()
    page = open_page(store)
    page.toolbar.low.setText("16k")
    page.toolbar.low.apply()
    settings = store.state.settings
    assert (settings.sweep_low, settings.sweep_high) == (16384, 16384)
    page.toolbar.high.setText("3M")
    page.toolbar.high.apply()
    assert "must be 64 to 1,048,576 (was 3,145,728)" in page.toolbar.problem.text()


def wheel(page: ScalingPage, modifiers: Qt.KeyboardModifier) -> None:
    at = page.time.box.geometry().center()
    page.time.wheelEvent(
        QWheelEvent(
            at,
            page.time.mapToGlobal(at),
            QPoint(),
            QPoint(0, 120),
            Qt.MouseButton.NoButton,
            modifiers,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
    )


def test_that_the_wheel_zooms_n_in_both_plots_and_shift_the_other_axis(open_page: Open) -> None:
    page = open_page(measured_store())
    n, value = page.time.n_range(), page.time.value_range()
    wheel(page, Qt.KeyboardModifier.NoModifier)
    zoomed = page.time.n_range()
    assert zoomed[0] > n[0]
    assert zoomed[1] < n[1]
    assert page.memory.n_range() == pytest.approx(zoomed)
    value = page.time.value_range()
    wheel(page, Qt.KeyboardModifier.ShiftModifier)
    assert page.time.n_range() == pytest.approx(zoomed)
    assert page.time.value_range()[1] < value[1]
    page.reset_view()
    assert page.time.n_range() == pytest.approx(n)


def test_that_a_zoomed_view_stays_while_points_arrive(open_page: Open) -> None:
    store = measured_store()
    page = open_page(store)
    wheel(page, Qt.KeyboardModifier.NoModifier)
    wheel(page, Qt.KeyboardModifier.ShiftModifier)
    n, value = page.time.n_range(), page.time.value_range()
    put(store, row(store, "linear", 32768))
    assert page.time.n_range() == pytest.approx(n)
    assert page.time.value_range() == pytest.approx(value)


def test_that_a_theme_switch_restyles_everything(open_page: Open, theme: Theme) -> None:
    page = open_page(measured_store())
    pens = {}
    for mode in ("dark", "light"):
        theme.set_mode(mode)  # type: ignore[arg-type]
        tokens = theme.tokens
        assert page.time.backgroundBrush().color().name().upper() == tokens.window
        assert page.time.box.background.brush().color().name().upper() == tokens.plot
        trace = page.time.traces[0]
        marks = page.time.marks_of(trace.variant)
        colour = trace.look.colour(tokens).lower()
        assert marks.line.opts["pen"].color().name() == colour
        assert marks.points.opts["brush"].color().name() == colour
        pens[mode] = page.grab().toImage().pixelColor(200, 150).name()
    assert pens["dark"] != pens["light"]


def test_that_200_theme_switches_leave_no_items_behind(open_page: Open, theme: Theme) -> None:
    page = open_page(measured_store())
    theme.set_mode("light")
    items = (len(page.time.scene().items()), len(page.memory.scene().items()))
    gc.collect()
    for _ in range(100):
        page._restyle()
        theme.changed.emit()
    assert (len(page.time.scene().items()), len(page.memory.scene().items())) == items


def test_that_variants_come_and_go_without_leaving_items(open_page: Open) -> None:
    store = measured_store()
    page = open_page(store)
    items = len(page.time.scene().items())
    for _ in range(20):
        store.update(checked=("linear",))
        assert [trace.variant for trace in page.time.traces] == ["linear"]
        store.update(checked=("softmax_tiled", "softmax_naive", "sliding_window", "linear"))
    assert len(page.time.scene().items()) == items


def test_that_the_free_memory_is_a_line_that_follows_what_is_free(open_page: Open) -> None:
    store = measured_store()
    page = open_page(store)
    assert page.memory.wall.free_bytes == store.state.live.vitals.free_bytes  # type: ignore[union-attr]
    store.update_live(vitals=Vitals(3 << 30, 8 << 30))
    assert page.memory.wall.text.replace(NARROW_SPACE, " ") == "free now 3.00 GiB"
    assert page.memory.value_range()[1] > 3 << 30


def test_that_labels_in_the_plot_do_not_cover_each_other(open_page: Open) -> None:
    page = open_page(measured_store())
    rects = page.time.notes.text_rects()
    assert len(rects) >= 2
    for i, one in enumerate(rects):
        assert page.time.notes.boundingRect().contains(one)
        assert not any(one.intersects(other) for other in rects[i + 1 :])
    assert LEGEND_ROWS[0] == "predicted from the formula"


def test_that_the_column_folds_to_a_tab_and_opens_again(open_page: Open, qtbot: QtBot) -> None:
    page = open_page(measured_store(), width=FOLD_WIDTH - 100)
    assert page.tab.isVisible()
    assert not page.column.isVisible()
    page.tab.click()
    assert page.column.isVisible()
    page.resize(1200, 800)
    assert page.column.isVisible()
    assert not page.tab.isVisible()


def test_that_the_pinned_baseline_is_grey_and_hollow(open_page: Open, theme: Theme) -> None:
    store = measured_store()
    pinned = tuple(
        msgspec.structs.replace(row(store, "linear", n), time_s=row(store, "linear", n).time_s * 2) for n in (512, 1024)
    )
    store.update_live(pinned=pinned)
    page = open_page(store)
    marks = page.time.marks_of("linear")
    assert list(marks.pinned.getData()[1]) == pytest.approx([math.log10(one.time_s) for one in pinned])
    assert marks.pinned.opts["brush"].color().name().upper() == theme.tokens.plot
    assert marks.baseline.opts["pen"].color().name().upper() == theme.tokens.edge


def test_that_a_hidden_page_waits_until_it_is_shown(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = measured_store()
    page = open_page(store)
    page.hide()
    calls: list[object] = []
    monkeypatch.setattr(page.time, "show_traces", calls.append)
    store.update(checked=("linear",))
    assert not calls
    monkeypatch.undo()
    page.show()
    assert [trace.variant for trace in page.time.traces] == ["linear"]


def test_that_the_menu_is_ours(open_page: Open) -> None:
    page = open_page(measured_store())
    asked: list[str] = []
    page.action.connect(asked.append)
    menu = page.menu()
    for action in menu.actions():
        if action.text() in ("Copy", "Copy Table", "Export…"):
            action.trigger()
    assert asked == ["copy", "copy_table", "export"]
    menu.deleteLater()


@pytest.mark.parametrize(("width", "height"), [(1120, 804), (992, 704), (812, 584)])
def test_that_the_page_asks_for_no_more_room_than_the_window_has(open_page: Open, width: int, height: int) -> None:
    page = open_page(measured_store(), width, height)
    assert (page.width(), page.height()) == (width, height)
    shown = [child for child in page.toolbar.children() if isinstance(child, QWidget) and child.isVisible()]
    assert all(child.geometry().right() <= page.toolbar.width() for child in shown)


def test_that_real_measurements_of_the_processor_come_out_where_they_were_measured(open_page: Open) -> None:
    device = CpuDevice("numpy")
    store = ready_store(dtype="fp32", checked=("softmax_tiled", "linear"), sweep_low=64, sweep_high=256)
    live = msgspec.structs.replace(store.state.live, device=device.facts, vitals=device.vitals())
    store = Store(store.state.settings, live)
    rows = []
    for name in store.state.settings.checked:
        for n in (64, 128, 256):
            workload = msgspec.structs.replace(one_call(store.state.settings.workload), seq_len=n)
            job = Measure(workload, choice_of(store.state.settings, name), budget_s=0.01)
            rows.append(measure(device, job, lambda: None, lambda *_: None))
    put(store, *rows)
    page = open_page(store)
    _, times = page.time.marks_of("linear").points.getData()
    assert list(times) == pytest.approx([math.log10(one.time_s) for one in rows[3:]])
    assert "6 points" in page.column.method[0]
    assert not page.column.rows[0].refused

"""The painted maps under the hand: what is on the pixels, and what keys, wheel and clicks do."""

from __future__ import annotations

import msgspec
import pytest
from attnscope.looks import DARK, LIGHT, look
from attnscope.map_feed import MapFeed
from attnscope.plots.map_canvas import LATE_MS, MapCanvas
from attnscope.plots.refusal_card import RefusalCard
from attnscope.store import Store
from attnscope.theme import Theme
from attnscope_engine import protocol as p
from map_states import answer, replace_picture, store_of, synthetic
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage, QMouseEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

MODIFIER = Qt.KeyboardModifier


@pytest.fixture
def theme(qtbot: QtBot) -> Theme:
    return Theme("dark")


def canvas_of(qtbot: QtBot, theme: Theme, store: Store, width: int = 1000, height: int = 640) -> MapCanvas:
    canvas = MapCanvas(store, theme, MapFeed(store))
    qtbot.addWidget(canvas)
    canvas.resize(width, height)
    canvas.show()
    return canvas


def point_of(canvas: MapCanvas, row: int, column: int, panel: int = 0) -> QPoint:
    """The middle of a cell on a panel."""
    box, view = canvas.places[panel].map, canvas.scene.view
    size = box.width / (view[1] - view[0])
    return QPoint(round(box.x + (column + 0.5 - view[2]) * size - 0.5), round(box.y + (row + 0.5 - view[0]) * size - 0.5))


def colour_at(canvas: MapCanvas, row: int, column: int, panel: int = 0) -> str:
    return canvas.grab().toImage().pixelColor(point_of(canvas, row, column, panel)).name().upper()


def wheel(canvas: MapCanvas, at: QPoint, notches: int) -> None:
    event = QWheelEvent(
        QPointF(at),
        QPointF(canvas.mapToGlobal(at)),
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        MODIFIER.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize(("mode", "tokens"), [("dark", DARK), ("light", LIGHT)])
def test_that_keys_after_the_query_have_the_mask_colour(qtbot: QtBot, theme: Theme, mode: str, tokens: object) -> None:
    store = synthetic(128)
    canvas = canvas_of(qtbot, theme, store)
    theme.set_mode(mode)  # type: ignore[arg-type]
    assert colour_at(canvas, 20, 40) == getattr(tokens, "mask")  # noqa: B009
    assert colour_at(canvas, 40, 20) != getattr(tokens, "mask")  # noqa: B009


def test_that_panels_share_their_axes(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128)
    canvas = canvas_of(qtbot, theme, store)
    one, other = canvas.places
    assert (one.map.y, one.map.width) == (other.map.y, other.map.width)
    QTest.mouseMove(canvas, point_of(canvas, 90, 30, panel=1))
    assert store.state.live.hover == (90, 30)
    shot = canvas.grab().toImage()
    for panel in (0, 1):
        x = point_of(canvas, 90, 30, panel).x()
        column = [shot.pixelColor(x, y).name().upper() for y in range(int(one.map.y), int(one.map.bottom))]
        assert DARK.accent in column  # the crosshair is in both


def test_that_the_crosshair_leaves_a_gap_at_the_cell(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(512)
    canvas = canvas_of(qtbot, theme, store)
    store.update(row=400, column=100)
    at, shot = point_of(canvas, 400, 100), canvas.grab().toImage()
    row = [shot.pixelColor(at.x() + step, at.y()).name().upper() for step in range(-14, 15)]
    assert row[0] == DARK.accent
    assert row[-1] == DARK.accent
    assert row[8] != DARK.accent
    assert row[14] != DARK.accent


def test_that_the_needle_is_on_the_canvas_at_fit_for_4096_tokens(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(256)
    drawn = store.state.live.answers["map"].payload
    assert isinstance(drawn, p.MapDrawn)
    canvas = canvas_of(qtbot, theme, store, 700, 560)
    codes = bytearray(2048 * 2048)
    codes[1500 * 2048 + 700] = p.MAX_CODE
    store.update(seq_len=4096)
    canvas_job = msgspec.structs.replace(
        drawn.job, workload=msgspec.structs.replace(drawn.job.workload, seq_len=4096), rows=(0, 4096), columns=(0, 4096), factor=2
    )
    picture = msgspec.structs.replace(drawn.pictures[0], codes=p.Array("u1", (2048, 2048), bytes(codes)), mass_cut=None)
    payload = p.MapDrawn(canvas_job, 4096, (picture, picture))
    answers = {**store.state.live.answers, "map": msgspec.structs.replace(store.state.live.answers["map"], payload=payload)}
    store.update_live(answers=answers)
    image = canvas.grab().toImage()
    box = canvas.places[0].map
    bright = [
        (x, y)
        for y in range(int(box.y), int(box.bottom))
        for x in range(int(box.x), int(box.right))
        if QColor(image.pixel(x, y)).lightness() > 150
    ]
    assert bright
    row = (bright[0][1] - box.y) / box.width * 4096
    assert abs(row - 3000) < 20


def test_that_nan_is_counted_ringed_and_reached_by_next(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128)
    canvas = canvas_of(qtbot, theme, store)
    replace_picture(store, 0, nan_count=2, bad_cells=((90, 10), (100, 20)))
    canvas.hand.next_bad_cell()
    assert (store.state.settings.row, store.state.settings.column) == (90, 10)
    canvas.hand.next_bad_cell()
    assert (store.state.settings.row, store.state.settings.column) == (100, 20)
    canvas.hand.next_bad_cell()
    assert (store.state.settings.row, store.state.settings.column) == (90, 10)


def test_that_a_stale_map_is_dimmed_after_a_moment_and_not_at_once(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128)
    canvas = canvas_of(qtbot, theme, store)
    before = QColor(colour_at(canvas, 100, 99))
    store.update(seq_len=256)
    assert QColor(colour_at(canvas, 100, 99)) == before
    qtbot.wait(LATE_MS + 100)
    after = QColor(colour_at(canvas, 100, 99))
    assert after != before
    ground = QColor(DARK.plot)
    assert abs(after.red() - (0.4 * before.red() + 0.6 * ground.red())) <= 2
    answer(store)
    assert not any(panel.stale for panel in canvas.scene.panels)


def test_that_a_stale_map_that_is_answered_in_time_never_dims(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128)
    canvas = canvas_of(qtbot, theme, store)
    store.update(seq_len=130)
    answer(store)
    qtbot.wait(LATE_MS + 100)
    assert colour_at(canvas, 20, 60) == DARK.mask


def test_that_chunks_have_borders_in_the_variants_colour(qtbot: QtBot, theme: Theme) -> None:
    store = store_of()
    answer(store)
    canvas = canvas_of(qtbot, theme, store)
    place = canvas.places[1]
    x = round(place.map.x + 8 * place.map.width / canvas.scene.seq_len)
    shot = canvas.grab().toImage()
    seen = {
        shot.pixelColor(x + step, y).name().upper() for step in (-1, 0) for y in range(int(place.map.y), int(place.map.bottom))
    }
    assert look("chunked").colour(DARK) in seen


def test_that_a_row_has_a_bar_of_the_mass_that_is_cut(qtbot: QtBot, theme: Theme) -> None:
    store = store_of()
    answer(store)
    canvas = canvas_of(qtbot, theme, store)
    assert canvas.places[0].gutter is None
    gutter = canvas.places[1].gutter
    assert gutter is not None
    shot, size = canvas.grab().toImage(), gutter.height / canvas.scene.seq_len
    lengths = []
    for row in range(canvas.scene.seq_len):
        y = int(gutter.y + (row + 0.5) * size)
        line = [shot.pixelColor(int(gutter.x) + x, y).name().upper() for x in range(int(gutter.width))]
        lengths.append(line.count(look("chunked").colour(DARK)))
    drawn = store.state.live.answers["map"].payload
    assert isinstance(drawn, p.MapDrawn)
    cut = drawn.pictures[1].mass_cut
    assert cut is not None
    shares = memoryview(cut.data).cast("f")
    assert all(abs(length - share * gutter.width) <= 1 for length, share in zip(lengths, shares, strict=True))
    assert max(lengths) > 10


# ---------------------------------------------------------------- the hand


def test_that_a_click_fixes_the_row_and_a_second_frees_it(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128)
    canvas = canvas_of(qtbot, theme, store)
    at = point_of(canvas, 70, 30)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    assert (store.state.settings.row, store.state.settings.column) == (70, 30)
    QTest.mouseMove(canvas, point_of(canvas, 100, 90))
    assert canvas.scene.cell == (70, 90)  # the row stays, the pointer moves the key
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    assert store.state.settings.row == -1


def test_that_escape_frees_the_row_and_then_belongs_to_the_window(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128, row=70, column=30)
    canvas = canvas_of(qtbot, theme, store)
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert store.state.settings.row == -1
    assert not canvas.hand.key(Qt.Key.Key_Escape, MODIFIER.NoModifier)


def test_that_the_wheel_zooms_about_the_pointer_and_back(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(512)
    canvas = canvas_of(qtbot, theme, store)
    at = point_of(canvas, 300, 100)
    wheel(canvas, at, 1)
    view = store.state.settings.view
    assert view is not None
    assert view[1] - view[0] == 256
    box = canvas.places[0].map
    under = view[0] + (at.y() - box.y) * 256 / box.width
    assert abs(under - 300) <= 2
    wheel(canvas, at, -1)
    assert store.state.settings.view is None


def test_that_a_drag_pans_and_back_returns(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(512, view=(100, 200, 100, 200))
    canvas = canvas_of(qtbot, theme, store)
    at = point_of(canvas, 150, 150)
    size = canvas.places[0].map.width / 100
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=at)
    for step in (10, 20, 30):
        qtbot.mouseMove(canvas, QPoint(at.x() + round(step * size), at.y()))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(at.x() + round(30 * size), at.y()))
    assert store.state.settings.view == (100, 200, 70, 170)
    assert store.state.settings.row == -1  # a drag is no click
    QTest.keyClick(canvas, Qt.Key.Key_Backspace)
    assert store.state.settings.view == (100, 200, 100, 200)


def test_that_shift_and_drag_zooms_to_the_rectangle(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(512)
    canvas = canvas_of(qtbot, theme, store)
    one, other = point_of(canvas, 200, 50), point_of(canvas, 260, 110)
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, MODIFIER.ShiftModifier, one)
    canvas.mouseMoveEvent(_move(canvas, other))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, MODIFIER.ShiftModifier, other)
    view = store.state.settings.view
    assert view is not None
    assert view[0] <= 200
    assert view[1] >= 260
    assert view[1] - view[0] == pytest.approx(61, abs=3)


def _move(canvas: MapCanvas, at: QPoint) -> QMouseEvent:
    button = Qt.MouseButton.LeftButton
    return QMouseEvent(
        QEvent.Type.MouseMove, QPointF(at), QPointF(canvas.mapToGlobal(at)), button, button, MODIFIER.ShiftModifier
    )


def test_that_a_double_click_zooms_four_times_and_fixes_nothing(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(512)
    canvas = canvas_of(qtbot, theme, store)
    at = point_of(canvas, 300, 100)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    QTest.mouseDClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    view = store.state.settings.view
    assert view is not None
    assert view[1] - view[0] == 128
    assert store.state.settings.row == -1


@pytest.mark.parametrize(
    ("key", "modifier", "cell"),
    [
        (Qt.Key.Key_Down, MODIFIER.NoModifier, (71, 30)),
        (Qt.Key.Key_Up, MODIFIER.ShiftModifier, (60, 30)),
        (Qt.Key.Key_Right, MODIFIER.ShiftModifier, (70, 40)),
        (Qt.Key.Key_Left, MODIFIER.NoModifier, (70, 29)),
    ],
)
def test_that_arrows_move_the_cell(
    qtbot: QtBot, theme: Theme, key: Qt.Key, modifier: Qt.KeyboardModifier, cell: tuple[int, int]
) -> None:
    store = synthetic(128, row=70, column=30)
    canvas = canvas_of(qtbot, theme, store)
    QTest.keyClick(canvas, key, modifier)
    assert (store.state.settings.row, store.state.settings.column) == cell


def test_that_a_cell_moved_out_of_the_view_takes_the_view_along(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128, row=31, column=5, view=(0, 32, 0, 32))
    canvas = canvas_of(qtbot, theme, store)
    QTest.keyClick(canvas, Qt.Key.Key_Down)
    assert store.state.settings.view == (1, 33, 0, 32)


def test_that_letters_go_through_heads_layers_pooling_and_order(qtbot: QtBot, theme: Theme) -> None:
    store = store_of()
    answer(store)
    canvas = canvas_of(qtbot, theme, store)
    QTest.keyClick(canvas, Qt.Key.Key_H)
    assert (store.state.settings.layer, store.state.settings.head) == (2, 0)  # after the last head comes the first
    QTest.keyClick(canvas, Qt.Key.Key_H, MODIFIER.ShiftModifier)
    QTest.keyClick(canvas, Qt.Key.Key_L)
    assert (store.state.settings.layer, store.state.settings.head) == (0, 3)
    QTest.keyClick(canvas, Qt.Key.Key_L, MODIFIER.ShiftModifier)
    assert store.state.settings.layer == 2
    QTest.keyClick(canvas, Qt.Key.Key_P)
    assert store.state.settings.pool == "mean"
    QTest.keyClick(canvas, Qt.Key.Key_X)
    assert store.state.settings.checked == ("chunked", "softmax_tiled")


def test_that_plus_minus_and_zero_zoom_and_fit(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(256)
    canvas = canvas_of(qtbot, theme, store)
    QTest.keyClick(canvas, Qt.Key.Key_Plus)
    QTest.keyClick(canvas, Qt.Key.Key_Plus)
    assert store.state.settings.view == (96, 160, 96, 160)
    QTest.keyClick(canvas, Qt.Key.Key_Minus)
    assert store.state.settings.view == (64, 192, 64, 192)
    QTest.keyClick(canvas, Qt.Key.Key_0)
    assert store.state.settings.view is None


def test_that_n_goes_to_the_largest_weight_in_view_and_then_to_the_next(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128)
    codes = bytearray(128 * 128)
    codes[100 * 128 + 40], codes[90 * 128 + 30], codes[5 * 128 + 5] = 200, 100, 249
    replace_picture(store, 0, codes=p.Array("u1", (128, 128), bytes(codes)))
    store.update(view=(64, 128, 0, 64))
    canvas = canvas_of(qtbot, theme, store)
    QTest.keyClick(canvas, Qt.Key.Key_N)
    assert (store.state.settings.row, store.state.settings.column) == (100, 40)
    QTest.keyClick(canvas, Qt.Key.Key_N)
    assert (store.state.settings.row, store.state.settings.column) == (90, 30)


def test_that_a_gesture_is_one_step_of_undo_and_of_back(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(1024)
    canvas = canvas_of(qtbot, theme, store)
    for _ in range(4):
        wheel(canvas, point_of(canvas, 512, 512), 1)
    assert store.state.settings.view is not None
    store.undo()
    assert store.state.settings.view is None


def test_that_leaving_the_map_frees_the_pointer(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128)
    canvas = canvas_of(qtbot, theme, store)
    QTest.mouseMove(canvas, point_of(canvas, 90, 30))
    QTest.mouseMove(canvas, QPoint(2, 2))
    assert store.state.live.hover is None


# ---------------------------------------------------------------- refusals, words, cost


def test_that_a_refusal_stands_in_its_panel_and_offers_what_fits(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128, checked=("softmax_naive", "softmax_tiled"))
    canvas = canvas_of(qtbot, theme, store)
    store.update(seq_len=1 << 20)
    (card,) = canvas.findChildren(RefusalCard)
    assert card.isVisible()
    assert card.geometry().left() == pytest.approx(canvas.places[0].map.x, abs=2)
    card.use.click()
    assert store.state.settings.workload.seq_len < 1 << 20
    assert not canvas.scene.panels[0].refusal
    assert not [each for each in canvas.findChildren(RefusalCard) if each.isVisible()]


def test_that_the_map_is_described_in_words(qtbot: QtBot, theme: Theme) -> None:
    store = store_of()
    answer(store)
    canvas = canvas_of(qtbot, theme, store)
    store.update(row=11, column=1)
    answer(store)
    words = canvas.accessibleDescription()
    assert words.startswith("Flash and Chunked, 14 tokens, she → CEO, Flash ")
    assert words.endswith("Chunked masked")


def test_that_no_variant_leaves_one_sentence(qtbot: QtBot, theme: Theme) -> None:
    canvas = canvas_of(qtbot, theme, store_of(checked=()))
    canvas.grab()
    assert canvas.places == ()
    assert canvas.scene.message is not None


def test_that_the_maps_are_sharp_at_twice_the_pixels(qtbot: QtBot, theme: Theme) -> None:
    store = synthetic(128)
    canvas = canvas_of(qtbot, theme, store)
    shot = QImage(canvas.size() * 2, QImage.Format.Format_RGB32)
    shot.setDevicePixelRatio(2)
    canvas.render(shot)
    at = point_of(canvas, 20, 60)
    assert shot.pixelColor(at.x() * 2, at.y() * 2).name().upper() == DARK.mask

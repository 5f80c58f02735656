"""Controls give back what the hand did, show what they are told, and never echo."""

from __future__ import annotations

import pytest
from attnscope.looks import look
from attnscope.panels.controls import SEQ_LENS, IntSlider, KeyButton, LogSlider, NumberField, Scale, Segments, ValueSlider, Wall
from attnscope.theme import Theme
from attnscope_engine.protocol import MAX_SEQ_LEN, MIN_SEQ_LEN
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QKeyEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

LEFT = Qt.MouseButton.LeftButton
ALT = Qt.KeyboardModifier.AltModifier


@pytest.fixture
def theme(qtbot: QtBot) -> Theme:
    return Theme("dark")


@pytest.fixture
def slider(qtbot: QtBot, theme: Theme) -> LogSlider:
    slider = LogSlider(theme, 4096)
    qtbot.addWidget(slider)
    slider.resize(296, 40)
    return slider


def heard(control: LogSlider | NumberField | IntSlider | Segments | ValueSlider) -> list[object]:
    values: list[object] = []
    control.chosen.connect(values.append)
    return values


def scroll(widget: QWidget, notches: int) -> bool:
    """Whether the widget took the wheel."""
    event = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(), QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    event.ignore()
    QApplication.sendEvent(widget, event)
    return event.isAccepted()


# ---------------------------------------------------------------- the scale


def test_that_the_slider_of_n_has_sixteen_steps_an_octave() -> None:
    assert SEQ_LENS.steps == 224
    assert [SEQ_LENS.value_at(step) for step in (0, 16, 64, 96, 224)] == [64, 128, 1024, 4096, 1_048_576]


@given(st.integers(0, 224))
def test_that_a_step_gives_a_round_n_and_is_found_again(step: int) -> None:
    n = SEQ_LENS.value_at(step)
    assert n % (1 if n < 1024 else 16 if n < 16384 else 64) == 0
    assert SEQ_LENS.step_of(n) == step


@given(st.integers(MIN_SEQ_LEN, MAX_SEQ_LEN - 1))
def test_that_a_step_up_always_goes_up_by_about_a_sixteenth(n: int) -> None:
    up = SEQ_LENS.stepped(n, 1)
    assert n < up <= max(n * 2 ** (2 / 16), n + 64)


@given(st.floats(0, 1))
def test_that_a_drag_lands_on_near_powers_of_two_and_on_no_others(share: float) -> None:
    octaves = 6 + 14 * share
    n = SEQ_LENS.snapped(share)
    if abs(octaves - round(octaves)) <= 0.06:
        assert n == 2 ** round(octaves)
    else:
        assert n == SEQ_LENS.value(share)


@given(st.integers(-10, 300), st.integers(1, 300), st.booleans(), st.floats(0, 1))
def test_that_no_scale_leaves_its_bounds(low: int, span: int, logarithmic: bool, share: float) -> None:
    if logarithmic and low < 1:
        with pytest.raises(ValueError, match="no scale"):
            Scale(low, low + span, logarithmic=True)
        return
    scale = Scale(low, low + span, logarithmic)
    assert low <= scale.value(share) <= low + span
    assert low <= scale.snapped(share) <= low + span
    assert (scale.value(0), scale.value(1)) == (low, low + span)
    assert scale.stepped(low, -1) == low
    assert scale.stepped(low, 1) > low


# ---------------------------------------------------------------- the slider


@pytest.mark.parametrize(
    ("key", "modifier", "expected"),
    [
        (Qt.Key.Key_Right, Qt.KeyboardModifier.NoModifier, SEQ_LENS.value_at(97)),
        (Qt.Key.Key_Left, Qt.KeyboardModifier.NoModifier, SEQ_LENS.value_at(95)),
        (Qt.Key.Key_PageUp, Qt.KeyboardModifier.NoModifier, 8192),
        (Qt.Key.Key_PageDown, Qt.KeyboardModifier.NoModifier, 2048),
        (Qt.Key.Key_Home, Qt.KeyboardModifier.NoModifier, 64),
        (Qt.Key.Key_End, Qt.KeyboardModifier.NoModifier, 1_048_576),
        (Qt.Key.Key_Right, Qt.KeyboardModifier.ControlModifier, 4097),
        (Qt.Key.Key_Left, Qt.KeyboardModifier.ControlModifier, 4095),
    ],
)
def test_that_keys_move_n(slider: LogSlider, key: Qt.Key, modifier: Qt.KeyboardModifier, expected: int) -> None:
    values = heard(slider)
    QTest.keyClick(slider, key, modifier)
    assert values == [expected]
    assert slider.number == expected


def test_that_keys_stop_at_the_ends_and_say_nothing(slider: LogSlider) -> None:
    slider.set_number(MAX_SEQ_LEN)
    values = heard(slider)
    for key in (Qt.Key.Key_Right, Qt.Key.Key_PageUp, Qt.Key.Key_End):
        QTest.keyClick(slider, key)
    assert values == []


def test_that_a_drag_follows_and_snaps_and_alt_frees_it(slider: LogSlider) -> None:
    values = heard(slider)
    near = QPoint(round(slider.place(65536)) + 1, 8)
    QTest.mousePress(slider, LEFT, pos=near)
    assert slider.number == 65536
    QTest.mouseMove(slider, QPoint(round(slider.place(20000)), 8))
    assert abs(slider.number - 20000) < 1000
    QTest.mouseRelease(slider, LEFT)
    assert len(values) == 2
    QTest.mousePress(slider, LEFT, ALT, near)
    assert 65536 < slider.number < 72000
    QTest.mouseRelease(slider, LEFT, ALT)


def test_that_taking_the_thumb_off_its_middle_does_not_move_it(slider: LogSlider) -> None:
    values = heard(slider)
    QTest.mousePress(slider, LEFT, pos=QPoint(round(slider.thumb_x()) + 4, 8))
    QTest.mouseRelease(slider, LEFT)
    assert values == []


def test_that_a_double_click_brings_the_default_back(slider: LogSlider) -> None:
    slider.set_number(65536)
    QTest.mouseDClick(slider, LEFT, pos=QPoint(20, 8))
    assert slider.number == 4096


def test_that_the_wheel_acts_only_with_the_focus(qtbot: QtBot, theme: Theme) -> None:
    window = QWidget()
    column = QVBoxLayout(window)
    slider, other = LogSlider(theme, 4096), LogSlider(theme, 4096)
    column.addWidget(slider)
    column.addWidget(other)
    qtbot.addWidget(window)
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    other.setFocus()
    values = heard(slider)
    assert not scroll(slider, 1)
    assert values == []
    slider.setFocus()
    assert scroll(slider, 1)
    assert values == [SEQ_LENS.value_at(97)]


def test_that_an_exact_n_between_two_steps_is_kept(slider: LogSlider) -> None:
    slider.set_number(5001)
    assert slider.number == 5001
    assert "5,001 tokens" in slider.accessibleDescription()


def test_that_what_comes_from_the_state_is_not_sent_back(slider: LogSlider) -> None:
    values = heard(slider)
    slider.set_number(100)
    slider.set_number(1_048_576)
    assert values == []


def test_that_walls_are_painted_and_spoken(slider: LogSlider) -> None:
    before = slider.grab().toImage()
    slider.set_walls((Wall("Naive", 29504, look("softmax_naive")),))
    assert slider.grab().toImage() != before
    assert "Naive fits up to 29,504" in slider.accessibleDescription()


# ---------------------------------------------------------------- the field


@pytest.fixture
def field(qtbot: QtBot) -> NumberField:
    field = NumberField("n", 64, 1_048_576, 64)
    qtbot.addWidget(field)
    field.set_number(4096)
    return field


def type_into(field: NumberField, text: str) -> None:
    field.selectAll()
    QTest.keyClicks(field, text)
    QTest.keyClick(field, Qt.Key.Key_Return)


@pytest.mark.parametrize("text", ["65536", "65,536", "64k", "2^16"])
def test_that_a_field_takes_what_people_type(field: NumberField, text: str) -> None:
    values = heard(field)
    type_into(field, text)
    assert values == [65536]
    assert field.text() == "65,536"


@pytest.mark.parametrize(("text", "was"), [("3000000", "3,000,000"), ("63", "63"), ("many", "many"), (" ", "empty")])
def test_that_bad_text_is_named_and_the_old_number_stays(field: NumberField, text: str, was: str) -> None:
    values, problems = heard(field), []
    field.problem.connect(problems.append)
    type_into(field, text)
    assert values == []
    assert problems == [f"n must be 64 to 1,048,576 (was {was})."]
    assert field.is_bad
    assert field.number == 4096
    QTest.keyClick(field, Qt.Key.Key_Escape)
    assert (field.text(), field.is_bad) == ("4,096", False)
    assert problems[-1] == ""


def test_that_leaving_applies(qtbot: QtBot, field: NumberField) -> None:
    values = heard(field)
    field.setText("8k")
    field.editingFinished.emit()
    assert values == [8192]


def test_that_arrows_step_by_sixty_four_and_stop_at_the_ends(field: NumberField) -> None:
    values = heard(field)
    QTest.keyClick(field, Qt.Key.Key_Up)
    QTest.keyClick(field, Qt.Key.Key_Down)
    field.set_number(100)
    QTest.keyClick(field, Qt.Key.Key_Down)
    QTest.keyClick(field, Qt.Key.Key_Down)
    assert values == [4160, 4096, 64]


def test_that_escape_belongs_to_the_field_only_while_there_is_something_to_restore(field: NumberField) -> None:
    def taken() -> bool:
        event = QKeyEvent(QEvent.Type.ShortcutOverride, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
        event.ignore()
        QApplication.sendEvent(field, event)
        return event.isAccepted()

    assert not taken()
    field.setText("77x")
    assert taken()


def test_that_typing_is_not_disturbed_by_the_same_number_coming_again(field: NumberField) -> None:
    field.setText("12")
    field.set_number(4096)
    assert field.text() == "12"
    field.set_number(512)
    assert field.text() == "512"


# ---------------------------------------------------------------- segments and rows


def test_that_segments_choose_one_and_echo_nothing(qtbot: QtBot) -> None:
    segments = Segments("Mask", (("causal", "causal"), ("full", "full")))
    qtbot.addWidget(segments)
    values = heard(segments)
    segments.set_value("full")
    assert (segments.value, values) == ("full", [])
    QTest.mouseClick(segments.button("causal"), LEFT)
    assert (segments.value, values) == ("causal", ["causal"])
    assert not segments.button("full").isChecked()


def test_that_choosing_a_segment_moves_nothing(qtbot: QtBot) -> None:
    segments = Segments("Mask", (("a", "side by side"), ("b", "difference"), ("c", "all heads")))
    qtbot.addWidget(segments)
    widths = set()
    for value in "abc":
        segments.set_value(value)
        segments.adjustSize()
        widths.add(segments.width())
    assert len(widths) == 1


def test_that_arrow_keys_move_along_segments(qtbot: QtBot) -> None:
    segments = Segments("Mask", (("a", "one"), ("b", "two")))
    qtbot.addWidget(segments)
    with qtbot.waitActive(segments):
        segments.show()
        segments.activateWindow()
    values = heard(segments)
    segments.button("a").setFocus()
    QTest.keyClick(segments.button("a"), Qt.Key.Key_Right)
    assert (segments.value, values) == ("b", ["b"])


def test_that_slider_and_field_of_a_row_agree(qtbot: QtBot, theme: Theme) -> None:
    row = IntSlider(theme, "window", 1, 1_048_576, 1024, logarithmic=True)
    qtbot.addWidget(row)
    values = heard(row)
    QTest.keyClick(row.slider, Qt.Key.Key_PageUp)
    assert (row.field.number, row.slider.number) == (2048, 2048)
    type_into(row.field, "3000")
    assert (row.field.number, row.slider.number) == (3000, 3000)
    assert values == [2048, 3000]
    row.set_number(7)
    assert (row.field.text(), row.slider.number, values) == ("7", 7, [2048, 3000])


def test_that_a_row_from_zero_is_linear(qtbot: QtBot, theme: Theme) -> None:
    row = IntSlider(theme, "sinks", 0, 256, 0, logarithmic=True)
    qtbot.addWidget(row)
    QTest.keyClick(row.slider, Qt.Key.Key_Right)
    assert row.number == 1
    QTest.keyClick(row.slider, Qt.Key.Key_Home)
    assert row.number == 0


def test_that_a_button_has_room_for_its_words_and_its_key(qtbot: QtBot, theme: Theme) -> None:
    plain, keyed = KeyButton(theme, "Measure all", "", "play"), KeyButton(theme, "Measure all", "F5", "play")
    qtbot.addWidget(plain)
    qtbot.addWidget(keyed)
    assert keyed.sizeHint().width() > plain.sizeHint().width()
    keyed.resize(keyed.sizeHint())
    plain.resize(keyed.sizeHint())
    assert keyed.grab().toImage() != plain.grab().toImage()

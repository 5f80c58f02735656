"""No Qt call that we make in a paint or a slider tick loses a reference to None.

PySide6 6.12 does on Python 3.11: each call without a result takes one reference, and the interpreter aborts within seconds.
Since Python 3.12 None is immortal (PEP 683): there is nothing to lose, and nothing to count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from attnscope.looks import DARK, look
from attnscope.marks import draw_marker, draw_swatch, marker_path
from attnscope.theme import font, icon
from PySide6.QtCore import QEvent, QLineF, QPoint, QPointF, QRect, QRectF, QSignalBlocker, QSize, Qt, QTimer
from PySide6.QtGui import (
    QAccessible,
    QAccessibleAnnouncementEvent,
    QBrush,
    QColor,
    QImage,
    QPainter,
    QPainterPath,
    QPen,
    QPixmap,
    QPolygonF,
    QTransform,
)
from PySide6.QtWidgets import QApplication, QCheckBox, QComboBox, QHBoxLayout, QLabel, QLineEdit, QSlider, QWidget
from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 12), reason="None is immortal since Python 3.12")

CALLS = 400
LOST = 0.05
"""References a call, on average, that only a real loss exceeds."""


def lost_by(call: Callable[[], object]) -> float:
    """References to None that go or come with each call."""
    call()
    before = sys.getrefcount(None)
    for _ in range(CALLS):
        call()
    return abs(sys.getrefcount(None) - before) / CALLS


def painter_calls(painter: QPainter) -> dict[str, Callable[[], object]]:
    line, box, whole = QLineF(0, 0, 5, 5), QRectF(0, 0, 9, 9), QRect(0, 0, 9, 9)
    path, image, pixmap = QPainterPath(), QImage(9, 9, QImage.Format.Format_Indexed8), QPixmap(9, 9)
    image.setColorCount(256)
    image.fill(0)
    pixmap.fill(Qt.GlobalColor.transparent)
    pen, brush, colour = QPen(QColor(DARK.edge), 1.5), QBrush(QColor(DARK.mask)), QColor(DARK.text1)
    points = QPolygonF([QPointF(0, 0), QPointF(3, 3), QPointF(6, 0)])
    flags = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    transform = QTransform()
    return {
        "setPen(pen)": lambda: painter.setPen(pen),
        "setPen(colour)": lambda: painter.setPen(colour),
        "setPen(style)": lambda: painter.setPen(Qt.PenStyle.NoPen),
        "setBrush": lambda: painter.setBrush(brush),
        "setFont": lambda: painter.setFont(font("number")),
        "setOpacity": lambda: painter.setOpacity(1.0),
        "setRenderHint": lambda: painter.setRenderHint(QPainter.RenderHint.Antialiasing),
        "setClipRect": lambda: painter.setClipRect(box),
        "setTransform": lambda: painter.setTransform(transform),
        "save, translate, restore": lambda: (painter.save(), painter.translate(1, 1), painter.rotate(9), painter.restore()),
        "drawLine": lambda: painter.drawLine(line),
        "drawLines": lambda: painter.drawLines([line, line]),
        "drawRect": lambda: painter.drawRect(box),
        "drawRoundedRect": lambda: painter.drawRoundedRect(box, 2, 2),
        "drawEllipse": lambda: painter.drawEllipse(QPointF(4, 4), 2, 2),
        "drawPolyline": lambda: painter.drawPolyline(points),
        "drawPolygon": lambda: painter.drawPolygon(points),
        "drawPath": lambda: painter.drawPath(path),
        "fillPath": lambda: painter.fillPath(path, colour),
        "strokePath": lambda: painter.strokePath(path, pen),
        "fillRect": lambda: painter.fillRect(whole, colour),
        "drawText(box)": lambda: painter.drawText(box, flags, "1.65"),
        "drawText(point)": lambda: painter.drawText(QPointF(1, 1), "1.65"),
        "drawImage": lambda: painter.drawImage(box, image),
        "drawPixmap": lambda: painter.drawPixmap(QPoint(0, 0), pixmap),
        "icon.paint": lambda: icon("warn", DARK.warn).paint(painter, 0, 0, 16, 16),
        "image.setColorTable": lambda: image.setColorTable([0xFF000000] * 256),
        "path.moveTo, lineTo": lambda: (path.clear(), path.moveTo(0, 0), path.lineTo(3, 3), path.closeSubpath()),
        "pen.setDashPattern": lambda: (pen.setDashPattern([4.0, 2.0]), pen.setCosmetic(True), pen.setWidthF(1.0)),
        "draw_swatch": lambda: draw_swatch(painter, QRectF(0, 0, 32, 14), look("linear"), DARK),
        "draw_marker": lambda: draw_marker(painter, QPointF(4, 4), look("chunked"), DARK, hollow=True),
        "marker_path": lambda: marker_path("star", 8.0).boundingRect(),
    }


def widget_calls(window: QWidget) -> dict[str, Callable[[], object]]:
    row = QHBoxLayout(window)
    label, edit, slider, check, combo = QLabel(), QLineEdit(), QSlider(Qt.Orientation.Horizontal), QCheckBox(), QComboBox()
    for widget in (label, edit, slider, check, combo):
        row.addWidget(widget)
    combo.addItems(["a", "b"])
    timer = QTimer(window)

    def blocked() -> None:
        with QSignalBlocker(slider):
            slider.setValue(1 - slider.value())

    return {
        "update": lambda: window.update(),
        "update(rect)": lambda: window.update(QRect(0, 0, 3, 3)),
        "repaint": lambda: window.repaint(),
        "setVisible": lambda: label.setVisible(True),
        "setText": lambda: (label.setText("a"), label.setText("b"), edit.setText("a"), edit.setText("b")),
        "setToolTip": lambda: label.setToolTip("a"),
        "setAccessibleDescription": lambda: label.setAccessibleDescription("a"),
        "setProperty": lambda: (label.setProperty("role", "hint"), label.style().unpolish(label), label.style().polish(label)),
        "setEnabled": lambda: (check.setEnabled(False), check.setEnabled(True)),
        "setChecked": lambda: (check.setChecked(True), check.setChecked(False)),
        "setCurrentText": lambda: (combo.setCurrentText("b"), combo.setCurrentText("a")),
        "blocker": blocked,
        "resize": lambda: (window.resize(300, 60), window.resize(301, 60)),
        "setFixedSize": lambda: label.setFixedSize(QSize(40, 20)),
        "timer": lambda: (timer.start(1000), timer.stop()),
        "sendEvent": lambda: QApplication.sendEvent(window, QEvent(QEvent.Type.User)),
        "processEvents": lambda: QApplication.processEvents(),
        "announce": lambda: QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(window, "a")),
    }


@pytest.fixture
def painter(qtbot: QtBot) -> QPainter:
    image = QImage(100, 100, QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(0)
    painter = QPainter(image)
    painter.__dict__["keeps"] = image  # a painter does not keep what it paints on
    return painter


def test_that_no_painter_call_loses_a_reference(painter: QPainter) -> None:
    losses = {name: lost_by(call) for name, call in painter_calls(painter).items()}
    painter.end()
    assert {name: loss for name, loss in losses.items() if loss > LOST} == {}


def test_that_no_widget_call_loses_a_reference(qtbot: QtBot) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    window.show()
    losses = {name: lost_by(call) for name, call in widget_calls(window).items()}
    assert {name: loss for name, loss in losses.items() if loss > LOST} == {}


def test_that_the_audit_sees_a_loss() -> None:
    kept: list[None] = []
    assert lost_by(lambda: kept.append(None)) > LOST

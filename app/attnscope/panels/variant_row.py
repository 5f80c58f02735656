"""One variant: check, swatch, name over summary, predicted and measured time over memory. 44 px high, painted."""

from __future__ import annotations

import functools
from typing import Literal

from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QColor, QEnterEvent, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QApplication, QCheckBox, QSizePolicy, QToolTip, QWidget

from attnscope.looks import look
from attnscope.panels.variant_facts import VariantFacts
from attnscope.quantities import NOTHING, Parts
from attnscope.theme import Theme, draw_swatch, font, icon

ROW_HEIGHT = 44
_CHECK = QRect(12, 15, 14, 14)
_SWATCH = QRectF(33, 15, 32, 14)
_NAME_X = 72
_LINES = (4, 22)
"""Tops of the two lines of a row, each 18 px."""
_UNIT = 24
_STALE = 0.55
_OVERHANG = 10
"""A name or a word may reach this far over its column: the neighbour's cell is empty there on the same line."""

Column = Literal["name", "predicted", "measured"]
Part = Literal["name", "time", "memory", "measured"]


class VariantRow(QCheckBox):
    """The check is the whole widget's state for the keyboard and a screen reader; a click beside it opens the parameters."""

    open_asked = Signal()
    only_asked = Signal()
    dragged = Signal(int)
    """y in the parent while it is dragged, to show where it would fall."""
    dropped = Signal(int)
    moved = Signal(int)
    """Ctrl+↑ or Ctrl+↓: −1 or +1 place on the map."""
    tip_asked = Signal(str, QPoint)
    """(part, where)"""

    def __init__(self, name: str, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = name
        self.facts = VariantFacts("", "", checked=False, opened=False)
        self._theme = theme
        self._look = look(name)
        self._pressed_at: QPoint | None = None
        self._dragging = False
        self.setFixedHeight(ROW_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        theme.changed.connect(self.update)

    def set_facts(self, facts: VariantFacts) -> None:
        """Show these, repainting only the columns that differ."""
        old, self.facts = self.facts, facts
        if old == facts:
            return
        if self.isChecked() != facts.checked:
            with QSignalBlocker(self):
                self.setChecked(facts.checked)
        if (old.title, old.summary, old.checked, old.opened) != (facts.title, facts.summary, facts.checked, facts.opened):
            self.setText(facts.title)
            self.setAccessibleName(facts.title)
            self.update()
        elif old.refusal or facts.refusal:
            self.update(self.column("predicted").united(self.column("measured")))
        else:
            if old.predicted != facts.predicted:
                self.update(self.column("predicted"))
            if _right_half(old) != _right_half(facts):
                self.update(self.column("measured").adjusted(-_OVERHANG, 0, 0, 0))
        self.setAccessibleDescription(facts.spoken)

    def sizeHint(self) -> QSize:
        return QSize(288, ROW_HEIGHT)

    def minimumSizeHint(self) -> QSize:
        return QSize(240, ROW_HEIGHT)

    def column(self, part: Column) -> QRect:
        """Where a column lies."""
        pitch = column_pitch(self.width())
        right = {"measured": self.width() - 12, "predicted": self.width() - 12 - pitch, "name": self.width() - 12 - 2 * pitch}[
            part
        ]
        left = _NAME_X if part == "name" else right - pitch
        return QRect(left, 0, right - left, self.height())

    def part_at(self, place: QPoint) -> Part:
        """What a tool tip at this place is about."""
        if place.x() >= self.column("measured").left():
            return "measured"
        if place.x() >= self.column("predicted").left():
            return "time" if place.y() < self.height() / 2 else "memory"
        return "name"

    # ------------------------------------------------------------ the hand

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            self.tip_asked.emit(self.part_at(event.pos()), event.globalPos())
            return True
        return super().event(event)

    def show_tip(self, text: str, part: Part, where: QPoint) -> None:
        column: Column = part if part == "name" or part == "measured" else "predicted"
        QToolTip.showText(where, text, self, self.column(column))

    def hitButton(self, pos: QPoint) -> bool:
        return _CHECK.adjusted(-8, -10, 6, 10).contains(pos)

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and not self.hitButton(event.position().toPoint()):
            self._pressed_at = event.position().toPoint()
            return
        super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._pressed_at is None:
            super().mouseMoveEvent(event)
            return
        far = (event.position().toPoint() - self._pressed_at).manhattanLength() >= QApplication.startDragDistance()
        if self._dragging or (far and self.facts.checked):
            self._dragging = True
            self.dragged.emit(self.mapToParent(event.position().toPoint()).y())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._pressed_at is None:
            super().mouseReleaseEvent(event)
            return
        self._pressed_at = None
        if self._dragging:
            self._dragging = False
            self.dropped.emit(self.mapToParent(event.position().toPoint()).y())
        elif self.rect().contains(event.position().toPoint()):
            self.open_asked.emit()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if self.hitButton(event.position().toPoint()):
            super().mouseDoubleClickEvent(event)
            return
        self.only_asked.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        match Qt.Key(event.key()):
            case Qt.Key.Key_Return | Qt.Key.Key_Enter:
                self.open_asked.emit()
            case Qt.Key.Key_Up | Qt.Key.Key_Down as key:
                if control:
                    self.moved.emit(-1 if key == Qt.Key.Key_Up else 1)
                else:
                    self.focusNextPrevChild(key == Qt.Key.Key_Down)
            case _:
                super().keyPressEvent(event)

    # ------------------------------------------------------------ the picture

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        tokens, area = self._theme.tokens, event.rect()
        if self.underMouse():
            painter.fillRect(area, QColor(tokens.hover))
        if area.left() < self.column("predicted").left():
            self._paint_name(painter)
        if self.facts.refusal:
            self._paint_refusal(painter)
        else:
            if area.left() < self.column("measured").left():
                self._paint_numbers(painter, "predicted", self.facts.predicted)
            self._paint_measured(painter)
        painter.fillRect(QRect(0, self.height() - 1, self.width(), 1), QColor(tokens.line))
        painter.end()

    def _paint_name(self, painter: QPainter) -> None:
        tokens, facts, box = self._theme.tokens, self.facts, self.column("name")
        paint_check(painter, _CHECK, self._theme, on=facts.checked)
        draw_swatch(painter, _SWATCH, self._look, tokens, facts.checked)
        painter.setFont(font("body_medium" if facts.checked else "body"))
        painter.setPen(QColor(tokens.text1 if facts.checked else tokens.text2))
        title = painter.fontMetrics().elidedText(facts.title, Qt.TextElideMode.ElideRight, box.width() + _OVERHANG)
        painter.drawText(_line(box, 0).adjusted(0, 0, _OVERHANG, 0), _LEFT, title)
        painter.setFont(font("tick"))
        painter.setPen(QColor(tokens.text3))
        words = painter.fontMetrics().elidedText(facts.summary, Qt.TextElideMode.ElideRight, box.width() + _OVERHANG)
        painter.drawText(_line(box, 1).adjusted(0, 0, _OVERHANG, 0), _LEFT, words)

    def _paint_refusal(self, painter: QPainter) -> None:
        box = self.column("predicted").united(self.column("measured"))
        danger = self._theme.tokens.danger
        painter.setFont(font("label_medium"))
        painter.setPen(QColor(danger))
        words = _line(box, 0)
        painter.drawText(words, _RIGHT, self.facts.refused)
        width = painter.fontMetrics().horizontalAdvance(self.facts.refused)
        icon("refuse", danger).paint(painter, round(words.right() - width - 20), round(words.center().y() - 7), 14, 14)
        painter.setFont(font("label"))
        painter.drawText(_line(box, 1), _RIGHT, self.facts.refusal)

    def _paint_measured(self, painter: QPainter) -> None:
        facts, tokens, box = self.facts, self._theme.tokens, self.column("measured")
        if facts.measured and not facts.stale:
            self._paint_numbers(painter, "measured", facts.measured)
            return
        second = facts.word if facts.measured else NOTHING
        if facts.measured:
            painter.setOpacity(_STALE)
            self._paint_numbers(painter, "measured", facts.measured[:1])
            painter.setOpacity(1.0)
        painter.setFont(font("tick"))
        painter.setPen(QColor(tokens.text3))
        if not facts.measured:
            painter.drawText(_line(box, 0).adjusted(-_OVERHANG, 0, 0, 0), _RIGHT, facts.word)
        painter.drawText(_line(box, 1).adjusted(-_OVERHANG, 0, 0, 0), _RIGHT, second)

    def _paint_numbers(self, painter: QPainter, part: Column, lines: tuple[Parts, ...]) -> None:
        tokens, box = self._theme.tokens, self.column(part)
        for index, (number, unit) in enumerate(lines):
            line = _line(box, index)
            cell = line.adjusted(0, 0, -_UNIT, 0)
            painter.setFont(font("number_medium" if part == "measured" else "number"))
            painter.setPen(QColor(tokens.text1 if part == "measured" else tokens.text2))
            painter.drawText(cell, _RIGHT, number)
            if part == "measured" and index == 0 and self.facts.noisy:
                width = painter.fontMetrics().horizontalAdvance(number) + 3
                painter.setPen(QColor(tokens.warn))
                painter.drawText(cell.adjusted(-_OVERHANG, 0, -width, 0), _RIGHT, "≈")
            painter.setFont(font("tick"))
            painter.setPen(QColor(tokens.text3))
            painter.drawText(QRectF(cell.right() + 4, cell.top(), _UNIT, cell.height()), _LEFT, unit)


_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


def column_pitch(width: int) -> int:
    """Width of a column of numbers: four digits, gap, unit."""
    return 72 if width >= 300 else 66


def paint_check(painter: QPainter, box: QRect, theme: Theme, *, on: bool) -> None:
    """A check box as the style sheet draws it."""
    tokens = theme.tokens
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor(tokens.accent if on else tokens.edge), 1))
    painter.setBrush(QColor(tokens.accent if on else tokens.raised))
    painter.drawRoundedRect(QRectF(box).adjusted(0.5, 0.5, -0.5, -0.5), 3, 3)
    if on:
        painter.setPen(
            QPen(QColor(tokens.on_accent), 1.6, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
        )
        painter.translate(box.topLeft())
        painter.drawPolyline(_tick())
    painter.restore()


@functools.cache
def _tick() -> QPolygonF:
    return QPolygonF([QPointF(3.4, 7.3), QPointF(6.0, 9.9), QPointF(10.6, 4.5)])


def _line(box: QRect, index: int) -> QRectF:
    return QRectF(box.left(), _LINES[index], box.width(), 18)


def _right_half(facts: VariantFacts) -> tuple[object, ...]:
    return facts.measured, facts.word, facts.stale, facts.noisy

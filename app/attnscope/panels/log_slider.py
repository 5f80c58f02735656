"""The slider of n: ticks at each octave, and under the track where each variant's memory ends."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from attnscope.looks import Look
from attnscope.panels.slider_scale import SEQ_LENS, Scale
from attnscope.panels.value_slider import THUMB, ValueSlider
from attnscope.quantities import count, short_count
from attnscope.theme import Theme, draw_marker, font

_LABELLED = (64, 1024, 16384, 262_144, 1_048_576)
_TICKS = tuple(1 << power for power in range(6, 21))
_TRACK_Y = 8.0
_TICK_Y = 17.0
_LABEL_Y = 24.0


@dataclass(frozen=True, slots=True)
class Wall:
    """Where a variant's memory ends: the largest n that fits."""

    title: str
    seq_len: int
    look: Look


class LogSlider(ValueSlider):
    """n from 64 to 1,048,576, 16 steps an octave. Never disabled by a refusal: one may look beyond the wall."""

    def __init__(self, theme: Theme, default: int, scale: Scale = SEQ_LENS, parent: QWidget | None = None) -> None:
        super().__init__(theme, scale, default, parent)
        self._walls: tuple[Wall, ...] = ()
        self.setAccessibleName("Sequence length n")
        self._describe()

    @property
    def walls(self) -> tuple[Wall, ...]:
        return self._walls

    def set_walls(self, walls: tuple[Wall, ...]) -> None:
        if walls != self._walls:
            self._walls = walls
            self._describe()
            self.update()

    def set_number(self, number: int) -> None:
        super().set_number(number)
        self._describe()

    def sizeHint(self) -> QSize:
        return QSize(280, 40)

    def track_y(self) -> float:
        return _TRACK_Y

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        self._paint_ticks(painter)
        for wall in self._walls:
            centre = QPointF(self.place(wall.seq_len), _TICK_Y + 1)
            draw_marker(painter, centre, wall.look, self.theme.tokens, size=7, halo=self.theme.tokens.panel)
        self.paint_track(painter)
        painter.end()

    def _paint_ticks(self, painter: QPainter) -> None:
        tokens = self.theme.tokens
        painter.setPen(QPen(QColor(tokens.edge), 1))
        for tick in _TICKS:
            x = round(self.place(tick)) + 0.5
            painter.drawLine(QLineF(x, _TICK_Y, x, _TICK_Y + (4 if tick in _LABELLED else 2)))
        painter.setPen(QColor(tokens.text3))
        painter.setFont(font("tick"))
        for tick in _LABELLED:
            # The outer labels are turned inward, so that nothing is cut at the edge.
            x, side = self.place(tick), Qt.AlignmentFlag.AlignHCenter
            box = QRectF(x - 25, _LABEL_Y, 50, 14)
            if tick == _LABELLED[0]:
                box, side = QRectF(x - THUMB.width() / 2, _LABEL_Y, 50, 14), Qt.AlignmentFlag.AlignLeft
            elif tick == _LABELLED[-1]:
                box, side = QRectF(x - 50 + THUMB.width() / 2, _LABEL_Y, 50, 14), Qt.AlignmentFlag.AlignRight
            painter.drawText(box, side | Qt.AlignmentFlag.AlignTop, short_count(tick))

    def _describe(self) -> None:
        ends = "".join(f"; {wall.title} fits up to {count(wall.seq_len)}" for wall in self._walls)
        self.setAccessibleDescription(f"{count(self.number)} tokens{ends}")

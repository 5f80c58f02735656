"""Words and signs laid over a plot: the end of memory, crossovers, slopes, uncertain points, the legend of marks, empty states.

Drawn in pixels of the view box by one item. Labels are placed where they cover no other label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath, QPen

from attnscope.plots.log_axes import LogAxis
from attnscope.theme import Theme, font, marker_path

ROW = 17.0
"""Pixels between two lines of labels."""
PAD = 3.0
RING = 8.0
LEGEND_ROWS = ("predicted from the formula", "measured, p20 to p80", "refused from here on")
_MIDDLE = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip


@dataclass(frozen=True, slots=True)
class Note:
    """A text that belongs to a point of the plot."""

    n: float
    value: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Ring(Note):
    """A crossover."""

    measured: bool = True


@dataclass(frozen=True, slots=True)
class Notes:
    """All that one plot says besides its curves."""

    ends: tuple[Note, ...] = ()
    """Where memory ends: a cross, and text where it is not empty."""
    rings: tuple[Ring, ...] = ()
    noisy: tuple[Note, ...] = ()
    legend: bool = False
    corner: tuple[str, ...] = ()
    """Lines in the lower right corner."""
    message: str = ""
    """In the middle: why the plot is empty."""


Spot = tuple[float, float]
"""(n, value) of something drawn that a label had better not cover."""


def freest(candidates: Sequence[QRectF], taken: Sequence[QRectF], frame: QRectF, spots: Sequence[QPointF]) -> QRectF:
    """Of the rectangles inside the frame the first that touches none of those taken and covers fewest spots."""
    inside = [rect for rect in candidates if frame.contains(rect)] or list(candidates)

    def cost(rect: QRectF) -> tuple[int, int]:
        return sum(rect.intersects(other) for other in taken), sum(rect.contains(spot) for spot in spots)

    return min(inside, key=cost)


class Annotations(pg.GraphicsObject):  # type: ignore[misc]
    """Covers the view box, over the data."""

    def __init__(self, theme: Theme, view: Any, bottom: LogAxis, left: LogAxis) -> None:
        super().__init__()
        self._theme, self._bottom, self._left = theme, bottom, left
        self.notes = Notes()
        self._spots: tuple[Spot, ...] = ()
        self._legend_corner = (0, 0)
        self._legend_settled = False
        self._labels: list[tuple[QRectF, str]] | None = None
        self.setParentItem(view)
        self.setZValue(100)
        self.setAcceptedMouseButtons(Qt.MouseButton.NoButton)
        view.sigRangeChanged.connect(self._moved)
        view.sigResized.connect(self._resized)

    def show_notes(self, notes: Notes, spots: tuple[Spot, ...] = ()) -> None:
        """`spots` are where the curves are. The legend looks for its corner now and keeps it while the view moves."""
        if notes != self.notes or spots != self._spots:
            self.notes, self._spots, self._legend_settled = notes, spots, False
            self._moved()

    def _moved(self) -> None:
        self._labels = None
        self.update()

    def _resized(self) -> None:
        self.prepareGeometryChange()
        self._legend_settled = False
        self._moved()

    def boundingRect(self) -> QRectF:
        view = self.parentItem()
        return QRectF(view.rect()) if view is not None else QRectF()

    def shape(self) -> QPainterPath:
        return QPainterPath()  # nothing here takes the mouse

    def point(self, note: Note) -> QPointF:
        return QPointF(self._bottom.place(note.n), self._left.place(note.value))

    def label_rects(self) -> list[tuple[QRectF, str]]:
        """Where each label stands: of walls, then of crossovers."""
        if self._labels is None:
            self._labels = self._placed()
        return self._labels

    def text_rects(self) -> list[QRectF]:
        """Everything that must stay readable: what is drawn over the plot leaves these out."""
        legend = [self.legend_rect()] if self.notes.legend else []
        return [*legend, *(rect for rect, _ in self.label_rects()), *self._corner_rects()]

    def _placed(self) -> list[tuple[QRectF, str]]:
        metrics, frame = QFontMetricsF(font("tick")), self.boundingRect().adjusted(2, 2, -2, -2)
        taken = [self.legend_rect()] if self.notes.legend else []
        spots = self._spot_pixels()
        found: list[tuple[QRectF, str]] = []

        def add(text: str, width: float, places: Sequence[QPointF]) -> None:
            rect = freest([QRectF(place.x(), place.y(), width, ROW) for place in places], taken, frame, spots)
            taken.append(rect)
            found.append((rect, text))

        for note in self._inside(self.notes.ends):
            if note.text:
                at, width = self.point(note), metrics.horizontalAdvance(note.text) + 2 * PAD
                left, right, middle = at.x() - width - 8, at.x() + 8, at.y() - ROW / 2
                tops = [middle - 4 - ROW * step / 2 for step in range(6)]
                add(note.text, width, [QPointF(x, y) for y in tops for x in (left, right)])
        for ring in self._inside(self.notes.rings):
            at, width = self.point(ring), metrics.horizontalAdvance(ring.text) + 2 * PAD
            rows = [frame.bottom() - 6 - ROW * step for step in range(1, 9)]
            add(ring.text, width, [QPointF(x, y) for y in rows for x in (at.x() + 4, at.x() - width - 4)])
        return found

    def legend_rect(self) -> QRectF:
        """Upper left, unless curves run there: then the corner where they do not."""
        metrics, frame = QFontMetricsF(font("tick")), self.boundingRect()
        width = 44 + max(metrics.horizontalAdvance(row) for row in LEGEND_ROWS) + 10
        height = len(LEGEND_ROWS) * ROW + 6
        xs, ys = (14.0, frame.width() - width - 14), (14.0, frame.height() - height - 14)
        corners = [(0, 0), (1, 1), (1, 0), (0, 1)]
        if not self._legend_settled:
            rects = [QRectF(xs[right], ys[low], width, height) for right, low in corners]
            self._legend_corner = corners[rects.index(freest(rects, (), frame, self._spot_pixels()))]
            self._legend_settled = True
        right, low = self._legend_corner
        return QRectF(xs[right], ys[low], width, height)

    def _spot_pixels(self) -> list[QPointF]:
        return [QPointF(self._bottom.place(n), self._left.place(value)) for n, value in self._spots]

    def paint(self, p: QPainter, option: object, widget: object = None) -> None:  # noqa: ARG002
        tokens, frame = self._theme.tokens, self.boundingRect()
        p.setRenderHint(QPainter.RenderHint.Antialiasing)
        p.setFont(font("tick"))
        for ring in self._inside(self.notes.rings):
            self._draw_ring(p, ring, frame)
        p.setPen(QPen(QColor(tokens.danger), 2))
        for note in self._inside(self.notes.ends):
            at = self.point(note)
            for sign in (-1, 1):
                p.drawLine(at + QPointF(-4.5, -4.5 * sign), at + QPointF(4.5, 4.5 * sign))
        ends = {note.text for note in self.notes.ends}
        for rect, text in self.label_rects():
            p.fillRect(rect, self._veil())
            p.setPen(QColor(tokens.danger if text in ends else tokens.text1))
            p.drawText(rect.adjusted(PAD, 0, 0, 0), _LEFT, text)
        p.setPen(QColor(tokens.warn))
        p.setFont(font("label_medium"))
        for note in self._inside(self.notes.noisy):
            p.drawText(QRectF(self.point(note) + QPointF(7, -9), self.point(note) + QPointF(20, 9)), _LEFT, "≈")
        if self.notes.legend:
            self._draw_legend(p)
        self._draw_corner(p)

    def _inside(self, notes: Sequence[Any]) -> list[Any]:
        frame = self.boundingRect().adjusted(-1, -1, 1, 1)
        return [note for note in notes if frame.contains(self.point(note))]

    def _veil(self) -> QColor:
        colour = QColor(self._theme.tokens.plot)
        colour.setAlphaF(0.82)
        return colour

    def _draw_ring(self, p: QPainter, ring: Ring, frame: QRectF) -> None:
        tokens, at = self._theme.tokens, self.point(ring)
        dotted = QPen(QColor(tokens.text3), 1, Qt.PenStyle.DotLine)
        p.setPen(dotted)
        p.drawLine(at + QPointF(0, RING), QPointF(at.x(), frame.bottom()))
        p.setPen(QPen(QColor(tokens.text1), 1.2) if ring.measured else dotted)
        p.setBrush(Qt.BrushStyle.NoBrush)
        p.drawEllipse(at, RING, RING)

    def _draw_legend(self, p: QPainter) -> None:
        tokens, box = self._theme.tokens, self.legend_rect()
        p.setFont(font("tick"))
        p.setPen(QPen(QColor(tokens.line), 1))
        p.setBrush(self._veil())
        p.drawRect(box.adjusted(0.5, 0.5, -0.5, -0.5))
        x, y = box.left() + 22, box.top() + 3 + ROW / 2
        p.setPen(QPen(QColor(tokens.text2), 1.75))
        p.drawLine(QPointF(x - 12, y), QPointF(x + 12, y))
        p.setPen(QPen(QColor(tokens.text2), 1))
        y += ROW
        p.drawLine(QPointF(x, y - 7), QPointF(x, y + 7))
        for end in (y - 7, y + 7):
            p.drawLine(QPointF(x - 3, end), QPointF(x + 3, end))
        p.fillPath(marker_path("circle", 8).translated(x, y), QColor(tokens.text2))
        y += ROW
        p.setPen(QPen(QColor(tokens.danger), 2))
        p.drawLine(QPointF(x - 4, y - 4), QPointF(x + 4, y + 4))
        p.drawLine(QPointF(x - 4, y + 4), QPointF(x + 4, y - 4))
        p.setPen(QColor(tokens.text2))
        for index, row in enumerate(LEGEND_ROWS):
            p.drawText(QRectF(box.left() + 44, box.top() + 3 + ROW * index, 10, ROW), _LEFT, row)

    def _corner_rects(self) -> list[QRectF]:
        """Of the corner's lines from the last up, then of the message."""
        frame, metrics = self.boundingRect(), QFontMetricsF(font("tick"))
        found = []
        for index, line in enumerate(reversed(self.notes.corner)):
            width = metrics.horizontalAdvance(line) + 2 * PAD
            found.append(QRectF(frame.right() - width - 8, frame.bottom() - 8 - ROW * (index + 1), width, ROW))
        if self.notes.message:
            room = frame.adjusted(24, 0, -24, 0)
            found.append(QFontMetricsF(font("body")).boundingRect(room, _MIDDLE, self.notes.message))
        return found

    def _draw_corner(self, p: QPainter) -> None:
        rects, tokens = self._corner_rects(), self._theme.tokens
        p.setFont(font("tick"))
        p.setPen(QColor(tokens.text2))
        for line, rect in zip(reversed(self.notes.corner), rects, strict=False):
            p.fillRect(rect, self._veil())
            p.drawText(rect.adjusted(PAD, 0, 0, 0), _LEFT, line)
        if self.notes.message:
            p.setFont(font("body"))
            p.drawText(self.boundingRect().adjusted(24, 0, -24, 0), _MIDDLE, self.notes.message)

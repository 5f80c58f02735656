"""What the colours of the map mean: the bar with its ticks, what is not a weight, and how many cells are not finite."""

from __future__ import annotations

from collections.abc import Sequence

from attnscope_engine.protocol import MAX_CODE, Picture
from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QPushButton, QSizePolicy, QWidget

from attnscope.looks import INF_COLOUR, NAN_COLOUR, ColourMap, colour_table
from attnscope.map_codes import bar_ticks
from attnscope.map_feed import MapFeed
from attnscope.map_scene import Scene
from attnscope.quantities import count
from attnscope.store import Store
from attnscope.theme import Theme, font

SIDE = 12
BAR_TOP, BAR_HEIGHT = 28, 11
BETWEEN = 16
"""Pixels between two bars."""
TICK_ROOM = 34
"""Pixels that a label of a bar needs."""


class ColourBar(QWidget):
    """Legend of the first picture, and of the first signed one when both kinds stand side by side.

    `full` adds what is not computed, NaN and Inf.
    """

    next_bad = Signal()
    """The person asks for the next NaN or Inf."""

    def __init__(self, store: Store, theme: Theme, feed: MapFeed, *, full: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme, self._feed, self._full = store, theme, feed, full
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(150)
        self.setFixedHeight(88)
        self.setAccessibleName("Colours of the map")
        self.next = QPushButton("next", self)
        self.next.setFont(font("tick"))
        self.next.setToolTip("Go to the next NaN or Inf (F6)")
        self.next.clicked.connect(self.next_bad)
        feed.changed.connect(self._scene_changed)
        store.changed.connect(self._store_changed)
        theme.changed.connect(self.update)
        self._place_button()

    def sizeHint(self) -> QSize:
        return QSize(280, 88)

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        pairs = zip(old.panels, new.panels, strict=False)
        if len(old.panels) != len(new.panels) or any(one.picture is not other.picture for one, other in pairs):
            self._place_button()
            self.update()

    def _store_changed(self, old: object, new: object) -> None:
        if getattr(old, "settings", None) is not getattr(new, "settings", None):
            self.update()

    def pictures(self) -> tuple[Picture, ...]:
        """Those whose scale is explained: at most one of weights and one of scores."""
        drawn = [panel.picture for panel in self._feed.scene.panels if panel.picture and panel.picture.codes.data]
        firsts = {picture.signed: picture for picture in reversed(drawn)}
        return tuple(sorted(firsts.values(), key=drawn.index))

    def _bad(self) -> tuple[int, int]:
        pictures = [panel.picture for panel in self._feed.scene.panels if panel.picture]
        return sum(picture.nan_count for picture in pictures), sum(picture.inf_count for picture in pictures)

    def set_low(self, low: bool) -> None:
        """Without the line of what is no weight, on a low page."""
        self.setFixedHeight(64 if low else 88)

    def _place_button(self) -> None:
        self.next.setVisible(any(self._bad()))
        self.next.setGeometry(self.width() - SIDE - 44, 3, 44, 22)

    def resizeEvent(self, event: object) -> None:  # noqa: ARG002
        self._place_button()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        pictures = self.pictures()
        pitch = (self.width() - 2 * SIDE + BETWEEN) / max(len(pictures), 1)
        for index, picture in enumerate(pictures):
            room = QRectF(SIDE + index * pitch, 0, pitch - BETWEEN, self.height())
            self._paint_words(painter, picture, room, last=index == len(pictures) - 1)
            self._paint_bar(painter, picture, room)
        if pictures and self.height() > 64:
            self._paint_legend(painter, signed=any(picture.signed for picture in pictures))
        painter.end()

    def _paint_words(self, painter: QPainter, picture: Picture, room: QRectF, *, last: bool) -> None:
        """What the bar is of; at the end of the last one how many cells are not finite."""
        tokens, metrics = self._theme.tokens, QFontMetricsF(font("tick"))
        painter.setFont(font("tick"))
        line = QRectF(room.x(), 6, room.width() - (50 if last and self.next.isVisible() else 0), 16)
        nans, infs = self._bad()
        bad = f"{count(nans)} NaN{' · ' if self._full else ', '}{count(infs)} Inf" if last else ""
        quantity = "score (signed)" if picture.signed else "weight"
        left = line.width() - metrics.horizontalAdvance(quantity) - 8
        if metrics.horizontalAdvance(bad) <= left or nans or infs:
            painter.setPen(QColor(tokens.danger if nans or infs else tokens.text2))
            painter.drawText(line, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, bad)
            left -= metrics.horizontalAdvance(bad)
        scale = f", {picture.scale} scale"
        painter.setPen(QColor(tokens.text2))
        fits = metrics.horizontalAdvance(scale) <= left
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, quantity + scale if fits else quantity)

    def _paint_bar(self, painter: QPainter, picture: Picture, room: QRectF) -> None:
        tokens = self._theme.tokens
        colours: ColourMap = "signed" if picture.signed else self._store.state.settings.colours
        codes = bytes(range(MAX_CODE + 1))
        image = QImage(codes, len(codes), 1, len(codes), QImage.Format.Format_Indexed8)
        image.setColorTable(list(colour_table(colours, tokens)))
        bar = QRectF(room.x(), BAR_TOP, room.width(), BAR_HEIGHT)
        painter.drawImage(bar, image)
        painter.setPen(QPen(QColor(tokens.line), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(bar.adjusted(-0.5, -0.5, 0.5, 0.5))
        for place, label, exponent in spread_out(bar_ticks(picture), bar.width()):
            x = bar.x() + place * bar.width()
            painter.setPen(QPen(QColor(tokens.edge), 1))
            painter.drawLine(QPointF(x, bar.bottom() + 1), QPointF(x, bar.bottom() + 4))
            self._paint_tick(painter, x, bar, label, exponent)

    def _paint_tick(self, painter: QPainter, x: float, bar: QRectF, label: str, exponent: str) -> None:
        small = QFont(font("tick"))
        small.setPixelSize(9)
        width = QFontMetricsF(font("tick")).horizontalAdvance(label)
        raised = QFontMetricsF(small).horizontalAdvance(exponent)
        y, left = bar.bottom() + 5, min(max(x - (width + raised) / 2, bar.left() - 2), bar.right() + 2 - width - raised)
        painter.setPen(QColor(self._theme.tokens.text2))
        painter.setFont(font("tick"))
        painter.drawText(QRectF(left, y, width + 1, 14), Qt.AlignmentFlag.AlignVCenter, label)
        painter.setFont(small)
        painter.drawText(QRectF(left + width, y - 3, raised + 1, 12), Qt.AlignmentFlag.AlignVCenter, exponent)

    def _paint_legend(self, painter: QPainter, *, signed: bool) -> None:
        tokens = self._theme.tokens
        entries = [("masked", tokens.mask)]
        if self._full:
            entries += [("not computed", ""), ("NaN", NAN_COLOUR), ("Inf", INF_COLOUR)]
        hatched = signed or self._store.state.settings.colours == "ink"
        painter.setFont(font("tick"))
        metrics = QFontMetricsF(font("tick"))
        x = float(SIDE)
        for words, colour in entries:
            box = QRectF(x + 0.5, 70.5, 11, 11)
            painter.fillRect(box, QColor(colour or tokens.plot))
            painter.setPen(QPen(QColor(tokens.edge), 1))
            painter.drawRect(box)
            if not colour or (hatched and words == "masked"):
                painter.drawLine(box.bottomLeft(), box.topRight())
            painter.setPen(QColor(tokens.text2))
            painter.drawText(QRectF(x + 17, 68, 90, 16), Qt.AlignmentFlag.AlignVCenter, words)
            x += 17 + metrics.horizontalAdvance(words) + 14


def spread_out(ticks: Sequence[tuple[float, str, str]], width: float) -> tuple[tuple[float, str, str], ...]:
    """As many of the ticks as have room, evenly and counted from the last."""
    most = max(3, int(width / TICK_ROOM))
    every = -(-len(ticks) // most)
    return tuple(reversed(tuple(reversed(ticks))[::every]))

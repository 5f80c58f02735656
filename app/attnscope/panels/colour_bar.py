"""What the colours of the map mean: the bar with its ticks, what is not a weight, and how many cells are not finite."""

from __future__ import annotations

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


class ColourBar(QWidget):
    """Legend of the first picture. `full` adds what is not computed, NaN and Inf."""

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

    def _picture(self) -> Picture | None:
        return next((panel.picture for panel in self._feed.scene.panels if panel.picture and panel.picture.codes.data), None)

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
        picture = self._picture()
        if picture is not None:
            self._paint_words(painter, picture)
            self._paint_bar(painter, picture)
            if self.height() > 64:
                self._paint_legend(painter, signed=picture.signed)
        painter.end()

    def _paint_words(self, painter: QPainter, picture: Picture) -> None:
        tokens = self._theme.tokens
        painter.setFont(font("tick"))
        metrics = QFontMetricsF(font("tick"))
        nans, infs = self._bad()
        bad = f"{count(nans)} NaN{' · ' if self._full else ', '}{count(infs)} Inf"
        room = QRectF(SIDE, 6, self.width() - 2 * SIDE - (50 if self.next.isVisible() else 0), 16)
        painter.setPen(QColor(tokens.danger if nans or infs else tokens.text2))
        painter.drawText(room, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, bad)
        quantity = "score (signed)" if picture.signed else "weight"
        whole = f"{quantity}, {picture.scale} scale"
        fits = metrics.horizontalAdvance(whole) + metrics.horizontalAdvance(bad) + 8 <= room.width()
        painter.setPen(QColor(tokens.text2))
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, whole if fits else quantity)

    def _paint_bar(self, painter: QPainter, picture: Picture) -> None:
        tokens = self._theme.tokens
        colours: ColourMap = "signed" if picture.signed else self._store.state.settings.colours
        codes = bytes(range(MAX_CODE + 1))
        image = QImage(codes, len(codes), 1, len(codes), QImage.Format.Format_Indexed8)
        image.setColorTable(list(colour_table(colours, tokens)))
        bar = QRectF(SIDE, BAR_TOP, self.width() - 2 * SIDE, BAR_HEIGHT)
        painter.drawImage(bar, image)
        painter.setPen(QPen(QColor(tokens.line), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(bar.adjusted(-0.5, -0.5, 0.5, 0.5))
        for place, label, exponent in bar_ticks(picture):
            x = bar.x() + place * bar.width()
            painter.setPen(QPen(QColor(tokens.edge), 1))
            painter.drawLine(QPointF(x, bar.bottom() + 1), QPointF(x, bar.bottom() + 4))
            self._paint_tick(painter, x, bar.bottom() + 5, label, exponent)

    def _paint_tick(self, painter: QPainter, x: float, y: float, label: str, exponent: str) -> None:
        small = QFont(font("tick"))
        small.setPixelSize(9)
        width = QFontMetricsF(font("tick")).horizontalAdvance(label)
        raised = QFontMetricsF(small).horizontalAdvance(exponent)
        left = min(max(x - (width + raised) / 2, SIDE - 2.0), self.width() - SIDE + 2 - width - raised)
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

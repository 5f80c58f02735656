"""A thumbnail of every head: layer across and head down, or sorted by what the heads do."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import Literal

from attnscope_engine import catalogue
from attnscope_engine.protocol import NOT_COMPUTED, HeadFacts, HeadsDrawn
from PySide6.QtCore import QEvent, QPoint, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QHelpEvent, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from attnscope.looks import colour_table
from attnscope.map_view import snapped_side
from attnscope.plots.heads_layout import BAND_GAP, Grid, best_grid
from attnscope.quantities import three_digits, weight
from attnscope.state import State, shown_head, text_read
from attnscope.store import Store
from attnscope.theme import Theme, font

Sort = Literal["order", "entropy", "locality", "sink", "induction"]
SORTS: tuple[tuple[Sort, str], ...] = (
    ("order", "by layer"),
    ("entropy", "entropy"),
    ("locality", "locality"),
    ("sink", "sink"),
    ("induction", "induction"),
)
_KEYS: dict[Sort, Callable[[HeadFacts], float]] = {
    "entropy": lambda fact: fact.entropy_bits,
    "locality": lambda fact: fact.distance,
    "sink": lambda fact: -fact.sink,
    "induction": lambda fact: -fact.induction,
}
_SAID: dict[Sort, str] = {
    "order": "layer across, head down",
    "entropy": "the lowest entropy first",
    "locality": "the shortest mean distance first",
    "sink": "the most mass on token 0 first",
    "induction": "the most mass after an earlier copy first",
}
TITLE = 28
LEFT, SIDE = 34, 12
LOUPE = 168
LOUPE_COLUMN = 208


class HeadsGrid(QWidget):
    """All heads of the model on the present source. Click or Enter opens one; arrows move.

    Args:
        full: the whole page with a loupe at the right; else the strip under the maps.
    """

    def __init__(self, store: Store, theme: Theme, *, full: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme, self._full = store, theme, full
        self.sort: Sort = "order"
        self._hovered = -1
        self._sheet: QPixmap | None = None
        self._order: tuple[tuple[int, int], ...] = ()
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(240, 120)
        self.setAccessibleName("All heads")
        store.changed.connect(self._store_changed)
        theme.changed.connect(self._forget)
        self._arrange()

    # ------------------------------------------------------------ what is shown

    def _store_changed(self, old: State, new: State) -> None:
        slots = ("heads", "text")
        if any(old.live.answers.get(slot) is not new.live.answers.get(slot) for slot in slots):  # type: ignore[call-overload]
            self._arrange()
        elif old.settings.colours != new.settings.colours or old.settings.source != new.settings.source:
            self._forget()
        elif (old.settings.layer, old.settings.head) != (new.settings.layer, new.settings.head):
            self.update()

    def set_sort(self, sort: Sort) -> None:
        """Order of the thumbnails. Without facts of the heads only their own order is known."""
        self.sort = sort
        self._arrange()

    def drawn(self) -> HeadsDrawn | None:
        """The newest thumbnails."""
        answer = self._store.state.live.answers.get("heads")
        payload = answer.payload if answer else None
        return payload if isinstance(payload, HeadsDrawn) and payload.job.source == self._store.state.settings.source else None

    def _arrange(self) -> None:
        drawn = self.drawn()
        layers, heads = drawn.thumbs.shape[:2] if drawn else (0, 0)
        read = text_read(self._store.state)
        facts = read.heads if read else ()
        if self.sort != "order" and facts:
            ranked = sorted(facts, key=_KEYS[self.sort])
            self._order = tuple((fact.layer, fact.head) for fact in ranked if fact.layer < layers and fact.head < heads)
        else:
            self._order = tuple((layer, head) for head in range(heads) for layer in range(layers))
        self.setAccessibleDescription(f"{len(self._order)} heads, {_SAID[self.sort]}")
        self._forget()

    def _forget(self) -> None:
        self._sheet = None
        self.update()

    def grid(self) -> Grid:
        """How the thumbnails lie in the room that there is."""
        drawn = self.drawn()
        layers, heads = drawn.thumbs.shape[:2] if drawn else (1, 1)
        column = LOUPE_COLUMN if self._full else 0
        room = self.width() - LEFT - SIDE - column, self.height() - TITLE - BAND_GAP - 4
        by_layer = self.sort == "order" and layers > 1
        return best_grid(room, len(self._order), layers if by_layer else 0, heads, most_bands=4 if self._full else 1)

    def place(self, index: int) -> QRectF:
        """Where a thumbnail lies."""
        drawn, grid = self.drawn(), self.grid()
        line, column = grid.cell_of(index)
        side = snapped_side(grid.pitch - 1, drawn.thumbs.shape[2] if drawn else 1)
        return QRectF(LEFT + column * grid.pitch, TITLE + grid.top_of(line), side, side)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._forget()

    def sizeHint(self) -> QSize:
        return QSize(640, 230)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        tokens = self._theme.tokens
        if self._full:
            painter.fillRect(self.rect(), QColor(tokens.window))
        self._paint_title(painter)
        drawn = self.drawn()
        if drawn is not None:
            if self._sheet is None:
                self._sheet = self._paint_sheet(drawn)
            painter.drawPixmap(0, 0, self._sheet)
            self._paint_marks(painter)
            if self._full:
                self._paint_loupe(painter, drawn)
        painter.end()

    def _paint_title(self, painter: QPainter) -> None:
        tokens = self._theme.tokens
        title = f"All {len(self._order)} heads" if self._order else "All heads"
        painter.setFont(font("heading"))
        painter.setPen(QColor(tokens.text1))
        painter.drawText(QRectF(16, 5, 140, 20), Qt.AlignmentFlag.AlignVCenter, title)
        left = 16 + painter.fontMetrics().horizontalAdvance(title) + 22
        painter.setFont(font("tick"))
        painter.setPen(QColor(tokens.text2))
        said = _SAID[self.sort] if self._order else "not drawn yet"
        painter.drawText(QRectF(left, 5, self.width() - left - 8, 20), Qt.AlignmentFlag.AlignVCenter, said)

    def _paint_sheet(self, drawn: HeadsDrawn) -> QPixmap:
        ratio = self.devicePixelRatioF()
        sheet = QPixmap(math.ceil(self.width() * ratio), math.ceil(self.height() * ratio))
        sheet.setDevicePixelRatio(ratio)
        sheet.fill(Qt.GlobalColor.transparent)
        painter = QPainter(sheet)
        for index, (layer, head) in enumerate(self._order):
            painter.drawImage(self.place(index), self.thumb(drawn, layer, head))
        if self.sort == "order" and drawn.thumbs.shape[0] > 1:
            self._paint_numbers(painter, *drawn.thumbs.shape[:2])
        painter.end()
        return sheet

    def thumb(self, drawn: HeadsDrawn, layer: int, head: int) -> QImage:
        """The picture of one head, a pixel a cell."""
        heads, size = drawn.thumbs.shape[1], drawn.thumbs.shape[2]
        start = (layer * heads + head) * size * size
        codes = drawn.thumbs.data[start : start + size * size]
        image = QImage(codes, size, size, size, QImage.Format.Format_Indexed8)
        variant = catalogue.find(drawn.job.choice.variant)
        signed = variant.is_signed(variant.parse(drawn.job.choice.params))
        table = list(colour_table("signed" if signed else self._store.state.settings.colours, self._theme.tokens))
        table[NOT_COMPUTED] = 0
        image.setColorTable(table)
        return image.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied)

    def _paint_numbers(self, painter: QPainter, layers: int, heads: int) -> None:
        painter.setFont(font("tick"))
        painter.setPen(QColor(self._theme.tokens.text2))
        grid = self.grid()
        pitch, per_band = grid.pitch, grid.across
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for band in range(-(-layers // per_band)):
            for head in range(0, heads, 2 if pitch < 28 else 1):
                top = TITLE + grid.top_of(band * heads + head)
                painter.drawText(QRectF(0, top, LEFT - 8, pitch - 1), right, str(head))
            below = TITLE + grid.top_of(band * heads + heads - 1) + pitch
            first, last = band * per_band, min((band + 1) * per_band, layers) - 1
            for layer in numbered(first, last, 5 if pitch < 30 else 1):
                rect = QRectF(LEFT + (layer - first) * pitch - 10, below, pitch + 18, 14)
                painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, str(layer))

    def _paint_marks(self, painter: QPainter) -> None:
        tokens = self._theme.tokens
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if 0 <= self._hovered < len(self._order):
            painter.setPen(QPen(QColor(tokens.text1), 1))
            painter.drawRect(self.place(self._hovered).adjusted(-0.5, -0.5, 0.5, 0.5))
        shown = shown_head(self._store.state)
        if shown in self._order:
            painter.setPen(QPen(QColor(tokens.accent), 2))
            painter.drawRect(self.place(self._order.index(shown)).adjusted(-1, -1, 1, 1))

    def _paint_loupe(self, painter: QPainter, drawn: HeadsDrawn) -> None:
        tokens = self._theme.tokens
        shown = shown_head(self._store.state)
        layer, head = self._order[self._hovered] if 0 <= self._hovered < len(self._order) else shown
        if (layer, head) not in self._order:
            return
        grid = self.grid()
        box = QRectF(LEFT + grid.across * grid.pitch + 28, TITLE, LOUPE, LOUPE)
        painter.fillRect(box, QColor(tokens.plot))
        painter.drawImage(box, self.thumb(drawn, layer, head))
        painter.setPen(QPen(QColor(tokens.line), 1))
        painter.drawRect(box.adjusted(-0.5, -0.5, 0.5, 0.5))
        painter.setPen(QColor(tokens.text1))
        painter.setFont(font("heading"))
        title = f"Layer {layer}, head {head}"
        painter.drawText(QRectF(box.x(), box.bottom() + 8, LOUPE, 18), Qt.AlignmentFlag.AlignVCenter, title)
        for index, (name, value) in enumerate(self.facts_of(layer, head)):
            y = box.bottom() + 32 + index * 20
            painter.setFont(font("label"))
            painter.setPen(QColor(tokens.text2))
            painter.drawText(QRectF(box.x(), y, LOUPE, 18), Qt.AlignmentFlag.AlignVCenter, name)
            painter.setFont(font("number"))
            painter.setPen(QColor(tokens.text1))
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(box.x(), y, LOUPE, 18), right, value)

    def facts_of(self, layer: int, head: int) -> tuple[tuple[str, str], ...]:
        """What one head does, in numbers; empty while the text has not been read."""
        read = text_read(self._store.state)
        fact = next((each for each in read.heads if (each.layer, each.head) == (layer, head)), None) if read else None
        if fact is None:
            return ()
        return (
            ("mass on token 0", weight(fact.sink)),
            ("on the token before", weight(fact.previous)),
            ("after an earlier copy", weight(fact.induction)),
            ("entropy, bits", three_digits(fact.entropy_bits)),
            ("mean distance, tokens", three_digits(fact.distance)),
        )

    # ------------------------------------------------------------ the hand

    def index_at(self, x: float, y: float) -> int:
        """Index of the thumbnail under a point, -1 for none."""
        return self.grid().index_at(x - LEFT, y - TITLE)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._hover(self.index_at(event.position().x(), event.position().y()))

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._hover(-1)

    def _hover(self, index: int) -> None:
        if index != self._hovered:
            self._hovered = index
            self.update()

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip and not self._full:
            self._tell(event.globalPos(), self.index_at(event.pos().x(), event.pos().y()))
            return True
        return super().event(event)

    def _tell(self, at: QPoint, index: int) -> None:
        if index < 0:
            QToolTip.hideText()
            return
        layer, head = self._order[index]
        lines = [f"Layer {layer}, head {head}", *(f"{name} {value}" for name, value in self.facts_of(layer, head))]
        QToolTip.showText(at, "<br>".join(html.escape(line) for line in lines), self)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.open(self.index_at(event.position().x(), event.position().y()))

    def open(self, index: int) -> None:
        """Show a head on the map."""
        if 0 <= index < len(self._order):
            layer, head = self._order[index]
            changes: dict[str, object] = {"layer": layer, "head": head}
            self._store.update(**(changes | {"compare": "side"} if self._full else changes))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        stride = self.grid().stride
        moves = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: -stride, Qt.Key.Key_Down: stride}
        step = moves.get(Qt.Key(event.key()))
        if step is not None and self._order:
            shown = shown_head(self._store.state)
            here = self._hovered if self._hovered >= 0 else self._order.index(shown) if shown in self._order else 0
            self._hover(min(max(here + step, 0), len(self._order) - 1))
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.open(self._hovered)
        else:
            super().keyPressEvent(event)


def numbered(first: int, last: int, every: int) -> list[int]:
    """Layers whose number is written: every fifth or each, and the last."""
    return [layer for layer in range(first, last, every) if every == 1 or last - layer >= 3] + [last]

"""The bottom of the Map page for long maps: loupe and cell, numbers of the row, what the colours mean."""

from __future__ import annotations

from attnscope_engine import catalogue
from attnscope_engine.protocol import Picture
from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from attnscope.looks import ColourMap, colour_table
from attnscope.map_codes import codes_of
from attnscope.map_feed import MapFeed
from attnscope.map_scene import Panel, Scene
from attnscope.painted_number import number_width, paint_number
from attnscope.panels.colour_bar import ColourBar
from attnscope.panels.hairline import hairline
from attnscope.panels.row_table import RowTable
from attnscope.quantities import NOTHING, count, weight
from attnscope.store import Store
from attnscope.theme import Theme, font
from attnscope.token_text import short

HEIGHT, LOW_HEIGHT = 112, 84
LOUPE, LOW_LOUPE = 84, 64
THIRD_COLUMN = 840
"""Width below which the colour bar is left out."""


class Readout(QWidget):
    """Three columns. It shows what the store and the feed say and changes nothing."""

    action = Signal(str)
    next_bad = Signal()

    def __init__(self, store: Store, theme: Theme, feed: MapFeed, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("ground", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedHeight(HEIGHT)
        self.cell = CellReadout(store, theme, feed)
        self.table = RowTable(theme, feed, full=False)
        self.colours = ColourBar(store, theme, feed, full=True)
        self.colours.next_bad.connect(self.next_bad)
        row = self._row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.cell, 26)
        row.addWidget(hairline(width=1))
        row.addWidget(self.table, 38)
        self._last_rule = hairline(width=1)
        row.addWidget(self._last_rule)
        row.addWidget(self.colours, 46, Qt.AlignmentFlag.AlignTop)
        self._share(len(feed.scene.rows))
        feed.changed.connect(self._scene_changed)

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        if len(old.rows) != len(new.rows):
            self._share(len(new.rows))

    def _share(self, variants: int) -> None:
        """More of the width to the table when it has three or four columns."""
        many = variants > 2
        self._row.setStretchFactor(self.table, 52 if many else 38)
        self._row.setStretchFactor(self.colours, 32 if many else 46)

    def set_low(self, low: bool) -> None:
        """Fewer lines and a smaller loupe on a low page."""
        self.setFixedHeight(LOW_HEIGHT if low else HEIGHT)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        wide = self.width() >= THIRD_COLUMN
        self.colours.setVisible(wide)
        self._last_rule.setVisible(wide)


class CellReadout(QWidget):
    """The exact weights round the cell, enlarged, and the cell in numbers."""

    def __init__(self, store: Store, theme: Theme, feed: MapFeed, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme, self._feed = store, theme, feed
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumWidth(250)
        self.setAccessibleName("The cell")
        self._loupe: tuple[object, QImage] | None = None
        feed.changed.connect(self._scene_changed)
        theme.changed.connect(self._redress)

    def _redress(self) -> None:
        self._loupe = None
        self.update()

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        old_rows, new_rows = [panel.row for panel in old.rows], [panel.row for panel in new.rows]
        if old.cell == new.cell and all(one is other for one, other in zip(old_rows, new_rows, strict=False)):
            return
        self.setAccessibleDescription(", ".join(f"{name} {value}" for name, value, _ in self.lines()))
        self.update()

    def _panel(self) -> Panel | None:
        return next((panel for panel in self._feed.scene.rows if panel.row), None)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, what follows it in hint colour)."""
        scene, panel = self._feed.scene, self._panel()
        if scene.cell is None:
            return [("query", NOTHING, ""), ("key", NOTHING, ""), ("weight", NOTHING, ""), ("rank", NOTHING, "")]
        row, column = scene.cell
        found = panel.weight(column) if panel else None
        value = NOTHING if found is None else "masked" if found != found else weight(found)
        words = [("query", count(row), self._token(row)), ("key", count(column), self._token(column))]
        name = "score" if panel and panel.signed else "weight"
        # a softmax never gives 0 to a key that it sees, features may
        underflow = found == 0 and panel is not None and catalogue.find(panel.variant).family != "linear"
        words.append((name, value, "(underflow)" if underflow else ""))
        rank, of = rank_of(panel, column) if panel else (0, 0)
        by_size = " by size" if panel and panel.signed else ""
        words.append(("rank", count(rank) if rank else NOTHING, f"of {count(of)}{by_size}" if rank else ""))
        if panel is not None and of == 0:
            words[2] = (name, "attends to nothing", "")
        return words

    def _token(self, position: int) -> str:
        tokens = self._feed.scene.tokens
        return short(tokens[position]) if position < len(tokens) else ""

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        tokens = self._theme.tokens
        low = self.height() <= LOW_HEIGHT
        side = LOW_LOUPE if low else LOUPE
        self._paint_loupe(painter, QRectF(12.5, (self.height() - side) / 2 + 0.5, side, side))
        x = 12 + side + 13
        painter.setFont(font("tick"))
        painter.setPen(QColor(tokens.text2))
        painter.drawText(QRectF(x, 4, self.width() - x, 16), Qt.AlignmentFlag.AlignVCenter, "loupe, 4 px = 1 weight")
        y, line = 22.0, 20.0
        for name, value, after in self.lines()[: 3 if low else 4]:
            painter.setFont(font("label"))
            painter.setPen(QColor(tokens.text2))
            painter.drawText(QRectF(x, y, 46, line), Qt.AlignmentFlag.AlignVCenter, name)
            face = font("number_medium" if name in ("weight", "score") else "number")
            painter.setPen(QColor(tokens.text1))
            paint_number(painter, QRectF(x + 46, y, 140, line), value, face)
            painter.setFont(font("label"))
            painter.setPen(QColor(tokens.text2))
            left = x + 46 + number_width(value, face) + 8
            painter.drawText(QRectF(left, y, self.width() - left, line), Qt.AlignmentFlag.AlignVCenter, after)
            y += line
        painter.end()

    def _paint_loupe(self, painter: QPainter, box: QRectF) -> None:
        tokens, panel = self._theme.tokens, self._panel()
        painter.fillRect(box, QColor(tokens.plot))
        if panel and panel.row and panel.picture and panel.row.patch.data and self._is_here(panel):
            height, width = panel.row.patch.shape
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
            painter.drawImage(box, self._image(panel.row.patch.data, height, width, panel.picture))
            cell = box.width() / width
            painter.setPen(QPen(QColor(tokens.text1), 1))
            painter.drawRect(QRectF(box.x() + (width // 2) * cell - 1, box.y() + (height // 2) * cell - 1, cell + 1, cell + 1))
        painter.setPen(QPen(QColor(tokens.accent), 1))
        painter.drawRect(box)

    def _is_here(self, panel: Panel) -> bool:
        cell = self._feed.scene.cell
        return cell is not None and panel.row_column == cell[1]

    def _image(self, patch: bytes, height: int, width: int, picture: Picture) -> QImage:
        settings = self._store.state.settings
        key = (id(patch), picture.low, picture.high, picture.scale, settings.colours)
        if self._loupe is None or self._loupe[0] != key:
            codes = codes_of(memoryview(patch).cast("f"), picture)
            image = QImage(codes, width, height, width, QImage.Format.Format_Indexed8)
            colours: ColourMap = "signed" if picture.signed else settings.colours
            image.setColorTable(list(colour_table(colours, self._theme.tokens)))
            self._loupe = key, image.convertToFormat(QImage.Format.Format_RGB32)
        return self._loupe[1]


def rank_of(panel: Panel, column: int) -> tuple[int, int]:
    """(place of a key among the keys that the row sees, 1 the largest; how many it sees); place 0 for a masked key.

    Signed weights count by their size.
    """
    if panel.row is None:
        return 0, 0
    import numpy as np

    weights = np.frombuffer(panel.row.weights.data, "<f4")
    if panel.signed:
        weights = np.abs(weights)
    seen = int(np.count_nonzero(~np.isnan(weights)))
    if not 0 <= column < len(weights) or np.isnan(weights[column]):
        return 0, seen
    return int(np.count_nonzero(weights > weights[column])) + 1, seen

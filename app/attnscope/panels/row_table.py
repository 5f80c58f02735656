"""The numbers of the row that is read, one column a variant, under the swatches of the panels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnscope_engine.protocol import Row
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from attnscope.looks import look
from attnscope.map_feed import MapFeed
from attnscope.map_scene import Panel, Scene
from attnscope.marks import draw_marker, draw_swatch
from attnscope.painted_number import number_width, paint_number
from attnscope.quantities import MINUS, NOTHING, count, three_digits, weight
from attnscope.theme import Theme, font
from attnscope.token_text import readable

LINE, LOW_LINE = 20, 17
UNIT = 46
COLUMN, LEAST_COLUMN = 86, 60
NAMES, SHORT_NAMES = 130, 84
"""Room for the names of the lines."""
SWATCH, MARK = 34, 15
BESIDE = 8
"""Least room between two numbers."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One line of the table."""

    name: str
    short: str
    unit: str
    of: Callable[[Row], str]
    means: Callable[[Panel], bool] = lambda panel: True  # noqa: ARG005
    """Whether it has a meaning for a panel."""

    def text(self, panel: Panel) -> str:
        """The value of a panel's row; nothing while it is not known, or where it means nothing."""
        if panel.row is None or not self.means(panel):
            return NOTHING
        return self.of(panel.row)


def _error(row: Row) -> str:
    difference = abs(row.row_sum - 1.0)
    return "0" if difference == 0 else f"{difference:.0e}".replace("e-0", "e-").replace("-", MINUS)


def _tokens(value: float) -> str:
    return three_digits(value) if abs(value) < 9999 else count(round(value))


QUANTITIES = (
    Quantity("entropy of the row", "entropy, bits", "bits", lambda row: three_digits(row.entropy_bits)),
    Quantity("effective support", "support, keys", "keys", lambda row: _tokens(row.support)),
    Quantity("mass on the sink", "sink mass", "", lambda row: weight(row.sink)),
    Quantity("mean distance", "distance", "tokens", lambda row: _tokens(row.distance)),
    Quantity("mass cut", "mass cut", "", lambda row: weight(row.mass_cut), lambda panel: not panel.signed),
    Quantity("row sum, error", "row-sum err.", "", _error, lambda panel: panel.normalised),
)
LONG_LINES = 5
"""Lines of the table beside the loupe: what is left out there, the row sum, is in the table for short texts."""


class RowTable(QWidget):
    """Entropy, support, sink, distance and cut of the row, for each panel.

    Args:
        full: all lines with a title, as beside the heads; else the lines that fit beside the loupe, with units.
    """

    def __init__(self, theme: Theme, feed: MapFeed, *, full: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme, self._feed, self._full = theme, feed, full
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumWidth(220)
        self.setAccessibleName("Numbers of this row")
        feed.changed.connect(self._scene_changed)
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return QSize(380, self._top() + self._line() * (len(QUANTITIES) if self._full else LONG_LINES))

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        if old.cell == new.cell and [panel.row for panel in old.rows] == [panel.row for panel in new.rows]:
            return
        self.setAccessibleDescription(self.words())
        self.update()

    def shown(self) -> tuple[Panel, ...]:
        """The panels that have a column: the first ones, as many as have room for their numbers."""
        panels = self._feed.scene.rows
        widest = max(
            (number_width(quantity.text(panel), font("number")) for panel in panels for quantity in self._lines()), default=0.0
        )
        room = self.width() - 12.0 - (SHORT_NAMES if self._full else UNIT + NAMES)
        return panels[: max(1, int(room // (widest + BESIDE)))]

    def words(self) -> str:
        """The table in words, with the panels that have no column."""
        panels = [panel for panel in self._feed.scene.rows if panel.row]
        return "; ".join(
            f"{panel.title}: " + ", ".join(f"{each.name} {each.text(panel)}" for each in QUANTITIES) for panel in panels
        )

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        scene, tokens = self._feed.scene, self._theme.tokens
        panels = self.shown()
        self.setToolTip("" if len(panels) == len(scene.rows) else self.words().replace("; ", "\n"))
        right = self.width() - 12.0 - (0 if self._full else UNIT)
        metrics = QFontMetricsF(font("tick"))
        widest = max((metrics.horizontalAdvance(panel.title) for panel in panels), default=0.0)
        most = (right - (SHORT_NAMES if self._full else NAMES)) / max(len(panels), 1)
        column = min(max(widest + MARK + 12, LEAST_COLUMN if self._full else COLUMN), most)
        painter.setFont(font("heading" if self._full else "tick"))
        painter.setPen(QColor(tokens.text1 if self._full else tokens.text2))
        room = right - column * len(panels) - 12
        more = len(scene.rows) - len(panels)
        words = f"{self._title(scene)} · {more} more" if more else self._title(scene)
        title = painter.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, round(room))
        painter.drawText(QRectF(12, self._top() - 20, room, 18), Qt.AlignmentFlag.AlignVCenter, title)
        for index, panel in enumerate(panels):
            edge = right - column * (len(panels) - 1 - index)
            self._paint_column(painter, panel, edge, column, swatches=widest + SWATCH <= column)
        self._paint_names(painter, right)
        painter.end()

    def _title(self, scene: Scene) -> str:
        if not self._full:
            return "this row, scores by size" if any(panel.signed for panel in scene.rows) else "this row"
        if scene.cell and scene.tokens and scene.cell[0] < len(scene.tokens):
            return f"Row of {readable(scene.tokens[scene.cell[0]])}"
        return "This row"

    def _line(self) -> int:
        return LINE if self._full else LOW_LINE

    def _top(self) -> int:
        return 28 if self._full else 22

    def _lines(self) -> tuple[Quantity, ...]:
        most = max(1, (self.height() - self._top()) // self._line())
        wanted = QUANTITIES if self._full else QUANTITIES[:LONG_LINES]
        return wanted[:most]

    def _paint_names(self, painter: QPainter, right: float) -> None:
        tokens = self._theme.tokens
        for index, quantity in enumerate(self._lines()):
            y = self._top() + index * self._line()
            painter.setFont(font("label"))
            painter.setPen(QColor(tokens.text2))
            name = quantity.short if self._full else quantity.name
            painter.drawText(QRectF(12, y, 140, self._line()), Qt.AlignmentFlag.AlignVCenter, name)
            if not self._full and quantity.unit:
                painter.setFont(font("tick"))
                painter.setPen(QColor(tokens.text3))
                painter.drawText(QRectF(right + 6, y, UNIT, self._line()), Qt.AlignmentFlag.AlignVCenter, quantity.unit)

    def _paint_column(self, painter: QPainter, panel: Panel, edge: float, width: float, *, swatches: bool) -> None:
        tokens = self._theme.tokens
        metrics = QFontMetricsF(font("tick"))
        title = metrics.elidedText(panel.title, Qt.TextElideMode.ElideRight, width - MARK)
        text_width = metrics.horizontalAdvance(title)
        if swatches:
            draw_swatch(
                painter, QRectF(edge - text_width - SWATCH, self._top() - 18, SWATCH - 6, 14), look(panel.variant), tokens
            )
        else:
            draw_marker(painter, QPointF(edge - text_width - 9, self._top() - 11), look(panel.variant), tokens, halo=tokens.panel)
        painter.setFont(font("tick"))
        painter.setPen(QColor(tokens.text2))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(edge - text_width - 2, self._top() - 20, text_width + 2, 18), right, title)
        painter.setPen(QColor(tokens.text1))
        for index, quantity in enumerate(self._lines()):
            value = quantity.text(panel)
            y = self._top() + index * self._line()
            paint_number(painter, QRectF(edge - width, y, width, self._line()), value, font("number"), right=True)

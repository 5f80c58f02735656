"""Lower half of the Memory page: how long a sequence the whole model can take with each variant, by formula."""

from __future__ import annotations

import math

from attnscope_engine.protocol import MAX_SEQ_LEN
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QPixmap, QPolygonF, QResizeEvent
from PySide6.QtWidgets import QWidget

from attnscope.looks import look
from attnscope.memory import Fit
from attnscope.plots.peak_layout import PAD
from attnscope.plots.peak_table import LEFT, RIGHT, longest
from attnscope.quantities import NOTHING, count
from attnscope.theme import LINE_WIDTH, Theme, draw_marker, draw_swatch, font, icon, line_pen
from attnscope.ticks import seq_len_ticks

HEADS = 26.0
AXIS = 24.0
ROW_MOST, ROW_LEAST = 36.0, 22.0
REACH = 9
"""Pixels on both sides of the cursor that are drawn again when it moves."""
LOW, HIGH = 512.0, 2.0 * MAX_SEQ_LEN
AXIS_WORDS = ("tokens, log scale (1k = 1,024)", "tokens, log scale", "tokens")


class FitsTable(QWidget):
    """Painted."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._rows: tuple[Fit, ...] = ()
        self._n = 64
        self._picture: QPixmap | None = None
        self._message = ""
        self.setAccessibleName("What fits")
        theme.changed.connect(self._redraw)

    @property
    def rows(self) -> tuple[Fit, ...]:
        return self._rows

    def show_rows(self, rows: tuple[Fit, ...], n: int, message: str = "") -> None:
        """`n` is the slider's; `message` stands in place of rows."""
        if (rows, message) != (self._rows, self._message):
            self._rows, self._message = rows, message
            self.setAccessibleDescription("; ".join(f"{row.title} {words(row)}" for row in rows))
            self._redraw()
        if n != self._n:
            for each in (self._n, n):
                self.update(round(self.place(each)) - REACH, 0, 2 * REACH, self.height())
            self._n = n

    def needed(self, row: float) -> float:
        """Height in pixels with rows of that height."""
        return HEADS + row * len(self._rows) + AXIS

    def row_height(self) -> float:
        spare = self.height() - self.needed(0)
        return min(max(spare / max(len(self._rows), 1), ROW_LEAST), ROW_MOST)

    def columns(self) -> dict[str, float]:
        """Left edges of texts, right edge of the number, both ends of the axis."""
        width = self.width()
        narrow = width < 900
        binding = PAD + (190 if narrow else 230)
        grows = binding + (118 if narrow else 134)
        largest = grows + (118 if narrow else 128) + 84
        checked = width - PAD - (150 if narrow else 176)
        return {
            "name": PAD + 36,
            "binding": binding,
            "grows": grows,
            "largest": largest,
            "axis": largest + 28,
            "axis_end": checked - 20,
            "checked": checked,
        }

    def place(self, n: float) -> float:
        """Pixels from the left of a number of tokens."""
        columns = self.columns()
        share = math.log(min(max(n, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
        return columns["axis"] + (columns["axis_end"] - columns["axis"]) * share

    def _redraw(self) -> None:
        self._picture = None
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: ARG002
        self._redraw()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """The table from a picture of it, the cursor on top: a tick of the slider draws no text."""
        painter = QPainter(self)
        ratio = float(painter.paintEngine().paintDevice().devicePixelRatio()) if painter.isActive() else 1.0
        if self._picture is None or self._picture.devicePixelRatio() != ratio:
            self._picture = self._drawn(ratio)
        painter.drawPixmap(0, 0, self._picture)
        if self._rows:
            self._draw_cursor(painter)
        painter.end()

    def _drawn(self, ratio: float) -> QPixmap:
        picture = QPixmap(self.size() * ratio)
        picture.setDevicePixelRatio(ratio)
        picture.fill(QColor(self._theme.tokens.panel))
        painter = QPainter(picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._rows:
            self._draw_heads(painter)
            self._draw_ground(painter)
            for index, row in enumerate(self._rows):
                self._draw_row(painter, row, HEADS + index * self.row_height())
        else:
            painter.setFont(font("body"))
            painter.setPen(QColor(self._theme.tokens.text2))
            painter.drawText(QRectF(self.rect()), Qt.AlignmentFlag.AlignCenter, self._message)
        painter.end()
        return picture

    def _draw_cursor(self, p: QPainter) -> None:
        """The slider's n, under the marks that stand at it."""
        x, height = round(self.place(self._n)), self.row_height()
        p.setRenderHint(QPainter.RenderHint.Antialiasing)
        p.fillRect(QRectF(x - 1, HEADS, 2, height * len(self._rows)), QColor(self._theme.tokens.accent))
        for index, row in enumerate(self._rows):
            if row.ran_at and abs(self.place(row.ran_at) - x) < REACH:
                at = QPointF(self.place(row.ran_at), HEADS + (index + 0.5) * height)
                draw_marker(p, at, look(row.variant), self._theme.tokens)

    def _draw_heads(self, p: QPainter) -> None:
        columns = self.columns()
        p.setFont(font("tick"))
        p.setPen(QColor(self._theme.tokens.text3))
        p.drawText(QRectF(PAD, 0, 200, HEADS), LEFT, "attention")
        heads = (
            ("binding", "binding term"),
            ("grows", "grows by"),
            ("axis", longest(AXIS_WORDS, columns["checked"] - columns["axis"] - 8, p.fontMetrics())),
            ("checked", "checked here"),
        )
        for column, text in heads:
            p.drawText(QRectF(columns[column], 0, 300, HEADS), LEFT, text)
        p.drawText(QRectF(0, 0, columns["largest"], HEADS), RIGHT, "largest n")

    def _draw_ground(self, p: QPainter) -> None:
        tokens, columns = self._theme.tokens, self.columns()
        top, height = HEADS, self.row_height() * len(self._rows)
        length = columns["axis_end"] - columns["axis"]
        p.fillRect(QRectF(columns["axis"], top, length, height), QColor(tokens.plot))
        p.setFont(font("tick"))
        for tick in seq_len_ticks(LOW, HIGH, length):
            x = round(self.place(tick.value))
            p.fillRect(QRectF(x, top + height + 1, 1, 4), QColor(tokens.edge))
            if tick.label:
                p.fillRect(QRectF(x, top, 1, height), QColor(tokens.grid))
                p.setPen(QColor(tokens.text2))
                p.drawText(QRectF(x - 30, top + height + 6, 60, 16), Qt.AlignmentFlag.AlignCenter, tick.label)
        for index in range(len(self._rows) + 1):
            p.fillRect(QRectF(PAD, round(top + index * self.row_height()), self.width() - 2 * PAD, 1), QColor(tokens.line))

    def _draw_row(self, p: QPainter, row: Fit, y: float) -> None:
        tokens, columns, height = self._theme.tokens, self.columns(), self.row_height()
        draw_swatch(p, QRectF(PAD, y + (height - 14) / 2, 28, 14), look(row.variant), tokens)
        p.setFont(font("label"))
        p.setPen(QColor(tokens.text1))
        p.drawText(QRectF(columns["name"], y, 200, height), LEFT, row.title)
        metrics = QFontMetricsF(font("label"))
        x = columns["name"] + metrics.horizontalAdvance(row.title) + 8
        p.setPen(QColor(tokens.text3))
        room = columns["binding"] - x - 8
        p.drawText(QRectF(x, y, room, height), LEFT, metrics.elidedText(row.summary, Qt.TextElideMode.ElideRight, room))
        p.setPen(QColor(tokens.text2))
        p.drawText(QRectF(columns["binding"], y, 140, height), LEFT, row.binding)
        p.drawText(QRectF(columns["grows"], y, 140, height), LEFT, row.grows)
        p.setFont(font("number" if row.largest else "label"))
        p.setPen(QColor(tokens.text1 if row.largest else tokens.danger))
        p.drawText(QRectF(0, y, columns["largest"], height), RIGHT, words(row))
        self._draw_reach(p, row, y + height / 2)
        self._draw_checked(p, row, y)

    def _draw_reach(self, p: QPainter, row: Fit, y: float) -> None:
        """A line to the largest n with a tick at its end, an arrow where it goes on; the marker where a layer ran."""
        tokens, columns, which = self._theme.tokens, self.columns(), look(row.variant)
        colour = QColor(which.colour(tokens))
        end = columns["axis_end"] - 2 if row.is_open else self.place(row.largest)
        if row.largest:
            p.setPen(line_pen(which, tokens, 1.25))
            p.drawLine(QPointF(columns["axis"], y), QPointF(end - (6 if row.is_open else 0), y))
            if row.is_open:
                p.setPen(Qt.PenStyle.NoPen)
                p.setBrush(colour)
                p.drawPolygon(QPolygonF([QPointF(end, y), QPointF(end - 7, y - 4), QPointF(end - 7, y + 4)]))
            else:
                p.setPen(QPen(colour, LINE_WIDTH))
                p.drawLine(QPointF(end, y - 7), QPointF(end, y + 7))
        if row.ran_at:
            draw_marker(p, QPointF(self.place(row.ran_at), y), which, tokens)

    def _draw_checked(self, p: QPainter, row: Fit, y: float) -> None:
        tokens, columns, height = self._theme.tokens, self.columns(), self.row_height()
        name, colour = ("check", tokens.ok) if row.ran_at else ("clock", tokens.text3)
        icon(name, colour).paint(p, round(columns["checked"]), round(y + (height - 14) / 2), 14, 14)
        p.setFont(font("label"))
        p.setPen(QColor(tokens.text2))
        p.drawText(QRectF(columns["checked"] + 20, y, 200, height), LEFT, row.checked)


def words(row: Fit) -> str:
    """The largest n as it is written."""
    if not row.largest:
        return f"{NOTHING} none fits"
    return f"≥ {count(MAX_SEQ_LEN)}" if row.is_open else count(row.largest)

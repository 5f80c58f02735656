"""Upper half of the Memory page: a row per variant with predicted, measured, difference, the total on an axis and its parts."""

from __future__ import annotations

import html
from collections.abc import Sequence

from attnscope_engine.protocol import Term
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetrics, QFontMetricsF, QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QToolTip, QWidget

from attnscope.looks import look, term_colour, text_on
from attnscope.memory import Peak, term_groups
from attnscope.plots.hatching import hatch
from attnscope.plots.peak_layout import AXIS, HEADS, KEY_ROW, PAD, PeakLayout, View
from attnscope.quantities import NOTHING, bytes_parts, bytes_text, percent
from attnscope.theme import LINE_WIDTH, Theme, draw_marker, draw_swatch, font, line_pen

BAR = 20.0
LABELLED = 100.0
"""Pixels from which a part of a bar has its name in it."""
GROWTH_WORDS = {"n2": "grows as n²", "n": "grows as n", "constant": "constant"}
LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip


class PeakTable(QWidget):
    """Painted."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._rows: tuple[Peak, ...] = ()
        self._view = View()
        self._at = PeakLayout(0, 0, (), self._view)
        self.setAccessibleName("Peak memory of one forward call")
        theme.changed.connect(self.update)

    @property
    def rows(self) -> tuple[Peak, ...]:
        return self._rows

    def show_rows(self, rows: tuple[Peak, ...], view: View) -> None:
        if (rows, view) != (self._rows, self._view):
            self._rows, self._view = rows, view
            told = [f"{row.title} {bytes_text(row.predicted)} predicted" + _spoken(row) for row in rows]
            self.setAccessibleDescription("; ".join(told))
            self.update()

    @property
    def layout_(self) -> PeakLayout:
        """Where everything stands now."""
        return PeakLayout(self.width(), self.height(), self._rows, self._view)

    def needed(self, row: float) -> float:
        """Height in pixels with rows of that height."""
        return self.layout_.needed(row)

    # ------------------------------------------------------------ painting

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        self._at = self.layout_
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._rows:
            self._draw_heads(painter)
            self._draw_ground(painter)
            for index, row in enumerate(self._rows):
                self._draw_row(painter, row, HEADS + index * self._at.row_height())
            self._draw_axis(painter)
            self._draw_key(painter)
        painter.end()

    def _draw_heads(self, p: QPainter) -> None:
        columns = self._at.columns()
        p.setFont(font("tick"))
        p.setPen(QColor(self._theme.tokens.text3))
        p.drawText(QRectF(PAD, 0, 200, HEADS), LEFT, "variant")
        room = columns["difference"] - columns["measured"] - 30  # right of the dot behind "measured"
        difference = longest(("difference", "diff."), room, p.fontMetrics())
        for name, text in (("predicted", "predicted —"), ("measured", "measured"), ("difference", difference)):
            shift = {"predicted": 26, "measured": 14, "difference": 0}[name]
            p.drawText(QRectF(0, 0, columns[name] + shift, HEADS), RIGHT, text)
        p.setBrush(QColor(self._theme.tokens.text3))
        p.drawEllipse(QPointF(columns["measured"] + 22, HEADS / 2 + 0.5), 2.5, 2.5)
        if self._view.to_scale:
            p.drawText(QRectF(columns["axis"], 0, 400, HEADS), LEFT, "stack of the predicted terms, to the card's scale")
            return
        p.drawText(QRectF(columns["axis"], 0, 400, HEADS), LEFT, "total: line predicted, marker measured")
        p.drawText(QRectF(columns["parts"], 0, 400, HEADS), LEFT, "made of (share of the predicted peak)")

    def _draw_ground(self, p: QPainter) -> None:
        tokens, columns, rows = self._theme.tokens, self._at.columns(), self._at.rows_rect()
        axis = QRectF(columns["axis"], rows.top(), columns["axis_end"] - columns["axis"], rows.height())
        p.fillRect(axis, QColor(tokens.plot))
        for tick in self._at.ticks():
            p.fillRect(QRectF(round(self._at.place(tick.value)), rows.top(), 1, rows.height()), QColor(tokens.grid))
        for index in range(len(self._rows) + 1):
            p.fillRect(
                QRectF(PAD, round(rows.top() + index * self._at.row_height()), self.width() - 2 * PAD, 1), QColor(tokens.line)
            )
        free = self._view.free_bytes
        if free:
            x = round(self._at.place(free))
            hatch(p, QRectF(x, rows.top(), columns["axis_end"] - x, rows.height()), tokens.danger, 7)
            p.fillRect(QRectF(x, rows.top(), 1.5, rows.height()), QColor(tokens.danger))

    def _draw_row(self, p: QPainter, row: Peak, y: float) -> None:
        tokens, columns, height = self._theme.tokens, self._at.columns(), self._at.row_height()
        draw_swatch(p, QRectF(PAD, y + (height - 14) / 2, 28, 14), look(row.variant), tokens)
        p.setFont(font("body_medium"))
        p.setPen(QColor(tokens.text1))
        p.drawText(QRectF(columns["name"], y, 120, height), LEFT, row.title)
        self._draw_numbers(p, row, y)
        if self._view.to_scale:
            self._draw_stack(p, row, y)
        else:
            self._draw_total(p, row, y)
            self._draw_parts(p, row, y)

    def _draw_numbers(self, p: QPainter, row: Peak, y: float) -> None:
        tokens, columns, height = self._theme.tokens, self._at.columns(), self._at.row_height()
        if self._view.predicted:
            colour = tokens.danger if row.refusal else tokens.text2
            self._number(p, row.predicted, QRectF(0, y, columns["predicted"], height), colour, measured=False)
        place = QRectF(0, y, columns["measured"], height)
        if not self._view.measured:
            return
        if row.measured:
            self._number(p, row.measured.peak_bytes, place, tokens.text1, measured=True)
            if row.difference is not None and self._view.predicted:
                p.setFont(font("number"))
                p.setPen(QColor(tokens.text2))
                p.drawText(QRectF(0, y, columns["difference"], height), RIGHT, percent(row.difference))
            return
        p.setFont(font("tick"))
        p.setPen(QColor(tokens.danger if row.refusal else tokens.text3))
        words = "does not fit" if row.refusal else row.progress or "not measured"
        p.drawText(place.adjusted(0, 0, 26, 0), RIGHT, words)

    def _number(self, p: QPainter, bytes_: int, place: QRectF, colour: str, *, measured: bool) -> None:
        number, unit = bytes_parts(bytes_)
        p.setFont(font("number_medium" if measured else "number"))
        p.setPen(QColor(colour))
        p.drawText(place, RIGHT, number)
        p.setFont(font("tick"))
        p.setPen(QColor(self._theme.tokens.text3))
        p.drawText(QRectF(place.right() + 4, place.top(), 24, place.height()), LEFT, unit)

    def _draw_total(self, p: QPainter, row: Peak, y: float) -> None:
        """The line to the predicted total with a tick at its end, the marker at the measured one."""
        tokens, which = self._theme.tokens, look(row.variant)
        start, middle = self._at.columns()["axis"], y + self._at.row_height() / 2
        x = self._at.place(row.predicted)
        if row.refusal:
            x = self._at.place(self._view.free_bytes or row.predicted)
        if self._view.predicted:
            pen = line_pen(which, tokens, 1.0)
            p.setOpacity(0.6)
            p.setPen(pen)
            p.drawLine(QPointF(start, middle), QPointF(x, middle))
            p.setOpacity(1.0)
            if row.refusal:
                p.setPen(QPen(QColor(tokens.danger), 2))
                for sign in (-1, 1):
                    p.drawLine(QPointF(x - 4.5, middle - 4.5 * sign), QPointF(x + 4.5, middle + 4.5 * sign))
            else:
                p.setPen(QPen(QColor(which.colour(tokens)), LINE_WIDTH))
                p.drawLine(QPointF(x, middle - 8), QPointF(x, middle + 8))
        if row.measured and self._view.measured:
            draw_marker(p, QPointF(self._at.place(row.measured.peak_bytes), middle), which, tokens)

    def _draw_parts(self, p: QPainter, row: Peak, y: float) -> None:
        columns, height = self._at.columns(), self._at.row_height()
        bar = QRectF(columns["parts"], y + (height - BAR) / 2, columns["parts_end"] - columns["parts"], min(BAR, height - 4))
        self._draw_terms(p, row.terms, bar, bar.width() / max(row.predicted, 1))

    def _draw_stack(self, p: QPainter, row: Peak, y: float) -> None:
        columns, height = self._at.columns(), self._at.row_height()
        length = columns["axis_end"] - columns["axis"]
        bar = QRectF(columns["axis"], y + (height - BAR) / 2, length, min(BAR, height - 4))
        self._draw_terms(p, row.terms, bar, length / self._at.span()[1])
        if row.predicted > self._at.span()[1]:
            tokens = self._theme.tokens
            text = f"{bytes_text(row.predicted)} →"
            width = QFontMetricsF(font("label")).horizontalAdvance(text) + 12
            box = QRectF(bar.right() - width - 4, bar.top() + 1, width, bar.height() - 2)
            p.fillRect(box, QColor(tokens.plot))
            p.setFont(font("label"))
            p.setPen(QColor(tokens.danger))
            p.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
        elif row.measured and self._view.measured:
            at = QPointF(self._at.place(row.measured.peak_bytes), bar.center().y())
            draw_marker(p, at, look(row.variant), self._theme.tokens)

    def _draw_terms(self, p: QPainter, terms: Sequence[Term], bar: QRectF, scale: float) -> None:
        """Each term to scale (pixels a byte), cut at the bar's end, with its name where there is room."""
        tokens = self._theme.tokens
        p.setFont(font("tick"))
        x = bar.left()
        for term in terms:
            width = min(term.bytes_ * scale, bar.right() - x)
            part = QRectF(x, bar.top(), width, bar.height())
            colour = term_colour(term.name, term.growth, tokens)
            p.fillRect(part, QColor(colour))
            if x > bar.left():
                p.fillRect(QRectF(x, bar.top(), 1, bar.height()), QColor(tokens.panel))
            text = f"{term.name} {bytes_text(term.bytes_)}"
            if width >= max(LABELLED, QFontMetricsF(font("tick")).horizontalAdvance(text) + 12):
                p.setPen(QColor(text_on(colour)))
                p.drawText(part.adjusted(6, 0, -4, 0), LEFT, text)
            x += width
        p.setPen(QPen(QColor(tokens.edge), 1))
        p.setBrush(Qt.BrushStyle.NoBrush)
        p.drawRect(QRectF(bar.left(), bar.top(), max(x - bar.left(), 1), bar.height()).adjusted(0.5, 0.5, -0.5, -0.5))

    def _draw_axis(self, p: QPainter) -> None:
        tokens, y = self._theme.tokens, self._at.rows_rect().bottom()
        p.setFont(font("tick"))
        metrics = QFontMetricsF(font("tick"))
        free = self._view.free_bytes
        taken: list[QRectF] = []
        if free:
            text = f"free now {bytes_text(free)}"
            width = metrics.horizontalAdvance(text)
            x = min(max(self._at.place(free) - width / 2, self._at.columns()["axis"]), self._at.columns()["axis_end"] - width)
            p.setPen(QColor(tokens.danger))
            taken.append(QRectF(x - 6, y, width + 12, AXIS))
            p.drawText(QRectF(x, y + 5, width, 16), LEFT | Qt.TextFlag.TextDontClip, text)
        for tick in self._at.ticks():
            x, width = self._at.place(tick.value), metrics.horizontalAdvance(tick.label)
            p.fillRect(QRectF(round(x), y + 1, 1, 4), QColor(tokens.edge))
            rect = QRectF(x - width / 2, y + 6, width, 16)
            if not any(rect.intersects(other) for other in taken):
                p.setPen(QColor(tokens.text2))
                p.drawText(rect, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextDontClip, tick.label)

    def _draw_key(self, p: QPainter) -> None:
        """Colours of the terms, by how they grow."""
        tokens, columns = self._theme.tokens, self._at.columns()
        metrics = QFontMetricsF(font("tick"))
        p.setFont(font("tick"))
        start = columns["parts"] if not self._view.to_scale else columns["axis"]
        y = self._at.rows_rect().bottom() + (8 if not self._view.to_scale else AXIS)
        for growth, terms in term_groups(self._rows).items():
            x = start
            p.setPen(QColor(tokens.text3))
            p.drawText(QRectF(x, y, 90, KEY_ROW), LEFT, GROWTH_WORDS[growth])
            x += 74
            for term in terms:
                p.fillRect(QRectF(x, y + 4, 10, 10), QColor(term_colour(term.name, term.growth, tokens)))
                p.setPen(QColor(tokens.text2))
                room = self.width() - 2 - (x + 16)
                p.drawText(
                    QRectF(x + 16, y, room, KEY_ROW), LEFT, metrics.elidedText(term.name, Qt.TextElideMode.ElideRight, room)
                )
                x += 16 + metrics.horizontalAdvance(term.name) + 16
            y += KEY_ROW

    # ------------------------------------------------------------ tool tip

    def row_at(self, y: float) -> Peak | None:
        index = int((y - HEADS) // self.layout_.row_height())
        return self._rows[index] if y >= HEADS and index < len(self._rows) else None

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            row = self.row_at(event.pos().y())
            QToolTip.showText(event.globalPos(), tip(row) if row else "", self)
            return True
        return super().event(event)


def longest(words: Sequence[str], room: float, metrics: QFontMetrics) -> str:
    """The first of them, which go from long to short, that has room; the last if none has."""
    return next((each for each in words if metrics.horizontalAdvance(each) <= room), words[-1])


def tip(row: Peak) -> str:
    """What it is, its formula, the numbers put in."""
    formula = " + ".join(term.formula for term in row.terms)
    numbers = " + ".join(bytes_text(term.bytes_) for term in row.terms)
    lines = [f"Memory held by {row.title}", formula, f"{numbers} = {bytes_text(row.predicted)}"]
    if row.measured:
        lines.append(
            f"measured {bytes_text(row.measured.peak_bytes)}: {row.measured.provenance.get('memory', 'peak of one call')}"
        )
    return "<qt>" + "<br>".join(html.escape(line) for line in lines) + "</qt>"


def _spoken(row: Peak) -> str:
    if row.refusal:
        return ", does not fit"
    return f", {bytes_text(row.measured.peak_bytes)} measured" if row.measured else f", {NOTHING} not measured"

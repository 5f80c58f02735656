"""The right column of the Scaling page: the variants at the slider's n, where they change places, how all this was measured."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QWidget

from attnscope.comparison import AtN, Value, reference_words, rows_at
from attnscope.loglog import rounded_n
from attnscope.looks import look
from attnscope.provenance import formula_text, how_measured
from attnscope.quantities import NOTHING, count, percent, ratio, time_parts
from attnscope.scaling import Crossover, Curve, crossovers, curves
from attnscope.state import State, effective_workload
from attnscope.store import Store
from attnscope.theme import Theme, draw_swatch, font

PAD = 12.0
HEAD, COLUMN_HEADS, ROW, NOTE = 34.0, 22.0, 28.0, 24.0
SWATCH = 26.0
NAME_X = PAD + SWATCH + 6
BEFORE_TIME = 46.0
"""Pixels that a time and its mark take left of the time's right edge."""
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip
_WRAP = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap


class AtNColumn(QWidget):
    """Painted. A slider's tick repaints the table and nothing else."""

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme = store, theme
        self._rows: tuple[AtN, ...] = ()
        self._crossovers: tuple[Crossover, ...] = ()
        self._method: tuple[str, ...] = ()
        self._reference = ""
        self._n = 0
        self._curves: tuple[Curve, ...] = ()
        self.setAccessibleName("Variants at n")
        self.setMinimumHeight(120)
        store.changed.connect(self._changed)
        theme.changed.connect(self.update)
        self._changed(None, store.state)

    @property
    def rows(self) -> tuple[AtN, ...]:
        return self._rows

    @property
    def crossings(self) -> tuple[Crossover, ...]:
        return self._crossovers

    @property
    def method(self) -> tuple[str, ...]:
        """Paragraphs on how the numbers were had."""
        return self._method

    def _changed(self, old: State | None, new: State) -> None:
        if old is not None and not self.isVisible():
            self._curves = ()
            return
        self._refresh(new)

    def showEvent(self, event: object) -> None:  # noqa: ARG002
        self._refresh(self._store.state)

    def _refresh(self, state: State) -> None:
        found = curves(state)
        if found != self._curves or not self._curves:
            self._curves = found
            self._crossovers = crossovers(found)
            rows = [row for curve in found for row in curve.points]
            formula = formula_text(state.live.ceilings, effective_workload(state).dtype)
            self._method = tuple(text for text in (how_measured(rows), formula) if text)
            self.update()
        before = (self._n, self._rows, self._reference)
        self._n = state.settings.workload.seq_len
        self._rows = rows_at(state, found)
        self._reference = reference_words(state, found)
        if (self._n, self._rows, self._reference) != before:
            self.setAccessibleDescription(self._spoken())
            self.update(0, 0, self.width(), round(self._table_bottom()))

    def _spoken(self) -> str:
        told = []
        for row in self._rows:
            if row.time_s:
                kind = "measured" if row.time_s.measured else "predicted"
                told.append(f"{row.title} {' '.join(time_parts(row.time_s.number))} {kind}")
        return f"At n = {count(self._n)}: " + ", ".join(told)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: ARG002
        self.update()

    # ------------------------------------------------------------ painting

    def _table_bottom(self) -> float:
        return HEAD + COLUMN_HEADS + ROW * len(self._rows) + (NOTE if self._rows else 0)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        tokens = self._theme.tokens
        painter.fillRect(self.rect(), QColor(tokens.panel))
        self._draw_table(painter)
        if event.rect().bottom() > self._table_bottom():
            self._draw_text(painter, self._draw_crossovers(painter, self._table_bottom()))
        painter.end()

    @property
    def _is_wide(self) -> bool:
        return self.width() >= 330

    @property
    def _has_spread(self) -> bool:
        """Long names matter more than the spread, which each marker's tool tip tells as well."""
        if self._is_wide:
            return True
        metrics, room = QFontMetricsF(font("label")), self._edges(spread=True)["time"] - BEFORE_TIME - NAME_X
        return all(metrics.horizontalAdvance(row.title) <= room for row in self._rows)

    def columns(self) -> dict[str, float]:
        """Right edges of the columns, in pixels; that of the spread is the time's unit's where there is none."""
        return self._edges(spread=self._has_spread)

    def _edges(self, *, spread: bool) -> dict[str, float]:
        wide = self._is_wide
        slope = self.width() - PAD
        of = slope - (44 if wide else 40)
        before = of - (52 if wide else 46)
        unit = before - (50 if wide else 32) if spread else before
        return {"slope": slope, "ratio": of, "spread": before, "unit": unit, "time": unit - 24}

    def _draw_table(self, p: QPainter) -> None:
        tokens, width, columns = self._theme.tokens, self.width(), self.columns()
        p.setFont(font("heading"))
        p.setPen(QColor(tokens.text1))
        p.drawText(QRectF(PAD, 0, width, HEAD), _LEFT, f"At n = {count(self._n)}")
        p.setFont(font("tick"))
        p.setPen(QColor(tokens.text3))
        p.drawText(QRectF(0, 0, width - PAD, HEAD), _RIGHT, self._reference if self._rows else "")
        if not self._rows:
            return
        p.drawText(QRectF(PAD, HEAD, width, COLUMN_HEADS), _LEFT, "variant")
        for name in ("time", "spread", "ratio", "slope") if self._has_spread else ("time", "ratio", "slope"):
            head = "spread %" if name == "spread" and not self._is_wide else name
            p.drawText(QRectF(0, HEAD, columns[name], COLUMN_HEADS), _RIGHT, head)
        y = HEAD + COLUMN_HEADS
        for row in self._rows:
            self._hairline(p, y)
            self._draw_row(p, row, y, columns)
            y += ROW
        self._hairline(p, y)
        self._draw_note(p, y)

    def _hairline(self, p: QPainter, y: float) -> None:
        p.fillRect(QRectF(0, y, self.width(), 1), QColor(self._theme.tokens.line))

    def _draw_row(self, p: QPainter, row: AtN, y: float, columns: dict[str, float]) -> None:
        tokens = self._theme.tokens
        draw_swatch(p, QRectF(PAD, y + (ROW - 14) / 2, SWATCH, 14), look(row.variant), tokens)
        p.setFont(font("label"))
        p.setPen(QColor(tokens.text1))
        room = columns["time"] - BEFORE_TIME - NAME_X
        name = QFontMetricsF(font("label")).elidedText(row.title, Qt.TextElideMode.ElideRight, room)
        p.drawText(QRectF(NAME_X, y, room + 2, ROW), _LEFT, name)
        if row.refused and not (row.time_s and row.time_s.measured):
            p.setPen(QColor(tokens.danger))
            p.drawText(QRectF(0, y, columns["spread"], ROW), _RIGHT, row.refused)
        elif row.time_s:
            number, unit = time_parts(row.time_s.number)
            self._draw_value(p, row.time_s, number, QRectF(0, y, columns["time"], ROW))
            self._draw_kind(p, row, columns["time"] - 38, y + ROW / 2)
            p.setFont(font("tick"))
            p.setPen(QColor(tokens.text3))
            p.drawText(QRectF(columns["time"] + 4, y, 20, ROW), _LEFT, unit)
            spread = NOTHING if row.spread is None else percent(row.spread) if self._is_wide else f"{row.spread * 100:.1f}"
            if self._has_spread:
                p.setFont(font("number"))
                p.setPen(QColor(tokens.text2))
                p.drawText(QRectF(0, y, columns["spread"], ROW), _RIGHT, spread)
        else:
            self._draw_value(p, Value(0.0, False), NOTHING, QRectF(0, y, columns["time"], ROW))
        if row.ratio:
            self._draw_value(p, row.ratio, ratio(row.ratio.number), QRectF(0, y, columns["ratio"], ROW))
        if row.slope:
            self._draw_value(p, row.slope, f"{row.slope.number:.2f}".replace("-", "−"), QRectF(0, y, columns["slope"], ROW))

    def _draw_value(self, p: QPainter, value: Value, text: str, place: QRectF) -> None:
        tokens = self._theme.tokens
        p.setFont(font("number_medium" if value.measured else "number"))
        p.setPen(QColor(tokens.text1 if value.measured else tokens.text2))
        p.drawText(place, _RIGHT, text)

    def _draw_kind(self, p: QPainter, row: AtN, x: float, y: float) -> None:
        """A line for a prediction, a marker for a measurement, ≈ for one in doubt."""
        tokens = self._theme.tokens
        if row.point and row.point.noise:
            p.setFont(font("label_medium"))
            p.setPen(QColor(tokens.warn))
            p.drawText(QRectF(x - 8, y - 9, 16, 18), Qt.AlignmentFlag.AlignCenter, "≈")
            return
        self._draw_mark(p, x, y, row.time_s is not None and row.time_s.measured)

    def _draw_mark(self, p: QPainter, x: float, y: float, measured: bool) -> None:
        colour = QColor(self._theme.tokens.text3)
        p.setRenderHint(QPainter.RenderHint.Antialiasing)
        if measured:
            p.setPen(Qt.PenStyle.NoPen)
            p.setBrush(colour)
            p.drawEllipse(QPointF(x, y), 2.5, 2.5)
        else:
            p.setPen(QPen(colour, 1.5))
            p.drawLine(QPointF(x - 4, y), QPointF(x + 4, y))

    def _draw_note(self, p: QPainter, y: float) -> None:
        p.setFont(font("tick"))
        x = PAD
        for measured, text in ((True, "measured"), (False, "predicted")):
            self._draw_mark(p, x + 5, y + NOTE / 2 + 1, measured)
            p.setPen(QColor(self._theme.tokens.text3))
            p.drawText(QRectF(x + 14, y, 80, NOTE), _LEFT, text)
            x += 80

    def _draw_crossovers(self, p: QPainter, y: float) -> float:
        tokens = self._theme.tokens
        for measured, title in ((True, "Crossovers, measured"), (False, "Crossovers, predicted")):
            shown = [item for item in self._crossovers if item.measured is measured]
            if not shown:
                continue
            y += 8
            self._heading(p, y, title)
            y += ROW
            for item in shown:
                self._hairline(p, y)
                draw_swatch(p, QRectF(PAD, y + (ROW - 14) / 2, SWATCH, 14), look(item.variant), tokens)
                p.setFont(font("label"))
                p.setPen(QColor(tokens.text1))
                p.drawText(QRectF(PAD + SWATCH + 6, y, self.width(), ROW), _LEFT, item.text)
                value = Value(item.n, measured)
                self._draw_value(p, value, f"n = {count(rounded_n(item.n))}", QRectF(0, y, self.width() - PAD, ROW))
                y += ROW
            self._hairline(p, y)
        return y

    def _heading(self, p: QPainter, y: float, text: str) -> None:
        p.setFont(font("heading"))
        p.setPen(QColor(self._theme.tokens.text1))
        p.drawText(QRectF(PAD, y, self.width(), ROW), _LEFT, text)

    def _draw_text(self, p: QPainter, y: float) -> None:
        if not self._rows or not self._method:
            return
        y += 8
        self._heading(p, y, "How these were measured" if len(self._method) > 1 else "Where the predictions come from")
        y += ROW
        p.setFont(font("label"))
        p.setPen(QColor(self._theme.tokens.text2))
        for paragraph in self._method:
            room = QRectF(PAD, y, self.width() - 2 * PAD, max(0.0, self.height() - y))
            used = QFontMetricsF(font("label")).boundingRect(room, _WRAP, paragraph)
            p.drawText(room, _WRAP, paragraph)
            y += used.height() + 10

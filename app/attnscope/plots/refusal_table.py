"""The parts of the memory that a refused call would hold: as a table, and end to end against what is free."""

from __future__ import annotations

from attnscope_engine.protocol import Refusal
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from attnscope.looks import term_colour
from attnscope.quantities import bytes_parts, bytes_text
from attnscope.store import Store
from attnscope.theme import Theme, font

ROW = 30
"""Height of a line of the table of terms."""
NUMBER_RIGHT = 28
"""Room for the unit at the right of a number."""


class TermTable(QWidget):
    """The parts of the memory with formula and bytes, their sum, and what is free."""

    def __init__(self, store: Store, theme: Theme) -> None:
        super().__init__()
        self._store, self._theme = store, theme
        self._refusal = Refusal("memory", "")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_refusal(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self.setAccessibleDescription(", ".join(f"{term.name} {bytes_text(term.bytes_)}" for term in refusal.terms))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(320, ROW * (len(self._refusal.terms) + 2) + 2)

    def minimumSizeHint(self) -> QSize:
        return QSize(180, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        tokens, refusal = self._theme.tokens, self._refusal
        y = 1.0
        for term in refusal.terms:
            self._rule(painter, y, tokens.line)
            painter.fillRect(QRectF(0, y + 10, 10, 10), QColor(term_colour(term.name, term.growth, tokens)))
            self._line(painter, y, term.name, term.formula, term.bytes_, strong=False)
            y += ROW
        self._rule(painter, y, tokens.edge)
        self._line(painter, y, "needed", "", refusal.needed_bytes, strong=True)
        y += ROW
        self._rule(painter, y, tokens.line)
        self._line(painter, y, "free now", self._reserve(), refusal.free_bytes, strong=False)
        painter.end()

    def _reserve(self) -> str:
        vitals = self._store.state.live.vitals
        of = f"of {bytes_text(vitals.total_bytes)}, " if vitals else ""
        return f"{of}{bytes_text(self._refusal.reserve_bytes)} kept in reserve"

    def _rule(self, painter: QPainter, y: float, colour: str) -> None:
        painter.setPen(QPen(QColor(colour), 1))
        painter.drawLine(QPointF(0, y - 0.5), QPointF(self.width(), y - 0.5))

    def _line(self, painter: QPainter, y: float, name: str, formula: str, bytes_: int, *, strong: bool) -> None:
        tokens, width = self._theme.tokens, float(self.width())
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.setFont(font("heading" if strong else "label"))
        painter.setPen(QColor(tokens.text1))
        painter.drawText(QRectF(16, y, 104, ROW), middle, name)
        number, unit = bytes_parts(bytes_)
        painter.setFont(font("label"))
        painter.setPen(QColor(tokens.text2))
        room = width - 126 - NUMBER_RIGHT - 64
        metrics = QFontMetricsF(font("label"))
        if metrics.horizontalAdvance(formula) <= room or not formula.startswith("of "):
            shown = metrics.elidedText(formula, Qt.TextElideMode.ElideRight, max(room, 0.0))
            painter.drawText(QRectF(126, y, room, ROW), middle, shown)
        painter.setFont(font("number_medium"))
        painter.setPen(QColor(tokens.text1))
        painter.drawText(QRectF(width - NUMBER_RIGHT - 70, y, 66, ROW), middle | Qt.AlignmentFlag.AlignRight, number)
        painter.setFont(font("tick"))
        painter.setPen(QColor(tokens.text3))
        painter.drawText(QRectF(width - NUMBER_RIGHT, y, NUMBER_RIGHT, ROW), middle, unit)


class ScaleBar(QWidget):
    """The parts end to end, to scale, with the wall of what is free."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._refusal = Refusal("memory", "")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_refusal(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(320, 58)

    def minimumSizeHint(self) -> QSize:
        return QSize(120, 58)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        tokens, refusal, width = self._theme.tokens, self._refusal, float(self.width())
        x = 0.0
        for term in refusal.terms:
            share = width * term.bytes_ / max(refusal.needed_bytes, 1)
            painter.fillRect(QRectF(x, 20, share, 16), QColor(term_colour(term.name, term.growth, tokens)))
            x += share
        wall = width * min(refusal.free_bytes / max(refusal.needed_bytes, 1), 1.0)
        painter.setPen(QPen(QColor(tokens.danger), 2))
        painter.drawLine(QPointF(max(wall, 1.0), 12), QPointF(max(wall, 1.0), 42))
        painter.setFont(font("tick"))
        text = f"free {bytes_text(refusal.free_bytes)}"
        room = QFontMetricsF(font("tick")).horizontalAdvance(text) + 2
        painter.drawText(QRectF(min(wall + 6, width - room), 0, room, 14), Qt.AlignmentFlag.AlignVCenter, text)
        painter.setPen(QColor(tokens.text2))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(0, 42, width, 14), right, f"{bytes_text(refusal.needed_bytes)}, to scale")
        painter.end()

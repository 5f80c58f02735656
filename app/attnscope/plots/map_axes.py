"""The axes of a map: positions, or the tokens themselves where a cell is wide enough to read one."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from attnscope.map_view import View, positions, step_of
from attnscope.plots.map_layout import Box
from attnscope.theme import Theme, font
from attnscope.token_text import short

TOKEN_CELL = 14
"""Logical pixels of a cell from which its token is written."""
TICK = 4
LABEL_ROOM = 52
"""Least pixels between two labels."""
MOST_TOKEN = 84
"""Widest that a token may be on an axis, in logical pixels."""
TITLE = 18
ALIGN_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


@dataclass(frozen=True, slots=True)
class AxisText:
    """What stands on both axes of a map."""

    view: View
    tokens: tuple[str, ...]
    """Empty when the source has none."""
    row: int = -1
    """The chosen query and key, written in accent; -1: none."""
    column: int = -1

    def has_tokens(self, side: float) -> bool:
        """True when cells of a map of `side` pixels are wide enough for their token."""
        return bool(self.tokens) and side / (self.view[1] - self.view[0]) >= TOKEN_CELL


def token_room(tokens: tuple[str, ...]) -> float:
    """Pixels that the widest of these tokens needs beside an axis."""
    metrics = QFontMetricsF(font("label"))
    return min(MOST_TOKEN, max((metrics.horizontalAdvance(short(token)) for token in tokens), default=0.0))


def paint_query_axis(painter: QPainter, theme: Theme, box: Box, text: AxisText, room: float) -> None:
    """Left of the map. `room`: pixels between the canvas's edge and the map."""
    with_tokens = text.has_tokens(box.height)
    if with_tokens:
        _query_tokens(painter, theme, box, text, room)
    else:
        _query_positions(painter, theme, box, text)
    painter.save()
    painter.setFont(font("label"))
    painter.setPen(QColor(theme.tokens.text2))
    painter.translate(box.x - room + 8, box.y + box.height / 2)
    painter.rotate(-90)
    title = "query token" if with_tokens else "query position (tokens)"
    painter.drawText(QRectF(-box.height / 2, -8, box.height, 16), Qt.AlignmentFlag.AlignCenter, title)
    painter.restore()


def paint_key_axis(painter: QPainter, theme: Theme, box: Box, text: AxisText, room: float) -> None:
    """Under `box`, the lowest part of the panel. `room`: pixels under it."""
    with_tokens = text.has_tokens(box.width)
    if with_tokens:
        _key_tokens(painter, theme, box, text, room)
        title = "key token"
    else:
        _key_positions(painter, theme, box, text)
        in_kilo = step_of(*text.view[2:], _steps(box.width)) % 1024 == 0
        title = "key position (tokens, 1k = 1,024)" if in_kilo else "key position (tokens)"
    painter.setFont(font("label"))
    painter.setPen(QColor(theme.tokens.text2))
    top = box.bottom + (room - TITLE + 2 if with_tokens else 22)
    painter.drawText(QRectF(box.x, top, box.width, 16), Qt.AlignmentFlag.AlignCenter, title)


def paint_chosen(
    painter: QPainter, theme: Theme, box: Box, lowest: Box | None, text: AxisText, room: tuple[float, float]
) -> None:
    """The tokens of the chosen query and key again, in accent; the axes themselves stand still.

    `lowest`: the box over the key axis, None for a panel without one. `room`: pixels left of the map and under the lowest box.
    """
    if not text.has_tokens(box.width):
        return
    if text.view[0] <= text.row < min(text.view[1], len(text.tokens)) and room[0] > 0:
        _query_token(painter, theme, box, text, room[0], text.row, chosen=True)
    if lowest and text.view[2] <= text.column < min(text.view[3], len(text.tokens)):
        _key_token(painter, theme, lowest, text, room[1], text.column, chosen=True)


def _query_tokens(painter: QPainter, theme: Theme, box: Box, text: AxisText, room: float) -> None:
    for row in range(text.view[0], min(text.view[1], len(text.tokens))):
        _query_token(painter, theme, box, text, room, row, chosen=False)


def _query_token(painter: QPainter, theme: Theme, box: Box, text: AxisText, room: float, row: int, *, chosen: bool) -> None:
    cell = box.height / (text.view[1] - text.view[0])
    width = room - TITLE - 6
    rect = QRectF(box.x - 8 - width, box.y + (row - text.view[0]) * cell, width, cell)
    _write(painter, theme, rect, text.tokens[row], chosen=chosen)


def _key_tokens(painter: QPainter, theme: Theme, box: Box, text: AxisText, room: float) -> None:
    for column in range(text.view[2], min(text.view[3], len(text.tokens))):
        _key_token(painter, theme, box, text, room, column, chosen=False)


def _key_token(painter: QPainter, theme: Theme, box: Box, text: AxisText, room: float, column: int, *, chosen: bool) -> None:
    cell = box.width / (text.view[3] - text.view[2])
    width = room - TITLE - 2
    painter.save()
    painter.translate(box.x + (column - text.view[2] + 0.5) * cell, box.bottom + 5)
    painter.rotate(-90)
    _write(painter, theme, QRectF(-width, -cell / 2, width, cell), text.tokens[column], chosen=chosen)
    painter.restore()


def _write(painter: QPainter, theme: Theme, rect: QRectF, token: str, *, chosen: bool) -> None:
    if chosen:
        painter.fillRect(rect, QColor(theme.tokens.window))  # the same word stands there already
    painter.setFont(font("label_medium" if chosen else "label"))
    painter.setPen(QColor(theme.tokens.accent if chosen else theme.tokens.text2))
    painter.drawText(rect, ALIGN_RIGHT, _fitting(painter, token, rect.width()))


def _fitting(painter: QPainter, token: str, width: float) -> str:
    return painter.fontMetrics().elidedText(short(token), Qt.TextElideMode.ElideRight, int(width))


def _query_positions(painter: QPainter, theme: Theme, box: Box, text: AxisText) -> None:
    for at, label, inward in _ticks(text.view[0], text.view[1], box.height):
        y = box.y + at
        _tick(painter, theme, QPointF(box.x - TICK, y), QPointF(box.x, y))
        painter.setPen(QColor(theme.tokens.text2))
        rect = QRectF(box.x - 52, y - 7 + 5 * inward, 52 - TICK - 4, 14)
        painter.drawText(rect, ALIGN_RIGHT, label)


def _key_positions(painter: QPainter, theme: Theme, box: Box, text: AxisText) -> None:
    for at, label, inward in _ticks(text.view[2], text.view[3], box.width):
        x = box.x + at
        _tick(painter, theme, QPointF(x, box.bottom), QPointF(x, box.bottom + TICK))
        painter.setPen(QColor(theme.tokens.text2))
        width = painter.fontMetrics().horizontalAdvance(label) + 2
        left = x - width / 2 + inward * (width / 2 - 2)
        painter.drawText(QRectF(left, box.bottom + TICK + 2, width, 14), Qt.AlignmentFlag.AlignCenter, label)


def _tick(painter: QPainter, theme: Theme, one: QPointF, other: QPointF) -> None:
    painter.setFont(font("tick"))
    painter.setPen(QPen(QColor(theme.tokens.edge), 1))
    painter.drawLine(one, other)


def _steps(length: float) -> int:
    return max(2, int(length / LABEL_ROOM))


def _ticks(low: int, high: int, length: float) -> list[tuple[float, str, int]]:
    """(pixels from the start, label, 1 or -1 for the first or last when it must turn inward)."""
    cell = length / (high - low)
    centred = cell / 2 if cell >= 4 else 0.0  # a position is the middle of its cell once a cell can be seen
    found = []
    for position in positions(low, high, _steps(length)):
        at = (position.value - low) * cell + centred
        if at <= length + 0.5:
            found.append((at, position.label, 1 if at < 6 else -1 if at > length - 6 else 0))
    return found

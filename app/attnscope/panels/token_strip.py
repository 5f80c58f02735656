"""A short text as a sentence: each token with a bar a panel, how much the chosen row gives to it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from attnscope.looks import look
from attnscope.map_feed import MapFeed
from attnscope.map_scene import Panel, Scene
from attnscope.marks import draw_marker
from attnscope.quantities import weight
from attnscope.store import Store
from attnscope.theme import Theme, font
from attnscope.token_text import readable, starts_word

SIDE = 20
LEGEND = 150
SPACES = (18, 12)
"""Pixels between words: the first, or the second when the sentence fits on one line so."""
BAR = 36
LEAST_PITCH = BAR + 4
"""Longest bar: a weight of 1."""
WORDS_HEIGHT, BARS_HEIGHT, NUMBERS_HEIGHT = 33, 13, 18
NUMBER_FROM = 0.05
"""Weights from here on are written."""
SIGNED_NUMBER_FROM = 0.25
"""Scores from this share of the row's largest on are written: many scores of a row are of one size."""
MOST_PANELS = 2
BETWEEN = 14
"""Pixels of the stroke between two numbers."""


@dataclass(frozen=True, slots=True)
class Word:
    """Where one token stands."""

    x: float
    line: int
    width: float


def placed(widths: list[float], starts: list[bool], room: float, space: float = SPACES[0]) -> tuple[Word, ...]:
    """Tokens on lines of `room` pixels; a new line begins where a word does. None is nearer than its bars are long."""
    words: list[Word] = []
    x, line = 0.0, 0
    for index, (width, start) in enumerate(zip(widths, starts, strict=True)):
        if index:
            x += max(widths[index - 1] + (space if start else 0), LEAST_PITCH)
        if x and x + width > room:
            x, line = 0.0, line + 1
        words.append(Word(x, line, width))
    return tuple(words)


class TokenStrip(QWidget):
    """Click chooses the row, the pointer shows a token as key. Left and right move the row."""

    def __init__(self, store: Store, theme: Theme, feed: MapFeed, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme, self._feed = store, theme, feed
        self._words: tuple[Word, ...] = ()
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Sentence")
        feed.changed.connect(self._scene_changed)
        theme.changed.connect(self.update)
        self._arrange()

    # ------------------------------------------------------------ what is shown

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        if old.tokens != new.tokens:
            self._arrange()
        if (
            old.tokens != new.tokens
            or old.cell != new.cell
            or [(panel.variant, panel.row) for panel in old.rows] != [(panel.variant, panel.row) for panel in new.rows]
        ):
            self.setAccessibleDescription(self.words())
            self.update()

    def words(self) -> str:
        """The row in words: what it gives at least `NUMBER_FROM` to."""
        scene = self._feed.scene
        if scene.cell is None or not scene.short or not scene.tokens:
            return ""
        parts = [f"row {readable(scene.tokens[scene.cell[0]])}"]
        for panel in self._panels():
            given = [(key, panel.weight(key) or 0.0) for key in range(len(scene.tokens))]
            named = [f"{readable(scene.tokens[key])} {weight(value)}" for key, value in given if tells(panel, value)]
            parts.append(f"{panel.title} {', '.join(named) or 'not known yet'}")
        return "; ".join(parts)

    def _panels(self) -> tuple[Panel, ...]:
        return self._feed.scene.rows[:MOST_PANELS]

    def _arrange(self) -> None:
        scene = self._feed.scene
        if not scene.tokens or not scene.short:
            self._words = ()
            self.setFixedHeight(self._line_height() + 12)
            return
        metrics = QFontMetricsF(font("token_medium"))
        widths = [metrics.horizontalAdvance(readable(token)) for token in scene.tokens]
        starts = [starts_word(token) for token in scene.tokens]
        room = max(self.width() - 2 * SIDE - LEGEND, 200.0)
        tries = [placed(widths, starts, room, space) for space in SPACES]
        self._words = next((words for words in tries if words[-1].line == 0), tries[0])
        self.setFixedHeight(self._line_height() * (self._words[-1].line + 1) + 12)
        self.update()

    def _line_height(self) -> int:
        return WORDS_HEIGHT + BARS_HEIGHT + NUMBERS_HEIGHT

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._arrange()

    def sizeHint(self) -> QSize:
        return QSize(600, self.height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        tokens = self._theme.tokens
        painter.fillRect(self.rect(), QColor(tokens.window))
        scene = self._feed.scene
        if scene.tokens and len(self._words) == len(scene.tokens):
            for index, word in enumerate(self._words):
                self._paint_word(painter, scene, index, word)
            self._paint_legend(painter, scene)
        elif scene.short:
            self._paint_text(painter, scene.text)
        painter.setPen(QPen(QColor(tokens.line), 1))
        painter.drawLine(0, self.height() - 1, self.width(), self.height() - 1)
        painter.end()

    def _paint_text(self, painter: QPainter, text: str) -> None:
        """The text while its tokens are not known."""
        painter.setFont(font("token"))
        painter.setPen(QColor(self._theme.tokens.text3))
        words = " ".join(text.split())
        shown = QFontMetricsF(font("token")).elidedText(words, Qt.TextElideMode.ElideRight, self.width() - 2 * SIDE - LEGEND)
        painter.drawText(QRectF(SIDE, 6, self.width(), 28), Qt.AlignmentFlag.AlignVCenter, shown)

    def _paint_word(self, painter: QPainter, scene: Scene, index: int, word: Word) -> None:
        tokens = self._theme.tokens
        x, y = SIDE + word.x, 6.0 + word.line * self._line_height()
        panels = self._panels()
        weights = [panel.weight(index) for panel in panels]
        chosen, key = scene.cell == (index, index), False
        if scene.cell:
            chosen, key = scene.cell[0] == index, scene.cell[1] == index
        if chosen:
            painter.save()
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(tokens.accent), 1.5))
            painter.setBrush(QColor(tokens.tint))
            painter.drawRoundedRect(QRectF(x - 6, y, word.width + 12, 28), 4, 4)
            painter.restore()
        strong = chosen or key or any(tells(*pair) for pair in zip(panels, weights, strict=True))
        painter.setFont(font("token_medium" if strong else "token"))
        painter.setPen(QColor(tokens.accent if key and not chosen else tokens.text1 if strong else tokens.text2))
        painter.drawText(QRectF(x, y, word.width + 2, 28), Qt.AlignmentFlag.AlignVCenter, readable(scene.tokens[index]))
        if (scene.cell and index <= scene.cell[0]) or not scene.causal:
            self._paint_bars(painter, panels, weights, x, y + WORDS_HEIGHT)
            self._paint_numbers(painter, index, panels, weights, x, y + WORDS_HEIGHT + BARS_HEIGHT)

    def _paint_bars(self, painter: QPainter, panels: tuple[Panel, ...], weights: list[float | None], x: float, y: float) -> None:
        tokens = self._theme.tokens
        for line, (panel, value) in enumerate(zip(panels, weights, strict=True)):
            top = y + line * 6
            painter.fillRect(QRectF(x, top, BAR, 4), QColor(tokens.hover))
            share, colour = share_of(panel, value), QColor(look(panel.variant).colour(tokens))
            if share > 0:
                painter.fillRect(QRectF(x, top, BAR * share, 4), colour)
            elif share < 0:  # an outline, so that the sign is not told by colour alone
                painter.setPen(QPen(colour, 1))
                painter.drawRect(QRectF(x + 0.5, top + 0.5, max(BAR * -share - 1, 1.0), 3))

    def _paint_numbers(
        self, painter: QPainter, index: int, panels: tuple[Panel, ...], weights: list[float | None], x: float, y: float
    ) -> None:
        """The weights that are worth a number, as many as there is room for before the next token that has one."""
        tokens, metrics = self._theme.tokens, QFontMetricsF(font("number"))
        edge = self._next_number(index)
        painter.setFont(font("number"))
        for line, (panel, value) in enumerate(zip(panels, weights, strict=True)):
            if value is None or not tells(panel, value):
                continue
            words = weight(value) if panel.signed else f"{value:.3f}"
            number = metrics.horizontalAdvance(words)
            if panel.signed and x + number > edge:
                return
            if line:
                if x + number + BETWEEN > edge:
                    return
                painter.setPen(QColor(tokens.text3))
                painter.drawText(QRectF(x, y, BETWEEN, NUMBERS_HEIGHT), Qt.AlignmentFlag.AlignVCenter, "|")
                x += BETWEEN
            painter.setPen(QColor(tokens.text1 if line == 0 else tokens.text2))
            painter.drawText(QRectF(x, y, 60, NUMBERS_HEIGHT), Qt.AlignmentFlag.AlignVCenter, words)
            x += number + 8

    def _next_number(self, index: int) -> float:
        """Where the next token of the line with a number begins."""
        for later in range(index + 1, len(self._words)):
            if self._words[later].line != self._words[index].line:
                break
            if any(tells(panel, panel.weight(later)) for panel in self._panels()):
                return SIDE + self._words[later].x
        return float(self.width())

    def _paint_legend(self, painter: QPainter, scene: Scene) -> None:
        tokens = self._theme.tokens
        if scene.cell is None:
            return
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        edge = self.width() - 16.0
        name = readable(scene.tokens[scene.cell[0]])
        medium = QFontMetricsF(font("label_medium"))
        name = medium.elidedText(name, Qt.TextElideMode.ElideRight, 70)
        painter.setFont(font("label_medium"))
        painter.setPen(QColor(tokens.text1))
        painter.drawText(QRectF(edge - LEGEND, 12, LEGEND, 18), right, name)
        painter.setFont(font("label"))
        painter.setPen(QColor(tokens.text2))
        painter.drawText(QRectF(edge - 220, 12, 220 - medium.horizontalAdvance(name) - 4, 18), right, "weights of the row")
        metrics = QFontMetricsF(font("label"))
        for panel in reversed(self._panels()):
            width = metrics.horizontalAdvance(panel.title)
            painter.setPen(QColor(tokens.text2))
            painter.setFont(font("label"))
            painter.drawText(QRectF(edge - width - 1, 36, width + 1, 18), right, panel.title)
            draw_marker(painter, QRectF(edge - width - 15, 41, 8, 8).center(), look(panel.variant), tokens, halo=tokens.window)
            edge -= width + 30

    # ------------------------------------------------------------ the hand

    def token_at(self, x: float, y: float) -> int | None:
        """Index of the token under a point."""
        line = int((y - 6) // self._line_height())
        half = SPACES[1] / 2
        for index, word in enumerate(self._words):
            left = SIDE + word.x
            if word.line == line and left - half <= x <= left + max(word.width, 8.0) + half and y < self.height():
                return index
        return None

    def mousePressEvent(self, event: QMouseEvent) -> None:
        index = self.token_at(event.position().x(), event.position().y())
        if event.button() != Qt.MouseButton.LeftButton or index is None:
            event.ignore()
            return
        self.choose(index)

    def choose(self, row: int) -> None:
        """Make a token the fixed query; the chosen one again frees it."""
        settings = self._store.state.settings
        if settings.row == row:
            self._store.update(row=-1, column=-1)
            return
        cell = self._feed.scene.cell
        column = cell[1] if cell and cell[1] <= row else row
        self._store.update_live(hover=None)
        self._store.update(row=row, column=column)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        index = self.token_at(event.position().x(), event.position().y())
        cell = self._feed.scene.cell
        self._store.update_live(hover=None if index is None or cell is None else (cell[0], index))

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._store.update_live(hover=None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        scene = self._feed.scene
        if step is None or not scene.tokens:
            super().keyPressEvent(event)
            return
        row = scene.cell[0] if scene.cell else 0
        row = min(max(row + step, 0), len(scene.tokens) - 1)
        column = min(scene.cell[1], row) if scene.cell else row
        self._store.update(row=row, column=column)


def share_of(panel: Panel, value: float | None) -> float:
    """How long the bar of a weight is, −1 to 1: of 1, or of a signed row's largest weight; 0 for a masked key."""
    if value is None or not math.isfinite(value):
        return 0.0
    whole = 1.0
    if panel.signed and panel.row:
        whole = _reach(panel.row.weights.data)
    return min(max(value / whole, -1.0), 1.0) if whole else 0.0


def tells(panel: Panel, value: float | None) -> bool:
    """Whether a weight is large enough for a number under its token."""
    return abs(share_of(panel, value)) >= (SIGNED_NUMBER_FROM if panel.signed else NUMBER_FROM)


@functools.lru_cache(maxsize=8)
def _reach(weights: bytes) -> float:
    return max((abs(value) for value in memoryview(weights).cast("f") if math.isfinite(value)), default=0.0)

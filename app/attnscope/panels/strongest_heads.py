"""Which heads link the text's most telling pair of tokens, the strongest first: found by the program, opened by a click."""

from __future__ import annotations

from attnscope_engine.protocol import HeadFacts, TextRead
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from attnscope.looks import look
from attnscope.quantities import weight
from attnscope.state import State, shown_head, text_read
from attnscope.store import Store
from attnscope.theme import Theme, font
from attnscope.token_text import readable

TOP = 30
LINE = 24
EXACT = "softmax_tiled"
"""The links are weights of the model's own softmax: its colour."""


def strongest(read: TextRead) -> tuple[HeadFacts, ...]:
    """The heads whose strongest link is the same pair of tokens as the strongest of all, in the order of its weight."""
    best = max(read.heads, key=lambda fact: fact.link, default=None)
    if best is None or best.link <= 0:
        return ()
    same = [fact for fact in read.heads if (fact.link_query, fact.link_key) == (best.link_query, best.link_key)]
    return tuple(sorted(same, key=lambda fact: -fact.link))


class StrongestHeads(QWidget):
    """A bar a head. Up and down move, click or Enter opens."""

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme = store, theme
        self._read = text_read(store.state)
        self._heads = strongest(self._read) if self._read else ()
        self._hovered = -1
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumWidth(170)
        self.setAccessibleName("Strongest heads")
        self.setToolTip("Heads by the weight that the query gives to the key")
        store.changed.connect(self._store_changed)
        theme.changed.connect(self.update)

    def _store_changed(self, old: State, new: State) -> None:
        if old.live.answers.get("text") is not new.live.answers.get("text") or old.settings.source != new.settings.source:
            self._read = text_read(new)
            self._heads = strongest(self._read) if self._read else ()
            names = ", ".join(f"layer {fact.layer} head {fact.head} {weight(fact.link)}" for fact in self.listed())
            self.setAccessibleDescription(f"{self.title()}: {names}")
            self.update()
        elif (old.settings.layer, old.settings.head) != (new.settings.layer, new.settings.head):
            self.update()

    def listed(self) -> tuple[HeadFacts, ...]:
        """The heads that have room."""
        return self._heads[: max(1, (self.height() - TOP) // LINE)]

    def title(self) -> str:
        if not self._heads or self._read is None:
            return "Strongest heads"
        query, key = self._heads[0].link_query, self._heads[0].link_key
        return f"{readable(self._read.tokens[query])} → {readable(self._read.tokens[key])}, strongest heads"

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        tokens = self._theme.tokens
        painter.setFont(font("heading"))
        painter.setPen(QColor(tokens.text1))
        title = QFontMetricsF(font("heading")).elidedText(self.title(), Qt.TextElideMode.ElideMiddle, self.width() - 28)
        painter.drawText(QRectF(16, 6, self.width() - 24, 20), Qt.AlignmentFlag.AlignVCenter, title)
        shown = shown_head(self._store.state)
        for index, fact in enumerate(self.listed()):
            y = TOP + index * LINE
            if index == self._hovered:
                painter.fillRect(QRectF(8, y, self.width() - 16, LINE), QColor(tokens.hover))
            here = (fact.layer, fact.head) == shown
            painter.setFont(font("number_medium" if here else "number"))
            painter.setPen(QColor(tokens.text1 if here else tokens.text2))
            painter.drawText(QRectF(16, y, 54, LINE), Qt.AlignmentFlag.AlignVCenter, f"L{fact.layer}H{fact.head}")
            room = max(self.width() - 72 - 64, 10)
            painter.fillRect(QRectF(72, y + 8, room, 8), QColor(tokens.hover))
            painter.fillRect(QRectF(72, y + 8, room * min(fact.link, 1.0), 8), QColor(look(EXACT).colour(tokens)))
            painter.setFont(font("number"))
            painter.setPen(QColor(tokens.text1))
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(self.width() - 60, y, 48, LINE), right, weight(fact.link))
        if self._read is not None and not self._heads:
            painter.setFont(font("label"))
            painter.setPen(QColor(tokens.text2))
            painter.drawText(QRectF(16, TOP, self.width() - 24, 20), Qt.AlignmentFlag.AlignVCenter, "no link found in this text")
        painter.end()

    # ------------------------------------------------------------ the hand

    def _index_at(self, y: float) -> int:
        index = int((y - TOP) // LINE)
        return index if 0 <= index < len(self.listed()) and y >= TOP else -1

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._hover(self._index_at(event.position().y()))

    def leaveEvent(self, event: object) -> None:  # noqa: ARG002
        self._hover(-1)

    def _hover(self, index: int) -> None:
        if index != self._hovered:
            self._hovered = index
            self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._open(self._index_at(event.position().y()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(Qt.Key(event.key()))
        if step is not None and self._heads:
            self._hover(min(max(self._hovered + step, 0), len(self.listed()) - 1))
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self._open(self._hovered)
        else:
            super().keyPressEvent(event)

    def _open(self, index: int) -> None:
        if 0 <= index < len(self.listed()):
            fact = self.listed()[index]
            self._store.update(layer=fact.layer, head=fact.head)

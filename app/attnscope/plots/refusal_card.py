"""Why a variant was not launched, in the place where its picture would be: terms, bytes, the wall, and one click out of it."""

from __future__ import annotations

import html

from attnscope_engine import catalogue
from attnscope_engine.protocol import Refusal
from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from attnscope.plots.refusal_table import ScaleBar, TermTable
from attnscope.predictions import predict
from attnscope.quantities import bytes_text, count, three_digits
from attnscope.store import Store
from attnscope.theme import FontRole, Theme, font, icon

FIXED = 222
"""Height of all but the table and the bar."""
FLASH = "softmax_tiled"
"""The exact variant that stores no scores: the way to the same map."""


class RefusalCard(QWidget):
    """A refusal with its sentence, table, bar to scale and buttons. Parts that do not fit the height are left out."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme = store, theme
        self._refusal = Refusal("memory", "")
        self.setAccessibleName("Does not fit")
        self._head = _Head(theme)
        self._sentence = _label("body")
        self._sentence.setProperty("role", "label")
        self.terms = TermTable(store, theme)
        self.bar = ScaleBar(theme)
        self._largest = _label("body")
        self._note = _label("label")
        self._note.setProperty("role", "label")
        self.use = _button("accent")
        self.use.clicked.connect(self._use_largest)
        self.other = _button("plain")
        self.other.clicked.connect(self._take_other)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.use)
        row.addWidget(self.other)
        row.addStretch(1)
        self._column = QVBoxLayout(self)
        self._column.setSpacing(0)
        for widget, above in ((self._head, 0), (self._sentence, 8), (self.terms, 20), (self.bar, 20), (self._largest, 14)):
            self._column.addSpacing(above)
            self._column.addWidget(widget)
        self._column.addSpacing(10)
        self._column.addLayout(row)
        self._column.addSpacing(14)
        self._column.addWidget(self._note)
        self._column.addStretch(1)
        theme.changed.connect(self.update)

    def show_refusal(self, refusal: Refusal) -> None:
        """Say why, and offer the way out that fits the present settings."""
        self._refusal = refusal
        memory = refusal.reason == "memory"
        self._head.show_text(refusal.text)
        self.setAccessibleDescription(f"{refusal.text}. {sentence(refusal)}" if memory else refusal.text)
        self._sentence.setText(html.escape(sentence(refusal)) if memory else "")
        self._sentence.setVisible(memory)
        self.terms.show_refusal(refusal)
        self.bar.show_refusal(refusal)
        fits = refusal.largest_seq_len
        strong = f'<span style="font-weight:600">{count(fits)}</span>'
        self._largest.setText(f"The largest n that fits here is {strong}." if fits else "No n fits here at these settings.")
        self._largest.setVisible(memory)
        self.use.setText(f"Use n = {count(fits)}")
        self.use.setVisible(refusal.reason in ("memory", "too_long") and fits > 0)
        self._offer()
        self._fit_height()

    def _offer(self) -> None:
        name, checked = self._refusal.variant, self._store.state.settings.checked
        title = _title(name)
        self.other.setText(f"Hide {title}")
        self.other.setVisible(name in checked)
        self._note.setText("")
        prediction = predict(self._store.state).get(FLASH)
        if name == FLASH or prediction is None or prediction.refusal or not _is_exact(name):
            return
        held = bytes_text(prediction.held_bytes)
        flash = _title(FLASH)
        if FLASH not in checked:
            self.other.setText(f"Show with {flash}: same map, {held}")
        else:
            side = "on the right" if name in checked and checked.index(FLASH) > checked.index(name) else "on the left"
            self._note.setText(html.escape(f"{flash}, {side}, gives the same map in {held}."))

    def _use_largest(self) -> None:
        self._store.update(seq_len=self._refusal.largest_seq_len)

    def _take_other(self) -> None:
        name, checked = self._refusal.variant, self._store.state.settings.checked
        if self.other.text().startswith("Hide"):
            self._store.update(checked=tuple(each for each in checked if each != name))
        else:
            self._store.update(checked=tuple(FLASH if each == name else each for each in checked))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_height()

    def _fit_height(self) -> None:
        side = 38 if self.width() >= 400 else 16
        top = 48 if self.height() >= 480 else 16
        self._column.setContentsMargins(side, top, side, 16)
        memory = self._refusal.reason == "memory"
        room = self.height() - top - FIXED
        self.terms.setVisible(memory and bool(self._refusal.terms) and room >= self.terms.sizeHint().height())
        room -= self.terms.sizeHint().height()
        self.bar.setVisible(memory and bool(self._refusal.terms) and room >= self.bar.sizeHint().height())
        self._note.setVisible(bool(self._note.text()) and self.height() >= 260)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(self._theme.tokens.plot))
        painter.setPen(QPen(QColor(self._theme.tokens.line), 1))
        painter.drawRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5))
        painter.end()


def sentence(refusal: Refusal) -> str:
    """What it would have stored, how much that is against what is free, and that nothing ran."""
    n = count(refusal.seq_len)
    largest = refusal.terms[0] if refusal.terms else None
    if any(term.growth == "n2" for term in refusal.terms):
        stores = f"It stores every score and every weight, {n} × {n} a head."
    elif largest:
        stores = f"Its largest part is {largest.name}, {bytes_text(largest.bytes_)}."
    else:
        stores = f"It needs {bytes_text(refusal.needed_bytes)}."
    if refusal.free_bytes <= 0:
        return f"{stores} No memory is free. Nothing was launched."
    times = three_digits(refusal.needed_bytes / refusal.free_bytes)
    return f"{stores} That is {times} times the memory that is free. Nothing was launched."


def _title(variant: str) -> str:
    found = catalogue.variants().get(variant)
    return found.title if found else variant


def _is_exact(variant: str) -> bool:
    found = catalogue.variants().get(variant)
    return found is not None and found.family == "softmax"


def _label(role: FontRole) -> QLabel:
    label = QLabel()
    label.setFont(font(role))
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setWordWrap(True)
    return label


def _button(kind: str) -> QPushButton:
    button = QPushButton()
    button.setProperty("kind", kind)
    button.setFont(font("label"))
    button.setFixedHeight(30)
    button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    return button


class _Head(QWidget):
    """Icon and title; the title wraps."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        row = QHBoxLayout(self)
        row.setContentsMargins(32, 0, 0, 0)
        self._title = _label("title")
        self._title.setTextFormat(Qt.TextFormat.PlainText)
        row.addWidget(self._title)

    def show_text(self, text: str) -> None:
        self._title.setText(text)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        icon("refuse", self._theme.tokens.danger).paint(painter, 0, 1, 22, 22)
        painter.end()

"""A refusal in one strip under a table: what does not fit, term by term, what is free, and one click out of it."""

from __future__ import annotations

import html

from attnscope_engine import catalogue
from attnscope_engine.protocol import Refusal
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from attnscope.quantities import bytes_text, count
from attnscope.store import Store
from attnscope.theme import Theme, font, icon


class RefusalStrip(QWidget):
    """Shows the refusals of the checked variants, one at a time: the first, and how many more there are."""

    def __init__(self, store: Store, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme = store, theme
        self._refusal: Refusal | None = None
        self.setProperty("ground", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._edge = QFrame(self)
        self._edge.setFixedWidth(3)
        self._icon = QLabel()
        self._head = QLabel()
        self._head.setFont(font("body_medium"))
        self._terms = QLabel()
        self._terms.setFont(font("label"))
        self._terms.setProperty("role", "label")
        self._terms.setWordWrap(True)
        for label in (self._head, self._terms):
            label.setTextFormat(Qt.TextFormat.PlainText)
        self.use = QPushButton()
        self.use.setProperty("kind", "accent")
        self.use.clicked.connect(self._use_largest)
        self.hide_variant = QPushButton()
        self.hide_variant.clicked.connect(self._hide_variant)
        for button in (self.use, self.hide_variant):
            button.setFont(font("label"))
        self._lay_out()
        theme.changed.connect(self._restyle)
        self._restyle()
        self.hide()

    def _lay_out(self) -> None:
        texts = QVBoxLayout()
        texts.setSpacing(1)
        texts.addWidget(self._head)
        texts.addWidget(self._terms)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 6, 12, 6)
        row.setSpacing(8)
        row.addWidget(self._edge)
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignVCenter)
        row.addLayout(texts, 1)
        row.addWidget(self.use)
        row.addWidget(self.hide_variant)

    @property
    def text(self) -> str:
        """Both lines."""
        return f"{self._head.text()}\n{self._terms.text()}"

    def show_refusals(self, refusals: tuple[Refusal, ...]) -> None:
        """Nothing is shown without any."""
        self.setVisible(bool(refusals))
        first = refusals[0] if refusals else None
        if first is None or (first == self._refusal and not self._more(refusals)):
            self._refusal = first
            if first is None:
                return
        self._refusal = first
        self._head.setText(headline(first) + self._more(refusals))
        self._terms.setText(account(first) if first.reason == "memory" else "")
        self._terms.setVisible(first.reason == "memory")
        self.use.setText(f"Use n = {count(first.largest_seq_len)}")
        self.use.setVisible(first.reason == "memory" and first.largest_seq_len > 0)
        self.hide_variant.setText(f"Hide {catalogue.find(first.variant).title}")
        self.setAccessibleName(html.unescape(self.text))

    def _more(self, refusals: tuple[Refusal, ...]) -> str:
        return f" ({len(refusals) - 1} more)" if len(refusals) > 1 else ""

    def _use_largest(self) -> None:
        if self._refusal:
            self._store.update(seq_len=self._refusal.largest_seq_len)

    def _hide_variant(self) -> None:
        if self._refusal:
            gone = self._refusal.variant
            self._store.update(checked=tuple(name for name in self._store.state.settings.checked if name != gone))

    def _restyle(self) -> None:
        danger = self._theme.tokens.danger
        self._edge.setStyleSheet(f"background: {danger};")
        self._icon.setPixmap(icon("refuse", danger).pixmap(16, 16))


def headline(refusal: Refusal) -> str:
    """What, and where the end is."""
    if refusal.reason != "memory":
        return refusal.text
    end = f"The largest n that fits here is {count(refusal.largest_seq_len)}." if refusal.largest_seq_len else "No n fits here."
    return f"{refusal.text}. {end}"


def account(refusal: Refusal) -> str:
    """Such as "needs scores 256 GiB + weights 128 GiB + q k v out 1.00 GiB = 385 GiB; free now 78.4 GiB"."""
    terms = " + ".join(f"{term.name} {bytes_text(term.bytes_)}" for term in refusal.terms)
    reserve = f", {bytes_text(refusal.reserve_bytes)} of it kept in reserve" if refusal.reserve_bytes else ""
    return f"needs {terms} = {bytes_text(refusal.needed_bytes)}; free now {bytes_text(refusal.free_bytes)}{reserve}"

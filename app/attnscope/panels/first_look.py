"""First look: three steps that show what the instrument does, with the numbers that it has just found."""

from __future__ import annotations

import html

from attnscope_engine import catalogue
from attnscope_engine.parameters import WholeField
from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from attnscope.map_feed import MapFeed
from attnscope.map_scene import Panel, Scene
from attnscope.panels.slider_scale import Scale
from attnscope.panels.value_slider import ValueSlider
from attnscope.quantities import count, weight
from attnscope.state import State, choice_of
from attnscope.store import Store
from attnscope.theme import Theme, font
from attnscope.token_text import readable

WIDTH = 196
STEPS = 3
MOST_CHUNK = 64


class FirstLook(QWidget):
    """A card of one step at a time. "tour_done" is sent when it has been seen or skipped."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme, feed: MapFeed, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme, self._feed = store, theme, feed
        self.step = 0
        self.setFixedWidth(WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Maximum)
        self.setAccessibleName("First look")
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(14, 10, 14, 12)
        self._column.setSpacing(6)
        self._build(theme)
        store.changed.connect(self._store_changed)
        feed.changed.connect(self._scene_changed)
        theme.changed.connect(self.update)
        self._show()

    def _build(self, theme: Theme) -> None:
        head = QHBoxLayout()
        title = QLabel("First look")
        title.setFont(font("heading"))
        self.place = QLabel()
        self.place.setFont(font("tick"))
        self.place.setProperty("role", "label")
        head.addWidget(title, 1)
        head.addWidget(self.place)
        self._column.addLayout(head)
        self.first, self.second = _paragraph(), _paragraph()
        self._column.addWidget(self.first)
        self._column.addWidget(self.second)
        self._slider = _ChunkSlider(self._store, theme)
        self._column.addWidget(self._slider)
        self.next = _button("Next", "accent")
        self.next.clicked.connect(self._next)
        self.skip = _button("Skip", "quiet")
        self.skip.clicked.connect(self._done)
        self.act = _button("Edit text", "plain")
        self.act.clicked.connect(lambda: self.action.emit("edit_text"))
        row = QHBoxLayout()
        row.setSpacing(6)
        for button in (self.next, self.skip):
            row.addWidget(button)
        row.addStretch(1)
        self._column.addWidget(self.act)
        self._column.addLayout(row)

    @property
    def chunk_slider(self) -> ValueSlider:
        return self._slider.slider

    def _next(self) -> None:
        if self.step == STEPS - 1:
            self._done()
            return
        self.step += 1
        self._show()

    def _done(self) -> None:
        self.step = 0
        self._show()
        self.action.emit("tour_done")

    def _store_changed(self, old: State, new: State) -> None:
        if old.settings.params != new.settings.params:
            self._show()

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        rows = [[panel.row for panel in scene.rows] for scene in (old, new)]
        if old.cell != new.cell or rows[0] != rows[1] or old.tokens != new.tokens:
            self._show()

    def _show(self) -> None:
        self.place.setText(f"{self.step + 1} of {STEPS}")
        first, second = (self._link_words, _cost_words, _own_words)[self.step]()
        if (self.first.text(), self.second.text()) != (first, second):
            self.first.setText(first)
            self.second.setText(second)
        self._slider.setVisible(self.step == 0)
        self.act.setVisible(self.step == STEPS - 1)
        self.next.setText("Next" if self.step < STEPS - 1 else "Done")
        self.skip.setVisible(self.step < STEPS - 1)

    def _link_words(self) -> tuple[str, str]:
        scene = self._feed.scene
        exact = next((panel for panel in scene.rows if panel.variant != "chunked" and panel.row and not panel.signed), None)
        first = "A real head of a small language model, on one sentence."
        found = exact.weight(scene.cell[1]) if exact and scene.cell else None
        if scene.cell and scene.tokens and found is not None and found == found:
            query, key = (html.escape(readable(scene.tokens[place])) for place in scene.cell)
            first += f" {_strong(query)} gives {weight(found)} of its weight to {_strong(key)}."
        return first, self._cut_words(next((panel for panel in scene.rows if panel.variant == "chunked"), None))

    def _cut_words(self, panel: Panel | None) -> str:
        chunk = chunk_size(self._store.state)
        words = "1 token" if chunk == 1 else f"{count(chunk)} tokens"
        cut = panel.row.mass_cut if panel and panel.row else None
        if cut is None:
            return f"Chunked cuts the text into chunks of {words}. Drag the chunk size and see what is lost."
        if cut < 0.0005:
            return f"With chunks of {words} nothing of that row is lost. Drag the chunk size to cut it."
        gone = f"Cut the text into chunks of {words}, and {weight(cut)} of that row is gone."
        return f"{gone} Drag the chunk size to bring it back."

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(self._theme.tokens.line), 1))
        painter.setBrush(QColor(self._theme.tokens.panel))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        painter.end()


def chunk_size(state: State) -> int:
    """Tokens of a chunk at these settings."""
    return int(choice_of(state.settings, "chunked").params["chunk_size"])


def _cost_words() -> tuple[str, str]:
    first = f"Drag {_strong('n')} at the left: time and memory of every variant follow in the same frame."
    return first, f"Lines are predictions from the formulas, markers are measured here. {_strong('Ctrl+2')} shows them against n."


def _own_words() -> tuple[str, str]:
    first = "Read your own text, up to 8,192 tokens, or drop a file with your own Q and K on the window."
    hand = f"A click on the map fixes a row, the wheel zooms, {_strong('H')} and {_strong('L')} go through heads and layers."
    return first, f"{hand} {_strong('F1')} lists all keys."


def _strong(text: str) -> str:
    """SemiBold, the heaviest face that is shipped: a bolder one would be smeared."""
    return f'<span style="font-weight:600">{text}</span>'


def _paragraph() -> QLabel:
    label = QLabel()
    label.setFont(font("label"))
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setWordWrap(True)
    label.setProperty("role", "label")
    return label


def _button(text: str, kind: str) -> QPushButton:
    button = QPushButton(text)
    button.setProperty("kind", kind)
    button.setFont(font("label"))
    button.setFixedHeight(26)
    button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    return button


class _ChunkSlider(QWidget):
    """Label, number and slider of the chunk size, on two lines."""

    def __init__(self, store: Store, theme: Theme) -> None:
        super().__init__()
        self._store = store
        field = next(each for each in catalogue.find("chunked").fields() if each.name == "chunk_size")
        assert isinstance(field, WholeField)
        self.number = QLabel()
        self.number.setFont(font("number"))
        label = QLabel("chunk size")
        label.setFont(font("label"))
        label.setProperty("role", "label")
        self.slider = ValueSlider(theme, Scale(field.low, MOST_CHUNK, logarithmic=True), 8)
        self.slider.setAccessibleName("Chunk size")
        self.slider.setToolTip(field.help)
        label.setBuddy(self.slider)
        head = QHBoxLayout()
        head.addWidget(label, 1)
        head.addWidget(self.number)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(self.slider)
        self.slider.chosen.connect(lambda number: self._store.set_param("chunked", "chunk_size", number))
        store.changed.connect(lambda _old, new: self._show(new))
        self._show(store.state)

    def _show(self, state: State) -> None:
        size = chunk_size(state)
        if self.number.text() != count(size):
            self.number.setText(count(size))
            self.slider.set_number(min(size, MOST_CHUNK))

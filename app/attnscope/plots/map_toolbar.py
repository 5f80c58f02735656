"""The row above the map: what is looked at, how the panels are compared, how weights become colours."""

from __future__ import annotations

from attnscope_engine.protocol import FileSource, SyntheticSource, TextSource
from PySide6.QtCore import QEvent, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QWidget

from attnscope.map_feed import MapFeed
from attnscope.map_scene import Scene
from attnscope.panels.hairline import hairline
from attnscope.panels.number_field import NumberField
from attnscope.panels.segments import Segments
from attnscope.requests import drawn_panels, wanted
from attnscope.state import SAMPLE_TEXT, State, shown_head, text_read
from attnscope.store import Store
from attnscope.theme import Theme, font

HEIGHT = 38
KINDS = (
    ("needle", "Synthetic: sinks, band, needles"),
    ("induction", "Synthetic: repeats"),
    ("local", "Synthetic: local band"),
    ("gaussian", "Synthetic: Gaussian"),
)
COLOURS = (("inferno", "Inferno"), ("cividis", "Cividis"), ("ink", "Ink"))
MOST_HEADS = 4096


class MapToolbar(QWidget):
    """Reads and changes the settings that say what the map is of."""

    action = Signal(str)
    fit = Signal()

    def __init__(self, store: Store, theme: Theme, feed: MapFeed, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._feed = store, feed
        self._text = TextSource(SAMPLE_TEXT)
        self.setProperty("ground", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedHeight(HEIGHT)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(12, 0, 12, 0)
        self._row.setSpacing(8)
        self._captions: list[QLabel] = []
        self._build_source(theme)
        self._rule = hairline(width=1, height=20)
        self._row.addWidget(self._rule)
        self._build_view(theme)
        store.changed.connect(self._store_changed)
        feed.changed.connect(self._scene_changed)
        self._show(store.state)

    # ------------------------------------------------------------ building

    def _build_source(self, theme: Theme) -> None:
        self.source = QComboBox()
        self.source.setFont(font("label"))
        self.source.setAccessibleName("Source of the map")
        self.source.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.source.setToolTip("What the map is of: a text read by the model, seeded inputs, or your own Q and K")
        self.source.addItem("Text · SmolLM2-135M", "text")
        for kind, words in KINDS:
            self.source.addItem(words, kind)
        self.source.addItem("Q K from a file…", "file")
        self.source.activated.connect(self._choose_source)
        self._row.addWidget(self.source)
        self.edit = QPushButton("Edit text")
        self._dress(self.edit, theme, "text", "Type or paste the text whose attention is shown (Ctrl+T)")
        self.edit.clicked.connect(lambda: self.action.emit("edit_text"))
        self._row.addWidget(self.edit)
        self.seed = self._number("seed", "Seed of the synthetic inputs", 2**31 - 1)
        self.seed.chosen.connect(self._choose_seed)
        self.layer = self._number("layer", "Layer of the model (L, Shift+L)", 1000)
        self.head = self._number("head", "Head (H, Shift+H)", MOST_HEADS)
        self.layer.chosen.connect(self._choose_head)
        self.head.chosen.connect(self._choose_head)

    def _build_view(self, theme: Theme) -> None:
        self.compare = Segments("Compare", (("side", "Side by side"), ("difference", "A − B"), ("heads", "All heads")))
        self.compare.chosen.connect(lambda value: self._store.update(compare=value))
        self.compare.button("difference").setToolTip("Weights of the first panel less those of the second")
        self._row.addWidget(self.compare)
        self.pool_caption = self._caption("pool")
        self.pool = Segments("Pool", (("max", "max"), ("mean", "mean")))
        self.pool.setToolTip("What a pixel shows of its weights (P): the largest, so that no needle is lost, or their mean")
        self.pool.chosen.connect(lambda value: self._store.update(pool=value))
        self._row.addWidget(self.pool)
        self._captions.append(self._caption("colour"))
        self.colours = QComboBox()
        self.colours.setFont(font("label"))
        self.colours.setAccessibleName("Scale and colours")
        self.colours.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        for scale in ("linear", "log"):
            for value, words in COLOURS:
                self.colours.addItem(f"{scale} · {words}", (scale, value))
        self.colours.insertSeparator(self.colours.count())
        self.colours.addItem("scale by length", ("auto", ""))
        self.colours.setToolTip("How weights become colours; by length: linear for short texts, logarithmic beyond")
        self.colours.activated.connect(self._choose_colours)
        self._row.addWidget(self.colours)
        self._row.addStretch(1)
        self.fit_button = QPushButton("Fit")
        self._dress(self.fit_button, theme, "fit", "Show all of the map (0)")
        self.fit_button.clicked.connect(self.fit)
        self._row.addWidget(self.fit_button)

    def _dress(self, button: QPushButton, theme: Theme, icon_name: str, tip: str) -> None:
        button.setProperty("kind", "quiet")
        button.setProperty("words", button.text())
        button.setFont(font("label"))
        button.setToolTip(tip)
        button.setAccessibleName(button.text())
        button.setFixedHeight(26)
        theme.dress(button, icon_name)

    def _caption(self, text: str) -> QLabel:
        label = QLabel(text)
        label.setFont(font("label"))
        label.setProperty("role", "label")
        self._row.addWidget(label)
        return label

    def _number(self, name: str, tip: str, most: int) -> _Indexed:
        field = _Indexed(name, tip, most)
        self._row.addWidget(field)
        return field

    # ------------------------------------------------------------ the hand

    def _choose_source(self, index: int) -> None:
        value = self.source.itemData(index)
        if value == "file":
            self._show(self._store.state)
            self.action.emit("open_session")
            return
        old = self._store.state.settings.source
        if isinstance(old, TextSource):
            self._text = old
        seed = old.seed if isinstance(old, SyntheticSource) else 3
        source = self._text if value == "text" else SyntheticSource(value, seed)
        if source != old:
            self._store.update(source=source, view=None, row=-1, column=-1, layer=-1, head=-1)

    def _choose_seed(self, seed: int) -> None:
        source = self._store.state.settings.source
        if isinstance(source, SyntheticSource):
            self._store.update(source=SyntheticSource(source.kind, seed))

    def _choose_head(self) -> None:
        self._store.update(layer=self.layer.number, head=self.head.number)

    def _choose_colours(self, index: int) -> None:
        scale, colours = self.colours.itemData(index)
        if scale == "auto":
            self._store.update(scale="auto")
        else:
            self._store.update(scale=scale, colours=colours)

    # ------------------------------------------------------------ what is shown

    def _store_changed(self, old: State, new: State) -> None:
        settings = ("source", "compare", "pool", "colours", "scale", "layer", "head", "view", "checked", "page")
        same = all(getattr(old.settings, name) == getattr(new.settings, name) for name in settings)
        shape = (old.settings.workload.num_heads, old.settings.workload.layers)
        if not same or shape != (new.settings.workload.num_heads, new.settings.workload.layers):
            self._show(new)

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        if old.seq_len != new.seq_len or old.tokens != new.tokens or old.head != new.head:
            self._show(self._store.state)

    def _show(self, state: State) -> None:
        settings, source = state.settings, state.settings.source
        text, synthetic = isinstance(source, TextSource), isinstance(source, SyntheticSource)
        kind = "text" if text else source.kind if isinstance(source, SyntheticSource) else "file"
        with QSignalBlocker(self.source):
            self.source.setCurrentIndex(self.source.findData(kind))
            place = self.source.findData("file")
            name = source.path.replace("\\", "/").rpartition("/")[2] if isinstance(source, FileSource) else ""
            self.source.setItemText(place, f"Q K · {name[:28]}" if name else "Q K from a file…")
        self.edit.setVisible(text)
        self.seed.setVisible(synthetic)
        self.layer.setVisible(text)
        if isinstance(source, SyntheticSource):
            self.seed.show_number(source.seed, 2**31, say=False)
        self._show_head(state)
        self.compare.set_value(settings.compare)
        several = len(drawn_panels(settings)) >= 2
        difference = self.compare.button("difference")
        difference.setEnabled(several or settings.compare == "difference")
        why_off = "A − B is off: it needs two variants" + (" with a map." if len(settings.checked) >= 2 else ".")
        difference.setToolTip("Weights of the first panel less those of the second" if several else why_off)
        self.pool.set_value(settings.pool)
        pooled = not (text and self._feed.scene.short)
        self.pool_caption.setProperty("wanted", pooled)
        self._show_colours(state)
        self.fit_button.setEnabled(settings.view is not None)
        self.fit_button.setToolTip("Show all of the map (0)" if settings.view else "Fit is off: all of the map is shown.")
        self._narrow()

    def _show_head(self, state: State) -> None:
        read, workload = text_read(state), state.settings.workload
        layer, head = shown_head(state)
        if isinstance(state.settings.source, FileSource):
            self.head.show_number(head, MOST_HEADS, say=False)
            return
        layers, heads = (read.layers, read.num_heads) if read else (workload.layers, workload.num_heads)
        self.layer.show_number(layer, layers)
        self.head.show_number(head, heads)

    def _show_colours(self, state: State) -> None:
        job = wanted(state).get("map") if state.settings.scale == "auto" else None
        scale = getattr(job, "scale", None) or (state.settings.scale if state.settings.scale != "auto" else "linear")
        index = next(
            index for index in range(self.colours.count()) if self.colours.itemData(index) == (scale, state.settings.colours)
        )
        with QSignalBlocker(self.colours):
            self.colours.setCurrentIndex(index)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._narrow()

    def event(self, event: QEvent) -> bool:
        # A control has taken the size that its style gives it, or has other words.
        if event.type() == QEvent.Type.LayoutRequest and self._needed() > self.width():
            self._narrow()
        return super().event(event)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, HEIGHT)

    def _narrow(self) -> None:
        """What goes first when the page is narrow: captions, words of buttons, "/ 30", most of the source's name, pooling."""
        wanted = bool(self.pool_caption.property("wanted"))
        for level in range(7):
            for label in self._captions:
                label.setVisible(level < 1)
            self.pool_caption.setVisible(level < 1 and wanted)
            for button in (self.edit, self.fit_button):
                button.setText(button.property("words") if level < 2 else "")
            for field in (self.seed, self.layer, self.head):
                field.say(how_many=level < 3, name=level < 6)
            self.source.setMaximumWidth(400 if level < 4 else 110)
            self.pool.setVisible(level < 5 and wanted)
            if self._needed() <= self.width():
                return

    def _needed(self) -> int:
        """Width of what is shown now; the layout itself learns of a change only with the next events."""
        shown = [widget for index in range(self._row.count()) if (widget := _widget(self._row, index)) and not widget.isHidden()]
        wide = sum(min(max(widget.sizeHint().width(), widget.minimumWidth()), widget.maximumWidth()) for widget in shown)
        return wide + self._row.spacing() * len(shown) + 24


def _widget(row: QHBoxLayout, index: int) -> QWidget | None:
    item = row.itemAt(index)
    return item.widget() if item else None


class _Indexed(QWidget):
    """Caption, number, and how many there are: "layer 13 / 30"."""

    chosen = Signal(int)

    def __init__(self, name: str, tip: str, most: int) -> None:
        super().__init__()
        caption = self._caption = QLabel(name)
        self.field = NumberField(name.capitalize(), 0, most)
        self.field.setFixedHeight(24)
        self.field.setToolTip(tip)
        self.field.chosen.connect(self.chosen)
        self.field.problem.connect(lambda words: self.field.setToolTip(words or tip))
        self._of = QLabel()
        caption.setBuddy(self.field)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for widget in (caption, self.field, self._of):
            row.addWidget(widget)
        for label in (caption, self._of):
            label.setFont(font("label"))
            label.setProperty("role", "label")

    @property
    def number(self) -> int:
        return self.field.number

    def sizeHint(self) -> QSize:
        shown = [widget for widget in (self._caption, self.field, self._of) if not widget.isHidden()]
        wide = sum(max(widget.sizeHint().width() if widget is not self.field else 0, widget.minimumWidth()) for widget in shown)
        return QSize(wide + 6 * (len(shown) - 1), 24)

    def say(self, *, how_many: bool, name: bool) -> None:
        """Show or leave out what stands beside the number."""
        self._of.setVisible(how_many and bool(self._of.text()))
        self._caption.setVisible(name)

    def show_number(self, number: int, how_many: int, *, say: bool = True) -> None:
        """A number of `how_many` that begin at 0."""
        self.field.high = how_many - 1
        self.field.set_number(number)
        self._of.setText(f"/ {how_many:,}" if say else "")
        digits = len(str(number if not say else how_many - 1))
        self.field.setFixedWidth(self.field.fontMetrics().horizontalAdvance("0" * max(digits, 2)) + 24)

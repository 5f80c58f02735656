"""The Map page: toolbar, sentence, maps, and under them the heads of a short text or the readout of a long map."""

from __future__ import annotations

from typing import get_args

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from attnscope.map_feed import MapFeed
from attnscope.map_scene import Scene
from attnscope.panels.colour_bar import ColourBar
from attnscope.panels.first_look import WIDTH, FirstLook
from attnscope.panels.hairline import hairline
from attnscope.panels.readout import Readout
from attnscope.panels.row_table import RowTable
from attnscope.panels.segments import Segments
from attnscope.panels.strongest_heads import StrongestHeads
from attnscope.panels.token_strip import TokenStrip
from attnscope.plots.heads_grid import SORTS, HeadsGrid, Sort
from attnscope.plots.map_canvas import MapCanvas
from attnscope.plots.map_toolbar import MapToolbar
from attnscope.state import State
from attnscope.store import Store
from attnscope.theme import Theme, font

LOW_PAGE = 720
"""Height of the page below which what is under the maps is lower."""
HEADS_HEIGHT, LOW_HEADS_HEIGHT, HIGH_HEADS_HEIGHT = 232, 214, 268
HIGH_PAGE = 940
"""Height of the page from which the heads under the maps are larger."""
LEAST_WIDTH = 820
"""Width below which the column beside the maps is left out."""


class MapPage(QWidget):
    """What attention does, on one screen."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme) -> None:
        super().__init__()
        self._store = store
        self.setProperty("ground", "window")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.feed = MapFeed(store, self)
        self.toolbar = MapToolbar(store, theme, self.feed)
        self.strip = TokenStrip(store, theme, self.feed)
        self.canvas = MapCanvas(store, theme, self.feed)
        self.tour = FirstLook(store, theme, self.feed)
        self.colours = ColourBar(store, theme, self.feed, full=False)
        self.readout = Readout(store, theme, self.feed)
        self.heads = HeadsGrid(store, theme, full=False)
        self.strongest = StrongestHeads(store, theme)
        self.row = RowTable(theme, self.feed, full=True)
        self.all_heads = AllHeads(store, theme)
        self.ways_out = _WaysOut(store, self.canvas)
        self._lay_out()
        for widget in (self.toolbar, self.canvas, self.tour):
            widget.action.connect(self.action)
        self.toolbar.fit.connect(self.canvas.hand.fit)
        self.colours.next_bad.connect(self.next_bad_cell)
        self.readout.next_bad.connect(self.next_bad_cell)
        self.feed.changed.connect(self._scene_changed)
        store.changed.connect(self._store_changed)
        self._show()

    def next_bad_cell(self) -> None:
        """To the next NaN or Inf on the map (F6)."""
        self.canvas.hand.next_bad_cell()

    def _lay_out(self) -> None:
        self._beside = QWidget()
        self._beside.setFixedWidth(WIDTH + 16)
        column = QVBoxLayout(self._beside)
        column.setContentsMargins(0, 12, 16, 4)
        column.setSpacing(8)
        column.addWidget(self.tour)
        column.addWidget(self.colours)
        column.addStretch(1)
        self._middle = QWidget()
        middle = QHBoxLayout(self._middle)
        middle.setContentsMargins(0, 0, 0, 0)
        middle.setSpacing(0)
        middle.addWidget(self.canvas, 1)
        middle.addWidget(self._beside)
        self._under = QWidget()
        self._under.setProperty("ground", "panel")
        self._under.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        under = self._under_row = QHBoxLayout(self._under)
        under.setContentsMargins(0, 0, 0, 0)
        under.setSpacing(0)
        for widget, stretch in (
            (self.heads, 64),
            (hairline(width=1), 0),
            (self.strongest, 22),
            (hairline(width=1), 0),
            (self.row, 24),
        ):
            under.addWidget(widget, stretch)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        rows.addWidget(self.toolbar)
        rows.addWidget(hairline(height=1))
        rows.addWidget(self.strip)
        rows.addWidget(self._middle, 1)
        rows.addWidget(self.all_heads, 1)
        self._line = hairline(height=1)
        rows.addWidget(self._line)
        rows.addWidget(self._under)
        rows.addWidget(self.readout)

    # ------------------------------------------------------------ what is shown

    def _store_changed(self, old: State, new: State) -> None:
        if old.settings.compare != new.settings.compare or old.live.tour_done != new.live.tour_done:
            self._show()

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        if (old.short, old.message) != (new.short, new.message):
            self._show()
        if len(old.rows) != len(new.rows):
            self._share(len(new.rows))

    def _share(self, variants: int) -> None:
        """More of the width to the row's table when it has three or four columns."""
        self._under_row.setStretchFactor(self.row, 24 if variants <= 2 else 36)

    def _show(self) -> None:
        state, scene = self._store.state, self.feed.scene
        heads = state.settings.compare == "heads" and bool(scene.panels)
        maps = not heads
        self.all_heads.setVisible(heads)
        self._middle.setVisible(maps)
        self.strip.setVisible(maps and scene.short)
        self.tour.setVisible(not state.live.tour_done)
        self._beside.setVisible(maps and scene.short and self.width() >= LEAST_WIDTH)
        self._under.setVisible(maps and scene.short)
        self.readout.setVisible(maps and not scene.short and not scene.message)
        self._line.setVisible(maps and not scene.message)
        self.ways_out.show_scene(scene)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        low = self.height() < LOW_PAGE
        self.readout.set_low(low)
        self.colours.set_low(low)
        self._under.setFixedHeight(LOW_HEADS_HEIGHT if low else HEADS_HEIGHT if self.height() < HIGH_PAGE else HIGH_HEADS_HEIGHT)
        if event.size().width() != event.oldSize().width():
            self._show()
        self.ways_out.place()


class AllHeads(QWidget):
    """The grid on the whole page, with the choice of its order above."""

    def __init__(self, store: Store, theme: Theme) -> None:
        super().__init__()
        self.grid = HeadsGrid(store, theme, full=True)
        self.sort = Segments("Order of the heads", SORTS)
        self.sort.chosen.connect(self._choose)
        row = QHBoxLayout()
        row.setContentsMargins(16, 10, 16, 0)
        row.addWidget(self.sort)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self.grid, 1)

    def _choose(self, value: str) -> None:
        sort: Sort = next(each for each in get_args(Sort) if each == value)
        self.grid.set_sort(sort)


class _WaysOut(QWidget):
    """The buttons under a message in place of the maps."""

    def __init__(self, store: Store, canvas: MapCanvas) -> None:
        super().__init__(canvas)
        self._store, self._canvas = store, canvas
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(8)
        self.buttons: list[QPushButton] = []

    def show_scene(self, scene: Scene) -> None:
        for button in self.buttons:
            self._row.removeWidget(button)
            button.deleteLater()
        self.buttons = []
        for way in scene.message.ways if scene.message else ():
            button = QPushButton(way.words)
            button.setFont(font("label"))
            button.setFixedHeight(30)
            button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda _checked=False, way=way: self._store.update(**{way.field: way.value}))
            self._row.addWidget(button)
            self.buttons.append(button)
        self.setVisible(bool(self.buttons))
        self.place()

    def place(self) -> None:
        """Under the middle of the canvas, where the words are."""
        size = self._row.sizeHint()
        self.resize(size)
        self.move((self._canvas.width() - size.width()) // 2, (self._canvas.height() - 80) // 2 + 30)

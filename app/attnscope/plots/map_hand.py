"""What the hand does to a map: keys, wheel, drags and clicks turned into changes of the store. No painting."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from attnscope_engine.protocol import MAX_CODE, Picture
from PySide6.QtCore import Qt

from attnscope.map_feed import MapFeed
from attnscope.map_scene import Scene
from attnscope.map_view import View, framed, panned, showing, zoomed
from attnscope.plots.map_drawings import area_of
from attnscope.plots.map_layout import Box
from attnscope.plots.map_picture import Area
from attnscope.state import shown_head, text_read
from attnscope.store import Store

GESTURE_S = 1.0
"""Changes of the view that follow each other within this time are one step of "back"."""
NEEDLES = 512
"""How many of the largest pixels in view N goes through."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A point of the map in cells, not rounded."""

    row: float
    column: float

    @property
    def cell(self) -> tuple[int, int]:
        return int(self.row), int(self.column)


def spot_at(box: Box, view: View, x: float, y: float) -> Spot:
    """Where a point of the canvas lies on the map, kept inside the view."""
    scale = (view[1] - view[0]) / box.width
    row, column = view[0] + (y - box.y) * scale, view[2] + (x - box.x) * scale
    return Spot(min(max(row, view[0]), view[1] - 1e-6), min(max(column, view[2]), view[3] - 1e-6))


class Hand:
    """Changes view, cell, head and pooling of one store."""

    def __init__(self, store: Store, feed: MapFeed, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._feed, self._clock = store, feed, clock
        self._past: list[View | None] = []
        self._last_change = -GESTURE_S
        self._needle = -1
        self._needle_view: tuple[int, View] = (0, (0, 0, 0, 0))

    @property
    def scene(self) -> Scene:
        return self._feed.scene

    # ------------------------------------------------------------ view

    def show(self, view: View | None) -> None:
        """Go to a view; "back" returns to the one before the gesture."""
        old = self._store.state.settings.view
        if view == old:
            return
        now = self._clock()
        if now - self._last_change >= GESTURE_S:
            self._past.append(old)
        self._last_change = now
        self._store.update(view=view)

    def back(self) -> None:
        """To the view before."""
        if self._past:
            view = self._past.pop()
            self._last_change = -GESTURE_S
            self._store.update(view=view)

    def fit(self) -> None:
        self.show(None)

    def zoom(self, magnify: float, spot: Spot | None = None) -> None:
        """About a point, or about the chosen cell when it is in view, or about the middle."""
        scene = self.scene
        if scene.seq_len:
            at = spot or self._centre()
            self.show(zoomed(scene.view, scene.seq_len, magnify, at.row, at.column))

    def pan(self, start: View, rows: int, columns: int) -> None:
        """From the view where a drag began."""
        if not self.scene.fitted:
            self.show(panned(start, self.scene.seq_len, rows, columns))

    def frame(self, one: Spot, other: Spot) -> None:
        """Zoom to the rectangle between two points."""
        self.show(framed(one.cell, other.cell, self.scene.seq_len))

    def _centre(self) -> Spot:
        row0, row1, column0, column1 = self.scene.view
        cell = self.scene.cell
        if cell and row0 <= cell[0] < row1 and column0 <= cell[1] < column1:
            return Spot(cell[0] + 0.5, cell[1] + 0.5)
        return Spot((row0 + row1) / 2, (column0 + column1) / 2)

    # ------------------------------------------------------------ cell

    def hover(self, cell: tuple[int, int] | None) -> None:
        self._store.update_live(hover=cell)

    def click(self, cell: tuple[int, int]) -> None:
        """Fix the row, or free it when that cell is fixed already."""
        settings = self._store.state.settings
        if (settings.row, settings.column) == cell:
            self.free()
        else:
            self._store.update(row=cell[0], column=cell[1])

    @property
    def has_fixed_row(self) -> bool:
        return self._store.state.settings.row >= 0

    def free(self) -> None:
        self._store.update(row=-1, column=-1)

    def move(self, down: int, across: int) -> None:
        """Move the cell by cells of the picture, bringing it into view."""
        scene = self.scene
        if not scene.seq_len:
            return
        job = scene.panels[0].job if scene.panels else None
        step = job.factor if job else 1
        row, column = scene.cell or (scene.view[0] - down * step, scene.view[2] - across * step)
        last = scene.seq_len - 1
        row = min(max(row + down * step, 0), last)
        column = min(max(column + across * step, 0), last)
        self.hover(None)
        self._go(row, column)

    def next_needle(self) -> None:
        """To the largest weight in view; again: to the next largest."""
        scene = self.scene
        panel = next((panel for panel in scene.panels if panel.picture and panel.job), None)
        if panel is None or panel.picture is None or panel.job is None:
            return
        mark = (id(panel.picture), scene.view)
        self._needle = self._needle + 1 if mark == self._needle_view else 0
        self._needle_view = mark
        cells = needles(panel.picture, area_of(panel.job), scene.view)
        if cells:
            self.hover(None)
            self._go(*cells[self._needle % len(cells)])

    def next_bad_cell(self) -> None:
        """To the next NaN or Inf, if there is one."""
        cells = sorted({cell for panel in self.scene.panels if panel.picture for cell in panel.picture.bad_cells})
        if cells:
            here = self.scene.cell or (-1, -1)
            self.hover(None)
            self._go(*next((cell for cell in cells if cell > here), cells[0]))

    def _go(self, row: int, column: int) -> None:
        scene = self.scene
        if not scene.fitted:
            self.show(showing(scene.view, scene.seq_len, row, column))
        self._store.update(row=row, column=column)

    # ------------------------------------------------------------ head, pooling, order

    def step_head(self, by: int) -> None:
        """The next head of this layer, round and round."""
        layer, head = shown_head(self._store.state)
        self._store.update(layer=layer, head=(head + by) % self._heads()[1])

    def step_layer(self, by: int) -> None:
        layer, head = shown_head(self._store.state)
        self._store.update(layer=(layer + by) % self._heads()[0], head=head)

    def _heads(self) -> tuple[int, int]:
        read, workload = text_read(self._store.state), self._store.state.settings.workload
        return (read.layers, read.num_heads) if read else (workload.layers, workload.num_heads)

    def change_pool(self) -> None:
        self._store.update(pool="mean" if self._store.state.settings.pool == "max" else "max")

    def swap(self) -> None:
        """A becomes B and B becomes A."""
        checked = self._store.state.settings.checked
        if len(checked) >= 2:
            self._store.update(checked=(checked[1], checked[0], *checked[2:]))

    # ------------------------------------------------------------ keys

    def key(self, key: int, modifiers: Qt.KeyboardModifier) -> bool:
        """Does what the key says; False for a key that means nothing here."""
        shift = bool(modifiers & Qt.KeyboardModifier.ShiftModifier)
        if modifiers & Qt.KeyboardModifier.AltModifier:
            if key != Qt.Key.Key_Left:
                return False
            self.back()
            return True
        if modifiers & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.MetaModifier):
            return False
        arrow = _ARROWS.get(key)
        if arrow:
            times = 10 if shift else 1
            self.move(arrow[0] * times, arrow[1] * times)
            return True
        return self._letter(key, -1 if shift else 1)

    def _letter(self, key: int, by: int) -> bool:
        keys: dict[int, Callable[[], None] | None] = {
            Qt.Key.Key_Plus: lambda: self.zoom(2.0),
            Qt.Key.Key_Equal: lambda: self.zoom(2.0),
            Qt.Key.Key_Minus: lambda: self.zoom(0.5),
            Qt.Key.Key_0: self.fit,
            Qt.Key.Key_H: lambda: self.step_head(by),
            Qt.Key.Key_L: lambda: self.step_layer(by),
            Qt.Key.Key_P: self.change_pool,
            Qt.Key.Key_X: self.swap,
            Qt.Key.Key_N: self.next_needle,
            Qt.Key.Key_Backspace: self.back,
            Qt.Key.Key_Escape: self.free if self.has_fixed_row else None,
        }
        act = keys.get(key)
        if act:
            act()
        return act is not None


_ARROWS: dict[int, tuple[int, int]] = {
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
}


def needles(picture: Picture, area: Area, view: View) -> list[tuple[int, int]]:
    """At most `NEEDLES` cells of the largest values in view, the largest first; of a pixel that pools several, the middle one."""
    import numpy as np

    height, width = picture.codes.shape
    codes = np.frombuffer(picture.codes.data, np.uint8).reshape(height, width)
    top, left = max(0, (view[0] - area.row0) // area.factor), max(0, (view[2] - area.column0) // area.factor)
    bottom, right = -(-(view[1] - area.row0) // area.factor), -(-(view[3] - area.column0) // area.factor)
    part = codes[top:bottom, left:right]
    values = np.where(part <= MAX_CODE, part.astype(np.int32), -1).ravel()
    if picture.signed:
        values = np.where(values >= 0, np.abs(values - MAX_CODE // 2), -1)
    order = np.argsort(-values, kind="stable")[:NEEDLES]
    half = area.factor // 2
    found = []
    for index in order:
        if values[index] < 0:
            break
        i, j = divmod(int(index), part.shape[1])
        row, column = area.row0 + (top + i) * area.factor + half, area.column0 + (left + j) * area.factor + half
        found.append(clamped_cell(row, column, view))
    return found


def clamped_cell(row: int, column: int, view: View) -> tuple[int, int]:
    """The nearest cell that is in the view."""
    return min(max(row, view[0]), view[1] - 1), min(max(column, view[2]), view[3] - 1)

"""The view box of a log-log plot: wheel zooms n, Shift+wheel the other axis, dragging pans, double click asks for the whole."""

from __future__ import annotations

import math
from typing import Any

import pyqtgraph as pg
from attnscope_engine.protocol import MAX_SEQ_LEN, MIN_SEQ_LEN
from PySide6.QtCore import Qt, Signal

LOWEST, HIGHEST = math.log2(MIN_SEQ_LEN) - 1, math.log2(MAX_SEQ_LEN) + 1
NARROWEST_OCTAVES = 0.25
NARROWEST_DECADES = 0.05
WIDEST_DECADES = 24.0
WHEEL_STEP = 1.2
"""Factor of one notch of the wheel, 120 units."""


class CurveBox(pg.ViewBox):  # type: ignore[misc]
    """x is log2 n, y is log10 of the value. Ranges are clamped here: pyqtgraph's own limits fight with linked axes."""

    zoomed = Signal()
    reset_wanted = Signal()

    def __init__(self) -> None:
        super().__init__(enableMenu=False, defaultPadding=0)
        self.disableAutoRange()

    def zoom(self, axis: int, factor: float, centre: float) -> None:
        """Show `factor` times as much of axis 0 (n) or 1, with `centre` (in logarithms) staying where it is."""
        low, high = self.viewRange()[axis]
        least, most = (NARROWEST_OCTAVES, HIGHEST - LOWEST) if axis == 0 else (NARROWEST_DECADES, WIDEST_DECADES)
        span = min(max((high - low) * factor, least), most)
        share = (centre - low) / (high - low)
        self._set(axis, centre - share * span, span)

    def pan(self, axis: int, by: float) -> None:
        """Move the view along an axis, in logarithms."""
        low, high = self.viewRange()[axis]
        self._set(axis, low + by, high - low)

    def _set(self, axis: int, low: float, span: float) -> None:
        if axis == 0:
            low = min(max(low, LOWEST), HIGHEST - span)
            self.setXRange(low, low + span, padding=0)
        else:
            self.setYRange(low, low + span, padding=0)
        self.zoomed.emit()

    def wheelEvent(self, ev: Any, axis: int | None = None) -> None:
        if axis is None:
            axis = 1 if ev.modifiers() & Qt.KeyboardModifier.ShiftModifier else 0
        at = self.mapToView(ev.pos())
        self.zoom(axis, WHEEL_STEP ** (-ev.delta() / 120), at.x() if axis == 0 else at.y())
        ev.accept()

    def mouseDragEvent(self, ev: Any, axis: int | None = None) -> None:
        if ev.button() not in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            ev.ignore()
            return
        ev.accept()
        moved = self.mapToView(ev.lastPos()) - self.mapToView(ev.pos())
        for each, by in ((0, moved.x()), (1, moved.y())):
            if axis in (None, each):
                self.pan(each, by)

    def mouseClickEvent(self, ev: Any) -> None:
        if ev.double() and ev.button() == Qt.MouseButton.LeftButton:
            ev.accept()
            self.reset_wanted.emit()

    def keyPressEvent(self, ev: Any) -> None:
        ev.ignore()

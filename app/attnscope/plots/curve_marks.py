"""The items of one variant in one plot: line, its dim part beyond memory, points with whiskers, older and pinned points, fit."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor, QPainterPath, QPen

from attnscope.plots.traces import NOTHING, Floats, Mark, Trace, on_axis
from attnscope.theme import MARKER_SIZE, Theme, line_pen, marker_path

REFUSED_OPACITY = 0.3
EARLIER_OPACITY = 0.4
_SIZE = MARKER_SIZE + 1.0  # the halo takes half a pixel on each side
CAP_WIDTH = 7.0


@functools.cache
def _cap() -> QPainterPath:
    path = QPainterPath(QPointF(-0.5, 0))
    path.lineTo(0.5, 0)
    return path


class CurveMarks:
    """Draws a `Trace`. What did not change is not drawn again: a new point touches its variant's points only."""

    def __init__(self, theme: Theme, view: pg.ViewBox) -> None:
        self._theme, self._view = theme, view
        self._ratio = 1.0
        self.trace: Trace | None = None
        self.line = pg.PlotCurveItem(antialias=True)
        self.beyond = pg.PlotCurveItem(antialias=True)
        self.fit = pg.PlotCurveItem(antialias=True)
        self.baseline = pg.PlotCurveItem(antialias=True)
        self.whiskers = pg.PlotCurveItem(antialias=True, connect="pairs")
        self.caps = pg.ScatterPlotItem(pxMode=True)
        self.earlier = pg.ScatterPlotItem(pxMode=True)
        self.pinned = pg.ScatterPlotItem(pxMode=True)
        self.points = pg.ScatterPlotItem(pxMode=True)
        self._items = (
            self.beyond,
            self.line,
            self.fit,
            self.baseline,
            self.pinned,
            self.earlier,
            self.whiskers,
            self.caps,
            self.points,
        )
        self.beyond.setOpacity(REFUSED_OPACITY)
        self.earlier.setOpacity(EARLIER_OPACITY)
        for z, item in enumerate(self._items):
            item.setZValue(z if z < 4 else 10 + z)
            item.setAcceptedMouseButtons(Qt.MouseButton.NoButton)
            view.addItem(item, ignoreBounds=True)

    def remove(self) -> None:
        for item in self._items:
            self._view.removeItem(item)

    def show(self, trace: Trace) -> None:
        """Draw what differs from the trace shown before."""
        old, self.trace = self.trace, trace
        if old is None or old.variant != trace.variant:
            old = None
        if old is None or not _same(old.values, trace.values) or old.wall != trace.wall:
            self._show_line(trace)
        if old is None or old.points != trace.points:
            self._scatter(self.points, trace.points)
            self._show_whiskers(trace.points)
        if old is None or not _same(old.fit_ns, trace.fit_ns) or not _same(old.fit, trace.fit):
            self.fit.setData(np.log2(trace.fit_ns), np.log10(trace.fit))
        if old is None or old.earlier != trace.earlier:
            self._scatter(self.earlier, trace.earlier)
        if old is None or old.pinned != trace.pinned:
            marks = on_axis(trace.pinned)
            self.baseline.setData([math.log2(mark.n) for mark in marks], [math.log10(mark.value) for mark in marks])
            self._scatter(self.pinned, trace.pinned, baseline=True)
        if old is None or old.look != trace.look:
            self.restyle()

    def set_ratio(self, ratio: float) -> None:
        """Device pixels a logical one: a cosmetic pen counts device pixels."""
        if ratio != self._ratio:
            self._ratio = ratio
            self.restyle()

    def restyle(self) -> None:
        """Pens and brushes of the theme in force."""
        if self.trace is None:
            return
        tokens, look = self._theme.tokens, self.trace.look
        pen, colour = line_pen(look, tokens), QColor(look.colour(tokens))
        pen.setWidthF(pen.widthF() * self._ratio)  # the dash counts in widths, so it grows along
        self.line.setPen(pen)
        self.beyond.setPen(pen)
        self.fit.setPen(_dotted(look.colour(tokens), self._ratio))
        self.baseline.setPen(_dotted(tokens.edge, self._ratio))
        thin = _cosmetic(colour, self._ratio)
        self.whiskers.setPen(thin)
        self.caps.setPen(thin)
        self._scatter(self.points, self.trace.points)
        self._scatter(self.earlier, self.trace.earlier)
        self._scatter(self.pinned, self.trace.pinned, baseline=True)

    def scale_changed(self, pixels_a_decade: float) -> None:
        """Whiskers that are shorter than the marker stay hidden, and which are depends on the zoom."""
        if self.trace is not None:
            self._show_whiskers(self.trace.points, pixels_a_decade)

    def marks(self) -> list[Mark]:
        """Every mark that can be pointed at, the newest settings first."""
        trace = self.trace
        return [] if trace is None else [*on_axis(trace.points), *on_axis(trace.earlier), *on_axis(trace.pinned)]

    def _show_line(self, trace: Trace) -> None:
        xs, ys = np.log2(trace.ns), np.log10(trace.values)
        if not trace.refused or not len(xs):
            self.line.setData(xs, ys)
            self.beyond.setData(NOTHING, NOTHING)
            return
        wall = trace.wall if trace.wall >= trace.ns[0] else None
        if wall is None:  # nothing fits
            self.line.setData(NOTHING, NOTHING)
            self.beyond.setData(xs, ys)
            return
        at = math.log2(wall)
        height = float(np.interp(at, xs, ys))
        self.line.setData(np.append(xs[xs < at], at), np.append(ys[xs < at], height))
        self.beyond.setData(np.append(at, xs[xs > at]), np.append(height, ys[xs > at]))

    def _scatter(self, item: pg.ScatterPlotItem, marks: Sequence[Mark], baseline: bool = False) -> None:
        """The baseline is grey and hollow."""
        tokens = self._theme.tokens
        assert self.trace is not None
        colour = tokens.edge if baseline else self.trace.look.colour(tokens)
        hollow = baseline or self.trace.look.hollow
        ground = QColor(tokens.plot)
        pen = _cosmetic(colour if hollow else ground, self._ratio * (1.25 if hollow else 1.0))
        shown = on_axis(marks)
        item.setData(
            x=[math.log2(mark.n) for mark in shown],
            y=[math.log10(mark.value) for mark in shown],
            data=shown,
            symbol=marker_path(self.trace.look.marker),
            size=_SIZE,
            pen=pen,
            brush=ground if hollow else QColor(colour),
        )

    def _show_whiskers(self, marks: Sequence[Mark], pixels_a_decade: float | None = None) -> None:
        if pixels_a_decade is None:
            low, high = self._view.viewRange()[1]
            pixels_a_decade = self._view.height() / max(high - low, 1e-9)
        shown = [m for m in on_axis(marks) if pixels_a_decade * math.log10(m.high / m.low) > MARKER_SIZE]
        ends = [(math.log2(mark.n), math.log10(end)) for mark in shown for end in (mark.low, mark.high)]
        xs, ys = np.array([end[0] for end in ends]), np.array([end[1] for end in ends])
        self.whiskers.setData(xs, ys, connect="pairs")
        self.caps.setData(x=xs, y=ys, symbol=_cap(), size=CAP_WIDTH, pen=self.whiskers.opts["pen"], brush=None)


def _same(one: Floats, other: Floats) -> bool:
    return len(one) == len(other) and bool(np.array_equal(one, other))


def _cosmetic(colour: str | QColor, width: float) -> QPen:
    pen = QPen(QColor(colour), width)
    pen.setCosmetic(True)
    return pen


def _dotted(colour: str, width: float) -> QPen:
    pen = _cosmetic(colour, width)
    pen.setDashPattern([1, 3])
    return pen

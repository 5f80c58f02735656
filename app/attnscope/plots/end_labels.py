"""Names of curves at their right ends: marker and title, pushed apart, one label for curves that run on top of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from attnscope_engine.protocol import MAX_SEQ_LEN
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from attnscope.looks import Look
from attnscope.plots.traces import Floats, Trace, on_axis
from attnscope.quantities import MINUS
from attnscope.theme import Theme, fill_marker, font

LINE_HEIGHT = 15.0
MARKER = 8.0
TEXT_X = 22.0
MARKER_X = 12.0


@dataclass(frozen=True, slots=True)
class EndLabel:
    """What one or more curves that coincide are called."""

    titles: tuple[str, ...]
    look: Look
    """Of the first."""
    y: float
    """Where the curve ends, in pixels from the top of the plot."""
    detail: str = ""
    """A second line, of a curve that stands alone."""

    @property
    def text(self) -> str:
        """Such as "Flash", "Flash and Window equal", "Flash and 2 equal"."""
        first, *others = self.titles
        if not others:
            return first
        return f"{first} and {others[0] if len(others) == 1 else len(others)} equal"


def pushed_apart(wanted: Sequence[float], heights: Sequence[float], top: float, bottom: float) -> list[float]:
    """Centres of labels that ascend as `wanted` does, do not overlap, stay in [top, bottom] and move as little as that allows.

    Neighbours that would touch form a block which is centred on the mean of what its labels want. When all do not fit,
    they begin at `top` and run past `bottom`.
    """
    blocks: list[tuple[float, list[float]]] = []
    for y, height in zip(wanted, heights, strict=True):
        blocks.append((y - height / 2, [height]))
        while True:
            start, members = blocks[-1]
            start = max(top, min(start, bottom - sum(members)))
            blocks[-1] = (start, members)
            if len(blocks) < 2 or blocks[-2][0] + sum(blocks[-2][1]) <= start + 1e-9:
                break
            upper, lower = blocks[-2], blocks.pop()
            # the block's best start: each label's own wish, less what stands above it in the block, on average
            count_upper, count_lower = len(upper[1]), len(lower[1])
            shift = sum(upper[1])
            mean = (upper[0] * count_upper + (lower[0] - shift) * count_lower) / (count_upper + count_lower)
            blocks[-1] = (mean, upper[1] + lower[1])
    centres = []
    for start, members in blocks:
        for height in members:
            centres.append(start + height / 2)
            start += height
    return centres


@dataclass(frozen=True, slots=True)
class End:
    """One curve as its label needs it."""

    title: str
    look: Look
    heights: tuple[float, ...]
    """Pixels from the top at n that all curves share, the last at the right end."""
    detail: str = ""


def grouped(ends: Sequence[End], tolerance: float = 1.0) -> tuple[EndLabel, ...]:
    """One label for each set of curves that lie within `tolerance` pixels of its first all along, from the top down."""
    groups: list[list[End]] = []
    for end in ends:
        for group in groups:
            others = group[0].heights
            if len(end.heights) == len(others) and all(abs(a - b) <= tolerance for a, b in zip(end.heights, others, strict=True)):
                group.append(end)
                break
        else:
            groups.append([end])
    labels = []
    for group in groups:
        first = group[0]
        detail = first.detail if len(group) == 1 else ""
        labels.append(EndLabel(tuple(end.title for end in group), first.look, first.heights[-1], detail))
    return tuple(sorted(labels, key=lambda label: label.y))


def line_ends(traces: Sequence[Trace], low: float, high: float, places: Callable[[Floats], Floats]) -> list[End]:
    """Each curve in view; one without a line ends at its last point. `places` gives the pixels of values."""
    ends = []
    for trace in traces:
        detail = "" if trace.slope is None else f"slope {trace.slope:.2f}".replace("-", MINUS)
        marks = [mark for mark in on_axis(trace.points) if mark.n <= high]
        if len(trace.ns):
            inside = trace.ns[(trace.ns >= low) & (trace.ns < high)]
            ns = np.append(inside, min(high, float(MAX_SEQ_LEN)))
            ends.append(End(trace.title, trace.look, tuple(places(trace.along(ns)).tolist()), detail))
        elif marks:
            ends.append(End(trace.title, trace.look, tuple(places(np.array([marks[-1].value])).tolist()), detail))
    return ends


class EndLabels(QWidget):
    """The column right of a plot."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._labels: tuple[EndLabel, ...] = ()
        self._top = 0.0
        self._bottom = 0.0
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        theme.changed.connect(self.update)

    @property
    def labels(self) -> tuple[EndLabel, ...]:
        return self._labels

    def show_labels(self, labels: tuple[EndLabel, ...], top: float, bottom: float) -> None:
        """`top` and `bottom`: the plot's frame, in pixels of this widget; the labels' y counts from `top`."""
        if (labels, top, bottom) != (self._labels, self._top, self._bottom):
            self._labels, self._top, self._bottom = labels, top, bottom
            self.update()

    def lines(self, label: EndLabel) -> list[str]:
        """The label's text, broken before its second name when the column is too narrow; its detail below."""
        metrics = QFontMetricsF(font("label"))
        if metrics.horizontalAdvance(label.text) <= self.width() - TEXT_X or " and " not in label.text:
            return [label.text, label.detail] if label.detail else [label.text]
        head, tail = label.text.split(" and ", 1)
        return [f"{head} and", tail]

    def places(self) -> list[tuple[EndLabel, list[str], QRectF]]:
        """Each label with its lines and the rectangle they take."""
        texts = [self.lines(label) for label in self._labels]
        heights = [LINE_HEIGHT * len(lines) for lines in texts]
        wanted = [min(max(self._top + label.y, self._top), self._bottom) for label in self._labels]
        # a label of two lines stands with its first line at the curve
        wanted = [y + (height - LINE_HEIGHT) / 2 for y, height in zip(wanted, heights, strict=True)]
        centres = pushed_apart(wanted, heights, self._top - LINE_HEIGHT / 2, self._bottom + LINE_HEIGHT / 2)
        return [
            (label, lines, QRectF(0, y - height / 2, self.width(), height))
            for label, lines, y, height in zip(self._labels, texts, centres, heights, strict=True)
        ]

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        tokens = self._theme.tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(font("label"))
        for label, lines, place in self.places():
            painter.save()
            painter.translate(QPointF(MARKER_X, place.top() + LINE_HEIGHT / 2))
            fill_marker(painter, label.look, tokens, MARKER, QColor(tokens.window) if label.look.hollow else None)
            painter.restore()
            for index, line in enumerate(lines):
                painter.setPen(QPen(QColor(tokens.text3 if line == label.detail else tokens.text1)))
                row = QRectF(TEXT_X, place.top() + index * LINE_HEIGHT, place.width() - TEXT_X, LINE_HEIGHT)
                painter.drawText(row, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextDontClip, line)
        painter.end()

"""One quantised picture on the screen: codes looked up in a colour table and magnified without losing a cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnscope_engine.protocol import INF, MASKED, MAX_CODE, NAN, NOT_COMPUTED, Picture
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPen, QPixmap

from attnscope.looks import ColourMap, Tokens, colour_table
from attnscope.map_view import View
from attnscope.plots.map_layout import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HATCH_PITCH = 6
"""Pixels between the hairlines of what is not computed, and of what is masked where near white is a value."""
RING = 14
"""Side of the ring round a NaN or Inf, in logical pixels."""


@dataclass(frozen=True, slots=True)
class Area:
    """The cells that a picture covers: pixel (i, j) pools `factor` × `factor` weights from (row0, column0) on."""

    row0: int
    column0: int
    factor: int


def mask_is_hatched(colours: ColourMap) -> bool:
    """Ink and signed maps are near white where they are low, so a flat mask would look like a value."""
    return colours in ("ink", "signed")


class CodeImage:
    """A picture ready to paint under one theme and colour map. Levels of coarser cells are made when first needed."""

    def __init__(self, picture: Picture, colours: ColourMap, tokens: Tokens, *, mean: bool = False) -> None:
        self.picture, self.colours = picture, colours
        self.height, self.width = picture.codes.shape
        self._mean = mean
        self._tokens = tokens
        self._hatched = mask_is_hatched(colours)
        self._table = list(colour_table(colours, tokens))
        self._table[NOT_COMPUTED] = 0  # the hairlines of the ground show through
        if self._hatched:
            self._table[MASKED] = 0
        self._whole: bool | None = None
        self._levels: dict[int, tuple[QImage, QImage | None]] = {}

    def paint(self, painter: QPainter, area: Area, view: View, box: Box) -> None:
        """Paints the part of the picture that is in the view, each cell at least one device pixel."""
        ratio = painter.device().devicePixelRatioF()
        box = _aligned(box, ratio)
        scale = box.width / (view[1] - view[0])
        step = coarser(area.factor, scale * ratio)
        image, mask = self._level(step)
        source, target = _crop(image, area, area.factor * step, view, box, scale)
        if source.isEmpty():
            return
        painter.save()
        painter.setClipRect(QRectF(box.x, box.y, box.width, box.height))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
        if mask is not None:
            self._paint_hatched_mask(painter, mask, source, target, ratio)
        painter.drawImage(target, image, source)
        painter.restore()

    @property
    def is_whole(self) -> bool:
        """No pixel of it waits to be computed."""
        if self._whole is None:
            self._whole = NOT_COMPUTED not in self.picture.codes.data
        return self._whole

    def code(self, area: Area, row: int, column: int) -> int:
        """Code of the pixel that holds a cell; `NOT_COMPUTED` outside the picture."""
        i, j = (row - area.row0) // area.factor, (column - area.column0) // area.factor
        if 0 <= i < self.height and 0 <= j < self.width:
            return self.picture.codes.data[i * self.width + j]
        return NOT_COMPUTED

    def _level(self, step: int) -> tuple[QImage, QImage | None]:
        if step not in self._levels:
            codes, height, width = pooled(self.picture, step, mean=self._mean)
            mask = None
            if self._hatched:
                mask = _coloured(codes, height, width, [0xFF000000 if code == MASKED else 0 for code in range(256)])
            self._levels[step] = _coloured(codes, height, width, self._table), mask
        return self._levels[step]

    def _paint_hatched_mask(self, painter: QPainter, mask: QImage, source: QRectF, target: QRectF, ratio: float) -> None:
        stencil = QPixmap(math.ceil(target.width() * ratio), math.ceil(target.height() * ratio))
        stencil.fill(Qt.GlobalColor.transparent)
        inner = QPainter(stencil)
        inner.drawImage(QRectF(stencil.rect()), mask, source)
        inner.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceIn)
        inner.fillRect(stencil.rect(), QColor(self._tokens.mask))
        inner.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceAtop)
        inner.scale(ratio, ratio)
        hatch(inner, Box(0, 0, target.width(), target.height()), self._tokens.text3)
        inner.end()
        painter.drawPixmap(target, stencil, QRectF(stencil.rect()))


def _aligned(box: Box, ratio: float) -> Box:
    """The box in whole device pixels: half a pixel at its edge could be the one that holds a needle."""
    x, y, side = round(box.x * ratio), round(box.y * ratio), math.floor(box.width * ratio + 1e-6)
    return Box(x / ratio, y / ratio, side / ratio, side / ratio)


def coarser(factor: int, pixels: float) -> int:
    """How many pixels of a picture go into one shown, so that none is smaller than a device pixel.

    Args:
        factor: weights that a pixel of the picture pools along one side.
        pixels: device pixels to one weight.
    """
    return max(1, math.ceil(1 / (factor * pixels) - 1e-6))


def pooled(picture: Picture, step: int, *, mean: bool = False) -> tuple[bytes, int, int]:
    """(codes, height, width) with `step` × `step` cells in one: NaN wins over Inf, that over any value, that over masked.

    Of values the largest stays (of signed ones that farthest from 0), or their mean with `mean`.
    """
    height, width = picture.codes.shape
    if step == 1:
        return picture.codes.data, height, width
    import numpy as np

    ascending = sorted(range(MAX_CODE + 1), key=lambda code: abs(2 * code - MAX_CODE)) if picture.signed else range(MAX_CODE + 1)
    rank = np.asarray([NOT_COMPUTED, MASKED, *ascending, INF, NAN], np.uint8)
    codes = np.frombuffer(picture.codes.data, np.uint8).reshape(height, width)
    if picture.signed or picture.nan_count or picture.inf_count:
        order = np.zeros(256, np.uint8)
        order[rank] = np.arange(len(rank))
        best = rank[_folded(np.maximum, order[codes], step)]
    else:
        # Wraps round, so that all that is no value lies below every value.
        best = _folded(np.maximum, codes - np.uint8(MASKED), step) + np.uint8(MASKED)
    if mean:
        _mean_codes(picture, codes, step, best)
    return best.tobytes(), best.shape[0], best.shape[1]


def _folded(operation: np.ufunc, values: NDArray[Any], step: int) -> NDArray[Any]:
    """Blocks of `step` × `step` in one, the last ones smaller; by strides, thirty times faster than `reduceat`."""
    rows = values[::step].copy()
    for offset in range(1, step):
        part = values[offset::step]
        operation(rows[: len(part)], part, out=rows[: len(part)])
    folded = rows[:, ::step].copy()
    for offset in range(1, step):
        part = rows[:, offset::step]
        operation(folded[:, : part.shape[1]], part, out=folded[:, : part.shape[1]])
    return folded


def _mean_codes(picture: Picture, codes: NDArray[Any], step: int, best: NDArray[Any]) -> None:
    """Replaces the largest values in `best` by the codes of the means of the values, not of their codes."""
    import numpy as np

    low, high = picture.low, picture.high
    share = np.arange(256) / MAX_CODE
    worth = (low * (high / low) ** share if picture.scale == "log" else low + (high - low) * share).astype(np.float32)
    if picture.scale == "log":
        worth[0] = 0.0  # everything at or below the low limit, exact zeros too
    is_value = codes <= MAX_CODE
    worth[MAX_CODE + 1 :] = 0.0
    total = _folded(np.add, worth[codes], step)
    mean = total / np.maximum(_folded(np.add, is_value.astype(np.float32), step), 1)
    if picture.scale == "log":
        place = np.log(np.maximum(mean, low) / low) / math.log(high / low)
    else:
        place = (mean - low) / (high - low)
    better = np.clip(np.rint(place * MAX_CODE), 0, MAX_CODE).astype(np.uint8)
    np.copyto(best, better, where=best <= MAX_CODE)


def _coloured(codes: bytes, height: int, width: int, table: list[int]) -> QImage:
    indexed = QImage(codes, width, height, width, QImage.Format.Format_Indexed8)
    indexed.setColorTable(table)
    return indexed.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied)  # a copy: the bytes may go


def _crop(image: QImage, area: Area, cell: int, view: View, box: Box, scale: float) -> tuple[QRectF, QRectF]:
    """The pixels of the image that the view needs, and where they go; empty when it needs none."""
    left = max(0, (view[2] - area.column0) // cell)
    top = max(0, (view[0] - area.row0) // cell)
    right = min(image.width(), -(-(view[3] - area.column0) // cell))
    bottom = min(image.height(), -(-(view[1] - area.row0) // cell))
    if right <= left or bottom <= top:
        return QRectF(), QRectF()
    x = box.x + (area.column0 + left * cell - view[2]) * scale
    y = box.y + (area.row0 + top * cell - view[0]) * scale
    size = cell * scale
    return QRectF(left, top, right - left, bottom - top), QRectF(x, y, (right - left) * size, (bottom - top) * size)


def hatch(painter: QPainter, box: Box, colour: str) -> None:
    """Diagonal hairlines, fixed to the box."""
    painter.save()
    painter.setClipRect(QRectF(box.x, box.y, box.width, box.height), Qt.ClipOperation.IntersectClip)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
    painter.setPen(QPen(QColor(colour), 0.6))
    offset = -box.height
    while offset < box.width:
        painter.drawLine(QPointF(box.x + offset, box.bottom), QPointF(box.x + offset + box.height, box.y))
        offset += HATCH_PITCH
    painter.restore()


def paint_ground(painter: QPainter, box: Box, tokens: Tokens) -> None:
    """What is not computed yet: the plot's ground with diagonal hairlines."""
    painter.fillRect(QRectF(box.x, box.y, box.width, box.height), QColor(tokens.plot))
    hatch(painter, box, tokens.line)


def paint_rings(painter: QPainter, picture: Picture, view: View, box: Box) -> None:
    """A square ring round each non-finite cell that is known: white, black outside, so that sight of colour is not needed."""
    scale = box.width / (view[1] - view[0])
    painter.save()
    painter.setClipRect(QRectF(box.x, box.y, box.width, box.height))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for row, column in picture.bad_cells:
        x = math.floor(box.x + (column + 0.5 - view[2]) * scale) + 0.5
        y = math.floor(box.y + (row + 0.5 - view[0]) * scale) + 0.5
        for colour, size in ((Qt.GlobalColor.black, RING + 1), (Qt.GlobalColor.white, RING - 1)):
            painter.setPen(QPen(colour, 1))
            painter.drawRect(QRectF(x - size / 2, y - size / 2, size, size))
    painter.restore()

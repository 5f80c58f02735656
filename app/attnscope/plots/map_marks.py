"""What is drawn over a map: grid, chunk borders, crosshair, region labels, chips, the bars of the cut mass, the minimap."""

from __future__ import annotations

import math

from attnscope_engine.protocol import MASKED
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen

from attnscope.looks import Look, Tokens
from attnscope.map_view import View, whole
from attnscope.marks import line_pen
from attnscope.painted_number import number_width, paint_number
from attnscope.plots.map_layout import Box
from attnscope.plots.map_picture import Area, CodeImage
from attnscope.theme import font, icon

GRID_CELL = 16
"""Logical pixels of a cell from which hairlines part the cells."""
CROSS_GAP = 7
"""Pixels left free round the cell on each side of it."""
BOX_CELL = 12
"""Logical pixels of a cell from which the chosen one is outlined and needs no crosshair."""
BORDER_CELL = 4
"""Least logical pixels between two chunk borders; nearer ones would hide what is between them."""
MINIMAP = 120


def cell_rect(box: Box, view: View, row: int, column: int) -> QRectF:
    """Where a cell lies on the screen; it may be outside the box."""
    size = box.width / (view[1] - view[0])
    return QRectF(box.x + (column - view[2]) * size, box.y + (row - view[0]) * size, size, size)


def paint_grid(painter: QPainter, box: Box, view: View, tokens: Tokens) -> None:
    """Hairlines between cells that are wide enough."""
    cells = view[1] - view[0]
    size = box.width / cells
    if size < GRID_CELL:
        return
    colour = QColor(tokens.plot)
    colour.setAlpha(150 if tokens.dark else 56)  # as strong on black cells as dark lines are on bright ones
    painter.setPen(QPen(colour, 0))
    for index in range(1, cells):
        at = index * size
        painter.drawLine(QLineF(box.x + at, box.y, box.x + at, box.bottom))
        painter.drawLine(QLineF(box.x, box.y + at, box.right, box.y + at))


def chunk_borders(low: int, high: int, chunk: int, start: float, size: float) -> list[int]:
    """Pixels of the cuts between two positions; none where they would hide what is between them."""
    if chunk * size < BORDER_CELL:
        return []
    return [round(start + (border - low) * size) for border in range((low // chunk + 1) * chunk, high, chunk)]


def paint_chunk_borders(painter: QPainter, box: Box, view: View, chunk: int, look: Look, tokens: Tokens) -> None:
    """Dashed lines where the sequence is cut, in the variant's colour."""
    size = box.width / (view[1] - view[0])
    pen = line_pen(look, tokens)
    pen.setCosmetic(False)  # as thick at 200 % as at 100 %
    painter.setPen(pen)
    for x in chunk_borders(view[2], view[3], chunk, box.x, size):
        painter.drawLine(QLineF(x, box.y, x, box.bottom))
    for y in chunk_borders(view[0], view[1], chunk, box.y, size):
        painter.drawLine(QLineF(box.x, y, box.right, y))


def paint_crosshair(painter: QPainter, box: Box, view: View, cell: tuple[int, int], tokens: Tokens) -> None:
    """Row and column in accent with a gap round the cell; an outline alone where cells are wide."""
    rect = cell_rect(box, view, *cell)
    painter.save()
    painter.setClipRect(QRectF(box.x - 2, box.y - 2, box.width + 4, box.height + 4))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    if rect.width() >= BOX_CELL:
        painter.setPen(QPen(QColor(tokens.plot), 4))
        painter.drawRect(rect)
        painter.setPen(QPen(QColor(tokens.accent), 2))
        painter.drawRect(rect)
    else:
        painter.setPen(QPen(QColor(tokens.accent), 1))
        centre = rect.center()
        x, y = math.floor(centre.x()) + 0.5, math.floor(centre.y()) + 0.5
        gap = rect.width() / 2 + CROSS_GAP
        painter.drawLine(QLineF(box.x, y, max(box.x, x - gap), y))
        painter.drawLine(QLineF(min(box.right, x + gap), y, box.right, y))
        painter.drawLine(QLineF(x, box.y, x, max(box.y, y - gap)))
        painter.drawLine(QLineF(x, min(box.bottom, y + gap), x, box.bottom))
        box_rect = QRectF(x - 5, y - 5, 10, 10)
        painter.setPen(QPen(QColor(tokens.plot), 3))
        painter.drawRect(box_rect)
        painter.setPen(QPen(QColor(tokens.accent), 1))
        painter.drawRect(box_rect)
    painter.restore()


def paint_column_markers(painter: QPainter, box: Box, x: float, tokens: Tokens) -> None:
    """Small triangles at the top and bottom of a trace where the chosen key is."""
    if not box.x <= x <= box.right:
        return
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(tokens.accent))
    for y, way in ((box.y, 6), (box.bottom, -6)):
        painter.drawPolygon([QPointF(x - 4, y), QPointF(x + 4, y), QPointF(x, y + way)])
    painter.restore()


def paint_masked_label(
    painter: QPainter, image: CodeImage, area: Area, view: View, box: Box, text: str, tokens: Tokens, *, top: bool
) -> None:
    """Names a masked region in its upper right or lower left corner; not where anything but the mask lies under the words."""
    painter.setFont(font("tick"))
    width = QFontMetricsF(font("tick")).horizontalAdvance(text)
    rect = QRectF(box.right - width - 12, box.y + 11, width, 15) if top else QRectF(box.x + 40, box.bottom - 25, width, 15)
    if lies_on_mask(image, area, view, box, rect):
        painter.fillRect(rect.adjusted(-5, 0, 5, 0), QColor(tokens.mask))  # borders and grid stop at the words
        painter.setPen(QColor(tokens.text3))
        painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, text)


def paint_link_label(painter: QPainter, image: CodeImage, area: Area, view: View, box: Box, text: str, tokens: Tokens) -> None:
    """The chosen cell's tokens and weight, in the masked part of the map."""
    names, _, value = text.rpartition(" ")
    metrics = QFontMetricsF(font("label_medium"))
    before = metrics.horizontalAdvance(names + " ")
    width = before + number_width(value, font("label_medium")) + 2
    rect = QRectF(box.right - width - 11, box.y + 31, width, 18)
    if lies_on_mask(image, area, view, box, rect):
        painter.fillRect(rect.adjusted(-4, 1, 4, -1), QColor(tokens.mask))
        painter.setPen(QColor(tokens.accent))
        painter.setFont(font("label_medium"))
        painter.drawText(rect, Qt.AlignmentFlag.AlignVCenter, names)
        paint_number(painter, rect.adjusted(before, 0, 0, 0), value, font("label_medium"))


def lies_on_mask(image: CodeImage, area: Area, view: View, box: Box, rect: QRectF) -> bool:
    """True when every cell under the corners and edges of `rect` is masked, and all of it is inside the box."""
    if rect.left() < box.x or rect.top() < box.y or rect.right() > box.right or rect.bottom() > box.bottom:
        return False
    scale = (view[1] - view[0]) / box.width
    for across in range(9):
        for down in range(3):
            column = int(view[2] + (rect.left() + rect.width() * across / 8 - box.x) * scale)
            row = int(view[0] + (rect.top() + rect.height() * down / 2 - box.y) * scale)
            if image.code(area, row, column) != MASKED:
                return False
    return True


def paint_chip(painter: QPainter, corner: QPointF, text: str, tokens: Tokens, icon_name: str = "") -> QRectF:
    """A small label on the picture; returns where it is."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setFont(font("label"))
    room = 20 if icon_name else 0
    rect = QRectF(corner.x(), corner.y(), QFontMetricsF(font("label")).horizontalAdvance(text) + 16 + room, 22)
    painter.setPen(QPen(QColor(tokens.line), 1))
    painter.setBrush(QColor(tokens.panel))
    painter.drawRoundedRect(rect.adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
    if icon_name:
        icon(icon_name, tokens.text2).paint(painter, int(rect.x()) + 6, int(rect.y()) + 4, 14, 14)
    painter.setPen(QColor(tokens.text1))
    painter.drawText(rect.adjusted(8 + room, 0, -8, 0), Qt.AlignmentFlag.AlignVCenter, text)
    painter.restore()
    return rect


def paint_cut_bars(
    painter: QPainter, gutter: Box, view: View, cut: dict[int, float], chosen: int, look: Look, tokens: Tokens
) -> None:
    """A bar for each row with the share of the full softmax's mass that is cut (0 to 1, by query); the number at `chosen`."""
    size = gutter.height / (view[1] - view[0])
    painter.setFont(font("tick"))
    painter.setPen(QColor(tokens.text2))
    painter.drawText(QRectF(gutter.x, gutter.y - 24, 80, 14), Qt.AlignmentFlag.AlignVCenter, "mass cut")
    bar = min(size * 0.55, 12.0) if size >= 4 else size
    for row in range(view[0], view[1]):
        share = cut.get(row)
        if share is None:
            continue
        y = gutter.y + (row - view[0] + 0.5) * size - bar / 2
        painter.fillRect(QRectF(gutter.x, y, gutter.width, bar), QColor(tokens.hover))
        painter.fillRect(QRectF(gutter.x, y, gutter.width * min(max(share, 0.0), 1.0), bar), QColor(look.colour(tokens)))
    if chosen in cut and view[0] <= chosen < view[1]:
        painter.setFont(font("number"))
        painter.setPen(QColor(tokens.text1))
        middle = gutter.y + (chosen - view[0] + 0.5) * size
        text = f"{cut[chosen]:.3f}"
        painter.drawText(QRectF(gutter.right + 4, middle - 8, 48, 16), Qt.AlignmentFlag.AlignVCenter, text)


def minimap_box(box: Box, view: View, *, causal: bool) -> Box:
    """Where the minimap covers no weight: upper right where that is masked, else lower left."""
    scale = (view[1] - view[0]) / box.width
    least_column = view[2] + (box.width - MINIMAP - 8) * scale
    greatest_row = view[0] + (MINIMAP + 8) * scale
    if causal and least_column > greatest_row:
        return Box(box.right - MINIMAP - 8, box.y + 8, MINIMAP, MINIMAP)
    return Box(box.x + 8, box.bottom - MINIMAP - 8, MINIMAP, MINIMAP)


def paint_minimap(painter: QPainter, place: Box, image: CodeImage, area: Area, view: View, seq_len: int, tokens: Tokens) -> None:
    """All of the map with the view in accent."""
    painter.fillRect(QRectF(place.x, place.y, place.width, place.height), QColor(tokens.plot))
    image.paint(painter, area, whole(seq_len), place)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor(tokens.edge), 1))
    painter.drawRect(QRectF(place.x - 0.5, place.y - 0.5, place.width + 1, place.height + 1))
    scale = place.width / seq_len
    side = max((view[1] - view[0]) * scale, 5.0)
    x = min(place.x + view[2] * scale, place.right - side)
    y = min(place.y + view[0] * scale, place.bottom - side)
    painter.setPen(QPen(QColor(tokens.accent), 1.5))
    painter.drawRect(QRectF(x, y, side, side))


def paint_sentence(painter: QPainter, box: Box, text: str, tokens: Tokens, face: QFont) -> None:
    """Words in the middle of an empty panel."""
    painter.setFont(face)
    painter.setPen(QColor(tokens.text2))
    rect = QRectF(box.x + 24, box.y, box.width - 48, box.height)
    flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
    painter.drawText(rect, flags, text)

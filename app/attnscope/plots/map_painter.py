"""Paints a scene into its places: the pictures and what stands still over them, then what follows the hand."""

from __future__ import annotations

from dataclasses import dataclass

from attnscope_engine import catalogue
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from attnscope.looks import ColourMap, look
from attnscope.map_scene import Panel, Scene, mass_cut
from attnscope.marks import draw_swatch
from attnscope.plots import map_marks as marks
from attnscope.plots.map_axes import AxisText, paint_chosen, paint_key_axis, paint_query_axis
from attnscope.plots.map_drawings import Drawing, Drawings
from attnscope.plots.map_layout import HEADER, Box, Needs, Place
from attnscope.plots.map_picture import coarser, paint_ground, paint_rings
from attnscope.plots.map_trace import paint_trace, paint_trace_axis, reach_of
from attnscope.quantities import count, weight
from attnscope.theme import Theme, font

STALE = 0.4
"""Opacity of a picture of something else than what is wanted now."""
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


@dataclass(frozen=True, slots=True)
class Canvas:
    """What every painting function here needs."""

    scene: Scene
    theme: Theme
    needs: Needs
    colours: ColourMap
    drawings: Drawings
    dimmed: bool
    """Stale pictures have been stale long enough to be said so."""


def paint_panel(painter: QPainter, canvas: Canvas, panel: Panel, place: Place) -> None:
    """All that does not follow the pointer."""
    tokens, view = canvas.theme.tokens, canvas.scene.view
    drawing = None if panel.is_blank else canvas.drawings.of(panel, canvas.colours, tokens)
    _paint_header(painter, canvas, panel, place, drawing)
    _paint_axes(painter, canvas, panel, place)
    if panel.why_no_map:
        _paint_no_map(painter, canvas, panel, place)
    if panel.is_blank:
        return
    if drawing is None or not drawing.covers(view) or not drawing.image.is_whole or (panel.stale and canvas.dimmed):
        paint_ground(painter, place.map, tokens)
    if drawing:
        stale = bool(panel.stale) and canvas.dimmed
        _paint_pictures(painter, canvas, panel, place.map, drawing, stale=stale)
        _paint_over_picture(painter, canvas, panel, place, drawing, stale=stale)
    elif canvas.scene.waiting:
        marks.paint_sentence(painter, place.map, canvas.scene.waiting, tokens, font("label"))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor(tokens.line), 1))
    box = place.map
    painter.drawRect(QRectF(box.x - 0.5, box.y - 0.5, box.width + 1, box.height + 1))
    if drawing and place.first and place.map.y <= HEADER + 1 and not canvas.scene.fitted:
        whole = canvas.drawings.whole(panel, canvas.colours, canvas.theme.tokens)
        if whole and box.width >= 3 * marks.MINIMAP:
            spot = marks.minimap_box(box, view, causal=canvas.scene.causal)
            marks.paint_minimap(painter, spot, whole.image, whole.area, view, canvas.scene.seq_len, tokens)


def _paint_no_map(painter: QPainter, canvas: Canvas, panel: Panel, place: Place) -> None:
    """The reason, in place of map and trace."""
    tokens, box = canvas.theme.tokens, place.map
    bottom = place.trace.bottom if place.trace else box.bottom
    area = Box(box.x, box.y, box.width, bottom - box.y)
    painter.fillRect(QRectF(area.x, area.y, area.width, area.height), QColor(tokens.panel))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor(tokens.line), 1))
    painter.drawRect(QRectF(area.x - 0.5, area.y - 0.5, area.width + 1, area.height + 1))
    marks.paint_sentence(painter, area, panel.why_no_map, tokens, font("body"))


def _no_map_at_all(canvas: Canvas) -> bool:
    """No panel has a map, so there is nothing that an axis could belong to."""
    return all(panel.why_no_map for panel in canvas.scene.panels)


def _paint_axes(painter: QPainter, canvas: Canvas, panel: Panel, place: Place) -> None:
    if canvas.scene.seq_len:
        text = AxisText(canvas.scene.view, canvas.scene.tokens)
        if place.first and not _no_map_at_all(canvas):
            paint_query_axis(painter, canvas.theme, place.map, text, canvas.needs.left)
        if place.last and not panel.is_blank:
            paint_key_axis(painter, canvas.theme, place.trace or place.map, text, canvas.needs.below)


def _paint_pictures(painter: QPainter, canvas: Canvas, panel: Panel, box: Box, drawing: Drawing, *, stale: bool) -> None:
    painter.save()
    painter.setOpacity(STALE if stale else 1.0)
    if not drawing.covers(canvas.scene.view):
        whole = canvas.drawings.whole(panel, canvas.colours, canvas.theme.tokens)
        if whole:
            whole.image.paint(painter, whole.area, canvas.scene.view, box)
    drawing.image.paint(painter, drawing.area, canvas.scene.view, box)
    painter.restore()


def _paint_over_picture(painter: QPainter, canvas: Canvas, panel: Panel, place: Place, drawing: Drawing, *, stale: bool) -> None:
    scene, tokens, box = canvas.scene, canvas.theme.tokens, place.map
    marks.paint_grid(painter, box, scene.view, tokens)
    borders = False
    variant = catalogue.find(panel.variant)
    chunk = variant.block_size(variant.parse(panel.choice.params)) if variant.block_size else 0
    if chunk and not stale and not drawing.job.difference:
        marks.paint_chunk_borders(painter, box, scene.view, chunk, look(panel.variant), tokens)
        borders = bool(marks.chunk_borders(*scene.view[:2], chunk, box.y, box.height / (scene.view[1] - scene.view[0])))
    outside = (
        "" if borders or not variant.outside else f"masked: {variant.outside}"
    )  # where borders are drawn they say it themselves
    for text, top in (("masked: key after query" if scene.causal else "", True), (outside, False)):
        if text and not stale:
            marks.paint_masked_label(painter, drawing.image, drawing.area, scene.view, box, text, tokens, top=top)
    paint_rings(painter, drawing.image.picture, scene.view, box)
    corner = QPointF(box.x + 8, box.y + 8)
    if stale:
        corner.setY(marks.paint_chip(painter, corner, panel.stale, tokens, "clock").bottom() + 4)
    picture = drawing.image.picture
    if picture.nan_count or picture.inf_count:
        marks.paint_chip(painter, corner, f"{count(picture.nan_count)} NaN, {count(picture.inf_count)} Inf", tokens, "warn")


def _paint_header(painter: QPainter, canvas: Canvas, panel: Panel, place: Place, drawing: Drawing | None) -> None:
    tokens, header = canvas.theme.tokens, place.header
    x, top, height = header.x, header.y + 9, 20.0
    if not panel.is_difference:
        draw_swatch(painter, QRectF(x, top + 3, 32, 14), look(panel.variant), tokens)
        x += 44
    title = _difference_title(panel) if panel.is_difference else panel.title
    title_width = QFontMetricsF(font("body_medium")).horizontalAdvance(title)
    painter.setFont(font("body_medium"))
    painter.setPen(QColor(tokens.text1))
    painter.drawText(QRectF(x, top, title_width + 2, height), Qt.AlignmentFlag.AlignVCenter, title)
    x += title_width + 9
    metrics = QFontMetricsF(font("label"))
    room = header.right - x
    note = next((note for note in _notes(canvas, panel, place, drawing) if metrics.horizontalAdvance(note) <= room), "")
    painter.setFont(font("label"))
    if panel.summary and metrics.horizontalAdvance(panel.summary) + metrics.horizontalAdvance(note) + 16 <= room:
        painter.setPen(QColor(tokens.text2))
        painter.drawText(QRectF(x, top, room, height), Qt.AlignmentFlag.AlignVCenter, panel.summary)
    painter.setPen(QColor(tokens.danger if panel.refusal else tokens.text2))
    painter.drawText(QRectF(x, top, room, height), RIGHT, note)


def _difference_title(panel: Panel) -> str:
    return f"A − B, max |Δ| {weight(panel.picture.max_abs)}" if panel.picture else "A − B"


def _notes(canvas: Canvas, panel: Panel, place: Place, drawing: Drawing | None) -> tuple[str, ...]:
    """Right of the header, the longest that fits: which head, what is dropped, how exact the picture is."""
    scene = canvas.scene
    if panel.why_no_map:
        return ("no map", "")
    if panel.refusal:
        return ("refused before launch", "refused") if panel.refusal.reason == "memory" else ("no map", "")
    if drawing is None or panel.stale:
        return ()
    if panel.drop is not None and panel.drop > 0:
        share = f"drops {panel.drop * 100:.0f} % of the mass"
        return (f"{share}, mean over rows", share)
    if scene.head and scene.short:
        return (scene.head,)
    exact = _exactness(canvas, place, drawing)
    return (f"{scene.head} · {exact}", scene.head) if scene.head else (exact,)


def _exactness(canvas: Canvas, place: Place, drawing: Drawing) -> str:
    view, factor = canvas.scene.view, drawing.area.factor
    pixels = place.map.width / (view[1] - view[0]) * canvas.needs.ratio
    if not drawing.covers(view) or (factor > 1 and factor * pixels > 1 + 1e-6):
        return f"coarse · 1 px = {count(factor)} × {count(factor)} weights"
    pooled = factor * coarser(factor, pixels)
    return "exact" if pooled == 1 else f"exact · 1 px = {count(pooled)} × {count(pooled)} weights"


def paint_hand(painter: QPainter, canvas: Canvas, panel: Panel, place: Place, *, traced: Panel | None) -> None:
    """What follows the pointer: axes with the chosen query and key, trace, crosshair, the row's number of cut mass."""
    scene, tokens = canvas.scene, canvas.theme.tokens
    if not scene.seq_len or _no_map_at_all(canvas):
        return
    row, column = scene.cell or (-1, -1)
    text = AxisText(scene.view, scene.tokens, row, column)
    lowest = (place.trace or place.map) if place.last and not panel.is_blank else None
    room = canvas.needs.left if place.first else 0.0, canvas.needs.below
    paint_chosen(painter, canvas.theme, place.map, lowest, text, room)
    if panel.is_blank:
        return
    if place.trace and traced and not traced.is_blank:
        paint_panel_trace(painter, canvas, traced, place.trace, first=place.first)
    if panel.picture is None:
        return
    cut = mass_cut(panel.picture)
    if place.gutter and cut and panel.job:
        by_row = {panel.job.rows[0] + index: share for index, share in enumerate(cut)}
        marks.paint_cut_bars(painter, place.gutter, scene.view, by_row, row, look(panel.variant), tokens)
    if scene.cell:
        marks.paint_crosshair(painter, place.map, scene.view, scene.cell, tokens)
        _paint_link(painter, canvas, panel, place)


def paint_panel_trace(painter: QPainter, canvas: Canvas, panel: Panel, box: Box, *, first: bool) -> None:
    """The trace of one panel's row with its words and the mark of the chosen key."""
    scene, tokens = canvas.scene, canvas.theme.tokens
    if scene.cell is None or panel.is_difference:
        return
    weights = panel.row.weights if panel.row else None
    reach = reach_of(weights) if panel.signed and weights else 0.0
    paint_trace(painter, canvas.theme, box, scene.view, weights, look(panel.variant).colour(tokens), reach)
    if first:
        paint_trace_axis(painter, canvas.theme, box, reach)
    cell = marks.cell_rect(box, scene.view, *scene.cell)
    marks.paint_column_markers(painter, box, cell.center().x(), tokens)
    painter.setFont(font("tick"))
    words = _trace_words(panel, scene, int(box.width))
    if painter.fontMetrics().horizontalAdvance(words) > box.width / 2:
        words = words.partition(", max")[0].removeprefix("trace of ")
    painter.setPen(QColor(tokens.text2))
    painter.drawText(QRectF(box.x, box.y + 5, box.width - 8, 14), RIGHT, words)


def _trace_words(panel: Panel, scene: Scene, pixels: int) -> str:
    assert scene.cell is not None
    row, column = scene.cell
    found = panel.weight(column)
    if found is not None and found != found and column <= row:
        return f"key {count(column)} lies {catalogue.find(panel.variant).outside or 'behind the mask'}"
    keys = -(-(scene.view[3] - scene.view[2]) // max(pixels, 1))
    pooled = f", max of {count(keys)} keys a pixel" if keys > 1 else ""
    reach = f" ±{weight(reach_of(panel.row.weights))}" if panel.signed and panel.row else ""
    return f"trace of query {count(row)}{reach}{pooled}"


def _paint_link(painter: QPainter, canvas: Canvas, panel: Panel, place: Place) -> None:
    scene = canvas.scene
    assert scene.cell is not None
    drawing = canvas.drawings.of(panel, canvas.colours, canvas.theme.tokens)
    found, names = scene.weight(panel, scene.cell[1]), scene.link()
    if drawing is None or found is None or not names:
        return
    sign = "+" if panel.is_difference and found > 0 else ""
    words = (
        f"{names} {sign}{weight(found)}" if found == found else f"{names} {'cut' if scene.cell[1] <= scene.cell[0] else 'masked'}"
    )
    marks.paint_link_label(painter, drawing.image, drawing.area, scene.view, place.map, words, canvas.theme.tokens)

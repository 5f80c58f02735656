"""The panels of the Map page on one painted widget: linked axes, one crosshair, one hand."""

from __future__ import annotations

import math

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QKeyEvent,
    QMouseEvent,
    QNativeGestureEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from attnscope.map_feed import MapFeed
from attnscope.map_scene import Panel, Scene
from attnscope.map_view import View
from attnscope.plots import map_painter
from attnscope.plots.map_drawings import Drawings
from attnscope.plots.map_hand import Hand, Spot, spot_at
from attnscope.plots.map_layout import Needs, Place, lay_out
from attnscope.plots.map_needs import needs_of, outline
from attnscope.plots.map_painter import Canvas
from attnscope.plots.refusal_card import RefusalCard
from attnscope.quantities import weight
from attnscope.store import Store
from attnscope.theme import Theme, font

LATE_MS = 150
"""A picture is dimmed when it has been stale this long: at a slider's tick the next one is there sooner."""
NOTCH = 120
"""What a wheel reports for one click."""
DRAG = 4
"""Pixels after which a press is a drag and not a click."""


class MapCanvas(QWidget):
    """Paints the scene of a feed and turns the hand's moves into changes of the store."""

    action = Signal(str)

    def __init__(self, store: Store, theme: Theme, feed: MapFeed, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store, self._theme, self._feed = store, theme, feed
        self.hand = Hand(store, feed)
        self._drawings = Drawings()
        self._still: QPixmap | None = None
        self._cards: dict[str, RefusalCard] = {}
        self.places: tuple[Place, ...] = ()
        self._needs = Needs(())
        self._press: tuple[QPointF, Spot, View] | None = None
        self._dragged = False
        self._rubber: QRectF | None = None
        self._before_click = (-1, -1)
        self._pointed = 0
        self._dimmed = False
        self._late = QTimer(self, singleShot=True, interval=LATE_MS)
        self._late.timeout.connect(self._dim)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(240, 160)
        self.setAccessibleName("Attention map")
        feed.changed.connect(self._scene_changed)
        theme.changed.connect(self._redress)
        self._settle()

    @property
    def scene(self) -> Scene:
        return self._feed.scene

    # ------------------------------------------------------------ what is shown

    def _scene_changed(self, old: Scene, new: Scene) -> None:
        if [panel.picture for panel in old.panels] != [panel.picture for panel in new.panels] or outline(old) != outline(new):
            self._still = None
            self._settle()
        elif old.panels != new.panels or old.view != new.view:
            self._still = None
        stale = any(panel.stale for panel in new.panels)
        if not stale:
            self._late.stop()
            self._dimmed = False
        elif not self._dimmed and not self._late.isActive():
            self._late.start()
        self._describe()
        self.update()

    def _dim(self) -> None:
        self._dimmed = True
        self._redraw()

    def _redress(self) -> None:
        self._drawings.forget()
        self._redraw()

    def _redraw(self) -> None:
        """Paint again what stands still, too."""
        self._still = None
        self.update()

    def _settle(self) -> None:
        """Places of the panels, and a card in each that is refused."""
        self._needs = needs_of(self.scene, self.height(), self.devicePixelRatioF())
        self.places = lay_out(self.width(), self.height(), self._needs)
        self._drawings.keep(self.scene)
        refused = {panel.variant: (panel, place) for panel, place in self._pairs() if panel.refusal}
        for variant in set(self._cards) - set(refused):
            card = self._cards.pop(variant)
            card.hide()
            card.deleteLater()
        for variant, (panel, place) in refused.items():
            if variant not in self._cards:
                self._cards[variant] = RefusalCard(self._store, self._theme, self)
                self._cards[variant].action.connect(self.action)
            card = self._cards[variant]
            assert panel.refusal is not None
            card.show_refusal(panel.refusal)
            bottom = place.trace.bottom if place.trace else place.map.bottom
            x, y = round(place.map.x) - 1, round(place.map.y) - 1
            card.setGeometry(QRect(x, y, round(place.map.width) + 2, round(bottom) - y + 1))
            card.show()

    def _one_line(self) -> bool:
        return len({place.map.y for place in self.places}) == 1

    def _traced(self, panel: Panel, place: Place) -> Panel | None:
        """Whose row is traced under a place: its own panel's; in two lines only that of the panel under the pointer."""
        if place.trace is None or self._one_line():
            return panel
        pairs = self._pairs()
        pointed, where = pairs[self._pointed if self._pointed < len(pairs) else 0]
        return pointed if where.map.x == place.map.x else None

    def _pairs(self) -> list[tuple[Panel, Place]]:
        return list(zip(self.scene.panels, self.places, strict=False))

    def _canvas(self) -> Canvas:
        return Canvas(
            self.scene, self._theme, self._needs, self._store.state.settings.colours, self._drawings, dimmed=self._dimmed
        )

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self)
        canvas = self._canvas()
        if self._still is None or self._still.devicePixelRatio() != self.devicePixelRatioF():
            self._still = self._paint_still(canvas)
        painter.drawPixmap(0, 0, self._still)
        if not self.scene.message:
            for panel, place in self._pairs():
                map_painter.paint_hand(painter, canvas, panel, place, traced=self._traced(panel, place))
            self._paint_rubber(painter)
        painter.end()

    def _paint_still(self, canvas: Canvas) -> QPixmap:
        ratio = self.devicePixelRatioF()
        pixmap = QPixmap(max(1, math.ceil(self.width() * ratio)), max(1, math.ceil(self.height() * ratio)))
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(QColor(self._theme.tokens.window))
        painter = QPainter(pixmap)
        if self.scene.message:
            painter.setFont(font("title"))
            painter.setPen(QColor(self._theme.tokens.text2))
            rect = QRectF(self.rect()).adjusted(48, 0, -48, -80)
            painter.drawText(rect, int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), self.scene.message.text)
        else:
            for panel, place in self._pairs():
                map_painter.paint_panel(painter, canvas, panel, place)
        painter.end()
        return pixmap

    def _paint_rubber(self, painter: QPainter) -> None:
        if self._rubber is not None:
            painter.setPen(QPen(QColor(self._theme.tokens.accent), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self._rubber)

    def _describe(self) -> None:
        """The same in words, for who does not see the map."""
        scene = self.scene
        if scene.message:
            self.setAccessibleDescription(scene.message.text)
            return
        words = [f"{' and '.join(panel.title for panel in scene.panels)}, {scene.seq_len:,} tokens"]
        if scene.cell:
            words.append(scene.link() or f"query {scene.cell[0]:,}, key {scene.cell[1]:,}")
            for panel in scene.rows:
                found = panel.weight(scene.cell[1])
                if found is not None:
                    words.append(f"{panel.title} {'masked' if found != found else weight(found)}")
        self.setAccessibleDescription(", ".join(words))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._still = None
        self._settle()

    # ------------------------------------------------------------ the hand

    def _place_at(self, point: QPointF) -> tuple[int, Place] | None:
        for index, place in enumerate(self.places):
            if place.map.contains(point.x(), point.y()):
                return index, place
        return None

    def _spot(self, point: QPointF, place: Place) -> Spot:
        return spot_at(place.map, self.scene.view, point.x(), point.y())

    def mousePressEvent(self, event: QMouseEvent) -> None:
        found = self._place_at(event.position())
        if event.button() != Qt.MouseButton.LeftButton or found is None or not self.scene.seq_len:
            event.ignore()
            return
        self._press = (event.position(), self._spot(event.position(), found[1]), self.scene.view)
        self._dragged = False

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._press and event.buttons() & Qt.MouseButton.LeftButton:
            self._drag(event)
            return
        found = self._place_at(event.position())
        if found is None or not self.scene.seq_len:
            self.hand.hover(None)
            return
        if found[0] != self._pointed:
            self._pointed = found[0]
            self.update()
        self.hand.hover(self._spot(event.position(), found[1]).cell)

    def _drag(self, event: QMouseEvent) -> None:
        assert self._press is not None
        start, _, view = self._press
        moved = event.position() - start
        if not self._dragged and moved.manhattanLength() < DRAG:
            return
        self._dragged = True
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier or self._rubber is not None:
            self._rubber = QRectF(start, event.position()).normalized()
            self.update()
        elif self.places:
            scale = (view[1] - view[0]) / self.places[0].map.width
            self.hand.pan(view, round(-moved.y() * scale), round(-moved.x() * scale))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        press, self._press = self._press, None
        rubber, self._rubber = self._rubber, None
        if event.button() != Qt.MouseButton.LeftButton or press is None:
            return
        found = self._place_at(press[0])
        if rubber is not None and found:
            self.hand.frame(press[1], self._spot(event.position(), found[1]))
        elif not self._dragged:
            settings = self._store.state.settings
            self._before_click = (settings.row, settings.column)
            self.hand.click(press[1].cell)
        self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        found = self._place_at(event.position())
        if event.button() == Qt.MouseButton.LeftButton and found and self.scene.seq_len:
            row, column = self._before_click  # its first click has fixed a row that was not meant
            self._store.update(row=row, column=column)
            self.hand.zoom(4.0, self._spot(event.position(), found[1]))

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.hand.hover(None)

    def wheelEvent(self, event: QWheelEvent) -> None:
        found = self._place_at(event.position())
        notches = event.angleDelta().y() / NOTCH
        if found is None or not notches or not self.scene.seq_len:
            event.ignore()
            return
        self.hand.zoom(2.0**notches, self._spot(event.position(), found[1]))
        event.accept()

    def event(self, event: QEvent) -> bool:
        # Esc frees the fixed row before it stops a measurement.
        asked = isinstance(event, QKeyEvent) and event.type() == QEvent.Type.ShortcutOverride and event.key() == Qt.Key.Key_Escape
        if asked and self.hand.has_fixed_row:
            event.accept()
            return True
        if isinstance(event, QNativeGestureEvent) and event.gestureType() == Qt.NativeGestureType.ZoomNativeGesture:
            found = self._place_at(event.position())
            if found and self.scene.seq_len:
                self.hand.zoom(1.0 + event.value(), self._spot(event.position(), found[1]))
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not self.hand.key(event.key(), event.modifiers()):
            super().keyPressEvent(event)

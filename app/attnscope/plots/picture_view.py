"""A graphics view that draws its scene once into a picture and copies from it until the scene changes.

Drawing a dozen dashed antialiased curves takes 10 ms; a slider's tick only moves a line over them.
"""

from __future__ import annotations

import pyqtgraph as pg
from PySide6.QtCore import QRectF
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QWidget


class PictureView(pg.GraphicsView):  # type: ignore[misc]
    """Subclasses say what goes over the picture."""

    def __init__(self, ground: str, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=ground)
        self._picture: QPixmap | None = None
        self.pictures_drawn = 0
        """How often the scene was drawn."""
        self.scene().changed.connect(self._scene_changed)

    def set_ratio(self, ratio: float) -> None:
        """Called before the scene is drawn, with the device pixels a logical one."""

    def draw_over(self, painter: QPainter) -> None:
        """Draw what moves without a change of the scene, in pixels of the widget."""

    def close(self) -> bool:
        """Like any widget's: pyqtgraph's own takes the viewport away, which crashes whoever still listens to it."""
        return QWidget.close(self)

    def _scene_changed(self) -> None:
        self._picture = None
        self.viewport().update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        painter = QPainter(self.viewport())
        if not painter.isActive():  # asked to paint into nothing
            return
        ratio = float(painter.paintEngine().paintDevice().devicePixelRatio())
        picture = self._picture
        if picture is None or picture.devicePixelRatio() != ratio or picture.size() != self.viewport().size() * ratio:
            picture = self._picture = self._drawn(ratio)
        painter.drawPixmap(0, 0, picture)
        self.draw_over(painter)
        painter.end()

    def _drawn(self, ratio: float) -> QPixmap:
        self.pictures_drawn += 1
        self.set_ratio(ratio)
        picture = QPixmap(self.viewport().size() * ratio)
        picture.setDevicePixelRatio(ratio)
        picture.fill(QColor(self.backgroundBrush().color()))
        painter = QPainter(picture)
        painter.setRenderHints(self.renderHints())
        area = self.viewport().rect()
        self.render(painter, QRectF(area), area)
        painter.end()
        return picture

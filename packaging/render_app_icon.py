"""Renders assets/attnscope_assets/icons/attnscope.svg to attnscope-256.png beside it: run after the drawing was changed."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

ICONS = Path(__file__).parents[1] / "assets" / "attnscope_assets" / "icons"


def render(size: int) -> QImage:
    """The icon, `size` pixels square, on a transparent ground."""
    picture = QImage(QSize(size, size), QImage.Format.Format_ARGB32)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    QSvgRenderer(str(ICONS / "attnscope.svg")).render(painter)
    painter.end()
    return picture


if __name__ == "__main__":
    app = QGuiApplication(["render_app_icon", "-platform", "offscreen"])
    if not render(256).save(str(ICONS / "attnscope-256.png")):
        raise SystemExit("attnscope-256.png could not be written")

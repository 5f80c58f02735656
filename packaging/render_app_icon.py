"""Renders the icon's drawing to pictures: attnscope-256.png beside it, the sizes that installers need to
packaging/icons, and Windows' and Apple's files of several.

Run after the drawing was changed. The pictures are kept with the sources, so that no recipe needs Qt.
"""

from __future__ import annotations

from pathlib import Path

import icon_files
import product
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer


def render(size: int) -> QImage:
    """The icon, `size` pixels square, on a transparent ground."""
    picture = QImage(QSize(size, size), QImage.Format.Format_ARGB32)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    QSvgRenderer(str(product.ICON)).render(painter)
    painter.end()
    return picture


def save(size: int, path: Path) -> None:
    """Raises: OSError: it can not be written."""
    if not render(size).save(str(path)):
        raise OSError(f"{path} could not be written")


if __name__ == "__main__":
    app = QGuiApplication(["render_app_icon", "-platform", "offscreen"])
    for side in icon_files.SIZES:
        save(side, icon_files.png(side))
    icon_files.main()

"""A figure on the clipboard, in the forms that other programs take."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import QByteArray, QMimeData
from PySide6.QtGui import QGuiApplication, QImage

from attnscope.figures.job import Copies


def put(data: bytes) -> None:
    """`Copies` as msgpack, in three forms at once: what pastes into a drawing, a chat and a spreadsheet."""
    three = msgspec.msgpack.decode(data, type=Copies)
    mime = QMimeData()
    mime.setData("image/svg+xml", QByteArray(three.svg))
    mime.setImageData(QImage.fromData(QByteArray(three.png)))
    mime.setText(three.table)
    QGuiApplication.clipboard().setMimeData(mime)

"""The row of controls over a page with plots: 38 px, captions, a hairline below."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSizePolicy, QWidget

from attnscope.panels.hairline import hairline
from attnscope.theme import font

HEIGHT = 38


class PageToolbar(QWidget):
    """Widgets are added from the left; after `stretch` from the right. Captions go first when there is no room."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("ground", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAccessibleName(name)
        self.setFixedHeight(HEIGHT)
        self._captions: list[QLabel] = []
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(12, 0, 12, 1)
        self._row.setSpacing(8)
        self._line = hairline(self)

    def add(self, widget: QWidget) -> None:
        self._row.addWidget(widget)

    def caption(self, text: str) -> QLabel:
        """Words before a control."""
        label = QLabel(text, self)
        label.setFont(font("label"))
        label.setProperty("role", "label")
        self._captions.append(label)
        self._row.addWidget(label)
        return label

    def check(self, text: str, tip: str) -> QCheckBox:
        box = QCheckBox(text, self)
        box.setFont(font("label"))
        box.setToolTip(tip)
        box.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._row.addWidget(box)
        return box

    def gap(self) -> None:
        """A hairline between groups."""
        self._row.addSpacing(4)
        self._row.addWidget(hairline(self, width=1, height=18))
        self._row.addSpacing(4)

    def stretch(self) -> None:
        self._row.addStretch(1)

    def minimumSizeHint(self) -> QSize:
        """Narrower than its widgets: what has no room gives way instead of widening the window."""
        return QSize(0, HEIGHT)

    def resizeEvent(self, event: object) -> None:  # noqa: ARG002
        self._line.setGeometry(0, self.height() - 1, self.width(), 1)
        self._make_room()

    def _make_room(self) -> None:
        for caption in self._captions:
            caption.show()
        if self._row.minimumSize().width() > self.width():
            for caption in self._captions:
                caption.hide()

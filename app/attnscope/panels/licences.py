"""Everything that Attnscope is made of, with its licence: a list that a word narrows, and the texts of the chosen line."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QItemSelectionModel, Qt
from PySide6.QtGui import QTextCursor, QTextDocument
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from attnscope.theme import font
from attnscope.third_party import Part

COLUMNS = ("Name", "Version", "Licence")
LIST_HEIGHT, TEXT_HEIGHT = 250, 330


class Licences(QWidget):
    """The list, the texts, and the field that looks through both."""

    def __init__(self, parts: Sequence[Part], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._parts = tuple(parts)
        self._find = QLineEdit()
        self._find.setPlaceholderText("Find in names, licences and texts")
        self._find.setAccessibleName("Find")
        self._find.setClearButtonEnabled(True)
        self._find.setFixedHeight(28)
        self._find.textChanged.connect(self._narrow)
        self._find.returnPressed.connect(self._next)
        self._count = QLabel()
        self._count.setFont(font("label"))
        self._count.setProperty("role", "hint")
        self._table = self._list()
        self._text = QPlainTextEdit()
        self._text.setReadOnly(True)
        self._text.setFont(font("number"))
        self._text.setAccessibleName("Licence texts")
        halves = QSplitter(Qt.Orientation.Vertical)
        halves.addWidget(self._table)
        halves.addWidget(self._text)
        halves.setSizes([LIST_HEIGHT, TEXT_HEIGHT])
        halves.setChildrenCollapsible(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self._find)
        column.addWidget(halves, 1)
        column.addWidget(self._count)
        self._narrow("")

    def _list(self) -> QTableWidget:
        table = QTableWidget(len(self._parts), len(COLUMNS))
        table.setHorizontalHeaderLabels(COLUMNS)
        table.verticalHeader().hide()
        table.setFont(font("label"))
        table.setShowGrid(False)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setTabKeyNavigation(False)
        table.setAccessibleName("What Attnscope is made of")
        header = table.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        header.setFont(font("label"))
        header.setHighlightSections(False)
        for number, part in enumerate(self._parts):
            for place, words in enumerate((part.name, part.version, part.licence)):
                item = QTableWidgetItem(words)
                item.setToolTip(words if place == 2 else "")
                table.setItem(number, place, item)
        table.resizeColumnsToContents()
        table.verticalHeader().setDefaultSectionSize(24)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        table.itemSelectionChanged.connect(self._show)
        return table

    def _narrow(self, words: str) -> None:
        """Only lines that hold the words stay; the first of them is chosen unless the chosen one stays."""
        wanted = words.strip().casefold()
        staying = [number for number, part in enumerate(self._parts) if wanted in haystack(part)]
        for number in range(len(self._parts)):
            self._table.setRowHidden(number, number not in staying)
        self._count.setText(f"{len(staying)} of {len(self._parts)}" if wanted else f"{len(self._parts)} parts")
        if not staying:
            self._table.clearSelection()
            self._text.clear()
        elif self._table.currentRow() not in staying or not self._table.selectedItems():
            flags = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
            self._table.setCurrentCell(staying[0], 0, flags)
        else:
            self._show()

    def _show(self) -> None:
        """The texts of the chosen line, at the first place that holds the words."""
        chosen = self._table.selectedItems()
        if not chosen:
            return
        self._text.setPlainText(self._parts[chosen[0].row()].words)
        self._text.moveCursor(QTextCursor.MoveOperation.Start)
        if self._find.text().strip():
            self._text.find(self._find.text().strip())

    def _next(self) -> None:
        """The next place in the text; after the last the first again."""
        words = self._find.text().strip()
        if words and not self._text.find(words, QTextDocument.FindFlag(0)):
            self._text.moveCursor(QTextCursor.MoveOperation.Start)
            self._text.find(words)


def haystack(part: Part) -> str:
    """All that a search looks through."""
    return "\n".join((part.name, part.version, part.licence, part.words)).casefold()

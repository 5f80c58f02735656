"""Add-ons: what can be added to the program, what is here, and adding and removing it.

Nothing is fetched before a button is pressed.
"""

from __future__ import annotations

from pathlib import Path

from attnscope_engine.addons.__main__ import Said
from attnscope_engine.addons.changing import Progress
from attnscope_engine.addons.lock import megabytes
from attnscope_engine.addons.rows import Row
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from attnscope.addon_process import AddonProcess
from attnscope.addon_words import progress_words, source_words, standing_words
from attnscope.files import data_folder
from attnscope.panels.hairline import hairline
from attnscope.theme import FontRole, font

WIDTH = 620
STEPS = 1000
LOOKING = "Looking at what is here and what the driver can do …"


class AddonsDialog(QDialog):
    """One row an add-on. Does not hold the main window up; closing it stops what is being fetched, which is kept."""

    changed = Signal(str)
    """A sentence: an add-on came or went, and the engine is to start again."""

    def __init__(self, process: AddonProcess, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Add-ons")
        self.setFixedWidth(WIDTH)
        self._process = process
        self._job: tuple[str, str] = ("", "")
        """("add" or "remove", name of the add-on); both empty while nothing is done."""
        self.rows: dict[str, AddonRow] = {}
        self.message = _label(LOOKING, "hint")
        self._list = QVBoxLayout()
        self._list.setSpacing(0)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(12)
        where = data_folder() / "addons"
        column.addWidget(
            _label(f"They are kept in {where}, apart from the program. What is fetched is checked by its SHA-256.", "label")
        )
        column.addLayout(self._list)
        column.addWidget(self.message)
        column.addWidget(buttons)
        process.said.connect(self._said)
        process.start("list")

    # ------------------------------------------------------------ what a person does

    def add(self, name: str) -> None:
        self._begin("add", name)

    def add_from_files(self, name: str) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder with the wheel files")
        if folder:
            self._begin("add", name, "--from", str(Path(folder)))

    def remove(self, name: str) -> None:
        self._begin("remove", name)

    def cancel(self) -> None:
        self._process.cancel()
        self._tell("Stopping …", "hint")

    def _begin(self, *words: str) -> None:
        if self._process.start(*words):
            self._job = (words[0], words[1])
            self._tell("", "hint")
            for name, row in self.rows.items():
                row.set_busy(words[0] if name == words[1] else "", self.rows[words[1]].row.title)
            self._fit()

    def done(self, result: int) -> None:
        """However it is closed."""
        self._process.said.disconnect(self._said)
        self._process.stop()
        super().done(result)

    # ------------------------------------------------------------ what the child says

    def _said(self, said: Said) -> None:
        doing, name = self._job
        if said.progress is not None and name in self.rows:
            self.rows[name].show_progress(said.progress)
        if not said.ended:
            return
        if said.rows:
            self._show(said.rows)
            return
        self._job = ("", "")
        if doing:
            self._settled(doing, name, said)
            self._process.start("list")
        elif said.ended == "failed":
            self._tell(said.text, "danger")
        else:
            self._tell("No add-on exists for this system.", "hint")

    def _settled(self, doing: str, name: str, said: Said) -> None:
        title = self.rows[name].row.title
        if said.ended == "failed":
            self._tell(said.text, "danger")
        elif said.ended == "cancelled":
            self._tell(f"Stopped. What is fetched of {title} is kept.", "hint")
        else:
            text = f"{title} is {'added' if doing == 'add' else 'removed'}; the engine starts again."
            self._tell(text, "hint")
            self.changed.emit(text)

    def _show(self, rows: tuple[Row, ...]) -> None:
        if self.message.text() == LOOKING:
            self._tell("", "hint")
        for row in rows:
            if row.name not in self.rows:
                widget = self.rows[row.name] = AddonRow()
                widget.add.clicked.connect(lambda _=False, name=row.name: self.add(name))
                widget.from_files.clicked.connect(lambda _=False, name=row.name: self.add_from_files(name))
                widget.remove.clicked.connect(lambda _=False, name=row.name: self.remove(name))
                widget.cancel.clicked.connect(self.cancel)
                for part in (hairline(height=1), widget):
                    self._list.addWidget(part)
                    part.show()  # in this frame: a layout shows what is added later only in the next
            self.rows[row.name].show_row(row)
        self._fit()

    def _tell(self, text: str, role: str) -> None:
        self.message.setText(text)
        self.message.setProperty("role", role)
        self.message.style().unpolish(self.message)
        self.message.style().polish(self.message)
        self.message.setVisible(bool(text))
        self.message.setAccessibleName(text)
        self._fit()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._fit()
        QTimer.singleShot(0, self, self._fit)  # once more when every part has its dress

    def _fit(self) -> None:
        """As high as its words need at this width; Qt alone leaves room for narrower ones."""
        layout = self.layout()
        if layout is not None:
            layout.activate()
            wraps = layout.hasHeightForWidth()
            self.setFixedHeight(layout.totalHeightForWidth(WIDTH) if wraps else layout.totalSizeHint().height())


class AddonRow(QWidget):
    """Title, what it brings, how it stands with it; buttons at the right."""

    def __init__(self) -> None:
        super().__init__()
        self.row: Row
        self.title = _label("", "", "body_medium")
        self.brings = _label("", "label")
        self.state = _label("", "hint")
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setTextVisible(False)
        self.bar.hide()
        self.add, self.from_files, self.remove, self.cancel = (
            _button(words) for words in ("Add", "From files…", "Remove", "Cancel")
        )
        words = QVBoxLayout()
        words.setSpacing(3)
        for widget in (self.title, self.brings, self.state, self.bar):
            words.addWidget(widget)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        for button in (self.from_files, self.add, self.remove, self.cancel):
            buttons.addWidget(button)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 10, 0, 10)
        line.setSpacing(16)
        line.addLayout(words, 1)
        line.addLayout(buttons)
        line.setAlignment(buttons, Qt.AlignmentFlag.AlignTop)

    def show_row(self, row: Row) -> None:
        """As it is at rest."""
        self.row = row
        self.title.setText(row.title)
        self.brings.setText(row.brings)
        state = standing_words(row)
        if row.standing == "absent" and row.fetchable:
            state = f"{state} · {source_words(row)}"
        self.state.setText(state[:1].upper() + state[1:])
        self.bar.hide()
        can_come = row.standing in ("absent", "stale")
        self._offer(
            add=can_come and row.fetchable, from_files=can_come, remove=row.standing in ("installed", "stale"), cancel=False
        )
        self.add.setText("Go on" if row.parts_bytes and row.standing == "absent" else "Add")
        self.add.setProperty("kind", "accent" if row.fits else "")
        for button in (self.add, self.from_files, self.remove):
            button.setEnabled(True)
            button.setToolTip("")
            button.setAccessibleName(f"{button.text().rstrip('…')}: {row.title}")
        self.from_files.setToolTip(f"Take its files from a folder; `attnscope addon files {row.name}` says where they come from")
        self.add.setToolTip(f"Fetch {source_words(row)}")
        self.remove.setToolTip(f"Delete it from the disk: {megabytes(row.disk_bytes)} become free")
        self.cancel.setAccessibleName(f"Cancel: {row.title}")
        self.add.style().unpolish(self.add)
        self.add.style().polish(self.add)

    def set_busy(self, doing: str, title: str) -> None:
        """While one add-on is changed (`doing` here, "" for another one), nothing else can be."""
        if doing:
            self.state.setText("Removing …" if doing == "remove" else "Beginning …")
            self.bar.setValue(0)
            self.bar.setVisible(doing == "add")
            self._offer(add=False, from_files=False, remove=False, cancel=doing == "add")
            return
        for button in (self.add, self.from_files, self.remove):
            button.setEnabled(False)
            button.setToolTip(f"Off while {title} is being changed.")

    def show_progress(self, progress: Progress) -> None:
        words = progress_words(progress)
        self.state.setText(words[:1].upper() + words[1:])
        self.bar.setValue(round(STEPS * progress.done / progress.total) if progress.total else STEPS)
        self.bar.setAccessibleName(words)

    def _offer(self, *, add: bool, from_files: bool, remove: bool, cancel: bool) -> None:
        self.add.setVisible(add)
        self.from_files.setVisible(from_files)
        self.remove.setVisible(remove)
        self.cancel.setVisible(cancel)


def _label(text: str, role: str, face: FontRole = "label") -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setText(text)
    label.setWordWrap(True)
    label.setFont(font(face))
    label.setProperty("role", role)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    return label


def _button(words: str) -> QPushButton:
    button = QPushButton(words)
    button.setFont(font("label"))
    button.setAutoDefault(False)
    button.hide()
    return button

"""Opening and saving: sessions, texts, files of q and k; every failure is one strip, and leaves everything as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attnscope_engine.protocol import FileSource, TextSource

from attnscope.build_facts import build_facts
from attnscope.files import read_limited
from attnscope.session import SUFFIX, Session, SessionError, load_session, save_session
from attnscope.state import Notice, Settings, measurement_key
from attnscope.store import Store

TEXT_SUFFIXES = {".txt", ".md"}
ARRAY_SUFFIXES = {".npz", ".safetensors"}
MAX_TEXT_BYTES = 8_000_000
OPEN_FILTER = ";;".join(
    (
        "All that opens (*.attnscope *.txt *.md *.npz *.safetensors)",
        "Sessions (*.attnscope)",
        "Texts (*.txt *.md)",
        "Q K (*.npz *.safetensors)",
    )
)


class Documents:
    """Files in and out of the store."""

    def __init__(self, store: Store, opened: Callable[[str], None]) -> None:
        """`opened` is told the path of each session that was opened or saved."""
        self._store = store
        self._opened = opened

    def open(self, path: Path) -> bool:
        """A session, a text, or q and k, by the name's ending; says in a strip why not."""
        suffix = path.suffix.lower()
        try:
            if suffix in TEXT_SUFFIXES:
                self._open_text(path)
            elif suffix in ARRAY_SUFFIXES:
                self._store.update(source=FileSource(str(path)), layer=-1, head=-1, row=-1, column=-1, view=None, page="map")
            else:
                self._open_session(path)
        except (SessionError, ValueError) as error:
            self.tell("danger", str(error))
            return False
        except OSError as error:
            self.tell("danger", f"{path.name} could not be read: {(error.strerror or str(error)).lower()}.")
            return False
        return True

    def _open_text(self, path: Path) -> None:
        data = read_limited(path, MAX_TEXT_BYTES)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path.name} is not UTF-8 text (byte {error.start:,}).") from error
        if not text.strip():
            raise ValueError(f"{path.name} is empty: there is no text to show.")
        self._store.update(source=TextSource(text), layer=-1, head=-1, row=-1, column=-1, view=None, page="map")

    def _open_session(self, path: Path) -> None:
        session = load_session(path)
        self._store.replace_settings(session.settings)
        self._take_measurements(session)
        self._store.update_live(session_path=str(path), saved=self._store.state.settings)
        if session.asks_for:
            words = f"{path.name} shows q and k of {session.asks_for}. That file has not been read."
            self.tell("info", words, (("Read it", f"read_file:{session.asks_for}"),))
        self._opened(str(path))

    def _take_measurements(self, session: Session) -> None:
        """Points of this session's own device are added; what was measured here since is newer and stays."""
        live = self._store.state.live
        known = dict(live.measurements)
        for measured in session.measurements:
            if live.device is not None and measured.device == live.device.key:
                known.setdefault(measurement_key(measured.device, measured.workload, measured.choice), measured)
        self._store.update_live(measurements=known)

    def save(self, path: Path) -> bool:
        """The present settings and what was measured for them."""
        path = path if path.suffix else path.with_suffix(SUFFIX)
        state = self._store.state
        try:
            save_session(path, state.settings, state.live.measurements.values(), build_facts().program())
        except SessionError as error:
            self.tell("danger", str(error), (("Save elsewhere", "save_session_as"),))
            return False
        self._store.update_live(session_path=str(path), saved=state.settings, status=f"Saved {path.name}")
        self._opened(str(path))
        return True

    def new(self) -> None:
        """The sample sentence and the default workload; one undo step."""
        self._store.replace_settings(Settings())
        self._store.update_live(session_path="", saved=None)

    def tell(self, level: str, text: str, actions: tuple[tuple[str, str], ...] = ()) -> None:
        """A strip above the page."""
        notice = Notice(level, text, actions, key="document")  # type: ignore[arg-type]
        others = tuple(old for old in self._store.state.live.notices if old.key != notice.key)
        self._store.update_live(notices=(*others, notice))

"""Every measurement ever taken here, in one SQLite file: written before it is drawn, never lost, never doubled.

A row is one measured point with its full provenance as JSON. Its identity is the hash of its content, so that a result
written twice (a replay after a crash, two windows) is one row. When the file can not be used the rest of the session works
in memory, and `problem` says so in a sentence; rows that could not be written are tried again with each later one.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from attnscope_engine.protocol import Ceilings, Measured

from attnscope.files import move_aside
from attnscope.state import measurement_key

SCHEMA = 1
BUSY_MS = 200
"""How long a write waits for another window's, since the person waits with it."""

_CREATE = """
CREATE TABLE IF NOT EXISTS measured (
    id TEXT PRIMARY KEY, device TEXT NOT NULL, taken_at REAL NOT NULL, point TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS measured_by_device ON measured (device, taken_at);
CREATE TABLE IF NOT EXISTS ceilings (device TEXT PRIMARY KEY, taken_at REAL NOT NULL, point TEXT NOT NULL) WITHOUT ROWID;
"""

_IN_MEMORY = "Measurements are kept in memory while this window is open."

_encoder = msgspec.json.Encoder(order="sorted")
_points = msgspec.json.Decoder(Measured)
_ceilings = msgspec.json.Decoder(Ceilings)

Row = tuple[str, tuple[object, ...]]
"""An SQL statement with its values."""


class Results:
    """The measurements of this computer. Belongs to one thread."""

    def __init__(self, path: Path | None) -> None:
        """Open or make the file; None keeps everything in memory. Never raises: see `problem`."""
        self.path = path
        self.problem = ""
        """Why the file is not in use, or what is wrong with it; a sentence, empty when all is well."""
        self._memory = _connect(":memory:")
        self._file: sqlite3.Connection | None = None
        self._unwritten: list[Row] = []
        if path is not None:
            self._open(path)

    def add(self, measured: Measured) -> None:
        """Keep a measured point; a point that is there already stays one."""
        point = _encoder.encode(measured)
        row = (hashlib.sha256(point).hexdigest(), measured.device, measured.taken_at, point.decode())
        self._write(("INSERT OR IGNORE INTO measured VALUES (?, ?, ?, ?)", row))

    def add_ceilings(self, ceilings: Ceilings) -> None:
        """Keep what a device was measured to reach, in place of what was known of it."""
        row = (ceilings.device, ceilings.taken_at, _encoder.encode(ceilings).decode())
        self._write(("INSERT OR REPLACE INTO ceilings VALUES (?, ?, ?)", row))

    def load(self, device: str) -> dict[str, Measured]:
        """The newest measurement of each key of one device."""
        found: dict[str, Measured] = {}
        for text in self._read("SELECT point FROM measured WHERE device = ? ORDER BY taken_at, id", device):
            with contextlib.suppress(msgspec.MsgspecError):  # a row of a release that knew other fields
                measured = _points.decode(text)
                found[measurement_key(device, measured.workload, measured.choice)] = measured
        return found

    def all_points(self) -> list[Measured]:
        """Everything ever measured, on any device, oldest first."""
        points: list[Measured] = []
        for text in self._read("SELECT point FROM measured ORDER BY taken_at, id"):
            with contextlib.suppress(msgspec.MsgspecError):
                points.append(_points.decode(text))
        return points

    def ceilings(self, device: str) -> Ceilings | None:
        """What the device was last measured to reach."""
        for text in self._read("SELECT point FROM ceilings WHERE device = ?", device):
            with contextlib.suppress(msgspec.MsgspecError):
                return _ceilings.decode(text)
        return None

    def close(self) -> None:
        """Try once more to write what could not be written, and let go of the file."""
        self.flush()
        for connection in (self._file, self._memory):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------ the file

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open_checked(path)
        except _NewerSchemaError as newer:
            self.problem = f"{path.name} was written by a newer release ({newer}). {_IN_MEMORY}"
        except sqlite3.OperationalError as error:
            self.problem = f"{path.name} can not be written ({error}). {_IN_MEMORY}"
            self._load_only(path)
        except sqlite3.DatabaseError:
            self._replace_damaged(path)
        except OSError as error:
            self.problem = f"{path.name} can not be written ({error.strerror}). {_IN_MEMORY}"
            self._load_only(path)

    def _load_only(self, path: Path) -> None:
        """Take over what a file holds that can be read and not written."""
        name = f"{path.resolve().as_uri()}?immutable=1"
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(name, uri=True)) as file:
            for table, marks in (("measured", "?, ?, ?, ?"), ("ceilings", "?, ?, ?")):
                rows = file.execute(f"SELECT * FROM {table}").fetchall()
                with self._memory:
                    self._memory.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)

    def _replace_damaged(self, path: Path) -> None:
        try:
            aside = move_aside(path)
            for suffix in ("-wal", "-shm"):  # belong to the damaged file: beside a new one they would damage that too
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
            self._file = _open_checked(path)
            self.problem = f"{path.name} was damaged. It is kept as {aside.name}, and a new one was begun."
        except (OSError, sqlite3.Error, _NewerSchemaError) as error:
            self.problem = f"{path.name} is damaged and can not be replaced ({error}). {_IN_MEMORY}"

    def _write(self, row: Row) -> None:
        with self._memory:
            self._memory.execute(*row)
        if self._file is not None:
            self._unwritten.append(row)
            self.flush()

    def flush(self) -> None:
        """Write all that waits, in one transaction; what fails goes on waiting."""
        if self._file is None or self.path is None or not self._unwritten:
            return
        try:
            with self._file:
                for row in self._unwritten:
                    self._file.execute(*row)
        except sqlite3.Error as error:
            self.problem = f"{self.path.name} could not be written ({error}). {_IN_MEMORY} The next one tries again."
        else:
            self._unwritten.clear()
            self.problem = ""

    def _read(self, statement: str, *values: object) -> list[str]:
        """From the file, and from memory what the file lacks, in this order."""
        texts: list[str] = []
        if self._file is not None:
            try:
                texts = [text for (text,) in self._file.execute(statement, values)]
            except sqlite3.Error as error:
                self.problem = f"{self.path.name if self.path else 'The file'} can not be read ({error})."
        known = set(texts)
        return texts + [text for (text,) in self._memory.execute(statement, values) if text not in known]


class _NewerSchemaError(Exception):
    """The file's schema is of a newer release."""


def _connect(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=BUSY_MS / 1000)
    connection.executescript(_CREATE)
    return connection


def _open_checked(path: Path) -> sqlite3.Connection:
    """Raises: sqlite3.Error, _NewerSchemaError."""
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise _NewerSchemaError(f"version {version}, this release knows {SCHEMA}")
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_CREATE)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection

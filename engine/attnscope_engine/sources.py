"""Opens what a map is drawn from, and keeps what was costly to open: readings of texts, and the last file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from attnscope_engine.input_files import read_arrays
from attnscope_engine.inputs import Floats, synthetic_head
from attnscope_engine.model.gguf import GgufError
from attnscope_engine.model.location import ModelMissing, require_model
from attnscope_engine.model.reading import Reader, Reading, TooLong
from attnscope_engine.model.tokenizer import TextError
from attnscope_engine.protocol import FileSource, Source, SyntheticSource, TextRead, TextSource, Workload
from attnscope_engine.refusals import invalid, too_long, unsupported
from attnscope_engine.variant import Tick

KEPT_READINGS = 4
KEPT_READING_BYTES = 1 << 30
"""Readings are kept while all of them together hold no more than this; the newest always is."""


class Heads(Protocol):
    """The q and k of every head of one source."""

    @property
    def key(self) -> str:
        """Two sources with the same key hold the same numbers."""
        ...

    @property
    def layers(self) -> int: ...

    @property
    def num_heads(self) -> int: ...

    @property
    def num_kv_heads(self) -> int: ...

    @property
    def seq_len(self) -> int: ...

    @property
    def head_dim(self) -> int: ...

    def head(self, layer: int, head: int) -> tuple[Floats, Floats]:
        """The q and k `(N, D)` of one query head."""
        ...


@dataclass(frozen=True, slots=True)
class SyntheticHeads:
    """Made when they are asked for, so a million tokens of 30 layers cost nothing until then."""

    source: SyntheticSource
    workload: Workload

    @property
    def key(self) -> str:
        w = self.workload
        return f"{self.source.kind} {self.source.seed} {w.seq_len} {w.num_heads} {w.num_kv_heads} {w.head_dim}"

    @property
    def layers(self) -> int:
        return self.workload.layers

    @property
    def num_heads(self) -> int:
        return self.workload.num_heads

    @property
    def num_kv_heads(self) -> int:
        return self.workload.num_kv_heads

    @property
    def seq_len(self) -> int:
        return self.workload.seq_len

    @property
    def head_dim(self) -> int:
        return self.workload.head_dim

    def head(self, layer: int, head: int) -> tuple[Floats, Floats]:
        return synthetic_head(self.source, self.workload, layer, head)


@dataclass(frozen=True, slots=True)
class ArrayHeads:
    """Per layer q `(H, N, D)` and k `(G, N, D)`, read from a file or made by the model from a text."""

    key: str
    q: Sequence[Floats] = field(repr=False)
    k: Sequence[Floats] = field(repr=False)

    @property
    def layers(self) -> int:
        return len(self.q)

    @property
    def num_heads(self) -> int:
        return int(self.q[0].shape[0])

    @property
    def num_kv_heads(self) -> int:
        return int(self.k[0].shape[0])

    @property
    def seq_len(self) -> int:
        return int(self.q[0].shape[1])

    @property
    def head_dim(self) -> int:
        return int(self.q[0].shape[2])

    def head(self, layer: int, head: int) -> tuple[Floats, Floats]:
        group = self.num_heads // self.num_kv_heads
        return self.q[layer][head], self.k[layer][head // group]


class Sources:
    """One an engine."""

    def __init__(self, model: Path | None = None) -> None:
        self._model = model
        self._reader: Reader | None = None
        self._readings: dict[TextSource, Reading] = {}
        self._file: tuple[tuple[str, int, int], ArrayHeads] | None = None
        self.reading: TextSource | None = None
        """The text that the model is reading right now."""

    def open(self, source: Source, workload: Workload, tick: Tick) -> Heads:
        """Open a source: q and k of its heads. `workload` gives the shape of synthetic ones.

        Raises:
            JobRefused: the text is too long, the file is not usable, the model is missing.
            Interrupted: from `tick`.
        """
        match source:
            case SyntheticSource():
                return SyntheticHeads(source, workload)
            case FileSource(path=path):
                return self._open_file(Path(path))
            case TextSource():
                reading = self._read(source, tick)
                return ArrayHeads(f"text {source.keep} {source.text}", reading.q, reading.k)

    def read_text(self, source: TextSource, tick: Tick) -> TextRead:
        """Tokens, and what each head does. Raises: as `open`."""
        return self._read(source, tick).text_read()

    def _read(self, source: TextSource, tick: Tick) -> Reading:
        kept = self._readings.pop(source, None)
        if kept is None:
            self.reading = source
            try:
                kept = self._opened_reader().read(source, tick)
            except TooLong as error:
                raise too_long(str(error), error.tokens, error.context) from error
            except TextError as error:
                raise invalid(str(error)) from error
            except (ModelMissing, GgufError) as error:
                raise unsupported(str(error)) from error
            finally:
                self.reading = None
        self._readings[source] = kept
        while len(self._readings) > 1 and (len(self._readings) > KEPT_READINGS or self._held() > KEPT_READING_BYTES):
            del self._readings[next(iter(self._readings))]
        return kept

    def _held(self) -> int:
        return sum(reading.shape.held_bytes(len(reading.ids)) for reading in self._readings.values())

    def _opened_reader(self) -> Reader:
        if self._reader is None:
            path = self._model if self._model is not None else require_model()
            self._reader = Reader(path)
        return self._reader

    def _open_file(self, path: Path) -> ArrayHeads:
        """The file as it is now: one that was saved again is read again. The batch axis is walked as layers."""
        try:
            stat = path.stat()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise invalid(f"{path.name} can not be read: {reason}.") from error
        identity = (str(path), stat.st_mtime_ns, stat.st_size)
        if self._file is None or self._file[0] != identity:
            self._file = None
            arrays = read_arrays(path, psutil.virtual_memory().available // 2)
            self._file = (identity, ArrayHeads(f"file {identity}", list(arrays.q), list(arrays.k)))
        return self._file[1]

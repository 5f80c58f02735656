"""Reads a GGUF file: typed facts, and tensors dequantised to float32 when they are asked for.

Nothing in the file is believed before it is checked against the file's own length: a truncated or hostile file is refused
with a sentence, in time and memory bounded by `MAX_HEADER_BYTES` and `MAX_STRINGS`, never by a count that the file claims.
Source: the GGUF specification, versions 2 and 3, and the block layouts of ggml's Q4_1 and Q8_0.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_STRINGS = 1_000_000
"""Strings in a header. The vocabulary and merges of a model with 256k tokens are about 750,000."""
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 4

_STRING, _ARRAY = 8, 9
_SCALARS: dict[int, np.dtype[Any]] = {
    code: np.dtype(name)
    for code, name in enumerate(["<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?", "", "", "<u8", "<i8", "<f8"])
    if name
}

_Kind = TypeVar("_Kind")
Value = str | int | float | bool | list[str] | NDArray[Any]


class GgufError(Exception):
    """The file is not a GGUF file that can be used here. Its text is a sentence for the person who chose the file."""


@dataclass(frozen=True, slots=True)
class Storage:
    """How the items of a tensor lie in the file: blocks of `items` items, each block one `block` record."""

    name: str
    items: int
    block: np.dtype[Any]


STORAGES = {
    0: Storage("F32", 1, np.dtype("<f4")),
    1: Storage("F16", 1, np.dtype("<f2")),
    3: Storage("Q4_1", 32, np.dtype([("step", "<f2"), ("low", "<f2"), ("codes", "u1", (16,))])),
    8: Storage("Q8_0", 32, np.dtype([("step", "<f2"), ("codes", "i1", (32,))])),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies. `shape` is in C order: the last dimension is contiguous."""

    name: str
    shape: tuple[int, ...]
    storage: Storage
    start: int
    """Byte of the file."""

    @property
    def blocks(self) -> int:
        """Blocks in the file."""
        return math.prod(self.shape) // self.storage.items


class Gguf:
    """An open GGUF file, memory-mapped: opening reads the header only.

    Raises:
        GgufError: no such file, not GGUF, truncated, or its header contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file can not be mapped
            raise GgufError(f"{path.name} can not be read: {getattr(error, 'strerror', None) or 'it is empty'}.") from error
        header = _Header(self._bytes, path.name)
        self.facts: Mapping[str, Value] = header.facts
        self.tensors: Mapping[str, TensorInfo] = header.tensors

    def text(self, key: str) -> str:
        """Raises: GgufError."""
        return self._fact(key, str, "a text")

    def integer(self, key: str) -> int:
        """Raises: GgufError."""
        return self._fact(key, int, "a whole number")

    def number(self, key: str) -> float:
        """Raises: GgufError."""
        return self._fact(key, float, "a number")

    def strings(self, key: str) -> list[str]:
        """Raises: GgufError."""
        return self._fact(key, list, "a list of texts")

    def integers(self, key: str) -> NDArray[Any]:
        """Raises: GgufError."""
        values: NDArray[Any] = self._fact(key, np.ndarray, "a list of numbers")
        if values.dtype.kind not in "iu":
            raise GgufError(f"{self.name}: {key} should be a list of whole numbers.")
        return values

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The whole tensor as a fresh float32 array of its shape.

        Raises:
            GgufError: the file has no such tensor.
        """
        info = self._info(name)
        return _dequantise(self._blocks(info), info.storage).reshape(info.shape)

    def rows(self, name: str, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Some rows of a matrix `(rows, columns)`, without dequantising the others. Raises: GgufError."""
        info = self._info(name)
        rows, columns = info.shape
        blocks = self._blocks(info).reshape(rows, columns // info.storage.items)
        return _dequantise(blocks[indices].reshape(-1), info.storage).reshape(len(indices), columns)

    def _fact(self, key: str, kind: type[_Kind], words: str) -> _Kind:
        if key not in self.facts:
            raise GgufError(f"{self.name} does not say its {key}.")
        value = self.facts[key]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise GgufError(f"{self.name}: {key} should be {words}.")
        return value

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise GgufError(f"{self.name} has no tensor {name}.")
        return self.tensors[name]

    def _blocks(self, info: TensorInfo) -> NDArray[Any]:
        return np.frombuffer(self._bytes, info.storage.block, info.blocks, info.start)


class _Header:
    """Walks the header once, front to back."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self._data = data
        self._name = name
        self._at = 0
        self._strings = 0
        tensor_count, fact_count = self._read_front()
        self.facts: dict[str, Value] = {}
        for _ in range(fact_count):
            key = self._string()
            self.facts[self._new(key, self.facts)] = self._value()
        described = dict(self._tensor() for _ in range(tensor_count))
        if len(described) != tensor_count:
            raise self._fault("two tensors have the same name")
        self.tensors = self._placed(described)

    def _fault(self, what: str) -> GgufError:
        return GgufError(f"{self._name} is not a usable GGUF file: {what}.")

    def _new(self, key: str, known: Mapping[str, object]) -> str:
        if key in known:
            raise self._fault(f"{_shown(key)} appears twice")
        return key

    def _read_front(self) -> tuple[int, int]:
        if self._data[:4] != b"GGUF":
            raise self._fault(f"it begins with {self._data[:4]!r}, not with GGUF")
        self._at = 4
        version = self._integer("<I")
        if version not in (2, 3):
            raise self._fault(f"it has version {version}; versions 2 and 3 are read")
        tensor_count, fact_count = self._integer("<Q"), self._integer("<Q")
        # A fact takes at least 13 bytes, a tensor 24: a lying count is seen before anything is made of it.
        if tensor_count > MAX_TENSORS or tensor_count * 24 + fact_count * 13 > len(self._data):
            raise self._fault(f"it claims {tensor_count:,} tensors and {fact_count:,} facts in {len(self._data):,} bytes")
        return tensor_count, fact_count

    def _take(self, size: int) -> int:
        """Start of the next `size` bytes, which are then behind."""
        start, end = self._at, self._at + size
        if end > len(self._data):
            raise self._fault(f"it ends at byte {len(self._data):,} where {size:,} bytes from byte {start:,} are needed")
        if end > MAX_HEADER_BYTES:
            raise self._fault(f"its header is longer than {MAX_HEADER_BYTES // 1024**2} MiB")
        self._at = end
        return start

    def _integer(self, form: str) -> int:
        return int(struct.unpack_from(form, self._data, self._take(struct.calcsize(form)))[0])

    def _string(self) -> str:
        self._strings += 1
        if self._strings > MAX_STRINGS:
            raise self._fault(f"its header holds more than {MAX_STRINGS:,} texts")
        length = self._integer("<Q")
        start = self._take(length)
        try:
            return self._data[start : start + length].decode()
        except UnicodeDecodeError as error:
            raise self._fault(f"the text at byte {start:,} is not UTF-8") from error

    def _value(self) -> Value:
        kind = self._integer("<I")
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        value: int | float | bool = self._scalars(kind, 1)[0].item()
        return value

    def _array(self) -> list[str] | NDArray[Any]:
        kind, count = self._integer("<I"), self._integer("<Q")
        if kind != _STRING:
            return self._scalars(kind, count)
        if count * 8 > len(self._data) - self._at:
            raise self._fault(f"a list at byte {self._at:,} claims {count:,} texts")
        return [self._string() for _ in range(count)]

    def _scalars(self, kind: int, count: int) -> NDArray[Any]:
        if kind not in _SCALARS:
            raise self._fault(f"value type {kind} at byte {self._at:,} is not one that is read here")
        dtype = _SCALARS[kind]
        return np.frombuffer(self._data, dtype, count, self._take(count * dtype.itemsize)).copy()

    def _tensor(self) -> tuple[str, tuple[tuple[int, ...], int, int]]:
        name, dimensions = self._string(), self._integer("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self._fault(f"tensor {_shown(name)} has {dimensions} dimensions; 1 to {MAX_DIMENSIONS} are read")
        shape = tuple(self._integer("<Q") for _ in range(dimensions))[::-1]
        return name, (shape, self._integer("<I"), self._integer("<Q"))

    def _placed(self, described: Mapping[str, tuple[tuple[int, ...], int, int]]) -> dict[str, TensorInfo]:
        alignment = self.facts.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 65536 or alignment % 8:
            raise self._fault(f"its alignment is {alignment!r}")
        base = -(-self._at // alignment) * alignment
        tensors = {}
        for name, (shape, kind, offset) in described.items():
            tensors[name] = self._one_placed(name, shape, kind, base + offset, alignment)
        return tensors

    def _one_placed(self, name: str, shape: tuple[int, ...], kind: int, start: int, alignment: int) -> TensorInfo:
        if kind not in STORAGES:
            known = ", ".join(storage.name for storage in STORAGES.values())
            raise self._fault(f"tensor {_shown(name)} is stored as type {kind}; {known} are read")
        info = TensorInfo(name, shape, STORAGES[kind], start)
        if 0 in shape or shape[-1] % info.storage.items:
            raise self._fault(f"tensor {_shown(name)} of shape {shape} does not divide into {info.storage.name} blocks")
        if start % alignment:
            raise self._fault(f"tensor {_shown(name)} is not aligned to {alignment} bytes")
        end = start + info.blocks * info.storage.block.itemsize
        if end > len(self._data):
            raise self._fault(f"it ends at byte {len(self._data):,}, its tensor {_shown(name)} at byte {end:,}")
        return info


def _shown(name: str) -> str:
    """A name from the file as a sentence may carry it: one line, not too long."""
    return repr(name if len(name) <= 60 else name[:57] + "…")


def _dequantise(blocks: NDArray[Any], storage: Storage) -> NDArray[np.float32]:
    """`(blocks,)` records → `(items,)` float32."""
    if storage.items == 1:
        return blocks.astype(np.float32)
    codes = blocks["codes"]
    values = np.empty((len(blocks), storage.items), np.float32)
    if storage.name == "Q4_1":  # the low halves of the 16 bytes are items 0 … 15, the high halves 16 … 31
        values[:, :16] = codes & 15
        values[:, 16:] = codes >> 4
        values *= blocks["step"].astype(np.float32)[:, None]
        values += blocks["low"].astype(np.float32)[:, None]
    else:
        np.multiply(codes, blocks["step"].astype(np.float32)[:, None], out=values)
    return values.reshape(-1)

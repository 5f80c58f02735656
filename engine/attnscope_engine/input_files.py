"""q and k from the user's own `.npz` or `.safetensors` file. Nothing of a file is believed before it is checked.

Sizes are judged from headers, so a file that would unpack to more than `MAX_ARRAY_BYTES` is refused before it is read.
No pickle, no memory map (a file cut short under a map ends the process), no library that parses headers without a limit.
"""

from __future__ import annotations

import math
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from attnscope_engine.refusals import JobRefused, invalid

Floats = NDArray[np.float32]
Shape = tuple[int, ...]

MAX_ARRAY_BYTES = 2 << 30
MAX_EXPANSION = 100
EXPANSION_CHECKED_ABOVE = 64 << 20
"""Bytes. A small file of zeros may shrink as far as it likes."""
MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 4096
MAX_MEMBERS = 64
END_OF_ZIP = b"PK\x05\x06"
END_OF_ZIP64 = b"PK\x06\x07"
NPY_FLOATS = ("<f2", "<f4", "<f8")
SAFETENSORS_ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}


@dataclass(frozen=True, slots=True)
class FileArrays:
    """What a file holds, as `(B, H, N, D)` and `(B, G, N, D)`, float32."""

    q: Floats
    k: Floats


@dataclass(frozen=True, slots=True)
class Entry:
    """One array as its header describes it."""

    name: str
    shape: Shape
    dtype: str
    start: int
    """Of its numbers, from the beginning of the file or of the zip member."""

    @property
    def item_bytes(self) -> int:
        return int(self.dtype[-1]) if self.dtype in NPY_FLOATS else SAFETENSORS_ITEM_BYTES[self.dtype]

    @property
    def bytes_(self) -> int:
        return math.prod(self.shape) * self.item_bytes


def read_arrays(path: Path, free_bytes: int) -> FileArrays:
    """Read q and k of a file. `free_bytes` is the memory that may be used.

    Raises:
        JobRefused: the file is missing, not what its name says, too large, or its arrays do not fit each other.
    """
    try:
        with open_regular(path) as file:
            if path.suffix.lower() == ".npz":
                arrays = _read_npz(path.name, file, free_bytes)
            elif path.suffix.lower() == ".safetensors":
                arrays = _read_safetensors(path.name, file, free_bytes)
            else:
                raise invalid(f"{path.name} is neither .npz nor .safetensors: save q and k as one of them.")
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "it ends too early"
        raise invalid(f"{path.name} can not be read: {reason}.") from error
    return checked(path.name, arrays["q"], arrays["k"])


def open_regular(path: Path) -> BinaryIO:
    """Open a plain file; what is a pipe or a device would block or never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise invalid(f"{path.name} is not a plain file.")
    return path.open("rb")


def checked(name: str, q: Floats, k: Floats) -> FileArrays:
    """Both as `(B, heads, N, D)`, once their shapes agree. Raises: JobRefused."""
    for field, array in (("q", q), ("k", k)):
        if array.ndim not in (3, 4):
            raise invalid(f"{name}: {field} has shape {array.shape}; it must be (H, N, D) or (B, H, N, D).")
    if q.ndim != k.ndim:
        raise invalid(f"{name}: q has {q.ndim} axes and k has {k.ndim}; both must have 3, or both 4.")
    if q.ndim == 3:
        q, k = q[None], k[None]
    batch, heads, queries, head_dim = q.shape
    if k.shape[0] != batch or k.shape[3] != head_dim:
        raise invalid(f"{name}: k has shape {k.shape}; batch and head dim must be those of q, {q.shape}.")
    if k.shape[2] != queries:
        raise invalid(f"{name}: q has {queries:,} tokens and k has {k.shape[2]:,}; a map here needs as many keys as queries.")
    limits = (
        ("heads", heads, 1, 256),
        ("tokens", queries, 1, 1 << 20),
        ("head dim", head_dim, 8, 512),
        ("batch", batch, 1, 1000),
    )
    for field, value, low, high in limits:
        if not low <= value <= high:
            raise invalid(f"{name}: {field} must be {low:,} to {high:,} (was {value:,}).")
    if k.shape[1] == 0 or heads % k.shape[1]:
        raise invalid(f"{name}: k has {k.shape[1]} heads, which does not divide the {heads} of q.")
    return FileArrays(np.ascontiguousarray(q), np.ascontiguousarray(k))


def admit_entries(name: str, entries: dict[str, Entry], free_bytes: int) -> None:
    """Refuse what lacks q or k or would not fit into memory as float32. Raises: JobRefused."""
    for field in ("q", "k"):
        if field not in entries:
            there = ", ".join(repr(entry[:40]) for entry in sorted(entries)[:5]) or "nothing"
            raise invalid(f"{name} has no array named {field!r}; it has {there}. Arrays must be named q and k.")
    total = sum(max(entries[field].bytes_, 4 * math.prod(entries[field].shape)) for field in ("q", "k"))
    limit = min(MAX_ARRAY_BYTES, free_bytes)
    if total > limit:
        raise invalid(
            f"{name} expands to {total / 2**30:,.1f} GiB; at most {limit / 2**30:,.1f} GiB fit here. Save fewer heads or tokens."
        )


# ---------------------------------------------------------------- .npz


def _read_npz(name: str, file: BinaryIO, free_bytes: int) -> dict[str, Floats]:
    _check_directory(name, file)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = {field: info for field, info in members.items() if field in ("q", "k")}
        for info in wanted.values():
            _check_member(name, info)
        entries = {field: Entry(field, (), "<f4", 0) for field in members}
        entries |= {field: _npy_entry(name, field, archive, info) for field, info in wanted.items()}
        admit_entries(name, entries, free_bytes)
        return {field: _npy_numbers(archive, info, entries[field]) for field, info in wanted.items()}


def _check_directory(name: str, file: BinaryIO) -> None:
    """Refuse a list of members that would itself be a bomb, before `zipfile` reads it into memory."""
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 22 - 20))
    tail = file.read()
    at = len(tail) - 22 if tail[-22:-18] == END_OF_ZIP and tail[-2:] == b"\0\0" else tail.rfind(END_OF_ZIP)
    if at < 0 or len(tail) - at < 22:
        raise invalid(f"{name} is not an .npz file: no list of arrays at its end.")
    members = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if tail[max(0, at - 20) : at].startswith(END_OF_ZIP64) or members > MAX_MEMBERS or directory > MAX_HEADER_BYTES:
        raise invalid(f"{name} lists more than {MAX_MEMBERS} arrays, or is larger than 4 GiB: save q and k alone.")
    file.seek(0)


def _check_member(name: str, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 1:
        raise invalid(f"{name}: {info.filename} is encrypted.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise invalid(f"{name}: {info.filename} is packed in a way that numpy does not write; save it with numpy.savez.")
    expands = info.file_size / max(1, info.compress_size)
    if info.file_size > 2 * MAX_ARRAY_BYTES:
        raise invalid(f"{name}: {info.filename} expands to {info.file_size / 2**30:,.1f} GiB, limit {MAX_ARRAY_BYTES >> 30} GiB.")
    if info.file_size > EXPANSION_CHECKED_ABOVE and expands > MAX_EXPANSION:
        raise invalid(
            f"{name}: {info.filename} expands to {info.file_size / 2**30:,.1f} GiB (×{expands:,.0f}), limit ×{MAX_EXPANSION}."
        )


def _npy_entry(name: str, field: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    """The header of one array, held against the size of its member."""
    with archive.open(info) as member:
        try:
            version = np.lib.format.read_magic(member)
            length = int.from_bytes(member.read(2 if version == (1, 0) else 4), "little")
            member.seek(8)
            if length > MAX_HEADER_BYTES:
                raise invalid(f"{name}: the header of {field} has {length:,} bytes, limit {MAX_HEADER_BYTES:,}.")
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read_header(member)
            start = member.tell()
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise invalid(f"{name}: the header of {field} is damaged.") from error
    if dtype.hasobject:
        raise invalid(f"{name}: {field} contains Python objects: save it as numbers.")
    if dtype.str not in NPY_FLOATS:
        raise invalid(f"{name}: {field} is of type {dtype}; it must be float16, float32 or float64.")
    if fortran:
        raise invalid(f"{name}: {field} is in Fortran order: save numpy.ascontiguousarray({field}).")
    entry = Entry(field, tuple(int(length) for length in shape), dtype.str, start)
    if min(entry.shape, default=0) < 0 or entry.bytes_ != info.file_size - start:
        raise invalid(f"{name}: {field} of shape {entry.shape} needs {entry.bytes_:,} bytes, has {info.file_size - start:,}.")
    return entry


def _npy_numbers(archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: Entry) -> Floats:
    with archive.open(info) as member:
        member.read(entry.start)
        data = member.read(entry.bytes_)
    if len(data) != entry.bytes_:
        raise EOFError(f"{entry.name} ends after {len(data):,} of {entry.bytes_:,} bytes")
    return _singles(np.frombuffer(data, np.dtype(entry.dtype)), entry.shape)


# ---------------------------------------------------------------- .safetensors


class TensorInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the header."""

    dtype: str
    shape: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=8)]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


def _read_safetensors(name: str, file: BinaryIO, free_bytes: int) -> dict[str, Floats]:
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise invalid(f"{name}: header of {length / 2**20:,.0f} MB, limit {MAX_HEADER_BYTES // 2**20} MiB.")
    if size < 8 + length or length < 2:
        raise invalid(f"{name}: the header of {length:,} bytes is longer than the file.")
    tensors = _header(name, file.read(length))
    entries = {}
    for field, info in tensors.items():
        wanted = field in ("q", "k")
        if wanted and info.dtype not in SAFETENSORS_ITEM_BYTES:
            raise invalid(f"{name}: {field[:40]!r} is of type {info.dtype[:16]!r}; it must be F16, BF16, F32 or F64.")
        entry = Entry(field, info.shape, info.dtype if wanted else "F32", 8 + length + info.data_offsets[0])
        held = info.data_offsets[1] - info.data_offsets[0]
        if wanted and (entry.bytes_ != held or entry.start + held > size):
            raise invalid(
                f"{name}: {field} of shape {entry.shape} needs {entry.bytes_:,} bytes, has {min(held, size - entry.start):,}."
            )
        entries[field] = entry
    admit_entries(name, entries, free_bytes)
    return {field: _tensor(file, entries[field]) for field in ("q", "k")}


def _header(name: str, text: bytes) -> dict[str, TensorInfo]:
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if len(raw) > MAX_TENSORS:
            raise invalid(f"{name} lists {len(raw):,} tensors, limit {MAX_TENSORS:,}: save q and k alone.")
        raw.pop("__metadata__", None)
        return {field: msgspec.json.decode(value, type=TensorInfo) for field, value in raw.items()}
    except JobRefused:
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"{name}: the header is damaged ({str(error)[:120]}).") from error


def _tensor(file: BinaryIO, entry: Entry) -> Floats:
    file.seek(entry.start)
    data = file.read(entry.bytes_)
    if len(data) != entry.bytes_:
        raise EOFError(f"{entry.name} ends after {len(data):,} of {entry.bytes_:,} bytes")
    if entry.dtype == "BF16":
        upper = np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)
        return upper.view(np.float32).reshape(entry.shape)
    return _singles(np.frombuffer(data, f"<f{entry.item_bytes}"), entry.shape)


def _singles(numbers: NDArray[np.floating], shape: Shape) -> Floats:
    """float32; what is too large for it becomes infinite, and is shown as such."""
    with np.errstate(over="ignore"):
        return numbers.reshape(shape).astype(np.float32)

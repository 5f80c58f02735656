"""Compresses what nfpm packed with xz, on all cores.

nfpm compresses on one core, and its xz (like its zstd) leaves packages a fifth larger than that of XZ Utils. So it packs
lightly, and this changes the compressed part of the package and what names it: in a .deb a member of the archive, in an .rpm
the payload with its digests. check.py has `dpkg-deb` and `rpm -K` read the results.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

PRESET = "-6"
"""-9 saves another 4 % and takes twice as long: its blocks are so large that most cores wait."""
XZ = ("xz", "--threads=0", PRESET, "--stdout")
AR = b"!<arch>\n"
AR_HEAD = 60
"""Bytes before each member: name 16, time 12, owner 6, group 6, mode 8, size 10, end 2."""
LEAD = 96
HEADER = b"\x8e\xad\xe8\x01"


def xz(data: bytes) -> bytes:
    """Raises: OSError, CalledProcessError: there is no xz, or it failed."""
    return subprocess.run(XZ, input=data, stdout=subprocess.PIPE, check=True).stdout


def deb(path: Path) -> None:
    """Replace the member data.tar by data.tar.xz."""
    result = AR
    for name, head, body in members(path.read_bytes()):
        if name == "data.tar":
            body = xz(body)
            head = b"data.tar.xz".ljust(16) + head[16:48] + str(len(body)).encode().ljust(10) + head[58:]
        result += head + body + b"\n" * (len(body) % 2)
    path.write_bytes(result)


def members(archive: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Name, head and content of each member of an ar archive. Raises: ValueError: it is none."""
    if not archive.startswith(AR):
        raise ValueError("this is no .deb: it does not begin as an ar archive")
    at = len(AR)
    while at < len(archive):
        head = archive[at : at + AR_HEAD]
        size = int(head[48:58])
        yield head[:16].decode().strip().rstrip("/"), head, archive[at + AR_HEAD : at + AR_HEAD + size]
        at += AR_HEAD + size + size % 2


@dataclass(frozen=True)
class Entry:
    """A value of an .rpm's header, as its bytes."""

    tag: int
    kind: int
    count: int
    data: bytes


WIDTHS = {0: 0, 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
"""Bytes of one value by kind, which is also what its place is a multiple of; the others are texts that end with a zero."""
ONE_TEXT = 6
REGION_TAGS = (62, 63)
"""A header's first entry, of the signature and of the header proper: what it covers, said again at its end."""


def header(data: bytes, start: int) -> tuple[list[Entry], int]:
    """The values of the header at `start`, in the order of their places, and where it ends.

    Source: "RPM package file format", Header: 16 bytes of introduction, 16 an entry, the data.

    Raises: ValueError: there is none.
    """
    if data[start : start + 4] != HEADER:
        raise ValueError("this is no .rpm: a header is missing")
    count, size = struct.unpack_from(">II", data, start + 8)
    store = start + 16 + 16 * count
    rows = [struct.unpack_from(">IIII", data, start + 16 + 16 * index) for index in range(count)]
    entries = [
        Entry(tag, kind, many, value(data, store + place, kind, many))
        for tag, kind, place, many in sorted(rows, key=lambda row: row[2])
    ]
    return entries, store + size


def value(data: bytes, start: int, kind: int, count: int) -> bytes:
    if kind in WIDTHS:
        return data[start : start + WIDTHS[kind] * count]
    end = start
    for _ in range(1 if kind == ONE_TEXT else count):
        end = data.index(b"\0", end) + 1
    return data[start:end]


def written(entries: list[Entry]) -> bytes:
    """A header of these values; the one whose tag says what the header covers is made anew."""
    region = next(entry for entry in entries if entry.tag in REGION_TAGS)
    others = [entry for entry in entries if entry is not region]
    store, rows = b"", []
    for entry in others:
        store += b"\0" * (-len(store) % max(1, WIDTHS.get(entry.kind, 1)))
        rows.append((entry.tag, entry.kind, len(store), entry.count))
        store += entry.data
    rows = [(region.tag, region.kind, len(store), region.count), *sorted(rows)]
    store += struct.pack(">IIiI", region.tag, region.kind, -16 * len(rows), region.count)
    return (
        HEADER
        + bytes(4)
        + struct.pack(">II", len(rows), len(store))
        + b"".join(struct.pack(">IIII", *row) for row in rows)
        + store
    )


def changed(entries: list[Entry], values: dict[int, bytes]) -> list[Entry]:
    """The same values, those of the given tags replaced where they are there."""
    return [replace(entry, data=values.get(entry.tag, entry.data)) for entry in entries]


SIZE, MD5, SHA1, SHA256, UNPACKED_SIZE = 1000, 1004, 269, 273, 1007
"""Of the signature: what follows, in bytes and digests (none is a cryptographic signature)."""
COMPRESSOR, FLAGS, PAYLOAD_SHA256 = 1125, 1126, 5092
"""Of the header."""


def rpm(path: Path) -> None:
    """Replace a gzip payload by xz, and all that speaks of it."""
    data = path.read_bytes()
    signature, end = header(data, LEAD)
    entries, body = header(data, end + -end % 8)
    unpacked = gzip.decompress(data[body:])
    payload = xz(unpacked)
    digest = hashlib.sha256(payload).hexdigest().encode() + b"\0"
    main = written(changed(entries, {COMPRESSOR: b"xz\0", FLAGS: PRESET[1:].encode() + b"\0", PAYLOAD_SHA256: digest}))
    values = {
        SIZE: struct.pack(">I", len(main) + len(payload)),
        UNPACKED_SIZE: struct.pack(">I", len(unpacked)),
        MD5: hashlib.md5(main + payload, usedforsecurity=False).digest(),
        SHA1: hashlib.sha1(main, usedforsecurity=False).hexdigest().encode() + b"\0",
        SHA256: hashlib.sha256(main).hexdigest().encode() + b"\0",
    }
    head = data[:LEAD] + written(changed(signature, values))
    path.write_bytes(head + bytes(-len(head) % 8) + main + payload)

"""What nfpm is told, and what is done to the packages that it makes."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import struct
from pathlib import Path

import package
import product
import pytest
import squeeze


def program(folder: Path) -> Path:
    (folder / "_internal").mkdir(parents=True)
    (folder / product.COMMAND).write_text("#!/bin/sh\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(("flavour", "other"), [("all", "attnscope-small"), ("small", "attnscope")])
def test_that_a_package_puts_the_program_on_the_path_and_takes_the_other_flavours_place(
    flavour: str, other: str, tmp_path: Path
) -> None:
    package.write_stage(tmp_path / "stage")
    told = json.loads(json.dumps(package.recipe(flavour, program(tmp_path / "program"), tmp_path / "stage")))
    places = {item["dst"]: item for item in told["contents"]}
    assert places["/opt/attnscope"]["type"] == "tree"
    assert places["/usr/bin/attnscope"] == {"src": "/opt/attnscope/attnscope", "dst": "/usr/bin/attnscope", "type": "symlink"}
    assert f"/usr/share/applications/{product.ID}.desktop" in places
    assert f"/usr/share/doc/{told['name']}/copyright" in places
    assert told["conflicts"] == told["overrides"]["deb"]["replaces"] == [other]
    depends = {kind: told["overrides"][kind]["depends"] for kind in ("deb", "rpm")}
    assert "libc6 (>= 2.35)" in depends["deb"]
    assert "glibc >= 2.35" in depends["rpm"]
    assert all(len(set(names)) == len(names) for names in depends.values())
    assert told["version"] == product.version()
    assert all(Path(item["src"]).exists() for item in told["contents"] if item.get("type") != "symlink")


def member(name: str, body: bytes) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)


def test_that_squeezing_a_deb_changes_its_files_to_xz_and_nothing_else(tmp_path: Path) -> None:
    path, content = tmp_path / "x.deb", b"what is installed" * 1001
    path.write_bytes(
        squeeze.AR + member("debian-binary", b"2.0\n") + member("control.tar.gz", b"odd") + member("data.tar", content)
    )
    squeeze.deb(path)
    found = {name: body for name, _, body in squeeze.members(path.read_bytes())}
    assert list(found) == ["debian-binary", "control.tar.gz", "data.tar.xz"]
    assert (found["debian-binary"], found["control.tar.gz"]) == (b"2.0\n", b"odd")
    assert lzma.decompress(found["data.tar.xz"]) == content


def test_that_what_is_no_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(ValueError, match=r"no \.deb"):
        squeeze.deb(path)
    with pytest.raises(ValueError, match=r"no \.rpm"):
        squeeze.rpm(path)


BINARY, TEXT, TEXTS, NUMBER = 7, 6, 8, 4


def an_rpm(payload: bytes) -> bytes:
    """A package as nfpm writes it, with the values that a compressed payload is named by and a few beside."""
    packed = gzip.compress(payload)
    digest = hashlib.sha256(packed).hexdigest().encode() + b"\0"
    main = squeeze.written(
        [
            squeeze.Entry(63, BINARY, 16, b""),
            squeeze.Entry(1000, TEXT, 1, b"attnscope\0"),
            squeeze.Entry(squeeze.COMPRESSOR, TEXT, 1, b"gzip\0"),
            squeeze.Entry(squeeze.FLAGS, TEXT, 1, b"9\0"),
            squeeze.Entry(1009, NUMBER, 1, struct.pack(">I", 77)),
            squeeze.Entry(squeeze.PAYLOAD_SHA256, TEXTS, 1, digest),
        ]
    )
    signature = squeeze.written(
        [
            squeeze.Entry(62, BINARY, 16, b""),
            squeeze.Entry(squeeze.SHA256, TEXT, 1, b"0" * 64 + b"\0"),
            squeeze.Entry(squeeze.SIZE, NUMBER, 1, bytes(4)),
            squeeze.Entry(squeeze.MD5, BINARY, 16, bytes(16)),
        ]
    )
    head = b"\xed\xab\xee\xdb".ljust(squeeze.LEAD, b"\0") + signature
    return head + bytes(-len(head) % 8) + main + packed


def test_that_squeezing_an_rpm_renews_every_digest_and_keeps_every_other_value(tmp_path: Path) -> None:
    path, payload = tmp_path / "x.rpm", b"what is installed" * 1001
    path.write_bytes(an_rpm(payload))
    squeeze.rpm(path)
    data = path.read_bytes()
    signature, end = squeeze.header(data, squeeze.LEAD)
    start = end + -end % 8
    main, body = squeeze.header(data, start)
    values, signed = {entry.tag: entry.data for entry in main}, {entry.tag: entry.data for entry in signature}
    assert lzma.decompress(data[body:]) == payload
    assert values[squeeze.COMPRESSOR] == b"xz\0"
    assert (values[1000], values[1009]) == (b"attnscope\0", struct.pack(">I", 77))
    assert values[squeeze.PAYLOAD_SHA256] == hashlib.sha256(data[body:]).hexdigest().encode() + b"\0"
    assert signed[squeeze.SHA256] == hashlib.sha256(data[start:body]).hexdigest().encode() + b"\0"
    assert signed[squeeze.MD5] == hashlib.md5(data[start:]).digest()
    assert signed[squeeze.SIZE] == struct.pack(">I", len(data) - start)

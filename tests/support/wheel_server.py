"""Toy wheels, and a server on this machine that hands them out as badly as a test wants."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

TARGET = "cp311-linux_x86_64"


def wheel_bytes(name: str, version: str, members: dict[str, bytes], *, size: int = 0) -> bytes:
    """A wheel with these members, METADATA, and a filler that does not compress."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{name}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if size:
            archive.writestr(f"{name}/filler.bin", hashlib.shake_256(name.encode()).digest(size))
    return buffer.getvalue()


def entry(name: str, version: str, data: bytes, address: str, targets: tuple[str, ...] = (TARGET,)) -> dict[str, object]:
    """Of a lock."""
    file = f"{name}-{version}-py3-none-any.whl"
    digest = hashlib.sha256(data).hexdigest()
    return {
        "name": name,
        "version": version,
        "file": file,
        "url": f"{address}/{file}",
        "sha256": digest,
        "bytes": len(data),
        "for": list(targets),
    }


def write_lock(path: Path, lock: dict[str, list[dict[str, object]]]) -> Path:
    path.write_text(json.dumps({"gpu13": [], "gpu12": [], "cublas13": [], "cublas12": [], "torch": [], **lock}))
    return path


@dataclass
class Served:
    """What is handed out, and how."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    """Of each answer in turn: the connection is closed after so many bytes."""
    ranges: bool = True
    """False: the whole file is sent, whatever part was asked for."""
    hold: threading.Event | None = None
    """After the first block nothing more comes until it is set."""
    codes: list[int] = field(default_factory=list)
    """Of each answer in turn: this error."""
    asked: list[str] = field(default_factory=list)
    """The Range of each request, "" for none."""


class WheelServer:
    """On a free port of this machine, for as long as it is entered."""

    def __init__(self) -> None:
        self.served = Served()
        served = self.served

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self, served)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self.served.hold is not None:
            self.served.hold.set()
        self._server.shutdown()
        self._server.server_close()


def answer(handler: BaseHTTPRequestHandler, served: Served) -> None:
    wanted = handler.headers.get("Range", "")
    served.asked.append(wanted)
    data = served.files.get(handler.path.lstrip("/"))
    code = served.codes.pop(0) if served.codes else 0
    if code or data is None:
        handler.send_error(code or 404)
        return
    begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and served.ranges else 0
    if begin >= len(data):
        handler.send_error(416)
        return
    handler.send_response(206 if begin else 200)
    if begin:
        handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data) - begin))
    handler.end_headers()
    body = data[begin:]
    if served.cut_after:
        body = body[: served.cut_after.pop(0)]
        handler.close_connection = True
    if served.hold is not None:
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        served.hold.wait(60)
        body = body[len(body) // 2 :]
    try:
        handler.wfile.write(body)
    except OSError:
        handler.close_connection = True

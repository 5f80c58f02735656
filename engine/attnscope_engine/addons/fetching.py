"""One file over the network: resumed where it was cut, checked by SHA-256 before anybody may use it. Standard library only."""

from __future__ import annotations

import functools
import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attnscope_engine.addons import AddonCancelled, AddonError
from attnscope_engine.addons.lock import Wheel

BLOCK = 1 << 18
TIMEOUT_S = 30.0
TRIES = 5
"""So many in a row may bring nothing before it is given up."""
FIRST_WAIT_S = 0.5
"""Before the second try; twice as long before each further one."""
NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)

CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Linux systems keep whom they trust: a frozen program's OpenSSL knows only the place of the system it was made on."""

Show = Callable[[int], None]
"""Told how many bytes of the file are there."""
Cancelled = Callable[[], bool]


def fetch(wheel: Wheel, folder: Path, show: Show, cancelled: Cancelled, *, first_wait_s: float = FIRST_WAIT_S) -> Path:
    """The file, whole and checked, in `folder`; a part that lies there is gone on with (HTTP Range, RFC 9110 section 14).

    Proxies are those of the environment (HTTPS_PROXY).

    Raises:
        AddonCancelled: the part is kept.
        AddonError: no connection (the part is kept), another file than expected (it is deleted), no room.
    """
    whole, part = folder / wheel.file, folder / f"{wheel.file}.part"
    if whole.is_file():
        if sha256_of(whole, cancelled) == wheel.sha256:
            show(wheel.bytes)
            return whole
        whole.unlink()
    vain, wait = 0, first_wait_s
    while (had := _size(part)) < wheel.bytes:
        if cancelled():
            raise AddonCancelled
        try:
            _go_on(wheel, part, show, cancelled)
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what lies there is no beginning of this file
                part.unlink(missing_ok=True)
            elif error.code < 500:
                raise AddonError(f"{wheel.url.split('/')[2]} answers {error.code} for {wheel.file}: try again later.") from error
            reason = f"it answers {error.code}"
        except NETWORK as error:
            reason = _words(error)
        if _size(part) > had:
            vain, wait = 0, first_wait_s
            continue
        vain += 1
        if vain == TRIES:
            kept = " What is fetched is kept." if _size(part) else ""
            raise AddonError(f"{wheel.url.split('/')[2]} can not be reached ({reason}).{kept} Add it again, or from files.")
        _rest(wait, cancelled)
        wait *= 2
    digest = sha256_of(part, cancelled)
    if digest != wheel.sha256:
        part.unlink()
        raise AddonError(
            f"{wheel.file} came with SHA-256 {digest[:12]}…, not {wheel.sha256[:12]}…: it is another file, and was deleted."
        )
    part.replace(whole)
    return whole


def _go_on(wheel: Wheel, part: Path, show: Show, cancelled: Cancelled) -> None:
    """One answer of the server into the part, as far as it comes."""
    have = _size(part)
    request = urllib.request.Request(
        wheel.url, headers={"User-Agent": "attnscope", **({"Range": f"bytes={have}-"} if have else {})}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trusting()) as answer:
        if have and not _continues(answer, have):
            have = 0
        with part.open("ab" if have else "wb") as file:
            while have < wheel.bytes:
                if cancelled():
                    raise AddonCancelled
                block = answer.read1(min(BLOCK, wheel.bytes - have))
                if not block:
                    return
                file.write(block)
                have += len(block)
                show(have)


def _continues(answer: Any, have: int) -> bool:
    """Whether it begins where we stopped; a server may send the whole file instead."""
    return answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


@functools.cache
def trusting(places: tuple[str, ...] = CERTIFICATES) -> ssl.SSLContext:
    """Whom this system trusts; of `places` the first that is there, where OpenSSL's own places are not."""
    known = ssl.get_default_verify_paths()
    context = ssl.create_default_context()
    if not (known.cafile or known.capath or context.cert_store_stats()["x509_ca"]):
        found = next((place for place in places if Path(place).is_file()), None)
        if found is not None:
            context.load_verify_locations(cafile=found)
    return context


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).strip() or type(error).__name__


def _rest(seconds: float, cancelled: Cancelled) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if cancelled():
            raise AddonCancelled
        time.sleep(min(left, 0.1))


def sha256_of(path: Path, cancelled: Cancelled = lambda: False) -> str:
    """Raises: AddonCancelled, OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if cancelled():
                raise AddonCancelled
            digest.update(block)
    return digest.hexdigest()

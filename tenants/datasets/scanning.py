"""Malware scan of what comes in, by clamd if the installation has one. Its absence is said, never hidden.

Speaks clamd's own protocol (man clamd, INSTREAM): a command ends with NUL where it starts with `z`; a stream goes in
chunks of a 4-byte big-endian length and that many bytes, and ends with a length of zero.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.errors import ServiceError, TooLarge, Unavailable

CHUNK = 1 << 16
# Of one silence on the connection, in seconds: signatures of large archives take long.
TIMEOUT_S = 60
CONNECT_S = 2
STATUS_S = 30
MAX_ANSWER = 4096


class Infected(ServiceError):
    slug, status, title = "infected", 422, "This file carries malware"


@dataclass(frozen=True)
class Verdict:
    """`state` is clean, infected or unscanned; `name` of the malware, `reason` why nothing was scanned."""

    state: str
    name: str = ""
    reason: str = ""


class ScannerAway(Exception):
    """clamd cannot be reached or broke off."""


def scan(source: Path | IO[bytes]) -> Verdict:
    """What clamd says about a file or a stream, which is read from its start and rewound."""
    if not settings.CLAMD_URL:
        return Verdict("unscanned", reason="off")
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                return _verdict(_instream(stream))
        source.seek(0)
        try:
            return _verdict(_instream(source))
        finally:
            source.seek(0)
    except ScannerAway:
        return Verdict("unscanned", reason="unreachable")


def _verdict(answer: str) -> Verdict:
    """The meaning of `stream: OK`, `stream: NAME FOUND` and `… ERROR`."""
    said = answer.removeprefix("stream: ")
    if said == "OK":
        return Verdict("clean")
    if said.endswith(" FOUND"):
        return Verdict("infected", name=said.removesuffix(" FOUND"))
    return Verdict("unscanned", reason="too-large" if "size limit exceeded" in said else "error")


def check_upload(file: IO[bytes]) -> dict[str, Any]:
    """Scan an upload before anything of it is stored; returns what `Blob.scan` keeps.

    `{"state": "clean"|"not_scanned", "at", "engine"?, "reason"?}`. Raises Infected; where SCAN_REQUIRED is set also
    Unavailable (no scanner answers) and TooLarge (the scanner takes no files of this length). Call it outside of any
    tenant_scope: it waits for the network.
    """
    verdict = scan(file)
    if verdict.state == "infected":
        raise Infected(
            _("The scanner found %(name)s. Nothing was kept.") % {"name": verdict.name},
            signature=verdict.name,
        )
    if verdict.state == "clean":
        return {"state": "clean", "engine": status()["engine"], "at": timezone.now().isoformat()}
    if settings.SCAN_REQUIRED:
        raise _refusal(verdict)
    return {"state": "not_scanned", "reason": verdict.reason, "at": timezone.now().isoformat()}


def _refusal(verdict: Verdict) -> ServiceError:
    if verdict.reason == "too-large":
        return TooLarge(
            _(
                "The malware scanner takes no files of this length (StreamMaxLength). "
                "Split the file, or ask the operator."
            )
        )
    return Unavailable(
        _("Files are only accepted scanned, and the malware scanner does not answer. Try again later.")
    )


_status: tuple[float, str, dict[str, str]] = (0.0, "", {})


def status() -> dict[str, str]:
    """`{"state": "off"|"on"|"unreachable", "engine": str}`; asked anew every half a minute."""
    global _status
    asked, url, known = _status
    if url != settings.CLAMD_URL or time.monotonic() - asked > STATUS_S:
        known = _ask_version()
        _status = (time.monotonic(), settings.CLAMD_URL, known)
    return known


def _ask_version() -> dict[str, str]:
    if not settings.CLAMD_URL:
        return {"state": "off", "engine": ""}
    try:
        with _connected(CONNECT_S) as connection:
            connection.sendall(b"zVERSION\0")
            return {"state": "on", "engine": _answer(connection)[:100]}
    except (OSError, ScannerAway):
        return {"state": "unreachable", "engine": ""}


def _instream(stream: IO[bytes]) -> str:
    try:
        with _connected(TIMEOUT_S) as connection:
            # clamd hangs up on a stream that is too long, but says so first.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b"zINSTREAM\0")
                while chunk := stream.read(CHUNK):
                    connection.sendall(struct.pack(">I", len(chunk)) + chunk)
                connection.sendall(struct.pack(">I", 0))
            return _answer(connection)
    except OSError as error:
        raise ScannerAway from error


@contextmanager
def _connected(timeout_s: float) -> Iterator[socket.socket]:
    parts = urlparse(settings.CLAMD_URL)
    family, address = (
        (socket.AF_UNIX, parts.path)
        if parts.scheme == "unix"
        else (socket.AF_INET, (parts.hostname or "127.0.0.1", parts.port or 3310))
    )
    with socket.socket(family) as connection:
        connection.settimeout(CONNECT_S)
        connection.connect(address)
        connection.settimeout(timeout_s)
        yield connection


def _answer(connection: socket.socket) -> str:
    said = b""
    while not said.endswith(b"\0") and len(said) < MAX_ANSWER:
        part = connection.recv(MAX_ANSWER)
        if not part:
            break
        said += part
    if not said:
        raise ScannerAway
    return said.rstrip(b"\0\n").decode("utf-8", "replace")

"""A syslog receiver on loopback: octet-counted frames over TCP or TLS, or datagrams; it can hang up."""

from __future__ import annotations

import datetime as dt
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HEADER = re.compile(
    rb"<(\d{1,3})>1 (\S+) (\S{1,255}) crosslight - (\S{1,32}) - \xef\xbb\xbf(\{.*\})", re.DOTALL
)


class Receiver:
    """`frames` holds each whole message. `hangs_up_after` frames a connection is closed without a word."""

    def __init__(self, context: ssl.SSLContext | None = None, *, udp: bool = False) -> None:
        self.frames: list[bytes] = []
        self.connections = 0
        self.hangs_up_after: int | None = None
        self.context, self.udp = context, udp
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self.socket.bind(("127.0.0.1", 0))
        if not udp:
            self.socket.listen()
        scheme = "udp" if udp else "tls" if context else "tcp"
        self.url = f"{scheme}://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._datagrams if udp else self._accept, daemon=True).start()

    def _datagrams(self) -> None:
        try:
            while True:
                self.frames.append(self.socket.recv(1 << 16))
        except OSError:
            return

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with (
                self.context.wrap_socket(connection, server_side=True)
                if self.context
                else connection as wrapped
            ):
                self._read(wrapped.makefile("rb"))
        except OSError:
            return

    def _read(self, stream: Any) -> None:
        count = 0
        while self.hangs_up_after is None or count < self.hangs_up_after:
            length = b""
            while (sign := stream.read(1)) not in (b" ", b""):
                length += sign
            if not sign:
                return
            self.frames.append(stream.read(int(length)))
            count += 1

    def events(self) -> list[dict[str, Any]]:
        """Each message, its header checked against RFC 5424, its event parsed."""
        found = []
        for frame in self.frames:
            matched = HEADER.fullmatch(frame)
            assert matched, frame
            event = json.loads(matched[5])
            assert int(matched[1]) == 13 * 8 + (4 if event["status_id"] == 2 else 6)
            assert dt.datetime.fromisoformat(matched[2].decode()).tzinfo is not None
            assert matched[4].decode() == event["metadata"]["event_code"][:32]
            found.append(event)
        return found

    def close(self) -> None:
        self.socket.close()


@contextmanager
def receiving(context: ssl.SSLContext | None = None, *, udp: bool = False) -> Iterator[Receiver]:
    server = Receiver(context, udp=udp)
    try:
        yield server
    finally:
        server.close()


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate of its own for 127.0.0.1, which lies in `folder/server.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "syslog of the tests")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context

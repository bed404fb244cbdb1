"""A time stamp authority (RFC 3161) on loopback: `openssl ts` behind a small HTTP server."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIG = """
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[tsa]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
"""


class Authority:
    """`root` is the file that trusts it. `answers` counts requests; with `refuses` it says 503, `garbles` nonsense."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.answers, self.refuses, self.garbles = folder, 0, False, False
        self.root = folder / "root.pem"
        (folder / "openssl.cnf").write_text(CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")
        self._lock = threading.Lock()
        self._certificates()

    def _run(self, *args: str, given: bytes | None = None) -> bytes:
        done = subprocess.run(
            ["openssl", *args], cwd=self.folder, input=given, capture_output=True, check=True, timeout=60
        )
        return done.stdout

    def _certificates(self) -> None:
        common = ("-newkey", "rsa:2048", "-nodes", "-config", "openssl.cnf")
        root = ("-x509", "-extensions", "root", "-days", "30", "-subj", "/CN=Root of the tests")
        self._run("req", *common, *root, "-keyout", "root.key", "-out", "root.pem")
        leaf = ("-CA", "root.pem", "-CAkey", "root.key", "-x509", "-extensions", "leaf", "-days", "30")
        self._run(
            "req", *common, *leaf, "-subj", "/CN=TSA of the tests", "-keyout", "tsa.key", "-out", "tsa.pem"
        )

    def reply(self, query: bytes) -> bytes:
        with self._lock:
            self.answers += 1
            (self.folder / "query").write_bytes(query)
            signed = ("-signer", "tsa.pem", "-inkey", "tsa.key", "-config", "openssl.cnf", "-section", "tsa")
            return self._run("ts", "-reply", "-queryfile", "query", *signed)


@contextmanager
def authority(folder: Path) -> Iterator[tuple[Authority, str]]:
    """A running authority and its address."""
    tsa = Authority(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            self.send_response(503 if tsa.refuses else 200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            if not tsa.refuses:
                self.wfile.write(b"nonsense" if tsa.garbles else tsa.reply(query))

        def log_message(self, *args: Any) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield tsa, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()

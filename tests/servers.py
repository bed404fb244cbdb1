"""Servers of others that tests talk to over real sockets: a malware scanner, and a bucket."""

from __future__ import annotations

import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.test import override_settings

from tests.waiting import PATIENCE_S, answers, until

# The test file that every scanner reports (eicar.org), in two parts so that scanners leave this file alone.
EICAR = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*").encode()
VERSION = "ClamAV 1.4.1/27460/Tue Nov 24 08:35:33 2026"
STREAM_MAX = 1 << 20


class Clamd(socketserver.StreamRequestHandler):
    """One command a connection, as clamd does without IDSESSION."""

    def handle(self) -> None:
        command = b""
        while not command.endswith(b"\0"):
            command += self.rfile.read(1)
        answer = self.instream() if command == b"zINSTREAM\0" else VERSION
        self.wfile.write(answer.encode() + b"\0")

    def instream(self) -> str:
        content = b""
        while length := struct.unpack(">I", self.rfile.read(4))[0]:
            content += self.rfile.read(length)
            if len(content) > STREAM_MAX:
                return "INSTREAM size limit exceeded. ERROR"
        if content == b"make it fail":
            return "Can't allocate memory ERROR"
        return "stream: Eicar-Signature FOUND" if EICAR in content else "stream: OK"


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def serve(server: Any) -> Any:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.fixture
def clamd(settings: Any) -> Iterator[Any]:
    with serve(Server(("127.0.0.1", 0), Clamd)) as server:
        settings.CLAMD_URL = f"tcp://127.0.0.1:{server.server_address[1]}"
        yield server
        server.shutdown()


KEYS = {"access_key": "test", "secret_key": "test", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        asks = answers(lambda: requests.get(url, timeout=PATIENCE_S), requests.ConnectionError)
        until(asks, message="the S3 server did not start")
        yield url
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[str]:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="crosslight")
    options = {"bucket_name": "crosslight", "location": "prefix", "endpoint_url": s3_endpoint, **KEYS}
    stored = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**options, "file_overwrite": True}}
    with override_settings(STORAGES={"default": stored, "staticfiles": stored}):
        yield "crosslight"

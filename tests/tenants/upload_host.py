"""Another host, for tests of uploads in parts: a process with a data directory of its own, on the same database and
storage, that does what its standard input says, a line of JSON a request, and answers in lines.

    {"method": "PATCH", "tenant": …, "upload": …, "headers": {…}, "body": "<hex>", "stall": false}

`stall`: it says so and stands still when bytes are stored in the bucket and do not count yet.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Host:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def begin(self, line: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, **line: Any) -> dict[str, Any]:
        self.begin(line)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def host(folder: Path, storage_url: str, endpoint: str) -> Iterator[Host]:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    own = {"DATA_DIR": str(folder), "STORAGE_URL": storage_url, "AWS_ENDPOINT_URL": endpoint, **keys}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.tenants.upload_host"],
        env={**os.environ, **own, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Host(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def _stand_still() -> None:
    from tenants.datasets import storage

    client = storage.bucket_client

    class Slow:
        def __getattr__(self, name: str) -> Any:
            call = getattr(client(), name)
            return call if name not in ("put_object", "upload_part") else lambda **what: stall(call, what)

    def stall(call: Any, what: dict[str, Any]) -> None:
        call(**what)
        _tell({"stalled": True})
        threading.Event().wait()

    storage.bucket_client = Slow


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _handle(line: dict[str, Any]) -> dict[str, Any]:
    from tenants.datasets import tus

    if line.get("stall"):
        _stand_still()
    tenant_id, upload_id = uuid.UUID(line["tenant"]), uuid.UUID(line["upload"])
    call = tus.TusRequest(tenant_id, line["method"], "/uploads", line["headers"], upload_id)
    body = bytes.fromhex(line.get("body", ""))
    reply = tus.receive(call, io.BytesIO(body), len(body)) if body else tus.handle(call)
    return {"status": reply.status, "offset": int(reply.headers.get("Upload-Offset", -1))}


def main() -> None:
    import django

    django.setup()
    for line in sys.stdin:
        _tell(_handle(json.loads(line)))


if __name__ == "__main__":
    main()

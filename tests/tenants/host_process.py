"""Another host of the tests' installation: a process with a data directory of its own, same database and storage.

As a program it reads commands as lines of JSON and answers each with one.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


class HostProcess:
    """Used as `with HostProcess(…) as host`."""

    def __init__(self, folder: Path, **env: str) -> None:
        from django.conf import settings

        self.data_dir = folder
        folder.mkdir(parents=True)
        # The environment has what the tests run on; what they chose themselves is told.
        given = {
            "DATA_DIR": str(folder),
            "DEFAULT_MODEL": settings.DEFAULT_MODEL.replace(":", "-"),
            "INDEX_FLAT_MAX": str(settings.INDEX_FLAT_MAX),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tenants.host_process"],
            cwd=ROOT,
            env={**os.environ, **given, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def ask(self, command: str, **values: Any) -> Any:
        """What the process answers; what it raised as an AssertionError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, values], default=str) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '["failed", "it ended"]')
        assert answer[0] == "ok", answer[1]
        return answer[1]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def folders(self, tenant_id: object) -> set[str]:
        """Of the tenant's generations on this host's disk."""
        folder = self.data_dir / "indexes" / str(tenant_id)
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def files_of(self, tenant_id: object) -> list[Path]:
        # os.walk passes over what is removed while it looks.
        found = (Path(folder, name) for folder, _, names in os.walk(self.data_dir) for name in names)
        return [path for path in found if str(tenant_id) in path.parts[:-1]]


# --- The process -----------------------------------------------------------------------------------------


class Commands:
    def __init__(self) -> None:
        from tenants.retrieval.index import memory

        self._cached: dict[str, memory.TenantVectors] = {}

    def start_upkeep(self) -> None:
        from tenants.pipeline.upkeep.host import host

        host.start()

    def search(self, tenant: str, model: str, query: list[float], count: int = 5) -> dict[str, Any]:
        """Ids found, and the generation that answered; `rebuilding` instead where there is none to answer."""
        import uuid

        import numpy as np

        from tenants.errors import IndexRebuilding
        from tenants.retrieval.index import memory
        from tenants.retrieval.query.ranking import rank
        from tenants.retrieval.types import Restriction
        from tenants.scope import tenant_scope

        cached = self._cached.setdefault(tenant, memory.TenantVectors(model))
        with tenant_scope(uuid.UUID(tenant)):
            try:
                state = cached.refresh()
            except IndexRebuilding:
                return {"rebuilding": True}
            found = rank(state, np.array(query, np.float32), count, Restriction())
        return {
            "ids": [str(hit.asset_id) for hit in found.hits],
            "generation": str(state.base.id) if state.base else None,
        }

    def forget(self) -> None:
        """As after a restart."""
        from tenants.retrieval.index.registry import opened

        self._cached.clear()
        for generation_id in list(opened._open):
            opened.forget(generation_id)

    def run_job(self, job: str, tenant: str) -> None:
        from workers.base import run_job

        run_job(job, tenant)

    def tus(
        self, method: str, tenant: str, upload: str, headers: dict[str, str], body: str
    ) -> dict[str, Any]:
        """A request for an upload in parts, its body in hexadecimal; the status and where the upload stands."""
        import uuid

        from tenants.datasets import tus

        call = tus.TusRequest(uuid.UUID(tenant), method, "/uploads", headers, uuid.UUID(upload))
        content = bytes.fromhex(body)
        reply = tus.receive(call, io.BytesIO(content), len(content)) if content else tus.handle(call)
        return {"status": reply.status, "offset": int(reply.headers.get("Upload-Offset", -1))}

    def stall_uploads(self) -> None:
        """From now on a write to the bucket answers `stalled` when its bytes are stored, and stands still."""
        from tenants.datasets import storage

        client = storage.bucket_client

        class Slow:
            def __getattr__(self, name: str) -> Any:
                call = getattr(client(), name)
                return call if name not in ("put_object", "upload_part") else lambda **what: stall(call, what)

        def stall(call: Any, what: dict[str, Any]) -> None:
            call(**what)
            _tell("ok", "stalled")
            threading.Event().wait()

        storage.bucket_client = Slow


def _tell(*answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    commands = Commands()
    for line in sys.stdin:
        name, values = json.loads(line)
        try:
            _tell("ok", getattr(commands, name)(**values))
        except Exception as error:
            _tell("failed", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

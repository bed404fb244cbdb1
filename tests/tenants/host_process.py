"""Another host of the tests' installation: a process with a data directory of its own, same database and storage.

As a program it reads commands as lines of JSON and answers each with one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]


class HostProcess:
    """Used as `with HostProcess(…) as host`. Each method is a command to the process."""

    def __init__(self, folder: Path, **env: str) -> None:
        from django.conf import settings
        from django.db import connections

        self.data_dir = folder
        folder.mkdir(parents=True)
        operator = connections["operator"].settings_dict if "operator" in connections else None
        given = {
            "DATA_DIR": str(folder),
            "DATABASE_URL": _url(connections["default"].settings_dict),
            "REDIS_URL": settings.REDIS_URL,
            "BROKER_URL": settings.BROKER_URL,
            "SECRET_KEY": settings.SECRET_KEY,
            "CROSSLIGHT_MODELS": str(settings.MODELS_DIR),
            "DEFAULT_MODEL": settings.DEFAULT_MODEL.replace(":", "-"),
            "INDEX_FLAT_MAX": str(settings.INDEX_FLAT_MAX),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
            **env,
        }
        if operator:
            given["OPERATOR_DATABASE_URL"] = _url(operator)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tenants.host_process"],
            cwd=ROOT,
            env={**os.environ, **given},
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
        self._process.wait(20)

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
        return [path for path in self.data_dir.glob(f"**/{tenant_id}/**/*") if path.is_file()]


def _url(database: dict[str, Any]) -> str:
    where = f"{database['HOST']}:{database['PORT']}/{database['NAME']}"
    return f"postgres://{database['USER']}:{database['PASSWORD']}@{where}"


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


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    commands = Commands()
    for line in sys.stdin:
        name, values = json.loads(line)
        try:
            answer = ["ok", getattr(commands, name)(**values)]
        except Exception as error:
            answer = ["failed", f"{type(error).__name__}: {error}"]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

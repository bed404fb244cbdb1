"""One running stack without the demo, and workspaces made by the operator's command as the documentation says."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from standalone.stack import Stack, running_stack
from tests.flows.client import Client

ROOT = Path(__file__).resolve().parents[2]
#: As a stack of tests has them: what a worker held when it was killed is taken up soon.
QUICK = {"JOB_LEASE_S": "4", "JOB_RESEND_S": "2", "JOB_SWEEP_S": "1"}


@dataclass(frozen=True)
class Workspace:
    owner: str
    password: str
    client: Client


# Ends with the last of these tests, so that nothing else runs beside it.
@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("smoke"), extra_env=QUICK) as running:
        yield running


@pytest.fixture(scope="module")
def make_workspace(stack: Stack) -> Callable[[], Workspace]:
    env = {**os.environ, **stack.env, "DATA_DIR": str(stack.data_dir)}

    def make() -> Workspace:
        slug = f"t-{secrets.token_hex(6)}"
        command = [sys.executable, "manage.py", "create_tenant", slug, "--owner", f"owner@{slug}.example"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
        client = Client(stack.base_url, printed["api key"])
        return Workspace(printed["owner"], printed["password"], client)

    return make


@pytest.fixture(scope="module")
def ann(make_workspace: Callable[[], Workspace]) -> Workspace:
    return make_workspace()


@pytest.fixture(scope="module")
def bob(make_workspace: Callable[[], Workspace]) -> Workspace:
    return make_workspace()

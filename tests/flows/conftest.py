"""Tenants of the running stack."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.flows.client import Client

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def manage(stack: Any) -> Callable[..., str]:
    """Run a management command beside the stack; returns what it printed."""

    def run(*arguments: str) -> str:
        env = {**os.environ, **stack.env, "DATA_DIR": str(stack.data_dir)}
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def make_client(stack: Any, manage: Callable[..., str]) -> Callable[..., Client]:
    """A client of a new tenant, made by the operator's command as the documentation says."""

    def make(plan: str = "demo") -> Client:
        slug = f"t-{secrets.token_hex(6)}"
        printed = manage("create_tenant", slug, "--owner", f"owner@{slug}.example", "--plan", plan)
        token = next(line.split()[-1] for line in printed.splitlines() if line.startswith("api key"))
        return Client(stack.base_url, token)

    return make


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()


@pytest.fixture(scope="session")
def shop(stack: Any) -> Client:
    """The demo's grocery shop."""
    entry = next(tenant for tenant in stack.demo["tenants"] if tenant["slug"] == "grocery")
    return Client(stack.base_url, entry["api_key"])


@pytest.fixture(scope="session")
def clinic(stack: Any) -> Client:
    entry = next(tenant for tenant in stack.demo["tenants"] if tenant["slug"] == "clinic")
    return Client(stack.base_url, entry["api_key"])

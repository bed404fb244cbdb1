"""`manage.py check --deploy` with the settings that docs/operating.md tells for production."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from standalone.doctor import configuration
from standalone.doctor.findings import Options
from tests.conftest import ROOT

SECTION = re.compile(r"^## In production.*?(?=^## )", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([A-Z_]+)` \| `([^`]*)` \|", re.MULTILINE)
# What a check says where one of them is left out.
LEFT_OUT = {
    "BASE_URL": ("security.W010",),
    "SECURE_SSL_REDIRECT": ("security.W008",),
    "SECURE_HSTS_SECONDS": ("security.W004",),
}


def told() -> dict[str, str]:
    section = SECTION.search((ROOT / "docs" / "operating.md").read_text())
    assert section
    return {**dict(ROW.findall(section[0])), "SECRET_KEY": secrets.token_urlsafe(48)}


def check(given: dict[str, str], data_dir: Path) -> str:
    """What the command prints, with no other settings than these and addresses of servers that are not asked."""
    servers = {"DATABASE_URL": "postgres://127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}
    here = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    env = {**here, **servers, "LOG_LEVEL": "ERROR", "DATA_DIR": str(data_dir), **given}
    run = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    said = run.stdout + run.stderr
    assert (run.returncode == 0) == ("no issues" in said), said
    return said


@pytest.mark.slow
def test_with_the_documented_settings_nothing_is_found(tmp_path: Path) -> None:
    settings = told()
    assert set(LEFT_OUT) | {"ALLOWED_HOSTS", "TRUSTED_PROXIES", "CSRF_TRUSTED_ORIGINS"} <= set(settings)
    assert "System check identified no issues (2 silenced)." in check(settings, tmp_path)


@pytest.mark.slow
def test_without_them_each_is_missed(tmp_path: Path) -> None:
    settings = {name: value for name, value in told().items() if name not in LEFT_OUT}
    said = check(settings, tmp_path)
    assert [id for ids in LEFT_OUT.values() for id in ids if id not in said] == []


def test_what_is_silenced_is_told_with_its_reason(settings: Any) -> None:
    assert settings.SILENCED_SYSTEM_CHECKS == ["security.W003", "security.W021"]
    text = (ROOT / "docs" / "operating.md").read_text()
    assert all(f"`{name}` (" in text for name in settings.SILENCED_SYSTEM_CHECKS)
    # The reason of the first.
    assert "config.middleware.BrowserForms" in settings.MIDDLEWARE


def test_this_machine_may_always_ask(settings: Any) -> None:
    """The stack's own probes and HAProxy's come by address, whatever names people use."""
    assert {"localhost", "127.0.0.1", "[::1]"} <= set(settings.ALLOWED_HOSTS)


@pytest.mark.parametrize(("proxies", "verdict"), [((), "warn"), (("10.0.0.1",), "ok")])
def test_redirects_without_end_are_foreseen(settings: Any, proxies: tuple[str, ...], verdict: str) -> None:
    settings.BASE_URL, settings.SECURE_SSL_REDIRECT = "https://shop.example", True
    settings.TRUSTED_PROXIES = proxies
    found = configuration.https(Options())
    assert found.verdict == verdict
    assert ("TRUSTED_PROXIES" in found.advice) == (verdict == "warn")

"""Pytest plugin: real, throw-away Postgres and Valkey, in place before Django reads its settings.

Loaded with `-p standalone.testing` (pyproject.toml), as a conftest.py would come too late for that.
"""

from __future__ import annotations

import os
from pathlib import Path

from standalone.stack import start_test_services

ROOT = Path(__file__).resolve().parent.parent.parent
DATA_DIR = ROOT / "var" / "test"


def pytest_load_initial_conftests() -> None:
    """Only a hook so that pytest knows this module as a plugin; the work is done on import."""


if os.environ.get("CROSSLIGHT_TEST_SERVICES") != "off":
    os.environ["DATA_DIR"] = str(DATA_DIR)
    os.environ.setdefault("CROSSLIGHT_MODELS", str(ROOT / "var" / "models"))
    os.environ.update(start_test_services(DATA_DIR))
    # Short, so that tests of lost workers need not wait half a minute.
    os.environ.update(JOB_LEASE_S="4", JOB_RESEND_S="2", JOB_SWEEP_S="1")

"""Pytest plugin: real, throw-away Postgres and Valkey, in place before Django reads its settings.

Loaded with `-p standalone.testing` (pyproject.toml), as a conftest.py would come too late for that. Every run has a
data directory of its own, so that two may go on beside each other.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import time
from pathlib import Path

from standalone import schema_cache
from standalone.build import Builder
from standalone.config import StackConfig
from standalone.processes import Spawner
from standalone.progress import Progress
from standalone.stack import start_test_services, stop_test_services

ROOT = Path(__file__).resolve().parent.parent.parent
DATA_DIR = ROOT / "var" / "test" / str(os.getpid())


def _leave_nothing() -> None:
    stop_test_services(DATA_DIR)
    shutil.rmtree(DATA_DIR, ignore_errors=True)


# The same on every machine, before anything reads them. tests/run.py sets the seed of hashes: Python starts with it.
os.environ.update(TZ="UTC", LC_ALL="C.UTF-8", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
time.tzset()

#: Port 9 is closed: what asks for a service is refused at once. A test that does is skipped (tests/conftest.py).
NOWHERE = {
    "DATABASE_URL": "postgres://127.0.0.1:9/none",
    "REDIS_URL": "redis://127.0.0.1:9",
    "SECRET_KEY": "for tests without services",
}

atexit.register(_leave_nothing)
os.environ["DATA_DIR"] = str(DATA_DIR)
os.environ.setdefault("CROSSLIGHT_MODELS", str(ROOT / "var" / "models"))
os.environ.setdefault(schema_cache.VARIABLE, str(ROOT / "var" / "schema"))
STATIC_DIR = Path(os.environ.setdefault("STATIC_DIR", str(ROOT / "var" / "static")))
# Of several processes (`-n 2`), the one that hands out the tests runs none.
hands_out = "-n" in sys.argv[:-1] and sys.argv[sys.argv.index("-n") + 1] != "0"
off = os.environ.get("CROSSLIGHT_TEST_SERVICES") == "off" or (
    hands_out and "PYTEST_XDIST_WORKER" not in os.environ
)
os.environ.update(NOWHERE if off else start_test_services(DATA_DIR))
STATIC_DIR.mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where there is none
if not off:
    # Before any test: WhiteNoise looks through this folder while a stack that another process starts would write it.
    Builder(StackConfig.from_environ(), Spawner(), Progress(print, [])).static_files(os.environ)
# Short, so that tests of lost workers need not wait half a minute.
os.environ.update(JOB_LEASE_S="4", JOB_RESEND_S="2", JOB_SWEEP_S="1")

"""The Celery application. It carries workers, routing and schedules; the Job row is the truth (tenants/jobs)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from celery import Celery
from celery.signals import beat_init, worker_init

# How often a process shows whoever supervises it that its interpreter still runs.
HEARTBEAT_S = 1.0

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("crosslight")
app.config_from_object("django.conf:settings", namespace="CELERY")


@worker_init.connect
@beat_init.connect
def _begin_heartbeat(**_: object) -> None:
    """Touch HEARTBEAT_FILE, if there is one: it needs neither the broker nor the database, which may be away."""
    if path := os.environ.get("HEARTBEAT_FILE"):
        threading.Thread(target=_beat, args=(Path(path),), name="heartbeat", daemon=True).start()


def _beat(path: Path) -> None:
    while True:
        with contextlib.suppress(OSError):
            path.touch()
        time.sleep(HEARTBEAT_S)


@worker_init.connect
def _trace(sender: object = None, **_: object) -> None:
    # After the settings, which need the environment of above.
    from config import tracing

    name = str(getattr(sender, "hostname", "worker")).split("@")[0]
    tracing.start(f"crosslight-{name}")

"""The Celery application: a doorbell only, the Job row is the truth (tenants/jobs)."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("crosslight")
app.config_from_object("django.conf:settings", namespace="CELERY")


@worker_init.connect
def _trace(sender: Any = None, **_: Any) -> None:
    # After the settings, which need the environment of above.
    from config import tracing

    name = str(getattr(sender, "hostname", "worker")).split("@")[0]
    tracing.start(f"crosslight-{name}")

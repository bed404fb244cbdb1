"""The Celery application: a doorbell only, the Job row is the truth (tenants/jobs)."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from celery import Celery
from django.conf import settings

app = Celery("crosslight")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.beat_schedule = {
    "sweep-jobs": {
        "task": "workers.sweep_jobs",
        "schedule": settings.JOB_SWEEP_S,
        "options": {"queue": "system", "expires": settings.JOB_SWEEP_S * 2},
    },
    "flush-usage": {
        "task": "workers.flush_usage",
        "schedule": 30.0,
        "options": {"queue": "system", "expires": 60},
    },
    "collect-garbage": {
        "task": "workers.collect_garbage",
        "schedule": 300.0,
        "options": {"queue": "system", "expires": 600},
    },
    "canary": {
        "task": "workers.ring_canaries",
        "schedule": 15.0,
        "options": {"queue": "system", "expires": 30},
    },
}

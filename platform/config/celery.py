"""The Celery application: a doorbell only, the Job row is the truth (tenants/jobs)."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("crosslight")
app.config_from_object("django.conf:settings", namespace="CELERY")

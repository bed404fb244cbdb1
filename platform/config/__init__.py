"""The composition root. Importing it makes our Celery application the current one in every process."""

from config.celery import app as celery_app

__all__ = ["celery_app"]

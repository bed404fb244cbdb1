"""The web process: `granian --interface asgi config.asgi:application`."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

django = get_wsgi_application()

# After Django is set up, as it reads jobs.
from config.edge import Edge  # noqa: E402

application = Edge(django, threads=settings.WEB_THREADS)

"""The web process: `granian --interface asgi config.asgi:application`."""

from __future__ import annotations

import os
import threading

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

django = get_wsgi_application()

# After Django is set up, as they read its settings and models.
from config.edge import Edge  # noqa: E402
from tenants.retrieval import encoding  # noqa: E402

# Beside the start: the first words that somebody searches for should not wait for a model to load.
threading.Thread(target=encoding.warm_up, name="warm-up", daemon=True).start()
application = Edge(django, threads=settings.WEB_THREADS)

"""The web process: `granian --interface asgi config.asgi:application`."""

from __future__ import annotations

import gc
import os
import threading

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Importing makes much and leaves nothing behind: collections meanwhile took some .2 s of 1.5.
gc.disable()

from django.conf import settings  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402

django = get_wsgi_application()

# After Django is set up, as they read its settings and models.
from config import tracing  # noqa: E402
from config.edge import Edge  # noqa: E402
from config.proxies import TrustedProxies  # noqa: E402
from tenants.pipeline.upkeep.host import host  # noqa: E402
from tenants.retrieval import query  # noqa: E402


def warm_up() -> None:
    """Beside the start: the first words that somebody searches for should not wait for a model to load."""
    query.warm_up()
    # What the program is made of stays for good: no collection looks at it again, in the middle of a search.
    gc.collect()
    gc.freeze()


tracing.start("crosslight-web")
# No daemon: a process that ends while a runtime loads a model would be aborted.
threading.Thread(target=warm_up, name="warm-up").start()
host.start()
proxies = TrustedProxies(settings.TRUSTED_PROXIES, settings.TRUSTED_PROXY_HEADER)
application = Edge(django, threads=settings.WEB_THREADS, proxies=proxies)
gc.enable()

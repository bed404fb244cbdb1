"""For whoever runs the installation: is it alive, is it ready, how is it doing. No key, no session."""

from __future__ import annotations

import hmac
import logging
import uuid
from collections.abc import Callable
from ipaddress import ip_address

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from config import metrics
from tenants.valkey import client

log = logging.getLogger(__name__)


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> JsonResponse:
    """503 and the culprit's name while something that this process needs is away."""
    checks = {name: _passes(name, check) for name, check in CHECKS.items()}
    ready = all(checks.values())
    body = {"ready": ready, "checks": {name: "ok" if well else "failed" for name, well in checks.items()}}
    return JsonResponse(body, status=200 if ready else 503)


def _passes(name: str, check: Callable[[], object]) -> bool:
    try:
        check()
    except Exception:
        log.warning("not ready: %s", name, exc_info=True)
        return False
    return True


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _storage() -> None:
    """A full or read-only disk is found by writing only."""
    name = default_storage.save(f"readyz/{uuid.uuid4()}", ContentFile(b"ready"))
    default_storage.delete(name)


CHECKS: dict[str, Callable[[], object]] = {
    "database": _database,
    "cache": lambda: client().ping(),
    "storage": _storage,
}


def serve_metrics(request: HttpRequest) -> HttpResponse:
    if not _may_see_metrics(request):
        return HttpResponse(
            "Ask from this machine, or with the token.\n", status=403, content_type="text/plain"
        )
    return HttpResponse(metrics.render(), content_type=metrics.CONTENT_TYPE)


def _may_see_metrics(request: HttpRequest) -> bool:
    token, given = settings.METRICS_TOKEN, request.headers.get("Authorization", "")
    if token and hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return True
    # A proxy on this machine speaks for others.
    proxied = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"))
    return not proxied and _is_loopback(request.META.get("REMOTE_ADDR", ""))


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback

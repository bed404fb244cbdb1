"""For whoever runs the installation: is it alive, is it ready, how is it doing. No key, no session."""

from __future__ import annotations

import datetime as dt
import errno
import hmac
import logging
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from config import metrics
from tenants.datasets import storage
from tenants.retrieval import query
from tenants.valkey import client

log = logging.getLogger(__name__)

# Of what is shared: a probe has two or three seconds for its answer.
CHECK_S = 1.0


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> JsonResponse:
    """503 and the culprit's name while this process could not answer a search: without its models or the database.

    404 while it is about to stop: HAProxy (disable-on-404) then sends it nothing new and lets what it has begun end.

    Storage and Valkey are shared by all hosts: a moment without them degrades every one of them, and taking all out of
    the proxy would make an outage of it. Only for who brings the token is the storage written to: anybody may ask, as
    often as they like.
    """
    if settings.DRAIN_FILE and Path(settings.DRAIN_FILE).exists():
        return JsonResponse({"ready": False, "checks": {"draining": "failed"}}, status=404)
    shared: dict[str, Callable[[], object]] = {**SHARED}
    if _has_token(request):
        shared["storage"] = WRITES
    checks = {name: "ok" if _passes(name, check) else "failed" for name, check in NEEDED.items()}
    ready = "failed" not in checks.values()
    checks |= {name: "ok" if _passes(name, check) else "degraded" for name, check in shared.items()}
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


def _passes(name: str, check: Callable[[], object]) -> bool:
    try:
        check()
    except Exception as error:
        log.warning("not well: %s", name, exc_info=not isinstance(error, query.ModelsLoading))
        return False
    return True


class BoundedCheck:
    """A check of something that may hang: waited for a second, and under way once however many ask.

    A probe that waited longer would count as failed, and so would a process that could do without.
    """

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._asked: Future[object] | None = None

    def __call__(self) -> None:
        """Raises what the check raised, TimeoutError while it takes longer."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = Future()
                # Not of a pool, which a process that ends would wait for.
                threading.Thread(target=self._run, args=(self._asked,), name="readyz", daemon=True).start()
            asked = self._asked
        asked.result(CHECK_S)

    def _run(self, asked: Future[object]) -> None:
        try:
            asked.set_result(self._check())
        except Exception as error:
            asked.set_exception(error)


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _storage_writes() -> None:
    """Some faults of a disk or a bucket are found by writing only."""
    name = default_storage.save(f"readyz/{uuid.uuid4()}", ContentFile(b"ready"))
    default_storage.delete(name)


def _storage_answers() -> None:
    """Whether the storage is there and, of a folder, could be written to; without writing. Raises OSError."""
    wanted = storage.local_path("")
    if wanted is None:
        default_storage.exists("readyz")
        return
    # The folder itself is made by the first write.
    folder = next(path for path in (wanted, *wanted.parents) if path.exists())
    facts = os.statvfs(folder)
    if facts.f_flag & os.ST_RDONLY or not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EROFS, "the storage cannot be written to", str(folder))
    if not facts.f_bavail or (facts.f_files and not facts.f_favail):
        raise OSError(errno.ENOSPC, "the disk of the storage is full", str(folder))


NEEDED: dict[str, Callable[[], object]] = {"database": _database, "models": query.check_models}
SHARED: dict[str, Callable[[], object]] = {
    "cache": BoundedCheck(lambda: client().ping()),
    "storage": BoundedCheck(_storage_answers),
}
WRITES = BoundedCheck(_storage_writes)


def serve_metrics(request: HttpRequest) -> HttpResponse:
    if not _may_see_metrics(request):
        return HttpResponse(
            "Ask from this machine, or with the token.\n", status=403, content_type="text/plain"
        )
    return HttpResponse(metrics.render(), content_type=metrics.CONTENT_TYPE)


def _has_token(request: HttpRequest) -> bool:
    token, given = settings.METRICS_TOKEN, request.headers.get("Authorization", "")
    return bool(token) and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _may_see_metrics(request: HttpRequest) -> bool:
    """With the token, or from this machine where no proxy on it may speak for others."""
    if _has_token(request):
        return True
    # Not every proxy says that it is one: what is configured for one counts, too.
    configured = bool(settings.TRUSTED_PROXIES) or _is_elsewhere(settings.BASE_URL)
    proxied = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"))
    return not configured and not proxied and _is_loopback(request.META.get("REMOTE_ADDR", ""))


def _is_elsewhere(base_url: str) -> bool:
    """Whether people reach this installation by https or at a name, which the web process alone does not offer."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    return parts.scheme == "https" or not (host in ("localhost", settings.HOST) or _is_loopback(host))


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def security_txt(request: HttpRequest) -> HttpResponse:
    """RFC 9116: whom to tell of a weakness of this installation; 404 where nobody says.

    A file that has expired must not be used (section 2.5.5), so there is none then.
    """
    expires: dt.datetime | None = settings.SECURITY_EXPIRES
    if not settings.SECURITY_CONTACT or expires is None or expires <= timezone.now():
        return HttpResponse("Nobody is named here.\n", content_type="text/plain; charset=utf-8", status=404)
    fields = [("Contact", contact) for contact in settings.SECURITY_CONTACT]
    fields.append(
        ("Expires", expires.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
    )
    fields.append(("Canonical", f"{settings.BASE_URL}/.well-known/security.txt"))
    fields += [("Policy", policy) for policy in (settings.SECURITY_POLICY,) if policy]
    fields.append(("Preferred-Languages", "en, zh"))
    text = "".join(f"{name}: {value}\n" for name, value in fields)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")

"""A request id for every request, in the logs and in the answer."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from uuid_utils.compat import uuid7

from tenants import observe

log = logging.getLogger("request")
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")


class RequestContextMiddleware:
    """Binds `request_id` (the client's X-Request-Id if it is harmless) and logs one line per request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if ACCEPTABLE.fullmatch(given) else str(uuid7())
        tenant = observe.tenant_id.set("")
        start = time.perf_counter()
        try:
            with observe.bound(observe.request_id, request_id):
                response = self.get_response(request)
                response["X-Request-Id"] = request_id
                took = round((time.perf_counter() - start) * 1000, 2)
                log.info(
                    "%s %s",
                    request.method,
                    request.path,
                    extra={"status": response.status_code, "took_ms": took},
                )
                return response
        finally:
            observe.tenant_id.reset(tenant)

"""The base of every view, and the order in which a request is checked.

Key, scope, rate, then the ids in the path, and only then the body: what belongs to another tenant answers 404
whatever the body holds.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request
from rest_framework.views import APIView

from api.auth import key_of
from api.problems import Problem, Refusal
from api.rendering import Renderer
from tenants.accounts import api_admission
from tenants.accounts.api_admission import ADMISSION
from tenants.accounts.rate_counter import WINDOW_S
from tenants.scope import tenant_scope

LENGTH_REQUIRED = Problem(
    "length-required", 411, "The length is missing", "Send Content-Length; chunked bodies are not accepted."
)
RENDERER = Renderer()


class Resource(APIView):
    """A resource of the API. Subclasses name a scope per method and may look up what the path names."""

    scopes: Mapping[str, str | None] = {}
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    # Whether a body may come without its length (`config.ingest` reads it).
    takes_chunks = False
    admission: api_admission.Admission | None = None
    found: Any = None
    # When this request came to its view (of time.perf_counter), and the milliseconds that key, scope and rate took.
    begun: float = 0.0
    auth_ms: float = 0.0

    def scope_of(self, method: str) -> str | None:
        return self.scopes.get("GET" if method == "HEAD" else method)

    def find(self, *args: Any, **ids: Any) -> Any:
        """What the ids of the path name, or NotFound; a malformed id comes as None. Runs in the tenant's scope."""
        return None

    @property
    def tenant_id(self) -> uuid.UUID:
        return uuid.UUID(key_of(self.request).tenant_id)

    @property
    def actor(self) -> str:
        """Who acts, in the words of the audit log."""
        return f"key:{key_of(self.request).prefix}"

    # --- The order of checks ---

    def setup(self, request: HttpRequest, *args: object, **kwargs: object) -> None:
        self.begun = time.perf_counter()
        super().setup(request, *args, **kwargs)

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        super().initial(request, *args, **kwargs)
        self.auth_ms = since(self.begun)
        method = str(request.method)
        if method.lower() not in self.http_method_names or not hasattr(self, method.lower()):
            raise MethodNotAllowed(method)
        if kwargs:
            with tenant_scope(self.tenant_id):
                self.found = self.find(**kwargs)
        chunked = "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers
        if chunked and not self.takes_chunks:
            raise Refusal(LENGTH_REQUIRED)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        # There is one representation; a client that accepts something else gets it all the same.
        return RENDERER, RENDERER.media_type

    def check_throttles(self, request: Request) -> None:
        """Count the request; refuse it over the plan's rate or over the month's requests."""
        # Called again, it is still one request.
        self.admission = request.META.get(ADMISSION) or self.count(request)
        request.META[ADMISSION] = self.admission
        rate, record = self.admission.rate, self.admission.record
        if rate is not None and rate.exceeded:
            raise Refusal(rate_exceeded(rate))
        limit = record.request_limit if record is not None else None
        if limit is not None and self.admission.requests_this_month > limit:
            raise Refusal(_month_exceeded(limit))

    def count(self, request: Request) -> api_admission.Admission:
        return api_admission.count(key_of(request))

    # --- Headers of every answer ---

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {"Cache-Control": "no-store"}

    def finalize_response(  # type: ignore[override]  # files stream
        self, request: Request, response: HttpResponseBase, *args: object, **kwargs: object
    ) -> HttpResponseBase:
        kept = response.headers.get("Cache-Control")
        response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[arg-type]
        if kept:
            response["Cache-Control"] = kept
        if response.status_code == 405:
            response["Allow"] = ", ".join(self.allowed_methods)
        if self.admission is not None and self.admission.rate is not None:
            for name, value in _rate_headers(self.admission.rate).items():
                response[name] = value
        return response


def since(moment: float) -> float:
    """Milliseconds since a moment of time.perf_counter."""
    return (time.perf_counter() - moment) * 1000


def _rate_headers(rate: api_admission.Rate) -> dict[str, str]:
    """As in draft-ietf-httpapi-ratelimit-headers."""
    return {
        "RateLimit-Policy": f'"default";q={rate.limit};w={WINDOW_S}',
        "RateLimit": f'"default";r={max(0, rate.remaining)};t={rate.reset_s}',
    }


_ALLOWS = {
    "plan": "The plan allows {} requests a minute.",
    "key": "This key allows {} requests a minute.",
    "network": "Each network is allowed {} requests a minute here.",
}


def rate_exceeded(rate: api_admission.Rate) -> Problem:
    detail = f"{_ALLOWS[rate.of].format(rate.limit)} Try again in {rate.reset_s} s."
    return Problem(
        "rate-limited", 429, "Too many requests", detail, headers={"Retry-After": str(rate.reset_s)}
    )


def _month_exceeded(limit: float) -> Problem:
    detail = f"The plan allows {limit:g} requests a month, and they are used."
    return Problem(
        "quota-exceeded", 403, "Over quota", detail, extra={"resource": "requests", "limit": limit}
    )

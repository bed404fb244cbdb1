"""A request id for every request, in the logs and in the answer; and what only browsers need, for them alone.

Programs call the API and the operations' addresses: a key, no session, no cookie, no form. There the middleware of
sessions, people, messages and forms would read and write nothing, for a third of the time of a small request.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import cast

from csp.middleware import CSPMiddleware
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin
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
        tenant, requester = observe.tenant_id.set(""), observe.requester.set("")
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
                    extra={
                        "status": response.status_code,
                        "took_ms": took,
                        "address": request.META.get("REMOTE_ADDR", ""),
                    },
                )
                return response
        finally:
            observe.tenant_id.reset(tenant)
            observe.requester.reset(requester)


# --- For browsers only -----------------------------------------------------------------------------------

_API = ("/api/v1/", "/scim/")
_OPERATIONS = frozenset({"/healthz", "/readyz", "/metrics"})
# Nothing that a program is answered may do anything in a page that somebody opens it as.
_NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"


def is_for_programs(request: HttpRequest) -> bool:
    return request.path_info.startswith(_API) or request.path_info in _OPERATIONS


class _ForBrowsers(MiddlewareMixin):
    """Mixed into a middleware: programs pass it by."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        return self.get_response(request) if is_for_programs(request) else super().__call__(request)


class BrowserSessions(_ForBrowsers, SessionMiddleware):
    """Who signed in, by cookie."""


class BrowserLanguages(_ForBrowsers, LocaleMiddleware):
    """The language that a person chose, by cookie, or else the one that the browser prefers."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response = super().process_response(request, response)
        # The thread goes on to programs, which are answered in English.
        translation.deactivate()
        patch_vary_headers(response, ["Cookie"])
        return response


class BrowserForms(_ForBrowsers, CsrfViewMiddleware):
    """Only forms of our own pages. A view that is not exempt is checked for programs, too, and refuses them."""


class BrowserPeople(_ForBrowsers, AuthenticationMiddleware):
    """`request.user`, from the session."""


class BrowserMessages(_ForBrowsers, MessageMiddleware):
    """What the next page has to say."""


class ContentPolicy(CSPMiddleware):
    """The policy of settings for pages, and a stricter one, which is not put together each time, for programs."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if not is_for_programs(request):
            return super().__call__(request)
        response = cast(HttpResponseBase, self.get_response(request))
        response.headers.setdefault("Content-Security-Policy", _NOTHING)
        return response

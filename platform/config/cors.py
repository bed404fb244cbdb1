"""Cross-origin calls of the API, for the origins that tenants allow (docs/cors.md).

django-cors-headers writes the headers; which origins may read is decided here: by `tenants.accounts.origins`. A call
without `Origin` costs one look at its headers.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from tenants.accounts import origins
from tenants.accounts.keys import KeyRecord

_API = "/api/v1/"


class ApiOrigins(CorsMiddleware):
    """Answers preflights for origins that anybody allows, and lets the origins of a key's tenant read its answers."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if not request.path_info.startswith(_API):
            return self.get_response(request)
        if "HTTP_ORIGIN" in request.META:
            return super().__call__(request)
        response: Any = self.get_response(request)
        # What is kept for a call without an origin must not be served to one with it.
        if "Vary" in response.headers:
            patch_vary_headers(response, ("origin",))
        else:
            response.headers["Vary"] = "origin"
        return response

    def check_signal(self, request: HttpRequest) -> bool:
        origin = request.META["HTTP_ORIGIN"]
        if is_preflight(request):
            return origins.anybody_allows(origin)
        # Set by the authentication of a view; absent where the key was refused.
        record = getattr(request, "auth", None)
        return isinstance(record, KeyRecord) and origins.tenant_allows(record.tenant_id, origin)


def is_preflight(request: HttpRequest) -> bool:
    return request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META

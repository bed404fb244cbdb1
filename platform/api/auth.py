"""API keys: who calls, and whether the key's scopes allow it. The key alone decides the tenant."""

from __future__ import annotations

from typing import Any, cast

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from api.problems import Problem, Refusal
from tenants import observe
from tenants.accounts import api_admission
from tenants.accounts.keys import KeyRecord


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <prefix>.<secret>`; sets `request.auth` to the KeyRecord."""

    def authenticate(self, request: Request) -> tuple[KeyRecord, KeyRecord] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        address = request.META.get("REMOTE_ADDR", "")
        record = api_admission.identify(token.strip(), address)
        if record is None:
            raise AuthenticationFailed
        observe.tenant_id.set(record.tenant_id)
        if not record.admits(address):
            raise Refusal(network_not_allowed(address))
        return record, record

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="crosslight"'


def key_of(request: Request) -> KeyRecord:
    """The key that authenticated this request."""
    return cast(KeyRecord, request.auth)


class HasScope(BasePermission):
    """The view names a scope per method; None there means that any key will do."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.auth is None:
            return False
        needed = view.scope_of(request.method)
        if needed is not None and needed not in key_of(request).scopes:
            raise Refusal(missing_scope(needed))
        return True


def network_not_allowed(address: str) -> Problem:
    detail = (
        f"This key may not be used from {address or 'an unknown address'}. Ask an admin to allow the network."
    )
    return Problem("network-not-allowed", 403, "Network not allowed", detail, extra={"address": address})


def missing_scope(scope: str) -> Problem:
    detail = f"This key lacks the scope {scope!r}. Use a key that has it, or make one."
    return Problem("missing-scope", 403, "The key may not do this", detail, extra={"scope": scope})


class KeyScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document names it."""

    target_class = "api.auth.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "<prefix>.<secret>"}

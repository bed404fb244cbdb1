"""API keys: who calls, and whether the key's scopes allow it. The key alone decides the tenant."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from api.problems import Problem, Refusal
from tenants import observe
from tenants.accounts import api_admission, trials
from tenants.accounts.keys import KeyRecord
from tenants.accounts.permissions import ADDS
from tenants.events import access_log

LOOKS_OR_DELETES = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
# Of what is posted, what stops something or only looks.
AFTER_TRIAL = frozenset(
    {"cancel", "generation-cancel", "release-review", "policy-check", "match-hashes", "bulk-preview"}
)


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
        observe.requester.set(f"key:{record.prefix}")
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
            _note_refusal(request, needed)
            raise Refusal(missing_scope(needed))
        refuse_after_trial(request, needed)
        return True


def refuse_after_trial(request: Request, needed: str | None) -> None:
    """Raises TrialEnded for what would add to a workspace whose trial is over."""
    end = key_of(request).trial_ends_at
    if end is None or needed not in ADDS or end > timezone.now().timestamp():
        return
    match = request.resolver_match
    if request.method in LOOKS_OR_DELETES or (match is not None and match.url_name in AFTER_TRIAL):
        return
    raise trials.ended(dt.datetime.fromtimestamp(end, dt.UTC))


def _note_refusal(request: Request, scope: str) -> None:
    key = key_of(request)
    match = request.resolver_match
    access_log.note_refusal(
        key.tenant_id,
        actor=f"key:{key.prefix}",
        scope=scope,
        method=str(request.method),
        route=f"api:{match.url_name}" if match else "",
        address=str(request.META.get("REMOTE_ADDR", "")),
    )


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

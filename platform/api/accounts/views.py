"""`/keys`, `/me`, `/usage`, `/origins`: what a key may do, what was used, and who may call from a browser."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, cast

from django.http import HttpResponse, QueryDict
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from msgspec.structs import asdict
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.components import page_of
from api.fields import Body, NetworkList, ScopeList, Text, Whole
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts import keys, metering, origins, quotas, shapes, trials
from tenants.accounts.models import ApiKey, KeyDigest, Tenant
from tenants.accounts.permissions import ADMIN, READ
from tenants.datasets import scanning
from tenants.errors import Invalid
from tenants.events.services import record
from tenants.scope import tenant_scope

MAX_NAME = 100


class NewKey(Body):
    name = Text(max_length=MAX_NAME)
    scopes = ScopeList()
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    networks = NetworkList(required=False)
    rate_per_minute = Whole(required=False, allow_null=True, min_value=1, max_value=keys.MAX_RATE)


class KeyChanges(Body):
    networks = NetworkList(required=False)
    rate_per_minute = Whole(required=False, allow_null=True, min_value=1, max_value=keys.MAX_RATE)


class Rotation(Body):
    overlap_s = Whole(min_value=0, max_value=keys.MAX_OVERLAP_S)


def key_shape(key: ApiKey, digest: KeyDigest) -> shapes.Key:
    return shapes.Key(
        id=str(key.id),
        name=key.name,
        prefix=key.prefix,
        scopes=digest.scopes,
        created_at=key.created_at,
        expires_at=digest.expires_at,
        last_used_at=digest.last_used_at,
        last_address=digest.last_address,
        networks=digest.networks or [],
        rate_per_minute=digest.rate_per_minute,
        revoked_at=digest.revoked_at,
    )


class Keys(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(summary="List keys", parameters=PAGING, responses=page_of(shapes.Key))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            digests = {key.id: digest for key, digest in keys.list_keys()}
            rows = ApiKey.objects.order_by("-id")
            return Response(page.of(rows, lambda key: key_shape(key, digests[key.id])))

    @extend_schema(
        summary="Make a key",
        description=(
            "Of the scopes that the key that asks has itself. "
            "The token is shown in this answer only; a replay of it has `token: null`."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewKey},
        responses={201: shapes.NewKey},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewKey.read(request.data)
        return (
            IdempotentRequest(request, cast("dict[str, Any]", request.data))
            .run(lambda: self._create(fields))
            .response()
        )

    def _create(self, fields: dict[str, Any]) -> Answer:
        # In the name of who made the key that asks, so that removing that person ends this one, too.
        asking = key_of(self.request)
        limits = keys.KeyLimits(
            fields.pop("networks", list(asking.networks)), fields.pop("rate_per_minute", asking.key_rate)
        )
        key, token = keys.create_key(
            **fields,
            created_by=keys.maker_of(asking.key_id),
            within=asking.scopes,
            limits=limits,
            inside=asking.networks,
        )
        record(actor=self.actor, verb="key.created", target=str(key.id))
        return shown_once(key, token)


def shown_once(key: ApiKey, token: str) -> Answer:
    shown = key_shape(key, keys.digest_of(key))
    return Answer.of(201, shapes.NewKey(**asdict(shown), token=token), withheld="token")


class OneKey(Resource):
    scopes = {"DELETE": ADMIN, "PATCH": ADMIN}

    def find(self, key_id: uuid.UUID | None) -> ApiKey:
        return keys.get_key(key_id)

    @extend_schema(
        summary="Say from where a key may be used, and how often",
        description=(
            "What is absent stays. A key that is bound to networks changes only keys whose networks are inside its own."
        ),
        request={"application/json": KeyChanges},
        responses=shapes.Key,
    )
    def patch(self, request: Request, key_id: uuid.UUID) -> Response:
        fields = KeyChanges.read(request.data)
        with tenant_scope(self.tenant_id):
            digest = keys.limit_key(key_id=key_id, changes=fields, inside=key_of(request).networks)
            record(actor=self.actor, verb="key.limited", target=str(key_id), details=keys.limits_of(digest))
            return Response(key_shape(self.found, digest))

    @extend_schema(summary="Revoke a key", responses={204: None})
    def delete(self, request: Request, key_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            keys.revoke_key(key_id=key_id)
            record(actor=self.actor, verb="key.revoked", target=str(key_id))
        return Response(status=204)


class RotateKey(Resource):
    scopes = {"POST": ADMIN}

    def find(self, key_id: uuid.UUID | None) -> ApiKey:
        return keys.get_key(key_id)

    @extend_schema(
        summary="Rotate a key",
        description=(
            "A new key with the same name, scopes and lifetime, none of which the key that asks may lack. "
            "The old one works for `overlap_s` seconds more, 0 to 7 days. "
            "The token is shown in this answer only; a replay of it has `token: null`."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": Rotation},
        responses={201: shapes.NewKey},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, key_id: uuid.UUID) -> HttpResponse:
        overlap_s = Rotation.read(request.data)["overlap_s"]
        idempotent = IdempotentRequest(request, cast("dict[str, Any]", request.data))
        return idempotent.run(lambda: self._rotate(key_id, overlap_s)).response()

    def _rotate(self, key_id: uuid.UUID, overlap_s: int) -> Answer:
        # In the name of who sees the new secret, so that removing that person ends this key, too.
        asking = key_of(self.request)
        maker = keys.maker_of(asking.key_id) or self.found.created_by
        key, token = keys.rotate_key(
            key_id=key_id,
            overlap_s=overlap_s,
            created_by=maker,
            within=asking.scopes,
            inside=asking.networks,
        )
        details = {"new": str(key.id), "overlap_s": overlap_s}
        record(actor=self.actor, verb="key.rotated", target=str(key_id), details=details)
        return shown_once(key, token)


class Me(Resource):
    scopes = {"GET": None}

    @extend_schema(summary="Tenant, plan, scopes and quotas of this key", responses=shapes.Me)
    def get(self, request: Request) -> Response:
        with tenant_scope(self.tenant_id):
            tenant = Tenant.objects.select_related("plan").get(pk=self.tenant_id)
            used = quotas.summary()
        if self.admission is not None:
            # Counted in Valkey and copied to the database every half a minute.
            requests = used["requests"]
            requests["used"] = max(requests["used"] or 0, self.admission.requests_this_month)
        scanner = scanning.status()["state"]
        return Response(
            {**self._key_as_dict(request), **_tenant_as_dict(tenant), "malware_scan": scanner, "quotas": used}
        )

    def _key_as_dict(self, request: Request) -> dict[str, Any]:
        key = key_of(request)
        return {"key": {"id": key.key_id, "prefix": key.prefix}, "scopes": list(key.scopes)}


def _tenant_as_dict(tenant: Tenant) -> dict[str, Any]:
    plan = tenant.plan
    return {
        "tenant": {"id": str(tenant.id), "slug": tenant.slug, "name": tenant.name},
        "plan": {
            "slug": plan.slug,
            "name": plan.name,
            "rate_per_minute": tenant.rate_per_minute,
            "trial_ends_at": tenant.trial_ends_at,
            "read_only": trials.is_over(tenant),
        },
    }


DEFAULT_DAYS = 30
MAX_DAYS = 366


class Usage(Resource):
    scopes = {"GET": READ}

    @extend_schema(
        summary="Usage per day and kind",
        parameters=[
            OpenApiParameter("from", dt.date, description="First day, UTC; 29 days before `to` if absent."),
            OpenApiParameter("to", dt.date, description="Last day, UTC; today if absent."),
        ],
        responses=page_of(shapes.UsageDay, "Usage"),
    )
    def get(self, request: Request) -> Response:
        first, last = read_days(request.query_params)
        with tenant_scope(self.tenant_id):
            rows = metering.usage(first=first, last=last)
        results = [{"day": day, "kind": kind, "amount": amount} for day, kind, amount in rows]
        return Response({"results": results, "next": None})


def read_days(query: QueryDict) -> tuple[dt.date, dt.date]:
    """First and last day that are asked for. Raises Invalid."""
    for name in query:
        if name not in {"from", "to"}:
            raise Invalid("There is no such query parameter.", pointer=f"/{name}")
    last = _day(query, "to") or timezone.now().date()
    first = _day(query, "from") or last - dt.timedelta(days=min(DEFAULT_DAYS, last.toordinal()) - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise Invalid(f"Ask for 1 to {MAX_DAYS} days, the first one first.", pointer="/from")
    return first, last


def _day(query: QueryDict, name: str) -> dt.date | None:
    if (value := query.get(name)) is None:
        return None
    try:
        # Stricter than Python, which also reads 20261125 and 2026-W48-3.
        return dt.datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
    except ValueError as error:
        raise Invalid("A day looks like 2026-11-25.", pointer=f"/{name}") from error


NAMED = "Each is a scheme and a host, with a port where it is not the usual one: `https://shop.example`."


class OriginList(Body):
    origins = serializers.ListField(
        child=Text(min_length=1, max_length=origins.MAX_LENGTH),
        max_length=origins.MAX_ORIGINS,
        allow_empty=True,
        help_text=NAMED,
    )


class Origins(Resource):
    scopes = {"GET": ADMIN, "PUT": ADMIN}

    @extend_schema(summary="Origins that may call from a browser", responses=OriginList)
    def get(self, request: Request) -> Response:
        with tenant_scope(self.tenant_id):
            return Response({"origins": origins.list_origins()})

    @extend_schema(
        summary="Set the origins that may call from a browser",
        description=(
            "All of them at once; an empty list allows none. Exact origins only, of https or of localhost. It may take "
            f"{origins.FRESH_S:g} seconds until every process knows. What a page can read is no secret from those who "
            "open it: give its key no more scopes than they may have."
        ),
        request={"application/json": OriginList},
        responses=OriginList,
    )
    def put(self, request: Request) -> Response:
        wanted = OriginList.read(request.data)["origins"]
        with tenant_scope(self.tenant_id):
            kept = origins.replace_origins(origins=wanted)
            record(actor=self.actor, verb="origins.changed", details={"origins": kept})
        return Response({"origins": kept})

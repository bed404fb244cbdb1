"""`/keys`: the tenant's API keys."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api import shapes
from api.auth import key_of
from api.fields import Body, Text, Whole
from api.idempotency import Answer, Once
from api.paging import read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts import keys
from tenants.accounts.models import ApiKey, KeyDigest
from tenants.accounts.permissions import ADMIN, SCOPES
from tenants.events.services import record
from tenants.scope import tenant_scope

MAX_NAME = 100


class NewKey(Body):
    name = Text(max_length=MAX_NAME)
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES), min_length=1, max_length=20)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class Rotation(Body):
    overlap_s = Whole(min_value=0, max_value=keys.MAX_OVERLAP_S)


def as_dict(key: ApiKey, digest: KeyDigest) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "prefix": key.prefix,
        "scopes": digest.scopes,
        "created_at": key.created_at,
        "expires_at": digest.expires_at,
        "last_used_at": digest.last_used_at,
        "revoked_at": digest.revoked_at,
    }


class Keys(Resource):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(summary="List keys", parameters=PAGING, responses=shapes.KeyPage)
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            digests = {key.id: digest for key, digest in keys.list_keys()}
            rows = ApiKey.objects.order_by("-id")
            return Response(page.of(rows, lambda key: as_dict(key, digests[key.id])))

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
            Once(request, cast("dict[str, Any]", request.data)).run(lambda: self._create(fields)).response()
        )

    def _create(self, fields: dict[str, Any]) -> Answer:
        # In the name of who made the key that asks, so that removing that person ends this one, too.
        asking = key_of(self.request)
        key, token = keys.create_key(**fields, created_by=keys.maker_of(asking.key_id), within=asking.scopes)
        record(actor=self.actor, verb="key.created", target=str(key.id))
        return shown_once(key, token)


def shown_once(key: ApiKey, token: str) -> Answer:
    shown = as_dict(key, KeyDigest.objects.get(key_id=key.id))
    return Answer.of(201, {**shown, "token": token}, withheld="token")


class OneKey(Resource):
    scopes = {"DELETE": ADMIN}

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
        once = Once(request, cast("dict[str, Any]", request.data))
        return once.run(lambda: self._rotate(key_id, overlap_s)).response()

    def _rotate(self, key_id: uuid.UUID, overlap_s: int) -> Answer:
        # In the name of who sees the new secret, so that removing that person ends this key, too.
        asking = key_of(self.request)
        maker = keys.maker_of(asking.key_id) or self.found.created_by
        key, token = keys.rotate_key(
            key_id=key_id, overlap_s=overlap_s, created_by=maker, within=asking.scopes
        )
        details = {"new": str(key.id), "overlap_s": overlap_s}
        record(actor=self.actor, verb="key.rotated", target=str(key_id), details=details)
        return shown_once(key, token)

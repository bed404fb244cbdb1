"""`/me`: who this key speaks for, and what is left."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api import shapes
from api.auth import key_of
from api.resource import Resource
from tenants.accounts import quotas
from tenants.accounts.models import Tenant
from tenants.datasets import scanning
from tenants.scope import tenant_scope


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
        return Response({**self._who(request), **_whose(tenant), "malware_scan": scanner, "quotas": used})

    def _who(self, request: Request) -> dict[str, Any]:
        key = key_of(request)
        return {"key": {"id": key.key_id, "prefix": key.prefix}, "scopes": list(key.scopes)}


def _whose(tenant: Tenant) -> dict[str, Any]:
    plan = tenant.plan
    return {
        "tenant": {"id": str(tenant.id), "slug": tenant.slug, "name": tenant.name},
        "plan": {"slug": plan.slug, "name": plan.name, "rate_per_minute": tenant.rate_per_minute},
    }

"""`/usage`: what the tenant used, per day and kind."""

from __future__ import annotations

import datetime as dt

from django.http import QueryDict
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api import shapes
from api.resource import Resource
from tenants.accounts import metering
from tenants.accounts.permissions import READ
from tenants.errors import Invalid
from tenants.scope import tenant_scope

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
        responses=shapes.Usage,
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
        return dt.datetime.strptime(value, "%Y-%m-%d").date()
    except ValueError as error:
        raise Invalid("A day looks like 2026-11-25.", pointer=f"/{name}") from error

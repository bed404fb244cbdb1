"""`/audit-log`: who did what, and when."""

from __future__ import annotations

import datetime as dt

from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.paging import read_page, refuse_unknown
from api.resource import Resource
from api.schema import PAGING
from tenants.accounts.permissions import ADMIN
from tenants.errors import Invalid
from tenants.events import selectors, shapes
from tenants.scope import tenant_scope

WORDS = ("actor", "verb", "target")
TIMES = ("since", "until")


class AuditLog(Resource):
    scopes = {"GET": ADMIN}

    @extend_schema(
        summary="The audit log",
        description=(
            "Who did what to which thing, the newest first. Follow `next` for older lines; to follow the log, ask with "
            "`since` and drop the ids that you have. `GET /records/verify?chain=log` says whether it is whole."
        ),
        parameters=[
            *PAGING,
            *(OpenApiParameter(name, str) for name in WORDS),
            OpenApiParameter("since", {"type": "string", "format": "date-time"}, description="From here on."),
            OpenApiParameter("until", {"type": "string", "format": "date-time"}, description="Not included."),
        ],
        responses=page_of(shapes.AuditEvent, "AuditEventPage"),
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, *WORDS, *TIMES)
        page = read_page(query)
        words = {name: _word(query, name) for name in WORDS}
        since, until = (_moment(query, name) for name in TIMES)
        with tenant_scope(self.tenant_id):
            rows = selectors.list_events(**words, since=since, until=until)
            return Response(page.of(rows, selectors.as_shape))


def _word(query: QueryDict, name: str) -> str:
    value = query.get(name, "")
    if "\0" in value or (name in query and not value):
        raise Invalid(f"{name} is a text that is not empty.", pointer=f"/{name}")
    return value


def _moment(query: QueryDict, name: str) -> dt.datetime | None:
    value = query.get(name)
    if value is None:
        return None
    try:
        found = dt.datetime.fromisoformat(value)
    except ValueError as error:
        raise _no_moment(name) from error
    if found.tzinfo is None or found.year < 1971 or found.year > 9000:
        raise _no_moment(name)
    return found


def _no_moment(name: str) -> Invalid:
    return Invalid("A time is written as 2026-11-25T14:30:00Z.", pointer=f"/{name}")

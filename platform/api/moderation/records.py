"""`/records`: the record of decisions, whether it is whole, and its exports."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import asdict

from django.http import QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.moderation.reviews import ModeratorResource, id_in, read_text, whole_in
from api.paging import read_choice, read_limit, refuse_unknown
from api.schema import PAGING, choice
from tenants.accounts.models import Tenant
from tenants.errors import Invalid
from tenants.moderation import record, shapes
from tenants.moderation.record import anchors, exports, seals, signatures
from tenants.moderation.record.chains import CHAINS
from tenants.scope import tenant_scope

MOST = 10**18
# Lines looked at in one request: some seconds.
AT_MOST = 100_000
FORMATS = {
    "csv": ("text/csv; charset=utf-8", "csv"),
    "jsonl": ("application/x-ndjson", "jsonl"),
    "dsa": ("application/x-ndjson", "dsa.jsonl"),
}
DIGEST = re.compile(r"[0-9a-f]{64}")
DAY = re.compile(r"2\d{3}-\d{2}-\d{2}")
DAYS = [
    OpenApiParameter("since", {"type": "string", "format": "date"}, description="From this day (UTC) on."),
    OpenApiParameter("until", {"type": "string", "format": "date"}, description="Up to this day, included."),
]


class Records(ModeratorResource):
    @extend_schema(
        summary="The record of decisions",
        description="Lines of ids and digests, the newest first; they are never changed.",
        parameters=[*PAGING, OpenApiParameter("audit", str, description="The id of an audit.")],
        responses=page_of(shapes.RecordLine, "RecordPage"),
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "audit")
        limit, before = read_limit(query), _before(query)
        with tenant_scope(self.tenant_id):
            rows = record.list_records(audit=id_in(query, "audit")).filter(sequence__lt=before)
            found = list(rows[: limit + 1])
        more = str(found[limit - 1].sequence) if len(found) > limit else None
        return Response({"results": [record.record_as_dict(row) for row in found[:limit]], "next": more})


def _before(query: QueryDict) -> int:
    cursor = query.get("cursor", str(MOST))
    if not re.fullmatch(r"[1-9][0-9]{0,18}", cursor) or int(cursor) > MOST:
        raise Invalid("This is not a cursor from an earlier answer.", pointer="/cursor")
    return int(cursor)


class VerifyRecords(ModeratorResource):
    @extend_schema(
        summary="Whether the record is what was written and sealed",
        description=(
            f"Computes lines and seals anew, {AT_MOST:,} lines at most; `next` says where to go on. `known` is the "
            "`head` of an earlier answer, noted elsewhere: a chain that was computed anew does not have it. `chain` is "
            "`record` for the decisions, `log` for the audit log. Signatures are checked, and at the end the "
            "checkpoints that are kept outside (`outside`)."
        ),
        parameters=[
            choice("chain", CHAINS),
            OpenApiParameter("first", {"type": "integer", "minimum": 1, "default": 1}),
            OpenApiParameter("known", {"type": "string", "pattern": "^[0-9a-f]{64}$"}),
        ],
        responses=shapes.RecordReport,
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        _refuse(query, "chain", "first", "known")
        chain = CHAINS[read_choice(query, "chain", CHAINS) or "record"]
        known = query.get("known", "")
        if "known" in query and not DIGEST.fullmatch(known):
            raise Invalid("A digest has 64 hexadecimal digits.", pointer="/known")
        first = whole_in(query, "first", 1, MOST)
        report = seals.verify(self.tenant_id, chain=chain, first=first, at_most=AT_MOST, known=known)
        outside = [] if report.next else list(anchors.check_tenant(Tenant.objects.get(pk=self.tenant_id)))
        shown = {**report.as_dict(), "chain": chain.name, "ok": report.ok and not outside}
        faults = [{"kind": fault.kind, "detail": fault.detail} for fault in outside]
        return Response({**shown, "outside": faults})


class RecordAnchors(ModeratorResource):
    @extend_schema(
        summary="The keys that sign the record, and where it is kept outside",
        description=(
            "Note the keys elsewhere: they tell what this installation has signed. `places` are the operator's; "
            "checkpoints over all workspaces go there."
        ),
        responses=shapes.RecordAnchors,
    )
    def get(self, request: Request) -> Response:
        _refuse(request.query_params)
        keys = [
            {"id": key.id, "public_key": key.pem, "since": key.since, "until": key.until}
            for key in signatures.key_ring().public
        ]
        return Response({"keys": keys, "places": [asdict(state) for state in anchors.states()]})


class ExportRecords(ModeratorResource):
    @extend_schema(
        summary="The record as a file",
        description=(
            "`csv` and `jsonl` are the lines. `dsa` is one statement of reasons a line, in the fields of the EU's DSA "
            "transparency database; `illegal` names the rules (separated by commas) that are about illegal content, "
            "and `law` the law; all others are about the platform's terms."
        ),
        parameters=[
            choice("format", FORMATS),
            *DAYS,
            OpenApiParameter("illegal", str),
            OpenApiParameter("law", str),
        ],
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/x-ndjson"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        query = request.query_params
        _refuse(query, "format", "since", "until", "illegal", "law")
        wanted = read_choice(query, "format", FORMATS) or "csv"
        span = exports.Span(_day(query, "since"), _day(query, "until"))
        rules = [name for name in read_text(query, "illegal").split(",") if name]
        if bool(rules) != bool(law := read_text(query, "law")):
            raise Invalid("Name the rules and the law, both or neither.", pointer="/law")
        if wanted == "dsa":
            parts = exports.statements_of(self.tenant_id, span, exports.IllegalContentRules(rules, law))
        else:
            write = exports.record_csv if wanted == "csv" else exports.record_json_lines
            parts = write(self.tenant_id, span)
        kind, ending = FORMATS[wanted]
        headers = {"Content-Disposition": f'attachment; filename="record.{ending}"'}
        return StreamingHttpResponse(parts, content_type=kind, headers=headers)


def _refuse(query: QueryDict, *known: str) -> None:
    if unknown := [name for name in query if name not in known]:
        raise Invalid("There is no such query parameter.", pointer=f"/{unknown[0]}")


def _day(query: QueryDict, name: str) -> dt.date | None:
    value = query.get(name)
    if value is None:
        return None
    try:
        if DAY.fullmatch(value):
            return dt.date.fromisoformat(value)
    except ValueError:
        pass
    raise Invalid("A day is written as 2026-11-25.", pointer=f"/{name}")

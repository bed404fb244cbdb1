"""`/audits`: what content shows of itself, and what the tenant's policy decides about it."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_choice, read_page, refuse_unknown
from api.parsers import read_form
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING, PREFER, choice
from api.waiting import ended_in_time, preferred_wait
from ml.auditing import VERDICTS
from tenants.accounts.permissions import MODERATE
from tenants.datasets.resumable import file_of
from tenants.errors import Invalid
from tenants.generation.selectors import made_by_mark
from tenants.jobs import selectors as jobs
from tenants.moderation import reviews, shapes
from tenants.moderation.audits import proofs, selectors
from tenants.pipeline.assets import uploads
from tenants.pipeline.audits import audit_requests, examining
from tenants.scope import tenant_scope
from tenants.shapes import UNSET


class AuditForm(serializers.Serializer):
    file = serializers.FileField(required=False)
    text = serializers.CharField(required=False, allow_blank=True)
    asset = serializers.CharField(required=False, allow_blank=True)
    subject = serializers.CharField(required=False, allow_blank=True)
    policy = serializers.CharField(required=False, allow_blank=True)


class NewAudit(Body):
    text = Text(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=uploads.MAX_TEXT,
        help_text="The text to audit or, beside a file, its caption.",
    )
    asset = Text(required=False, allow_null=True, help_text="The id of an asset, instead of content.")
    upload = Text(
        required=False, allow_null=True, help_text="The id of a finished upload, instead of a file."
    )
    subject = Text(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=audit_requests.MAX_SUBJECT,
        help_text="Who the content comes from, in your words: strikes are counted by it.",
    )
    policy = Text(required=False, allow_null=True, help_text="The id of a policy; else the one in force.")


class Audits(Resource):
    scopes = {"GET": MODERATE, "POST": MODERATE}
    asked: audit_requests.RequestedAudit

    @extend_schema(
        summary="List audits",
        parameters=[
            *PAGING,
            choice("decision", shapes.DECISIONS),
            choice("verdict", VERDICTS),
            OpenApiParameter("asset", str, description="The id of an asset."),
        ],
        responses=shapes.AuditPage,
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "decision", "verdict", "asset")
        page = read_page(query)
        decision = read_choice(query, "decision", shapes.DECISIONS)
        verdict = read_choice(query, "verdict", VERDICTS)
        asset_id = _id(query["asset"], "/asset") if "asset" in query else None
        with tenant_scope(self.tenant_id):
            found = page.fetch(selectors.list_audits(decision=decision, verdict=verdict, asset_id=asset_id))
            lines = {line.id: line for line in selectors.lines_of(found)}
            return Response(page.cut(found, lambda audit: lines[str(audit.id)]))

    @extend_schema(
        summary="Audit a file, a text or an asset",
        description=(
            "Content that is no asset is kept only until it is decided, or looked at by a person. `Prefer: wait=N` "
            "answers 200 with the finished audit if it is done in time."
        ),
        parameters=[IDEMPOTENCY, PREFER],
        request={"multipart/form-data": AuditForm, "application/json": NewAudit},
        responses={202: shapes.AuditAccepted, 200: shapes.AuditAccepted},
        extensions={"x-problems": [403, 404, 413, 415]},
    )
    def post(self, request: Request) -> HttpResponse:
        form = read_form(request, files=("file",), json_fields=())
        fields = NewAudit.read(form.fields)
        idempotent = IdempotentRequest(request, form.fields, form.files)
        answer = idempotent.replay() or self._new(idempotent, fields, form.files.get("file"))
        seconds = preferred_wait(request)
        if answer.status == 202 and not answer.replayed and seconds:
            answer = self._wait_for_job(idempotent, answer, seconds)
        return answer.response()

    def _new(self, idempotent: IdempotentRequest, fields: dict[str, Any], sent: Any) -> Answer:
        asset_id = _id(fields["asset"], "/asset") if fields.get("asset") else None
        policy_id = _id(fields["policy"], "/policy") if fields.get("policy") else None
        content = sent is not None or fields.get("upload") or fields.get("text")
        if asset_id and content:
            raise Invalid("Send either an asset, or a file or text.", pointer="/asset")
        options = {"subject": fields.get("subject") or "", "policy_id": policy_id}
        if asset_id:
            return idempotent.run(lambda: self._request(asset_id=asset_id, **options))
        with file_of(self.tenant_id, sent, fields.get("upload"), at_most=settings.MAX_UPLOAD_BYTES) as file:
            # Before any transaction: reading, scanning and hashing a film takes seconds.
            upload = uploads.check_upload(file, fields.get("text") or "")
            return idempotent.run(lambda: self._request(upload=upload, **options))

    def _request(self, **what: Any) -> Answer:
        self.asked = audit_requests.request_audit(actor=self.actor, **what)
        audit, job = selectors.request_shape(self.asked.request), self.asked.job
        return Answer.of(202, {"audit": audit, "job": jobs.job_shape(job)}, location(job.id))

    def _wait_for_job(self, idempotent: IdempotentRequest, answer: Answer, seconds: int) -> Answer:
        job = ended_in_time(self.tenant_id, self.asked.job.id, seconds)
        if job is None:
            return answer
        with tenant_scope(self.tenant_id):
            audit = selectors.audit_shape(selectors.get_request(self.asked.request.id))
        headers = {**location(job.id), "Preference-Applied": f"wait={seconds}"}
        return idempotent.replace(Answer.of(200, {"audit": audit, "job": jobs.job_shape(job)}, headers))


class OneAudit(Resource):
    scopes = {"GET": MODERATE}

    def find(self, audit_id: uuid.UUID | None) -> shapes.Audit:
        shape = selectors.audit_shape(selectors.get_request(audit_id))
        made = made_by_mark(selectors.watermark_of(shape))
        shape.generation = UNSET if made is None else str(made)
        if until := reviews.appeal_window(audit_id).until:
            shape.appealable_until = until
        return shape

    @extend_schema(summary="An audit with its evidence", responses=shapes.Audit)
    def get(self, request: Request, audit_id: uuid.UUID) -> Response:
        return Response(self.found)


class AuditProof(Resource):
    scopes = {"GET": MODERATE}

    def find(self, audit_id: uuid.UUID | None) -> shapes.AuditProof:
        selectors.get_request(audit_id)
        return proofs.get_proof(audit_id)

    @extend_schema(
        summary="The proof of a decision by rules over facts",
        description="404 where the policy had no `facts_rules`, or the evidence was erased.",
        responses=shapes.AuditProof,
    )
    def get(self, request: Request, audit_id: uuid.UUID) -> Response:
        return Response(self.found)


class AuditPicture(Resource):
    scopes = {"GET": MODERATE}

    def find(self, audit_id: uuid.UUID | None, picture_id: uuid.UUID | None) -> bytes:
        selectors.get_request(audit_id)
        return bytes(selectors.get_picture(audit_id=audit_id, picture_id=picture_id).content)  # type: ignore[arg-type]

    @extend_schema(
        summary="A picture that a detector made (PNG)",
        description="A mask or a heat-map: where it saw something.",
        responses={(200, "image/png"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, audit_id: uuid.UUID, picture_id: uuid.UUID) -> HttpResponse:
        headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
        return HttpResponse(self.found, content_type="image/png", headers=headers)


def _id(value: str, pointer: str) -> uuid.UUID:
    found = read_id(value)
    if found is None:
        raise Invalid("This is not an id.", pointer=pointer)
    return found


class Detectors(Resource):
    scopes = {"GET": MODERATE}

    @extend_schema(
        summary="The detectors of this installation",
        description="What each sees and what it is blind to; one that is `missing` says what to install.",
        responses=shapes.Detectors,
    )
    def get(self, request: Request) -> Response:
        return Response({"results": examining.catalogue()})

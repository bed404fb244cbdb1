"""`/policies`: what decides about content.

Drafts, checks and backtests change nothing and are for whoever moderates; what is in force is for administrators.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiRequest, extend_schema
from msgspec.structs import asdict
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Number, Text, Whole
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.moderation.forms import DocumentBody
from api.paging import read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import ADMIN, MODERATE
from tenants.errors import Invalid
from tenants.jobs import selectors as jobs
from tenants.moderation import policies, shapes, starters
from tenants.moderation.models import Policy, PolicyActivation, PolicyVersion
from tenants.moderation.policies import backtests, selectors
from tenants.moderation.policies import selectors as installed
from tenants.moderation.rules import static_checks
from tenants.scope import tenant_scope

DESCRIBED = "docs/auditing/policies.md describes rules and every other field."
ANY_DOCUMENT = {
    "type": "object",
    "description": "As for a new version; what does not fit is what this tells.",
    "additionalProperties": True,
}
MAX_NUMBER = 2**31 - 1
NUMBER = OpenApiParameter("number", {"type": "string"}, OpenApiParameter.PATH, description="1, 2, …")


class NewPolicy(DocumentBody):
    name = Text(required=False, max_length=100, help_text="Unique in the workspace.")
    description = Text(required=False, max_length=2_000, allow_blank=True)
    starter = Text(
        required=False, max_length=50, help_text="A starter policy; the fields that are sent replace its own."
    )


class Activation(Body):
    version = Whole(min_value=1, max_value=MAX_NUMBER)
    mode = serializers.ChoiceField(PolicyActivation.Mode.values)
    ratio = Number(
        required=False,
        min_value=0.001,
        max_value=1.0,
        help_text="Of an enforced version: the share of items that it decides for, by their content.",
    )


class NewBacktest(Body):
    version = Whole(min_value=1, max_value=MAX_NUMBER)


def policy_now(policy: Policy) -> shapes.Policy:
    now, versions = selectors.activations_now()
    return selectors.policy_shape(policy, now.get(policy.pk), versions)


def warnings_of(document: object) -> list[dict[str, str]]:
    report = static_checks.check_policy(document, installed.installed_environment())
    return [problem.as_dict() for problem in report.warnings]


class Policies(Resource):
    scopes = {"GET": MODERATE, "POST": MODERATE}

    @extend_schema(summary="List policies", parameters=PAGING, responses=page_of(shapes.Policy))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            rows = page.fetch(selectors.list_policies())
            now, versions = selectors.activations_now()
            return Response(
                page.cut(rows, lambda row: selectors.policy_shape(row, now.get(row.pk), versions))
            )

    @extend_schema(
        summary="Create a policy",
        description=f"Its first version; in force nowhere until it is activated. {DESCRIBED}",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewPolicy},
        responses={201: shapes.PolicyCreated},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewPolicy.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._create(**fields)).response()

    def _create(self, name: str = "", description: str = "", starter: str = "", **document: Any) -> Answer:
        policy, version = policies.create_policy(
            name=name or policies.free_name(starter),
            description=description,
            document=document,
            starter=starter,
            actor=self.actor,
        )
        body = {
            "policy": policy_now(selectors.get_policy(policy.id)),
            "version": selectors.version_shape(version),
            "warnings": warnings_of(version.document),
        }
        return Answer.of(201, body, {"Location": f"/api/v1/policies/{policy.id}"})


DRAFT = OpenApiExample(
    "Example",
    value={
        "rules": [
            {
                "id": "personal-data",
                "when": "categories.personal_data.flagged",
                "then": "review",
                "reason": "It holds personal data.",
            }
        ]
    },
)


class CheckPolicy(Resource):
    scopes = {"POST": MODERATE}

    @extend_schema(
        summary="Check a policy without storing it",
        description=(
            "Errors would keep it from being stored. Warnings tell of rules that can never fire, that nothing reaches, "
            "or that refer to what is not installed."
        ),
        request={"application/json": OpenApiRequest(ANY_DOCUMENT, examples=[DRAFT])},
        responses=shapes.PolicyCheck,
    )
    def post(self, request: Request) -> Response:
        document = request.data
        if not isinstance(document, dict):
            raise Invalid("The body must be a JSON object.")
        with tenant_scope(self.tenant_id):
            report = static_checks.check_policy(document, installed.installed_environment())
        return Response(
            {
                "errors": [problem.as_dict() for problem in report.errors],
                "warnings": [problem.as_dict() for problem in report.warnings],
                "steps": report.steps,
            }
        )


class StarterPolicies(Resource):
    scopes = {"GET": MODERATE}

    @extend_schema(summary="Policies to begin with", responses=shapes.StarterPolicies)
    def get(self, request: Request) -> Response:
        return Response({"results": [starter.as_dict() for starter in starters.list_starters()]})


class ExistingPolicy(Resource):
    found: Policy

    def find(self, policy_id: uuid.UUID | None) -> Policy:
        return selectors.get_policy(policy_id)


class OnePolicy(ExistingPolicy):
    scopes = {"GET": MODERATE}

    @extend_schema(summary="A policy, and when what was in force", responses=shapes.PolicyWithHistory)
    def get(self, request: Request, policy_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            lines = selectors.list_activations(self.found)[:50]
            history = [selectors.activation_shape(row) for row in lines]
            return Response(shapes.PolicyWithHistory(**asdict(policy_now(self.found)), activations=history))


class Versions(ExistingPolicy):
    scopes = {"GET": MODERATE, "POST": MODERATE}

    @extend_schema(summary="List versions", parameters=PAGING, responses=page_of(shapes.PolicyVersion))
    def get(self, request: Request, policy_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(selectors.list_versions(self.found), selectors.version_shape))

    @extend_schema(
        summary="Add a version",
        description=f"The same document answers 200 with the version that there is. {DESCRIBED}",
        parameters=[IDEMPOTENCY],
        request={"application/json": DocumentBody},
        responses={201: shapes.PolicyVersionAdded, 200: shapes.PolicyVersionAdded},
    )
    def post(self, request: Request, policy_id: uuid.UUID) -> HttpResponse:
        document = DocumentBody.read(request.data)
        return IdempotentRequest(request, document).run(lambda: self._add(document)).response()

    def _add(self, document: dict[str, object]) -> Answer:
        version, new = policies.add_version(policy_id=self.found.pk, document=document, actor=self.actor)
        body = {"version": selectors.version_shape(version), "warnings": warnings_of(version.document)}
        where = f"/api/v1/policies/{version.policy_id}/versions/{version.number}"
        return Answer.of(201 if new else 200, body, {"Location": where})


class OneVersion(Resource):
    scopes = {"GET": MODERATE}
    found: PolicyVersion

    def find(self, policy_id: uuid.UUID | None, number: str) -> PolicyVersion:
        wanted = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
        return selectors.get_version(selectors.get_policy(policy_id), wanted)

    @extend_schema(summary="A version", parameters=[NUMBER], responses=shapes.PolicyVersion)
    def get(self, request: Request, policy_id: uuid.UUID, number: str) -> Response:
        return Response(selectors.version_shape(self.found))


class ShadowOfVersion(OneVersion):
    @extend_schema(
        summary="What a version in shadow would have decided",
        description="Of the audits since it has been in shadow, beside what was decided.",
        parameters=[NUMBER],
        responses=shapes.ShadowComparison,
    )
    def get(self, request: Request, policy_id: uuid.UUID, number: str) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(selectors.compare_shadow(self.found))


class BacktestPolicy(ExistingPolicy):
    scopes = {"POST": MODERATE}

    @extend_schema(
        summary="Try a version on what was audited",
        description=(
            "202 with the job, whose result has `changes` (from, to, count), counts of each rule, and `samples`: for "
            "each change the ids of at most twenty audits, spread over the whole history. Nothing is changed."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewBacktest},
        responses={202: shapes.BacktestAccepted},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, policy_id: uuid.UUID) -> HttpResponse:
        fields = NewBacktest.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._start(fields["version"])).response()

    def _start(self, number: int) -> Answer:
        version = selectors.get_version(self.found, number)
        job = backtests.start_backtest(version=version, actor=self.actor)
        return Answer.of(202, {"job": jobs.job_shape(job)}, location(job.id))


class ActivatePolicy(ExistingPolicy):
    scopes = {"POST": ADMIN}

    @extend_schema(
        summary="Put a version in force, or out of it",
        description=(
            "`shadow` decides and records, and changes nothing; the enforced version stays. `enforce` takes another "
            "policy out of force; below a `ratio` of 1 the version that was enforced before decides about the rest. "
            "`off` takes this version out of force."
        ),
        request={"application/json": Activation},
        responses=shapes.Policy,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, policy_id: uuid.UUID) -> Response:
        fields = Activation.read(request.data)
        with tenant_scope(self.tenant_id):
            policies.activate(
                policy_id=self.found.pk,
                number=fields["version"],
                mode=fields["mode"],
                ratio=fields.get("ratio", 1.0),
                actor=self.actor,
            )
            return Response(policy_now(self.found))


class RollBackPolicy(ExistingPolicy):
    scopes = {"POST": ADMIN}

    @extend_schema(
        summary="Bring back what was in force before",
        description="Also another policy that had made way for this one.",
        request=None,
        responses=shapes.Policy,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, policy_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            policies.roll_back(policy_id=self.found.pk, actor=self.actor)
            return Response(policy_now(self.found))

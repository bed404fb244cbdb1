"""`/generations`: pictures, clips and music from words."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of, missing_scope
from api.components import page_of
from api.fields import Body, Flag, Number, Text, Whole
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_choice, read_page, refuse_unknown
from api.paths import read_dataset_id, read_id
from api.problems import Refusal
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING, choice
from tenants.accounts.permissions import ADMIN, GENERATE, READ, WRITE
from tenants.errors import Invalid, NotFound
from tenants.generation import disclosure, previews, selectors, services, shapes, validation
from tenants.generation.models import Generation
from tenants.jobs import selectors as jobs
from tenants.jobs.models import Job
from tenants.pipeline.care import erasure
from tenants.scope import tenant_scope

MAX_ID = 100
YES_NO = ("true", "false")
SOURCES = {"dataset": "dataset", "variation_of": "generation", "remix_of": "asset"}


def _bounded(name: str) -> dict[str, Any]:
    least, most = validation.BOUNDS[name]
    return {"required": False, "min_value": least, "max_value": most}


class NewGeneration(Body):
    prompt = Text(
        required=False,
        allow_blank=True,
        max_length=validation.MAX_PROMPT,
        help_text="Needed unless `variation_of` or the caption of `remix_of` says it.",
    )
    negative = Text(
        required=False, allow_blank=True, max_length=validation.MAX_PROMPT, help_text="What not to show."
    )
    outputs = serializers.ListField(
        child=serializers.ChoiceField(validation.KINDS),
        required=False,
        min_length=1,
        max_length=len(validation.KINDS),
        help_text='`["image"]` by default. They share seed and mood; a clip shows the picture and carries the music.',
    )
    seed = Whole(**_bounded("seed"), help_text="The same seed makes the same; one is drawn by default.")
    steps = Whole(**_bounded("steps"), help_text="25 by default.")
    guidance = Number(**_bounded("guidance"), help_text="How strictly the prompt is followed; 3 by default.")
    width = Whole(**_bounded("width"), help_text="In pixels, a multiple of 8; 512 by default.")
    height = Whole(**_bounded("height"))
    seconds = Number(**_bounded("seconds"), help_text="Of music, and at most of a clip; 10 by default.")
    anyway = Flag(
        required=False,
        help_text="Draw words of which the generator of pictures knows none, too; false by default: `nothing-known`.",
    )
    dataset = Text(required=False, max_length=MAX_ID, help_text='Else one with the name "Generated".')
    variation_of = Text(
        required=False,
        max_length=MAX_ID,
        help_text="The id of a generation: the same with another seed, and what else is said here.",
    )
    remix_of = Text(
        required=False,
        max_length=MAX_ID,
        help_text="The id of an asset: its caption is the prompt by default, and a clip begins with its picture.",
    )


class Generations(Resource):
    scopes = {"GET": READ, "POST": GENERATE}

    @extend_schema(
        summary="List generations",
        parameters=[
            *PAGING,
            choice("state", Generation.State.values),
            OpenApiParameter("variation_of", str, description="The id of a generation."),
        ],
        responses=page_of(shapes.GenerationShape),
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, "state", "variation_of")
        page, state = read_page(query), read_choice(query, "state", Generation.State.values)
        original = read_id(query["variation_of"]) if "variation_of" in query else None
        if original is None and "variation_of" in query:
            raise Invalid("This is not an id.", pointer="/variation_of")
        with tenant_scope(self.tenant_id):
            found = page.fetch(selectors.list_generations(state=state, variation_of=original))
            made = selectors.outputs_of(found)
            return Response(
                page.cut(found, lambda row: selectors.generation_shape(row, made.get(row.id, ())))
            )

    @extend_schema(
        summary="Generate pictures, clips and music from words",
        description=(
            "202 with the generation and its job. The prompt passes the policy in force first, each file before it "
            "becomes an asset. Every file carries content credentials and an invisible mark, read back before it is "
            "released. Assets have the label `ai-generated` and the metadata `generated: true`."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewGeneration},
        responses={202: shapes.GenerationAccepted},
        extensions={"x-problems": [403, 404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewGeneration.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._request(fields)).response()

    def _request(self, fields: Mapping[str, Any]) -> Answer:
        ids = {name: _id(fields[name], noun) for name, noun in SOURCES.items() if name in fields}
        asked = {name: value for name, value in fields.items() if name not in {*SOURCES, "anyway"}}
        anyway = bool(fields.get("anyway", False))
        dataset = ids.get("dataset")
        if "variation_of" in ids and "remix_of" in ids:
            raise Invalid("Send either variation_of or remix_of.", pointer="/remix_of")
        if "variation_of" in ids:
            changes = {**asked, "dataset_id": dataset, "anyway": anyway}
            made = services.vary_generation(
                generation_id=ids["variation_of"], changes=changes, actor=self.actor
            )
        else:
            made = services.request_generation(
                wanted=validation.GenerationSpec(**asked),
                dataset_id=dataset,
                remix_of=ids.get("remix_of"),
                anyway=anyway,
                actor=self.actor,
            )
        return Answer.of(202, _accepted(*made), location(made[1].id))


def _accepted(row: Generation, job: Job) -> shapes.GenerationAccepted:
    return shapes.GenerationAccepted(generation=_shape(row), job=jobs.job_shape(job))


def _shape(row: Generation) -> shapes.GenerationShape:
    return selectors.generation_shape(row, selectors.outputs_of([row]).get(row.id, ()))


def _id(name: str, noun: str) -> uuid.UUID:
    if noun == "dataset":
        return read_dataset_id(name)
    if (found := read_id(name)) is None:
        raise NotFound(f"There is no such {noun}.")
    return found


class DisclosureChanges(Body):
    icon = Flag(required=False, allow_null=True, help_text="Null: as the installation has it.")
    notice = Flag(required=False, allow_null=True, help_text="Null: as the installation has it.")


class GenerationDisclosure(Resource):
    scopes = {"GET": READ, "PATCH": ADMIN}

    @extend_schema(
        summary="Whether people see and hear that files were generated", responses=shapes.Disclosure
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(disclosure.get_disclosure().shape())

    @extend_schema(
        summary="Choose whether people see and hear that files were generated",
        description=(
            "For what is generated from now on. What is absent stays; what the operator enforces cannot be turned "
            "off. Content credentials and invisible marks are in every file, whatever is chosen here."
        ),
        request={"application/json": DisclosureChanges},
        responses=shapes.Disclosure,
    )
    def patch(self, request: Request) -> Response:
        fields = cast(disclosure.Changes, DisclosureChanges.read(request.data))
        with tenant_scope(self.tenant_id):
            return Response(disclosure.change_disclosure(actor=self.actor, changes=fields).shape())


class ExistingGeneration(Resource):
    found: Generation

    def find(self, generation_id: uuid.UUID | None) -> Generation:
        return selectors.get_generation(generation_id)


class OneGeneration(ExistingGeneration):
    scopes = {"GET": READ, "DELETE": GENERATE}

    @extend_schema(summary="A generation with what came of it", responses=shapes.GenerationShape)
    def get(self, request: Request, generation_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(_shape(self.found))

    @extend_schema(
        summary="Delete a generation",
        description=(
            "With its prompt; one under way stops. What was made stays, as assets, until those are deleted. With "
            "`assets=true` they are deleted too, all or nothing, for which the key needs the scope `write` as well; "
            "`Link` then names the receipt of each."
        ),
        parameters=[choice("assets", YES_NO)],
        responses={204: None},
    )
    def delete(self, request: Request, generation_id: uuid.UUID) -> Response:
        query = request.query_params
        refuse_unknown(query, "assets")
        if read_choice(query, "assets", YES_NO) != "true":
            with tenant_scope(self.tenant_id):
                services.delete_generation(generation_id=generation_id, actor=self.actor)
            return Response(status=204)
        if WRITE not in key_of(request).scopes:
            raise Refusal(missing_scope(WRITE))
        with tenant_scope(self.tenant_id):
            receipts = erasure.erase_generation(generation_id=generation_id, actor=self.actor)
        links = [f'</api/v1/erasures/{receipt.id}>; rel="describedby"' for receipt in receipts]
        return Response(status=204, headers={"Link": ", ".join(links)} if links else None)


class GenerationPreview(ExistingGeneration):
    scopes = {"GET": READ}

    @extend_schema(
        summary="How a generation under way looks (PNG)",
        description="The newest picture, small and rough. 204 where there is none yet, or it has ended.",
        responses={
            (200, "image/png"): OpenApiTypes.BINARY,
            204: OpenApiResponse(description="There is none."),
        },
    )
    def get(self, request: Request, generation_id: uuid.UUID) -> HttpResponse:
        png = previews.newest(self.tenant_id, generation_id)
        if png is None:
            return Response(status=204)
        headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
        return HttpResponse(png, content_type="image/png", headers=headers)


class CancelGeneration(ExistingGeneration):
    scopes = {"POST": GENERATE}

    @extend_schema(
        summary="Cancel a generation",
        description="Nothing of it is kept, and its quota comes back. One that waits ends at once.",
        request=None,
        responses={200: shapes.GenerationAccepted, 202: shapes.GenerationAccepted},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, generation_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            row, job = services.cancel(generation_id=generation_id, actor=self.actor)
            status = 200 if job.finished else 202
            return Response(_accepted(row, job), status=status, headers=location(job.id))


class RetryGeneration(ExistingGeneration):
    scopes = {"POST": GENERATE}

    @extend_schema(
        summary="Try a generation again",
        description="One that failed, was cancelled or blocked: with the same seed.",
        request=None,
        responses={202: shapes.GenerationAccepted},
        extensions={"x-problems": [403, 409]},
    )
    def post(self, request: Request, generation_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            row, job = services.retry(generation_id=generation_id, actor=self.actor)
            return Response(_accepted(row, job), status=202, headers=location(job.id))

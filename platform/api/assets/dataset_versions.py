"""`/datasets/{id}/versions`: named lists of assets that nobody changes."""

from __future__ import annotations

import dataclasses as dc
import uuid
from functools import partial
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers as s
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.components import page_of
from api.fields import Body, Object, Text, Texts
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_choice, read_page, refuse_unknown
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING, choice
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets.models import Asset, DatasetVersion
from tenants.datasets.selectors import asset_shape_for, require_dataset
from tenants.datasets.shapes import Asset as AssetShape
from tenants.errors import Invalid
from tenants.jobs import selectors as jobs
from tenants.learning import dataset_versions as versions
from tenants.learning import shapes
from tenants.scope import tenant_scope

CONFIRMED = ("true", "false")


class NewDatasetVersion(Body):
    name = Text(max_length=versions.MAX_NAME, help_text="Unique in the dataset.")
    note = Text(required=False, allow_blank=True, max_length=versions.MAX_NOTE)
    assets = Texts(
        required=False,
        min_length=1,
        max_length=versions.MOST_NAMED,
        help_text="Ids of assets of this dataset; not together with the conditions below.",
    )
    status = s.ChoiceField(Asset.State.values, required=False)
    modality = s.ChoiceField(Asset.Modality.values, required=False)
    tag = Text(required=False, help_text="Only assets that have this tag.")
    filter = Object(required=False, help_text="As in a search: `{key: value}` or `{key: {operator: value}}`.")


class DatasetVersions(Resource):
    scopes = {"GET": READ, "POST": WRITE}

    def find(self, dataset_id: uuid.UUID | None) -> None:
        require_dataset(dataset_id)

    @extend_schema(
        summary="List versions of a dataset", parameters=PAGING, responses=page_of(shapes.DatasetVersionShape)
    )
    def get(self, request: Request, dataset_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(versions.list_versions(dataset_id), versions.version_shape))

    @extend_schema(
        summary="Make a version of a dataset",
        description=(
            "Lists the whole dataset, the assets that meet all conditions, or the named ones. 201 with the version; of "
            f"more than {versions.AT_ONCE:,} assets 202 with the job that makes it. What it lists never changes; an "
            "asset that is erased leaves it, and `gone` counts that."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewDatasetVersion},
        responses={201: shapes.DatasetVersionMade, 202: shapes.DatasetVersionMade},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, dataset_id: uuid.UUID) -> HttpResponse:
        fields = NewDatasetVersion.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._make(dataset_id, fields)).response()

    def _make(self, dataset_id: uuid.UUID, fields: dict[str, Any]) -> Answer:
        chosen = {
            one.name: fields[one.name]
            for one in dc.fields(versions.Chosen)
            if fields.get(one.name) is not None
        }
        if "assets" in chosen:
            if len(chosen) > 1:
                raise Invalid("Send ids of assets, or conditions, not both.", pointer="/assets")
            chosen["assets"] = [read_id(one) for one in chosen["assets"]]
        row, job = versions.make_version(
            dataset_id=dataset_id,
            name=fields["name"],
            note=fields.get("note", ""),
            chosen=versions.Chosen(**chosen),
            actor=self.actor,
        )
        body = {"version": versions.version_shape(row), "job": jobs.job_shape(job) if job else None}
        if job:
            return Answer.of(202, body, location(job.id))
        return Answer.of(201, body, {"Location": f"/api/v1/datasets/{dataset_id}/versions/{row.id}"})


class _OfVersion(Resource):
    scopes = {"GET": READ}

    def find(self, dataset_id: uuid.UUID | None, version_id: uuid.UUID | None) -> DatasetVersion:
        return versions.get_version(dataset_id, version_id)


class OneDatasetVersion(_OfVersion):
    scopes = {"GET": READ, "DELETE": WRITE}

    @extend_schema(summary="A version of a dataset", responses=shapes.DatasetVersionShape)
    def get(self, request: Request, dataset_id: uuid.UUID, version_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            used = versions.models_of(version_id)[: versions.MOST_USES]
            return Response(versions.version_shape(self.found, list(used)))

    @extend_schema(
        summary="Delete a version of a dataset",
        description=(
            "Its assets stay. One that a model learnt from goes with `confirm=true` alone (409 without): the model "
            "keeps its name and digest, and cannot be trained on the same assets again. One that a model is learning "
            "from stays."
        ),
        parameters=[OpenApiParameter("confirm", {"type": "string", "enum": list(CONFIRMED)})],
        responses={204: None},
        extensions={"x-problems": [409]},
    )
    def delete(self, request: Request, dataset_id: uuid.UUID, version_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params, "confirm")
        confirmed = read_choice(request.query_params, "confirm", CONFIRMED) == "true"
        with tenant_scope(self.tenant_id):
            versions.delete_version(
                dataset_id=dataset_id, version_id=version_id, confirmed=confirmed, actor=self.actor
            )
        return Response(status=204)


class DatasetVersionAssets(_OfVersion):
    @extend_schema(
        summary="List the assets of a version",
        description="As they are now, newest first; those that were erased are not there any more.",
        parameters=[*PAGING, choice("modality", Asset.Modality.values)],
        responses=page_of(AssetShape),
        extensions={"x-problems": [409]},
    )
    def get(self, request: Request, dataset_id: uuid.UUID, version_id: uuid.UUID) -> Response:
        query = request.query_params
        refuse_unknown(query, "modality")
        page, modality = read_page(query), read_choice(query, "modality", Asset.Modality.values)
        scopes = key_of(request).scopes
        with tenant_scope(self.tenant_id):
            versions.require_made(self.found)
            lines = versions.lines_of(version_id)
            lines = lines.filter(asset__modality=modality) if modality else lines
            read = partial(versions.page_of, lines)
            return Response(page.of_bounded(read, lambda asset: asset_shape_for(asset, scopes)))


class CompareDatasetVersions(_OfVersion):
    @extend_schema(
        summary="Compare two versions of a dataset",
        description=(
            "What is added, removed or changed in this version beside an earlier one: how many, and a page of the "
            "assets that `change` asks for. What was erased is in neither."
        ),
        parameters=[
            *PAGING,
            OpenApiParameter("with", str, required=True, description="The id of the earlier version."),
            choice("change", versions.CHANGES),
        ],
        responses=shapes.DatasetVersionComparison,
        extensions={"x-problems": [409]},
    )
    def get(self, request: Request, dataset_id: uuid.UUID, version_id: uuid.UUID) -> Response:
        query = request.query_params
        refuse_unknown(query, "with", "change")
        page = read_page(query)
        change = read_choice(query, "change", versions.CHANGES) or versions.ADDED
        scopes = key_of(request).scopes
        if "with" not in query:
            raise Invalid("Name the version that it is compared with.", pointer="/with")
        with tenant_scope(self.tenant_id):
            before = versions.get_version(dataset_id, read_id(query["with"]))
            counts = dc.asdict(versions.compare(before, self.found))
            read = partial(versions.page_of, versions.changes_of(before, self.found, change))
            # Nothing is looked for where there is none: that would be a walk over the whole list.
            listed = (
                page.of_bounded(read, lambda asset: asset_shape_for(asset, scopes))
                if counts[change]
                else {"results": [], "next": None}
            )
        alike = before.digest == self.found.digest
        return Response(
            {"version": str(version_id), "before": str(before.id), **counts, "alike": alike, **listed}
        )

"""`/maps`: a workspace's vectors as points in the plane, and how alike chosen assets are."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Number, Text, Whole
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_page, refuse_unknown
from api.paths import read_dataset_id, read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import READ, SEARCH, WRITE
from tenants.errors import NotFound
from tenants.jobs import selectors as jobs
from tenants.learning import selectors as models
from tenants.retrieval import map_points, maps, shapes
from tenants.retrieval.models import EmbeddingMap
from tenants.scope import tenant_scope

MAX_ID, MAX_KEY, MAX_SEED = 100, 100, 2**31 - 1
COLOUR = OpenApiParameter(
    "colour", str, description="A key of metadata, whose values come as the column `field`."
)


class NewMap(Body):
    name = Text(required=False, max_length=maps.MAX_NAME)
    method = serializers.ChoiceField(
        EmbeddingMap.Method.values,
        default="pca",
        help_text="`pca` can be looked at at once; `umap` is drawn by a job and keeps neighbourhoods together.",
    )
    model = Text(
        required=False, max_length=MAX_ID, help_text="By id or slug; else the one that answers searches."
    )
    datasets = serializers.ListField(
        child=Text(max_length=MAX_ID), required=False, max_length=maps.MOST_DATASETS
    )
    modality = Text(required=False, max_length=5)
    neighbours = Whole(
        min_value=maps.FEWEST_NEIGHBOURS,
        max_value=maps.MOST_NEIGHBOURS,
        default=maps.Params.neighbours,
        help_text="Of UMAP: more show the large shape, fewer the small groups.",
    )
    min_dist = Number(min_value=0, max_value=maps.MOST_DIST, default=maps.Params.min_dist)
    seed = Whole(min_value=0, max_value=MAX_SEED, default=maps.Params.seed)


def as_dict(row: EmbeddingMap) -> dict[str, Any]:
    return {**maps.map_as_dict(row), "model": models.public_name(row.model)}


class Maps(Resource):
    scopes = {"GET": READ, "POST": WRITE}

    @extend_schema(summary="List maps", parameters=PAGING, responses=page_of(shapes.MapShape))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.cut(page.fetch(maps.list_maps()), as_dict))

    @extend_schema(
        summary="Draw a map",
        description="201 with a map by PCA, whose points are there at once; 202 with one by UMAP and its job.",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewMap},
        responses={201: shapes.MapShape, 202: shapes.MapAccepted},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewMap.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._create(**fields)).response()

    def _create(
        self, method: str, neighbours: int, min_dist: float, seed: int, model: str = "", **more: Any
    ) -> Answer:
        datasets = [read_dataset_id(one) for one in more.pop("datasets", ())]
        row, job = maps.create_map(
            method=method,
            model=models.find_model(model).space if model else "",
            dataset_ids=datasets,
            params=maps.Params(neighbours, min_dist, seed),
            actor=self.actor,
            **more,
        )
        if job is None:
            return Answer.of(201, as_dict(row), {"Location": f"/api/v1/maps/{row.id}"})
        return Answer.of(202, {"map": as_dict(row), "job": jobs.job_shape(job)}, location(job.id))


def _id(name: str) -> uuid.UUID:
    if (found := read_id(name)) is None:
        raise NotFound("There is no such asset.")
    return found


class OneMap(Resource):
    scopes = {"GET": READ, "DELETE": WRITE}
    found: EmbeddingMap

    def find(self, map_id: uuid.UUID | None) -> EmbeddingMap:
        return maps.get_map(map_id)

    @extend_schema(summary="A map", responses=shapes.MapShape)
    def get(self, request: Request, map_id: uuid.UUID) -> Response:
        return Response(as_dict(self.found))

    @extend_schema(summary="Delete a map", responses={204: None})
    def delete(self, request: Request, map_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            maps.delete_map(map_id=map_id, actor=self.actor)
        return Response(status=204)


class MapPoints(Resource):
    scopes = {"GET": READ}
    found: EmbeddingMap

    def find(self, map_id: uuid.UUID | None) -> EmbeddingMap:
        return maps.get_map(map_id)

    @extend_schema(
        summary="The points of a map",
        description="Assets that are there now; what was deleted, blocked or held back is left out. Of more than "
        "100,000 every second, third and so on comes.",
        parameters=[COLOUR],
        responses=shapes.MapPoints,
        extensions={"x-problems": [409]},
    )
    def get(self, request: Request, map_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params, "colour")
        placed = map_points.points_of(self.tenant_id, self.found)
        with tenant_scope(self.tenant_id):
            found = map_points.shown(
                placed,
                key=request.query_params.get("colour", "")[:MAX_KEY],
                most=map_points.MOST_AT_ONCE,
            )
            model = models.public_name(placed.model)
        return Response({**map_points.as_columns(placed, found), "model": model})


class Compared(Body):
    assets = serializers.ListField(
        child=Text(max_length=MAX_ID), min_length=2, max_length=map_points.MOST_COMPARED
    )
    model = Text(required=False, max_length=MAX_ID)


class MapSimilarity(Resource):
    scopes = {"POST": SEARCH}

    @extend_schema(
        summary="Compare assets with each other",
        description="The cosine of each asset with each other one, as likeness is measured by searches.",
        request={"application/json": Compared},
        responses=shapes.Similarity,
        extensions={"x-problems": [404]},
    )
    def post(self, request: Request) -> Response:
        fields = Compared.read(request.data)
        assets = [_id(one) for one in fields["assets"]]
        with tenant_scope(self.tenant_id):
            model = models.find_model(fields["model"]).space if fields.get("model") else ""
        found = map_points.matrix_of(self.tenant_id, assets, model)
        with tenant_scope(self.tenant_id):
            return Response({**found, "model": models.public_name(found["model"])})

"""`/finetunes`: training a space on the tenant's own pairs."""

from __future__ import annotations

import dataclasses as dc
import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from api.fields import Body, Flag, Text, Whole
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paths import read_dataset_id, read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY
from tenants.accounts.permissions import TRAIN
from tenants.jobs import selectors as jobs
from tenants.learning import selectors, services, shapes
from tenants.learning.models import LearntModel

MAX_ID = 100
MAX_SEED = 2**31 - 1
NOTHING = uuid.UUID(int=0)


class NewFinetune(Body):
    dataset = Text(max_length=MAX_ID, help_text="The id of the dataset whose captioned pictures are learnt.")
    version = Text(
        required=False,
        max_length=MAX_ID,
        help_text="The id of a version of that dataset: only what it lists is learnt, now and when the job runs again.",
    )
    base = Text(
        required=False,
        max_length=MAX_ID,
        help_text="The model to start from, by id or slug; else the one that answers searches.",
    )
    stage = serializers.ChoiceField(
        LearntModel.Stage.values,
        default=LearntModel.Stage.ADAPT.value,
        help_text="`adapt` leaves the encoders as they are; `full` learns from general pairs first, then from these.",
    )
    method = serializers.ChoiceField(LearntModel.Method.values, default=LearntModel.Method.HEADS.value)
    general_dataset = Text(required=False, max_length=MAX_ID, help_text="Of the stage full: general pairs.")
    epochs = Whole(min_value=1, max_value=services.MAX_EPOCHS, default=services.Settings.epochs)
    seed = Whole(min_value=0, max_value=MAX_SEED, default=services.Settings.seed)
    group_by = Text(
        required=False,
        max_length=services.MAX_KEY,
        help_text="A key of metadata: assets with the same value never stand on both sides of a split.",
    )
    include_generated = Flag(
        default=False,
        help_text="Learn from pictures that were generated here, too; they are left out by default.",
    )
    name = Text(required=False, max_length=services.MAX_NAME, help_text="Unique in the workspace.")


class Finetunes(Resource):
    scopes = {"POST": TRAIN}

    @extend_schema(
        summary="Fine-tune a model",
        description=(
            "202 with a draft and the job that trains it. The draft tells the quality of the data, the cost and the "
            "curves while it learns, and becomes a candidate. As many at once as the plan allows, by default one."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewFinetune},
        responses={202: shapes.FinetuneAccepted},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewFinetune.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._start(**fields)).response()

    def _start(self, dataset: str, **more: Any) -> Answer:
        general, version = more.pop("general_dataset", None), more.pop("version", None)
        wanted = {
            field.name: more.pop(field.name) for field in dc.fields(services.Settings) if field.name in more
        }
        model, job = services.start_finetune(
            dataset_id=read_dataset_id(dataset),
            general_dataset_id=None if general is None else read_dataset_id(general),
            version_id=None if version is None else read_id(version) or NOTHING,
            wanted=services.Settings(**wanted),
            actor=self.actor,
            **more,
        )
        body = {"model": selectors.model_shape(model, None), "job": jobs.job_shape(job)}
        return Answer.of(202, body, location(job.id))

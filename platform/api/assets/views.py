"""`/datasets/{id}/assets` and `/assets/{id}`: what is searched."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.components import page_of
from api.fields import Body, Object, Text, Texts
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_choice, read_page, refuse_unknown
from api.parsers import read_form
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING, PREFER, choice
from api.waiting import ended_in_time, preferred_wait
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets import metadata, selectors, shapes
from tenants.datasets.metadata import MAX_TAG_LENGTH, MAX_TAGS
from tenants.datasets.models import Asset
from tenants.datasets.resumable import file_of, filename_of
from tenants.errors import Invalid, NotFound, ServiceError
from tenants.jobs import selectors as jobs
from tenants.learning.classifiers.scoring import answers_about
from tenants.learning.shapes import AssetDetail, detailed
from tenants.pipeline.assets import services, uploads
from tenants.pipeline.care import erasure
from tenants.scope import tenant_scope

# Assets that one request gives tags.
MOST_TAGGED = 200


class AssetForm(serializers.Serializer):
    """A file, a text, or a file with texts as its captions."""

    file = serializers.FileField(required=False)
    upload = serializers.CharField(
        required=False, allow_blank=True, help_text="The id of a finished upload, instead of a file."
    )
    text = serializers.CharField(
        required=False, allow_blank=True, help_text="Beside a file a caption; may be sent several times."
    )
    captions = serializers.CharField(
        required=False, allow_blank=True, help_text="A JSON list of further captions, as text."
    )
    metadata = serializers.CharField(required=False, allow_blank=True, help_text="A JSON object, as text.")
    external_id = serializers.CharField(required=False, allow_blank=True)


class NewAsset(Body):
    text = Text(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=uploads.MAX_TEXT,
        help_text="The text to search for or, beside a file, its caption.",
    )
    captions = Texts(required=False, allow_null=True, help_text="Of a file: further captions, behind `text`.")
    metadata = Object(required=False, allow_null=True)
    external_id = Text(required=False, allow_null=True, allow_blank=True, max_length=uploads.MAX_EXTERNAL_ID)
    upload = Text(
        required=False,
        allow_null=True,
        allow_blank=True,
        help_text="The id of a finished upload, instead of a file.",
    )


class AssetChanges(Body):
    caption = Text(
        required=False,
        allow_blank=True,
        max_length=uploads.MAX_CAPTION,
        help_text="The first of its captions.",
    )
    captions = Texts(required=False, help_text="All of its captions.")
    metadata = Object(required=False)
    tags = Texts(required=False, help_text="All of its tags: `metadata.tags`.")
    add_tags = Texts(required=False)
    remove_tags = Texts(required=False, help_text="In whatever case they are written.")


class TagChanges(Body):
    assets = Texts(min_length=1, max_length=MOST_TAGGED, help_text="Ids of assets of this dataset.")
    add = Texts(required=False, help_text=f"At most {MAX_TAGS} an asset, of {MAX_TAG_LENGTH} characters.")
    remove = Texts(required=False, help_text="In whatever case they are written.")


class Assets(Resource):
    scopes = {"GET": READ, "POST": WRITE}
    added: services.Added

    def find(self, dataset_id: uuid.UUID | None) -> None:
        selectors.require_dataset(dataset_id)

    @extend_schema(
        summary="List the assets of a dataset",
        description="A page ends before its limit, with `next`, once it has about 4 MiB.",
        parameters=[
            *PAGING,
            choice("status", Asset.State.values),
            choice("modality", Asset.Modality.values),
            OpenApiParameter("tag", str, description="Only assets that have this tag."),
        ],
        responses=page_of(shapes.Asset),
    )
    def get(self, request: Request, dataset_id: uuid.UUID) -> Response:
        query = request.query_params
        refuse_unknown(query, "status", "modality", "tag")
        page = read_page(query)
        status = read_choice(query, "status", Asset.State.values)
        modality = read_choice(query, "modality", Asset.Modality.values)
        with tenant_scope(self.tenant_id):
            rows = selectors.list_assets(
                dataset_id=dataset_id, status=status, modality=modality, tag=query.get("tag", "")
            )
            scopes = key_of(request).scopes
            return Response(page.of_bounded(rows, lambda asset: selectors.asset_shape_for(asset, scopes)))

    @extend_schema(
        summary="Add an asset",
        description=(
            "A file, a text, or a file with captions: `text`, which a form may repeat, and `captions`. Known by its "
            "content, never by its name. The same content under the same `external_id` answers 200 with the asset that "
            "is there, and so does any duplicate where the dataset skips them; `duplicate_of` names the earlier "
            "asset. `Prefer: wait=N` answers 200 too if the job ends in time."
        ),
        parameters=[IDEMPOTENCY, PREFER],
        request={"multipart/form-data": AssetForm, "application/json": NewAsset},
        responses={202: shapes.AssetAdded, 200: shapes.AssetAdded},
        extensions={"x-problems": [403, 409, 413, 415]},
    )
    def post(self, request: Request, dataset_id: uuid.UUID) -> HttpResponse:
        form = read_form(
            request, files=("file",), json_fields=("metadata", "captions"), repeated={"text": "captions"}
        )
        fields = NewAsset.read(form.fields)
        idempotent = IdempotentRequest(request, form.fields, form.files)
        answer = idempotent.replay() or self._new(idempotent, dataset_id, fields, form.files.get("file"))
        seconds = preferred_wait(request)
        if answer.status == 202 and not answer.replayed and seconds:
            answer = self._wait_for_job(idempotent, answer, seconds)
        return answer.response()

    def _new(
        self, idempotent: IdempotentRequest, dataset_id: uuid.UUID, fields: dict[str, Any], sent: Any
    ) -> Answer:
        upload_id, at_most = fields.get("upload"), settings.MAX_UPLOAD_BYTES
        with file_of(self.tenant_id, sent, upload_id, at_most=at_most) as file:
            # Before any transaction: reading, scanning and hashing a film takes seconds.
            upload = uploads.check_upload(
                file,
                fields.get("text") or "",
                captions=fields.get("captions") or (),
                filename=filename_of(file),
            )
            return idempotent.run(lambda: self._add(dataset_id, fields, upload))

    def _add(self, dataset_id: uuid.UUID, fields: dict[str, Any], upload: uploads.Upload) -> Answer:
        self.added = services.add_asset(
            dataset_id=dataset_id,
            upload=upload,
            values=fields.get("metadata") or {},
            external_id=fields.get("external_id"),
            actor=self.actor,
        )
        return change_answer(self.added)

    def _wait_for_job(self, idempotent: IdempotentRequest, answer: Answer, seconds: int) -> Answer:
        job = ended_in_time(self.tenant_id, self.added.job.id, seconds) if self.added.job else None
        if job is None:
            return answer
        try:
            with tenant_scope(self.tenant_id):
                asset = selectors.get_asset(self.added.asset.id)
        except NotFound:
            # Deleted while we waited; that it was accepted is still true.
            return answer
        body = {"asset": selectors.asset_shape(asset), "job": jobs.job_shape(job), **_duplicate(self.added)}
        headers = {**location(job.id), "Preference-Applied": f"wait={seconds}"}
        return idempotent.replace(Answer.of(200, body, headers))


def change_answer(change: services.Added) -> Answer:
    """200 where nothing is left to do, else 202 with the job."""
    body = {"asset": selectors.asset_shape(change.asset), "job": None, **_duplicate(change)}
    if change.job is None:
        return Answer.of(200, body)
    return Answer.of(202, {**body, "job": jobs.job_shape(change.job)}, location(change.job.id))


def _duplicate(change: services.Added) -> dict[str, object]:
    return {"duplicate_of": str(change.duplicate_of)} if change.duplicate_of else {}


class AssetTags(Resource):
    scopes = {"POST": WRITE}

    def find(self, dataset_id: uuid.UUID | None) -> None:
        selectors.require_dataset(dataset_id)

    @extend_schema(
        summary="Add tags to assets and take tags away",
        description=(
            "Each asset stands for itself: one that is refused, because it is gone, under a legal hold, or would have "
            "too many tags, is named with the reason, and the others are changed. An asset keeps the order of its tags."
        ),
        request={"application/json": TagChanges},
        responses={200: shapes.AssetsTagged},
    )
    def post(self, request: Request, dataset_id: uuid.UUID) -> Response:
        fields = TagChanges.read(request.data)
        add, remove = (metadata.check_tags(fields.get(name, ()), f"/{name}") for name in ("add", "remove"))
        if not add and not remove:
            raise Invalid("Enter a tag to add or remove.", pointer="/add")
        refused = []
        wanted = list(dict.fromkeys(fields["assets"]))
        for text in wanted:
            try:
                self._tag(dataset_id, text, add, remove)
            except ServiceError as error:
                refused.append(shapes.NotTagged(asset=text, detail=error.detail))
        return Response(shapes.AssetsTagged(tagged=len(wanted) - len(refused), refused=refused))

    def _tag(self, dataset_id: uuid.UUID, text: str, add: list[str], remove: list[str]) -> None:
        """In a transaction of its own: one that is refused leaves the others as they are."""
        with tenant_scope(self.tenant_id):
            asset = selectors.get_asset(read_id(text))
            if asset.dataset_id != dataset_id:
                raise NotFound("This asset does not exist.")
            services.update_asset(asset_id=asset.id, add_tags=add, remove_tags=remove, actor=self.actor)


class OneAsset(Resource):
    scopes = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    def find(self, asset_id: uuid.UUID | None) -> Asset:
        return selectors.get_asset(asset_id)

    @extend_schema(summary="An asset", responses=AssetDetail)
    def get(self, request: Request, asset_id: uuid.UUID) -> Response:
        shape = selectors.asset_shape_for(self.found, key_of(request).scopes)
        with tenant_scope(self.tenant_id):
            return Response(detailed(shape, answers_about(asset_id)))

    @extend_schema(
        summary="Change captions, metadata or tags",
        description=(
            "Metadata, `captions` and `tags` are replaced as a whole; `caption` is the first of them, and the others "
            "stay. "
            "New metadata answers 200 with the asset, new captions are embedded anew: 202 with asset and job."
        ),
        request={"application/json": AssetChanges},
        responses={200: shapes.Asset, 202: shapes.AssetChanged},
        extensions={"x-problems": [403]},
    )
    def patch(self, request: Request, asset_id: uuid.UUID) -> HttpResponse:
        changes = AssetChanges.read(request.data)
        if not changes:
            raise Invalid("Send a caption, captions, metadata, tags, or several of them.")
        if {"caption", "captions"} <= changes.keys():
            raise Invalid("Send a caption or all captions, not both.", pointer="/captions")
        if "tags" in changes and {"add_tags", "remove_tags"} & changes.keys():
            raise Invalid("Send all tags, or those to be added and removed, not both.", pointer="/tags")
        with tenant_scope(self.tenant_id):
            change = services.update_asset(
                asset_id=asset_id,
                caption=changes.get("caption"),
                captions=changes.get("captions"),
                values=changes.get("metadata"),
                tags=changes.get("tags"),
                add_tags=changes.get("add_tags", ()),
                remove_tags=changes.get("remove_tags", ()),
                actor=self.actor,
            )
        if change.job is None:
            return Answer.of(200, selectors.asset_shape(change.asset)).response()
        return change_answer(change).response()

    @extend_schema(
        summary="Delete an asset",
        description="Once this is answered, no search returns it again. `Link` names the receipt.",
        responses={204: None},
    )
    def delete(self, request: Request, asset_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            receipt = erasure.erase_asset(asset_id=asset_id, actor=self.actor)
        link = f'</api/v1/erasures/{receipt.id}>; rel="describedby"'
        return Response(status=204, headers={"Link": link})

"""`/hash-lists`: known content, good and bad, and whether something is it."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Flag, Text
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_page, refuse_unknown
from api.parsers import Form, read_form
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import MODERATE, READ
from tenants.datasets.resumable import file_of
from tenants.errors import Invalid, NotFound
from tenants.jobs import selectors as jobs
from tenants.moderation import known_content, shapes
from tenants.moderation.known_content import selectors
from tenants.moderation.models import HashList, Stance
from tenants.pipeline.assets import uploads
from tenants.pipeline.audits import fingerprinting
from tenants.scope import tenant_scope

MAX_HASHES = 10_000
ASSET_HELP = "The id of an asset, by what its last audit saw, or what is seen now."
UPLOAD_HELP = "The id of a finished upload, instead of a file."


class EntriesForm(serializers.Serializer):
    """One file whose content is to be known again, or a CSV file of hashes."""

    file = serializers.FileField(required=False)
    hashes = serializers.FileField(
        required=False, help_text="CSV in UTF-8: `hash`, `note`, `algorithm` (pdq, sha256); pdq if absent."
    )
    upload = serializers.CharField(
        required=False, allow_blank=True, help_text="The id of a finished upload, instead of a file."
    )
    asset = serializers.CharField(required=False, allow_blank=True)
    note = serializers.CharField(required=False)
    retroactive = serializers.CharField(required=False, help_text="JSON: true or false")


class MatchForm(serializers.Serializer):
    file = serializers.FileField(required=False)
    upload = serializers.CharField(
        required=False, allow_blank=True, help_text="The id of a finished upload, instead of a file."
    )
    asset = serializers.CharField(required=False, allow_blank=True)


class NewList(Body):
    name = Text(max_length=known_content.MAX_NAME)
    stance = serializers.ChoiceField(Stance.values)
    description = Text(required=False, allow_blank=True, max_length=known_content.MAX_DESCRIPTION)


class Hash(Body):
    algorithm = serializers.ChoiceField(known_content.RAW)
    hash = Text(min_length=64, max_length=64, help_text="Hexadecimal.")


class NotedHash(Hash):
    note = Text(required=False, allow_blank=True, max_length=known_content.MAX_NOTE)


class NewEntries(Body):
    asset = Text(required=False, allow_null=True, help_text=ASSET_HELP)
    upload = Text(required=False, allow_null=True, help_text=UPLOAD_HELP)
    hashes = serializers.ListField(
        child=NotedHash(), required=False, allow_empty=False, max_length=MAX_HASHES
    )
    note = Text(
        required=False, allow_blank=True, max_length=known_content.MAX_NOTE, help_text="Of a file or asset."
    )
    retroactive = Flag(
        default=False, help_text="Block earlier copies too, by a job. Of a file or asset on a bad list."
    )


class Wanted(Body):
    asset = Text(required=False, allow_null=True, help_text=ASSET_HELP)
    upload = Text(required=False, allow_null=True, help_text=UPLOAD_HELP)
    hash = Hash(required=False)


class HashLists(Resource):
    scopes = {"GET": READ, "POST": MODERATE}

    @extend_schema(summary="List hash lists", parameters=PAGING, responses=shapes.HashListPage)
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            found = page.fetch(known_content.list_lists())
            own = selectors.list_shapes(found)
            shared = list(selectors.list_shapes(list(selectors.shared_lists())).values())
        return Response({**page.cut(found, lambda row: own[row.id]), "shared": shared})

    @extend_schema(
        summary="Create a hash list",
        description="Of bad content, or of good content that is not to be mistaken for something else.",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewList},
        responses={201: shapes.HashList},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewList.read(request.data)
        return IdempotentRequest(request, fields).run(lambda: self._create(fields)).response()

    def _create(self, fields: dict[str, Any]) -> Answer:
        row = known_content.create_list(**fields, actor=self.actor)
        body = selectors.list_shape(row)
        return Answer.of(201, body, {"Location": f"/api/v1/hash-lists/{row.id}"})


class ExistingHashList(Resource):
    def find(self, list_id: uuid.UUID | None) -> HashList:
        return known_content.get_list(list_id)


class OneHashList(ExistingHashList):
    scopes = {"GET": READ, "DELETE": MODERATE}

    @extend_schema(summary="A hash list", responses=shapes.HashList)
    def get(self, request: Request, list_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(selectors.list_shape(self.found))

    @extend_schema(summary="Delete a hash list with its hashes", responses={204: None})
    def delete(self, request: Request, list_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            known_content.delete_list(list_id=list_id, actor=self.actor)
        return Response(status=204)


class HashEntries(ExistingHashList):
    scopes = {"GET": READ, "POST": MODERATE}

    @extend_schema(
        summary="List what is on a hash list", parameters=PAGING, responses=page_of(shapes.HashEntry)
    )
    def get(self, request: Request, list_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            found = selectors.entries_of(list_id, page.after, page.limit + 1)
            return Response(page.cut(found, selectors.entry_shape))

    @extend_schema(
        summary="Put content or hashes on a list",
        description=(
            "A file or an asset, by everything that it can be known by again; its content is not kept. Or hashes "
            "that others give out. With `retroactive` 202: a job blocks what came before."
        ),
        parameters=[IDEMPOTENCY],
        request={"multipart/form-data": EntriesForm, "application/json": NewEntries},
        responses={201: shapes.EntriesAdded, 202: shapes.EntriesAdded},
        extensions={"x-problems": [404, 409, 413, 415]},
    )
    def post(self, request: Request, list_id: uuid.UUID) -> HttpResponse:
        form = read_form(request, files=("file", "hashes"), json_fields=("retroactive",))
        fields = NewEntries.read(form.fields)
        idempotent = IdempotentRequest(request, form.fields, form.files)
        return (idempotent.replay() or self._add(idempotent, list_id, fields, form)).response()

    def _add(
        self, idempotent: IdempotentRequest, list_id: uuid.UUID, fields: dict[str, Any], form: Form
    ) -> Answer:
        _require_one({**_present(fields, "asset", "upload", "hashes"), **form.files})
        raw = self._raw(fields, form)
        if raw is not None:
            return idempotent.run(lambda: self._add_hashes(list_id, raw))
        if fields["retroactive"] and self.found.stance != Stance.BAD:
            raise Invalid("Only copies of bad content are blocked.", pointer="/retroactive")
        prints = fingerprints_of(self.tenant_id, fields, form)
        return idempotent.run(lambda: self._add_item(list_id, prints, fields))

    def _raw(self, fields: dict[str, Any], form: Form) -> list[known_content.RawHash] | None:
        """Hashes as they came, None for content. Raises Invalid."""
        if "hashes" in form.files:
            raw = selectors.read_hashes(form.files["hashes"])
        elif "hashes" in fields:
            raw = [known_content.RawHash(**one) for one in fields["hashes"]]
        else:
            return None
        if fields["retroactive"]:
            raise Invalid("Earlier copies are looked for by a file or an asset.", pointer="/retroactive")
        return raw

    def _add_hashes(self, list_id: uuid.UUID, raw: list[known_content.RawHash]) -> Answer:
        added, there = known_content.add_hashes(list_id=list_id, hashes=raw, actor=self.actor)
        return Answer.of(201, {"added": len(added), "known": there, "entry": None, "job": None})

    def _add_item(self, list_id: uuid.UUID, prints: dict[str, Any], fields: dict[str, Any]) -> Answer:
        note = fields.get("note", "")
        item = known_content.add_item(list_id=list_id, fingerprints=prints, note=note, actor=self.actor)
        entry = selectors.entry_shape(selectors.entry_of(item))
        body = {"added": 1, "known": 0, "entry": entry, "job": None}
        if not fields["retroactive"]:
            return Answer.of(201, body)
        job = known_content.match_again(item_id=item, actor=self.actor)
        return Answer.of(202, {**body, "job": jobs.job_shape(job)}, location(job.id))


class OneHashEntry(Resource):
    scopes = {"DELETE": MODERATE}

    def find(self, list_id: uuid.UUID | None, entry_id: uuid.UUID | None) -> None:
        known_content.require_item(list_id=list_id, item_id=entry_id)

    @extend_schema(
        summary="Take an item off a list",
        description="With all its hashes. What was blocked because of it stays blocked.",
        responses={204: None},
    )
    def delete(self, request: Request, list_id: uuid.UUID, entry_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            known_content.remove_item(item_id=entry_id, list_id=list_id, actor=self.actor)
        return Response(status=204)


class MatchHashes(Resource):
    scopes = {"POST": MODERATE}

    @extend_schema(
        summary="What of this is known",
        description="A file, an asset, or one hash, against every list of the workspace and the shared ones.",
        request={"multipart/form-data": MatchForm, "application/json": Wanted},
        responses=shapes.Matches,
        extensions={"x-problems": [404, 413, 415]},
    )
    def post(self, request: Request) -> Response:
        form = read_form(request, files=("file",), json_fields=())
        fields = Wanted.read(form.fields)
        _require_one({**_present(fields, "asset", "upload", "hash"), **form.files})
        prints = (
            _fingerprints_of_hash(fields["hash"])
            if "hash" in fields
            else fingerprints_of(self.tenant_id, fields, form)
        )
        with tenant_scope(self.tenant_id):
            matches = known_content.match(fingerprints=prints)
        shown = {name: prints.get(name) for name in ("sha256", "pdq", "pdq_quality")}
        return Response({"matches": matches, "fingerprints": shown})


def fingerprints_of(tenant_id: uuid.UUID, fields: dict[str, Any], form: Form) -> dict[str, Any]:
    """The fingerprints of the file or asset that is named. Raises Invalid, NotFound, Unavailable."""
    if fields.get("asset"):
        asset_id = read_id(fields["asset"])
        if asset_id is None:
            raise NotFound("This asset does not exist.")
        return fingerprinting.of_asset(tenant_id, asset_id)
    sent, upload_id = form.files.get("file"), fields.get("upload")
    with file_of(tenant_id, sent, upload_id, at_most=settings.MAX_UPLOAD_BYTES) as file:
        return fingerprinting.of_upload(uploads.check_upload(file, ""))


def _fingerprints_of_hash(given: dict[str, Any]) -> dict[str, Any]:
    digits = known_content.checked_hash(known_content.RawHash(**given), "/hash").hex()
    return {"sha256": digits} if given["algorithm"] == "sha256" else {"pdq": digits, "pdq_quality": 100}


def _present(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: fields[name] for name in names if fields.get(name)}


def _require_one(given: dict[str, object]) -> None:
    if len(given) != 1:
        what = "a file, an asset, or hashes" if not given else "one of them: file, upload, asset or hashes"
        raise Invalid(f"Send {what}.", pointer=f"/{max(given)}" if given else "/file")

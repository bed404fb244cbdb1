"""`/datasets/{id}/imports` and `/imports/{id}`: many assets from one file or bucket, and the receipt of each row."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Flag, Object, Text
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import read_choice, read_limit, read_page, refuse_unknown
from api.parsers import read_form
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING, choice
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets.models import Import, ImportRow
from tenants.datasets.resumable import file_of
from tenants.datasets.selectors import require_dataset
from tenants.errors import Invalid
from tenants.jobs import selectors as jobs
from tenants.pipeline.transfer import import_receipts, imports, shapes
from tenants.scope import tenant_scope

OUTCOME = choice("outcome", ImportRow.Outcome.values)
_ROW = re.compile(r"[0-9]{1,18}")
MAPPING_HELP = (
    "Which column is `id`, `text`, `file`, `captions` (a list; in CSV as JSON); "
    '`metadata`: `"*"` or `{column: key}`. Guessed if absent.'
)
OPTIONS_HELP = "How to read: encoding, delimiter and the like, as a preview shows them."


class ImportForm(serializers.Serializer):
    """A file, or an upload; the other fields as JSON texts."""

    file = serializers.FileField(required=False)
    upload = serializers.CharField(
        required=False, help_text="The id of a finished upload, instead of a file."
    )
    mapping = serializers.CharField(required=False, help_text="JSON")
    options = serializers.CharField(required=False, help_text="JSON")
    start = serializers.CharField(required=False, help_text="JSON: true or false")


class NewImport(Body):
    upload = Text(required=False, help_text="The id of a finished upload, instead of a file.")
    source = Text(  # type: ignore[assignment]  # serializers have one too
        required=False, max_length=imports.LOCATION, help_text="`s3://bucket/prefix`"
    )
    credentials = Object(
        required=False, help_text="`{access_key, secret_key, session_token?}`; kept encrypted until the end."
    )
    endpoint = Text(
        required=False,
        max_length=500,
        help_text="Of a bucket that is not at AWS; one that this installation lets tenants name.",
    )
    mapping = Object(required=False, help_text=MAPPING_HELP)
    options = Object(required=False, help_text=OPTIONS_HELP)
    start = Flag(default=True, help_text="False: look first; the answer is a draft with its preview.")


class Changes(Body):
    mapping = Object(required=False, help_text=MAPPING_HELP)
    options = Object(required=False, help_text=OPTIONS_HELP)


class Imports(Resource):
    scopes = {"GET": READ, "POST": WRITE}

    def find(self, dataset_id: uuid.UUID | None) -> None:
        require_dataset(dataset_id)

    @extend_schema(
        summary="List the imports of a dataset", parameters=PAGING, responses=page_of(shapes.Import)
    )
    def get(self, request: Request, dataset_id: uuid.UUID) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            rows = page.fetch(imports.list_imports(dataset_id=dataset_id))
            known = imports.jobs_of(rows)
            return Response(page.cut(rows, lambda row: imports.import_shape(row, known.get(row.job_id))))

    @extend_schema(
        summary="Import many assets",
        description=(
            "A .zip, .tar (WebDataset), .csv, .jsonl or .parquet as `file` or a finished `upload`, or a bucket's "
            "prefix as `source`. 202 with the job, whose result is the receipt's summary; with `start: false` 201 "
            "with a draft and what it would read (a replay has `preview: null`). One bad row "
            "never loses the others; what is there already is a `duplicate`. Rows with one file and one id "
            "are one asset with the captions of all: the others are `merged`. A `captions` column holds a list "
            "(in CSV as JSON)."
        ),
        parameters=[IDEMPOTENCY],
        request={"multipart/form-data": ImportForm, "application/json": NewImport},
        responses={202: shapes.ImportStarted, 201: shapes.ImportDrafted},
        extensions={"x-problems": [403, 409, 413, 415, 507]},
    )
    def post(self, request: Request, dataset_id: uuid.UUID) -> HttpResponse:
        form = read_form(request, files=("file",), json_fields=("mapping", "options", "credentials", "start"))
        fields = NewImport.read(form.fields)
        idempotent = IdempotentRequest(request, form.fields, form.files)
        answer = idempotent.replay() or self._new(idempotent, dataset_id, fields, form.files.get("file"))
        return answer.response()

    def _new(
        self, idempotent: IdempotentRequest, dataset_id: uuid.UUID, fields: dict[str, Any], file: Any
    ) -> Answer:
        upload_id, at_most = fields.get("upload"), settings.MAX_IMPORT_BYTES
        with file_of(self.tenant_id, file, upload_id, at_most=at_most) as given:
            source = imports.inspect_source(**source_arguments(given, fields))
            return idempotent.run(lambda: self._keep(dataset_id, source, fields["start"]))

    def _keep(self, dataset_id: uuid.UUID, source: imports.Source, start: bool) -> Answer:
        row = imports.create_import(dataset_id=dataset_id, source=source, actor=self.actor)
        if start:
            return import_started(*imports.start_import(import_id=row.id, actor=self.actor))
        body = {"import": imports.import_shape(row), "preview": source.preview.as_dict()}
        # Not kept for replays: it shows content, which an erasure would not find there.
        return Answer.of(201, body, {"Location": f"/api/v1/imports/{row.id}"}, withheld="preview")


def source_arguments(file: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `imports.inspect_source`. Raises Invalid."""
    options = {"mapping": fields.get("mapping"), "options": fields.get("options")}
    bucket = [name for name in ("source", "credentials", "endpoint") if name in fields]
    if file is None:
        return {**options, **_bucket(fields)}
    if bucket:
        raise Invalid("Send a file or a bucket, not both.", pointer=f"/{bucket[0]}")
    return {**options, "path": Path(file.temporary_file_path()), "filename": file.name}


def _bucket(fields: dict[str, Any]) -> dict[str, object]:
    described = {"location": fields.get("source", ""), "secret": fields.get("credentials")}
    if "endpoint" in fields:
        described["options"] = {**fields.get("options", {}), "endpoint": fields["endpoint"]}
    return described


def import_started(row: Import, job: Any) -> Answer:
    body = {"import": imports.import_shape(row, job), "job": jobs.job_shape(job)}
    return Answer.of(202, body, location(job.id))


class ExistingImport(Resource):
    def find(self, import_id: uuid.UUID | None) -> Import:
        return imports.get_import(import_id)


class OneImport(ExistingImport):
    scopes = {"GET": READ, "DELETE": WRITE}

    @extend_schema(summary="An import", responses=shapes.Import)
    def get(self, request: Request, import_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(imports.import_shape(self.found))

    @extend_schema(
        summary="Throw a draft or a receipt away",
        description="The assets stay. 409 while the import runs: cancel its job first.",
        responses={204: None},
        extensions={"x-problems": [409]},
    )
    def delete(self, request: Request, import_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            imports.delete_import(import_id=import_id, actor=self.actor)
        return Response(status=204)


class PreviewImport(ExistingImport):
    scopes = {"POST": WRITE}

    @extend_schema(
        summary="Look again, with another mapping or other options",
        request={"application/json": Changes},
        responses=shapes.ImportPreview,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, import_id: uuid.UUID) -> Response:
        return Response(imports.preview_import(self.found, **Changes.read(request.data)).as_dict())


class StartImport(ExistingImport):
    scopes = {"POST": WRITE}

    @extend_schema(
        summary="Start a draft",
        parameters=[IDEMPOTENCY],
        request={"application/json": Changes},
        responses={202: shapes.ImportStarted},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, import_id: uuid.UUID) -> HttpResponse:
        changes = Changes.read(request.data)
        idempotent = IdempotentRequest(request, changes)
        answer = idempotent.replay()
        if answer is None:
            preview = imports.preview_import(self.found, **changes) if changes else None
            answer = idempotent.run(
                lambda: import_started(
                    *imports.start_import(import_id=import_id, preview=preview, actor=self.actor)
                )
            )
        return answer.response()


class Rows(ExistingImport):
    scopes = {"GET": READ}

    @extend_schema(
        summary="The receipt, row by row",
        parameters=[*PAGING, OUTCOME],
        responses=page_of(shapes.ImportLine, "ImportRowPage"),
    )
    def get(self, request: Request, import_id: uuid.UUID) -> Response:
        query = request.query_params
        refuse_unknown(query, "outcome")
        outcome, limit = read_choice(query, "outcome", ImportRow.Outcome.values), read_limit(query)
        after = read_row(query)
        with tenant_scope(self.tenant_id):
            rows = list(
                imports.list_rows(import_id=import_id, outcome=outcome).filter(row__gt=after)[: limit + 1]
            )
        shown = rows[:limit]
        more = str(shown[-1].row) if len(rows) > limit else None
        return Response({"results": [imports.row_shape(row, self.found) for row in shown], "next": more})


def read_row(query: QueryDict) -> int:
    """The row after which to go on. Raises Invalid."""
    cursor = query.get("cursor", "0")
    if not _ROW.fullmatch(cursor):
        raise Invalid("This is not a cursor from an earlier answer.", pointer="/cursor")
    return int(cursor)


class Receipt(ExistingImport):
    scopes = {"GET": READ}

    @extend_schema(
        summary="The receipt as CSV",
        description=(
            "With `outcome=failed` the rows as the source had them, with `import_line` and `import_reason` in front: "
            "mend them and import the file again; those two columns are passed over. Cells that a spreadsheet would "
            "take for a formula begin with an apostrophe, which that import takes away."
        ),
        parameters=[OUTCOME],
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request, import_id: uuid.UUID) -> HttpResponseBase:
        refuse_unknown(request.query_params, "outcome")
        outcome = read_choice(request.query_params, "outcome", ImportRow.Outcome.values)
        return import_receipts.serve(tenant_id=self.tenant_id, import_id=import_id, outcome=outcome)

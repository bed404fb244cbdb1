"""Imports and exports as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec

from tenants.datasets import models
from tenants.jobs import models as jobs
from tenants.jobs.shapes import Job
from tenants.shapes import UNSET, Choices, Doc, Json, JsonObject, Maybe, Shape


class Export(Shape, kw_only=True):
    id: str
    job: str
    with_vectors: bool
    recipient: Annotated[
        str | None, Doc("The public key of age that it is encrypted for; null for a plain zip.")
    ]
    version: Annotated[
        JsonObject | None,
        Doc(
            "The version of a dataset that it holds, by `id`, `dataset`, `name`, `digest`; null: everything."
        ),
    ]
    requested_by: str
    ready: bool
    bytes: int
    sha256: str | None
    created_at: dt.datetime
    expires_at: dt.datetime | None


class ExportAccepted(Shape, kw_only=True):
    export: Export
    job: Job


class Mapping(Shape, kw_only=True):
    id: str | None
    text: str | None
    file: str | None
    captions: Maybe[Annotated[str, Doc("The column with further captions of a file.")]] = UNSET
    metadata: Annotated[Json, Doc('`"*"`, or from column to key.')]


class Import(Shape, kw_only=True):
    id: str
    dataset: str
    source: Annotated[str, Choices(models.Import.Source.values)]
    location: Annotated[str, Doc("The file's name, or the bucket and prefix.")]
    format: str
    bytes: int
    mapping: Annotated[JsonObject, Mapping]
    options: JsonObject
    state: Annotated[str, Choices(("draft", *jobs.Job.State.values))]
    job: str | None
    total: int | None
    imported: int
    merged: Annotated[int, Doc("Rows whose captions went to the asset of the same file and id.")]
    duplicate: int
    failed: int
    created_at: dt.datetime


class ImportColumn(Shape, kw_only=True):
    name: str
    examples: list[str]
    guessed_type: str


class ImportItem(Shape, kw_only=True):
    row: int
    name: str
    external_id: str | None
    text: str
    captions: Maybe[list[str]] = UNSET
    file: str | None
    metadata: JsonObject
    error: str | None


class ImportPreview(Shape, kw_only=True):
    format: str
    columns: list[ImportColumn]
    mapping: Mapping
    rows: list[ImportItem]
    total: Annotated[int | None, Doc("Null where counting would take long.")]
    options: JsonObject
    warnings: list[str]


class ImportStarted(Shape, kw_only=True):
    import_: Import = msgspec.field(name="import")
    job: Job


class ImportDrafted(Shape, kw_only=True):
    import_: Import = msgspec.field(name="import")
    preview: ImportPreview | None


class ImportLine(Shape, kw_only=True):
    row: int
    name: str
    outcome: Annotated[str, Choices(models.ImportRow.Outcome.values)]
    asset: str | None
    reason: str
    external_id: Annotated[str, Doc("Of a failed row of a table, as it was read.")]
    text: Annotated[str, Doc("The beginning of a failed row's text.")]

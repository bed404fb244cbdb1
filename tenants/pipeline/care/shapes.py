"""Receipts of erasures, and what is kept where, as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from tenants.events.models import Erasure as ErasureRow
from tenants.jobs.shapes import Job
from tenants.shapes import Choices, Doc, JsonObject, Shape


class Erasure(Shape, kw_only=True):
    """The receipt of an erasure. It holds nothing of what was erased."""

    id: str
    kind: Annotated[str, Choices(ErasureRow.Kind.values)]
    target: Annotated[str | None, Doc("The id of the asset or dataset.")]
    subject_hash: Annotated[str | None, Doc("A keyed hash of whose data was asked for.")]
    job: str | None
    requested_by: str
    matched: Annotated[int, Doc("Assets that were meant when it was asked for.")]
    removed: Annotated[
        JsonObject, Doc("`assets`, `rows` by table, `files` by kind, `bytes`, and what else named them.")
    ]
    remains: Annotated[JsonObject, Doc("`places` that still hold something, and until when.")]
    verified: Annotated[bool, Doc("A last look found nothing more.")]
    created_at: dt.datetime
    finished_at: dt.datetime | None


class ErasureAccepted(Shape, kw_only=True):
    erasure: Erasure
    job: Job


class DatasetShare(Shape, kw_only=True):
    id: str
    name: str
    assets: int
    bytes: int


class ErasurePreview(Shape, kw_only=True):
    matched: int
    bytes: int
    datasets: list[DatasetShare]


OPERATOR, WORKSPACE = "operator", "workspace"


class DataCategory(Shape, kw_only=True):
    category: str
    what: str
    where: str
    purpose: str
    kept: Annotated[str, Doc("How long.")]
    encrypted: Annotated[str, Doc("Under which key, or how.")]
    leaves_to: Annotated[str, Doc("Who outside of the installation gets it.")]
    tables: Annotated[list[str], Doc("Tables of the database; empty where it lies elsewhere.")]


class Recipient(Shape, kw_only=True):
    """Somebody outside who gets something, as it is set up now."""

    who: str
    host: str
    gets: str
    set_up_by: Annotated[str, Choices((OPERATOR, WORKSPACE))]


class DataProcessing(Shape, kw_only=True):
    region: Annotated[
        str | None, Doc("Where the installation is, in its operator's words; null where they said nothing.")
    ]
    backups_kept_days: int
    exports_kept_days: int
    files_encrypted: bool
    categories: list[DataCategory]
    recipients: list[Recipient]

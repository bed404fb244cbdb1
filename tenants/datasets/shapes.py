"""Datasets and assets as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from ml.documents.sniffing import FORMATS
from tenants.datasets import models
from tenants.jobs.shapes import Job
from tenants.shapes import UNSET, Choices, Doc, JsonObject, Maybe, Shape


class Dataset(Shape, kw_only=True):
    id: str
    name: str
    description: str
    metadata_schema: Annotated[
        JsonObject, Doc("Types of metadata keys; `guessed` where nobody declared them.")
    ]
    assets: int
    ready: int
    retention_days: Annotated[int | None, Doc("Assets are erased when they are older; null keeps them.")]
    duplicates: Annotated[str, Choices(models.Dataset.Duplicates.values)]
    created_at: dt.datetime


class LegalHold(Shape, kw_only=True):
    id: str
    dataset: Annotated[str | None, Doc("Null: the hold is over the whole workspace.")]
    reason: str
    reference: Annotated[str, Doc("A case number or the like; may be empty.")]
    set_by: str
    by_operator: Annotated[bool, Doc("Then the operator alone releases it.")]
    created_at: dt.datetime
    released_at: Annotated[dt.datetime | None, Doc("Null while it stands.")]
    released_by: str | None


class Scan(Shape, kw_only=True):
    state: Annotated[str, Choices(("clean", "not_scanned"))]
    engine: Maybe[str] = UNSET
    reason: Maybe[Annotated[str, Choices(("off", "unreachable", "too-large", "error"))]] = UNSET
    at: Maybe[dt.datetime] = UNSET


class DocumentFinding(Shape, kw_only=True):
    kind: Annotated[
        str, Choices(("active_content", "hidden_text", "text_by_ocr", "not_read")), Doc("What was found.")
    ]
    page: int | None
    detail: str
    count: Annotated[int, Doc("Of what `detail` names.")]


class Document(Shape, kw_only=True):
    format: Annotated[str, Choices(tuple(FORMATS.values()))]
    title: Annotated[str, Doc("As the document names itself, or its first heading; may be empty.")]
    pages: Annotated[int, Doc("Pages, slides, sheets or chapters; 1 where a format has none.")]
    findings: list[DocumentFinding]
    truncated: Annotated[str | None, Doc("What was left out, and why; null where nothing was.")]


class DocumentBlock(Shape, kw_only=True):
    kind: Annotated[
        str, Choices(("heading", "paragraph", "list", "table", "caption", "header", "footer", "note"))
    ]
    page: int
    box: Annotated[list[float] | None, Doc("Left, top, right, bottom; null where a format has no places.")]
    start: int
    end: int


class DocumentText(Document, kw_only=True):
    text: str
    blocks: list[DocumentBlock]


class Asset(Shape, kw_only=True):
    id: str
    dataset: str
    modality: Annotated[str, Choices(models.Asset.Modality.values)]
    status: Annotated[str, Choices(models.Asset.State.values)]
    external_id: str | None
    sha256: str
    bytes: int
    media_type: str
    width: int | None
    height: int | None
    filename: Annotated[str | None, Doc("Of the file that was uploaded, without folders.")]
    caption: Annotated[str, Doc("The first of its captions.")]
    captions: list[str]
    excerpt: Annotated[str, Doc("The first words, written or spoken.")]
    metadata: JsonObject
    scan: Annotated[JsonObject, Scan]
    moderation: Annotated[
        str | None,
        Choices(("quarantined", "allow", "label", "review", "block")),
        Doc("Null where nothing was audited."),
    ]
    labels: Annotated[list[str], Doc("To be shown with it, such as `ai-generated`.")]
    generated: Annotated[bool, Doc("Made here from words; a search leaves it out unless it asks for it.")]
    created_at: dt.datetime
    prompt: Maybe[Annotated[str, Doc("What it was made from. No search compares it.")]] = UNSET
    # Of sound and film, once decoded.
    duration_s: Maybe[float] = UNSET
    has_sound: Maybe[bool] = UNSET
    truncated: Maybe[Annotated[bool, Doc("Part of the file is damaged or missing; the rest was used.")]] = (
        UNSET
    )
    languages: Maybe[
        Annotated[list[str], Doc("Spoken in it, the longest first, as Whisper names them: mostly ISO 639-1.")]
    ] = UNSET
    examined: Maybe[Annotated[JsonObject, Doc("What was looked for in sound or film, and what was not.")]] = (
        UNSET
    )
    document: Maybe[Annotated[JsonObject, Document]] = UNSET
    error: Maybe[JsonObject] = UNSET


class TranscriptSegment(Shape, kw_only=True):
    start_s: float
    end_s: float
    text: str
    confidence: float


class Transcript(Shape, kw_only=True):
    segments: list[TranscriptSegment]


class AssetChanged(Shape, kw_only=True):
    asset: Asset
    job: Job | None


class NotTagged(Shape, kw_only=True):
    asset: str
    detail: str


class AssetsTagged(Shape, kw_only=True):
    tagged: Annotated[int, Doc("Assets that have these tags now, or lack them.")]
    refused: list[NotTagged]


class AssetAdded(AssetChanged, kw_only=True):
    duplicate_of: Maybe[
        Annotated[
            str,
            Doc(
                "The earlier asset of the same content in the dataset: beside it, or this very asset "
                "where the dataset skips duplicates."
            ),
        ]
    ] = UNSET


class Clause(Shape, kw_only=True):
    number: Annotated[str | None, Doc("As it is written: `7.2`, `(a)`, `第十二条`.")]
    page: Annotated[int, Doc("From 1; 1 where a format has no pages.")]
    start_char: int
    end_char: int
    text: str


class ChangedWords(Shape, kw_only=True):
    change: Annotated[str, Choices(("same", "removed", "added"))]
    text: str


#: Of clauses, in the order of how much they matter.
CHANGES = ("changed", "added", "removed", "moved", "same")


class ClauseChange(Shape, kw_only=True):
    kind: Annotated[str, Choices(CHANGES)]
    alike: Annotated[float, Doc("0 to 1; 1 where the words are the same, whatever the number.")]
    before: Annotated[Clause | None, Doc("Null where it was added.")]
    after: Annotated[Clause | None, Doc("Null where it was removed.")]
    words: Maybe[Annotated[list[ChangedWords], Doc("Where both are there and differ.")]] = UNSET


class ClauseCounts(Shape, kw_only=True):
    changed: int
    added: int
    removed: int
    moved: int
    same: int


class DocumentComparison(Shape, kw_only=True):
    before: Annotated[str, Doc("The asset that is compared.")]
    after: Annotated[str, Doc("The asset that it is compared with.")]
    counts: ClauseCounts
    results: list[ClauseChange]
    next: str | None


class AlikeClauses(Shape, kw_only=True):
    one: Clause
    other: Clause
    alike: Annotated[float, Doc("0.8 to 1.")]


class AlikeClausesOf(Shape, kw_only=True):
    results: list[AlikeClauses]

"""Datasets and assets as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

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


class Scan(Shape, kw_only=True):
    state: Annotated[str, Choices(("clean", "not_scanned"))]
    engine: Maybe[str] = UNSET
    reason: Maybe[Annotated[str, Choices(("off", "unreachable", "too-large", "error"))]] = UNSET
    at: Maybe[dt.datetime] = UNSET


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

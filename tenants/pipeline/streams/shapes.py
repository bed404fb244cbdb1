"""Sources of streams and their dead letters as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from tenants.datasets import models
from tenants.shapes import Choices, Doc, JsonObject, Shape


class StreamSource(Shape, kw_only=True):
    id: str
    name: str
    kind: Annotated[str, Choices(models.StreamSource.Kind.values)]
    url: Annotated[str, Doc("Without user name and password.")]
    has_credentials: bool
    topic: Annotated[str, Doc("The stream, queue or topic.")]
    group: str
    dataset: str
    mapping: JsonObject
    on_change: Annotated[str, Choices(models.StreamSource.OnChange.values)]
    from_start: bool
    state: Annotated[str, Choices(models.StreamSource.State.values)]
    problem: Annotated[str | None, Doc("What keeps it from reading, and what to do.")]
    position: Annotated[JsonObject, Doc("How far it was read, as the broker counts.")]
    stored: int
    duplicate: int
    refused: int
    lag: Annotated[int | None, Doc("Items that wait in the broker; null where that is not known.")]
    dead_letters: int
    last_item_at: dt.datetime | None
    job: str | None
    created_at: dt.datetime


class StreamDeadLetter(Shape, kw_only=True):
    id: str
    position: str
    external_id: str | None
    type: Annotated[str, Doc("The problem's slug.")]
    reason: str
    body: Annotated[str, Doc("The item as it came; its beginning where it is long.")]
    replayable: bool
    created_at: dt.datetime


class LettersReplayed(Shape, kw_only=True):
    stored: int
    left: Annotated[int, Doc("Those that are refused again, with the reason of now.")]


class LettersDeleted(Shape, kw_only=True):
    deleted: int

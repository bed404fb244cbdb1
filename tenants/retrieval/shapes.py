"""Searches, weights, feedback and maps as the API shows them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from tenants.datasets.models import Asset as AssetRow
from tenants.datasets.shapes import Asset
from tenants.jobs.shapes import Job
from tenants.retrieval.models import EmbeddingMap
from tenants.retrieval.models import Feedback as FeedbackRow
from tenants.retrieval.models import StandingQuery as StandingQueryRow
from tenants.shapes import UNSET, Choices, Doc, Json, JsonObject, Maybe, Page, Shape


class MatchedPart(Shape, kw_only=True):
    score: Annotated[float, Doc("The cosine with this part of the query.")]
    modality: Annotated[str, Choices(AssetRow.Modality.values)]
    segment: Maybe[Annotated[JsonObject, Doc("As in `matched`.")]] = UNSET


class Matched(Shape, kw_only=True):
    modality: Annotated[str, Choices(AssetRow.Modality.values)]
    segment: Maybe[
        Annotated[
            JsonObject,
            Doc(
                "Of a long text `start_char` and `end_char` of the passage; of a document also its `page`, counted "
                "from 1, and where the format has places its `box`: left, top, right and bottom as shares of the page; "
                "of sound and film `start_s` and `end_s`; of captions but the first `caption`, its place among them, "
                "counted from 0. Of a `sequence` from where its first part begins to where its last one ends."
            ),
        ]
    ] = UNSET
    by: Maybe[
        Annotated[
            str,
            Choices(("name", "phrase", "words")),
            Doc(
                "What of the query named it, so that it stands before what is closer: the name of its file or its "
                "`external_id`, a quoted phrase, or a caption with all of the words."
            ),
        ]
    ] = UNSET
    passage: Maybe[Annotated[str, Doc("Of a document the words that were found.")]] = UNSET
    parts: Maybe[
        Annotated[
            list[MatchedPart],
            Doc("Of `parts` or a `sequence`, in their order: which part of the asset is nearest to each."),
        ]
    ] = UNSET


class Highlight(Shape, kw_only=True):
    field: Annotated[
        str, Doc("`passage`, `transcript`, `excerpt`, `caption`, `filename`, or `metadata.` and a key.")
    ]
    text: Annotated[str, Doc("A piece of it, as it is: escape it before it becomes HTML.")]
    marks: Annotated[
        list[Annotated[list[int], Meta(min_length=2, max_length=2)]],
        Doc("Where words of the query stand in `text`: start and end in Unicode characters."),
    ]


class Duplicate(Shape, kw_only=True):
    asset: str
    score: float


class Result(Shape, kw_only=True):
    asset: Asset
    score: Annotated[
        float,
        Doc(
            "The cosine; of a hybrid search a sum over ranks; of several parts the mean of their cosines by weight, "
            "less what is not wanted. Compares within one kind only."
        ),
    ]
    relevance: Annotated[
        float | None,
        Doc(
            "The chance that this is what was asked for, 0 to 1, which compares between kinds. Null where nobody has "
            "calibrated it: for queries of several kinds or parts, likeness and vectors, and in models without it."
        ),
    ]
    matched: Matched
    highlights: Maybe[Annotated[list[Highlight], Doc("Where `highlight` was sent.")]] = UNSET
    duplicates: Maybe[
        Annotated[list[Duplicate], Doc("Where `group` was sent: what is folded into this.")]
    ] = UNSET


class Model(Shape, kw_only=True):
    id: Annotated[str, Doc("As in `/models/{id}`.")]
    version: str
    dimension: Annotated[int, Doc("How many numbers its vectors have.")]


class Index(Shape, kw_only=True):
    generation: str
    kind: str
    size: int
    recall_estimate: float


class Weighing(Shape, kw_only=True):
    task: str
    prior: Annotated[Mapping[str, float], Doc("The task's weights for these parts; they sum to 1.")]
    confidence: Annotated[
        Mapping[str, Mapping[str, float]], Doc("What was measured of each part that was sent.")
    ]
    agreement: Annotated[Mapping[str, float], Doc("The cosine of each two parts.")]
    gate: Annotated[str | None, Doc("Null where the weights are fixed.")]
    factors: Annotated[
        Mapping[str, float], Doc("By what the gate multiplied each weight, before they were scaled.")
    ]
    why: Annotated[list[str], Doc("The same in words.")]


class Explained(Shape, kw_only=True):
    timings_ms: Mapping[str, float]
    parts: Mapping[str, float]
    weighing: Annotated[Weighing | None, Doc("Why the parts weigh what they do; null on further pages.")]
    cache: Annotated[
        Mapping[str, Annotated[str, Choices(("process", "valkey", "shared", "miss", "bypass"))]],
        Doc("Who answered for `embedding` and for `candidates`."),
    ]
    filter: JsonObject | None


class FacetValue(Shape, kw_only=True):
    value: Annotated[Json, Doc("A value, or of numbers and times the conditions of a range, as in `filter`.")]
    count: int


class Facet(Shape, kw_only=True):
    type: Annotated[str, Choices(("text", "tags", "bool", "number", "time"))]
    values: list[FacetValue]
    estimated: Maybe[
        Annotated[
            bool,
            Doc("True where more than 10,000 are likely enough: then counts are at least so high."),
        ]
    ] = UNSET
    min: Maybe[Json] = UNSET
    max: Maybe[Json] = UNSET


class Sorted(Shape, kw_only=True):
    by: Annotated[str, Choices(("newest", "oldest", "name"))]
    results: Annotated[int, Doc("How many results are in this order, over all pages.")]
    more: Annotated[bool, Doc("Whether there may be others, less relevant than all of these.")]


class Found(Shape, kw_only=True):
    search_id: str
    results: list[Result]
    next: str | None
    total_candidates: int
    weights: Mapping[str, float]
    transcript: Maybe[str] = UNSET
    transcript_language: Maybe[
        Annotated[str, Doc("What the speech was taken for, as Whisper names languages: mostly ISO 639-1.")]
    ] = UNSET
    model: Model
    index: Index
    cache: Annotated[str, Choices(("hit", "miss", "bypass"))]
    relevance_line: Annotated[
        float | None,
        Doc(
            "The relevance from which a result is worth showing; null where it is not calibrated (`relevance`)."
        ),
    ]
    relevance_corrected: Annotated[
        bool, Doc("Whether the workspace's labels corrected the model's relevance.")
    ]
    took_ms: float
    facets: Maybe[Annotated[Mapping[str, Facet], Doc("Where `facets` was sent, on the first page.")]] = UNSET
    sorted: Maybe[
        Annotated[Sorted, Doc("Where another `sort` than `relevance` was sent, on the first page.")]
    ] = UNSET
    explain: Maybe[Explained] = UNSET


class Rule(Shape, kw_only=True):
    when: Annotated[list[str], Doc("Beginnings of words, of which the query names one.")]
    weights: Mapping[str, float]


class TaskShape(Shape, kw_only=True):
    slug: str
    description: str
    weights: Mapping[str, float]
    rules: list[Rule]
    dynamic: Annotated[bool, Doc("Whether weights are corrected for each query.")]
    built_in: bool
    created_at: dt.datetime | None


class TaskPage(Page, kw_only=True):
    results: list[TaskShape]
    built_in: Annotated[list[TaskShape], Doc("All of them, on every page.")]


class FeedbackShape(Shape, kw_only=True):
    id: str
    search_id: str
    asset: str
    kind: Annotated[str, Choices(FeedbackRow.Kind.values)]
    rank: Annotated[int, Doc("At which the asset was shown, from 1.")]
    created_at: dt.datetime


class GateFeedback(Shape, kw_only=True):
    usable: Annotated[int, Doc("Searches of several parts in which something was chosen.")]
    needed: int


class GateShape(Shape, kw_only=True):
    source: Annotated[str, Choices(("built-in", "own"))]
    number: int | None
    trained_at: dt.datetime | None
    report: Maybe[Annotated[JsonObject, Doc("How it did on searches that it had not seen.")]] = UNSET
    feedback: GateFeedback


class MapShape(Shape, kw_only=True):
    id: str
    name: str
    method: Annotated[str, Choices(EmbeddingMap.Method.values)]
    state: Annotated[str, Choices(EmbeddingMap.State.values)]
    model: Annotated[str, Doc("The model whose vectors it shows, by id or slug.")]
    space: Annotated[str, Doc("As searches and vectors name it.")]
    datasets: Annotated[list[str], Doc("Empty for all.")]
    modality: str | None
    params: Annotated[
        JsonObject, Doc("Of UMAP: `neighbours`, `min_dist`, `seed`; `most`: assets that it shows.")
    ]
    total: Annotated[int, Doc("Assets that fitted when it was drawn; 0 for PCA, which is drawn when asked.")]
    points: Annotated[int, Doc("Of these, how many were taken.")]
    details: Annotated[
        JsonObject, Doc("`kept_neighbours`: of ten nearest assets, the share that is near in it, too.")
    ]
    job: str | None
    error: JsonObject | None
    created_by: str
    created_at: dt.datetime
    finished_at: dt.datetime | None


class MapAccepted(Shape, kw_only=True):
    map: MapShape
    job: Job


class MapPoints(Shape, kw_only=True):
    """Columns of one length: the point at place 3 is `ids[3]`, `x[3]`, `y[3]`."""

    method: Annotated[str, Choices(EmbeddingMap.Method.values)]
    model: str
    total: Annotated[int, Doc("Assets that fit; more than there are points where it is a sample.")]
    stamp: Annotated[str, Doc("Changes with points, places and topics.")]
    details: Annotated[
        JsonObject, Doc("`kept_neighbours`, and of PCA the shares of variance that are `explained`.")
    ]
    ids: list[str]
    x: list[float]
    y: list[float]
    columns: Annotated[
        JsonObject,
        Doc(
            "`dataset`, `modality`, `status`, `verdict`, with `colour` `field`, and, where they were looked for, "
            "`topic` (clusters by number) and `outlier`: `values` and `codes` into them (-1: none, -2: another "
            "value), or `numbers`."
        ),
    ]


class Similarity(Shape, kw_only=True):
    model: str
    assets: Annotated[list[str], Doc("In an order that puts like beside like.")]
    matrix: Annotated[list[list[float]], Doc("Cosines, -1 to 1, in that order.")]


class SavedSearch(Shape, kw_only=True):
    """A search under a name."""

    id: str
    name: str
    query: Annotated[
        JsonObject, Doc("The body of `POST /search`: sent there as it is, it is the search again.")
    ]
    shared: Annotated[bool, Doc("Whether everybody in the workspace finds it. A key sees what is shared.")]
    created_by: Annotated[str, Doc("The id of a member, or `key:` and a prefix.")]
    created_at: dt.datetime
    changed_at: dt.datetime


DELIVER = ("webhook", "inbox")


class StandingQuery(Shape, kw_only=True):
    """A search that is asked of every asset that arrives."""

    id: str
    name: str
    query: Annotated[JsonObject, Doc("A body of `POST /search`, or one with a filter alone.")]
    state: Annotated[str, Choices(StandingQueryRow.State.values)]
    muted: Annotated[bool, Doc("Whether alerts are kept without a webhook's event.")]
    deliver: Annotated[
        list[Annotated[str, Choices(DELIVER)]],
        Doc("Who is told: webhooks, and the inbox of the console. Empty: alerts are only kept."),
    ]
    frequency: Annotated[
        str,
        Choices(StandingQueryRow.Frequency.values),
        Doc("How webhooks are told: of each alert, or of those of an hour together, by a digest."),
    ]
    min_score: Annotated[
        float | None,
        Doc(
            "The cosine that something has to reach; null where its relevance is known, and of a filter alone."
        ),
    ]
    problem: Annotated[str | None, Doc("Why it finds nothing as it is; null where it works.")]
    created_by: Annotated[str, Doc("The id of a member, or `key:` and a prefix.")]
    created_at: dt.datetime
    changed_at: dt.datetime


class Alert(Shape, kw_only=True):
    """That an asset met a standing query: one of each two, ever."""

    id: Annotated[str, Doc("Also the `webhook-id` of its `standing_query.matched`.")]
    standing_query: str
    asset: str
    dataset: str
    score: Annotated[
        float | None, Doc("The cosine of the best of its vectors; null where a filter alone asked.")
    ]
    relevance: Annotated[float | None, Doc("As of a search's result.")]
    matched: Annotated[Matched | None, Doc("By what, as of a search's result.")]
    segment: Maybe[Annotated[JsonObject, Doc("That of `matched`.")]] = UNSET
    audit: Annotated[str | None, Doc("That met it, of a standing query of audits.")]
    read: Annotated[bool, Doc("By anybody of the workspace.")]
    at: Annotated[dt.datetime, Doc("The same as `created_at`.")]
    created_at: dt.datetime


class AlertsRead(Shape, kw_only=True):
    changed: Annotated[int, Doc("How many were unread.")]


class DatasetHealth(Shape, kw_only=True):
    """What the newest examination of a dataset found; null before there was one."""

    examined_at: dt.datetime | None
    age_s: Annotated[int | None, Doc("Seconds since then.")]
    job: Annotated[Job | None, Doc("That examines it now, or waits to.")]
    failed_job: Annotated[str | None, Doc("The newest examination, where it did not end well.")]
    model: Annotated[str | None, Doc("The space whose vectors were compared.")]
    total: Annotated[int | None, Doc("Assets that were ready and shown.")]
    compared: Annotated[
        int | None, Doc("Fewer than `total` where some have no vectors, or of many a fair sample.")
    ]
    kinds: Annotated[JsonObject | None, Doc("How many of each modality.")]
    groups: Annotated[int | None, Doc("Groups of near-duplicates.")]
    found: Annotated[
        JsonObject | None,
        Doc("How many are `duplicate`, `outlier`, `unindexed` and `uncaptioned`, all counted."),
    ]
    left: Annotated[
        JsonObject | None,
        Doc("At how many assets that are still here a finding stands; of very many not all are kept."),
    ]
    failed_assets: Annotated[int, Doc("That could not be processed, as of now.")]

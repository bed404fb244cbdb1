"""Models, their promotions and golden queries as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from msgspec import structs

from tenants.datasets.models import DatasetVersion
from tenants.datasets.shapes import Asset
from tenants.jobs.shapes import Job
from tenants.learning.models import ClassifierVersion, LearntModel, Promotion
from tenants.shapes import UNSET, Choices, Doc, Json, JsonObject, Maybe, Shape


class PromotionState(Shape, kw_only=True):
    id: str
    model: str
    replaces: Annotated[str, Doc("What served searches when it began.")]
    state: Annotated[str, Choices(Promotion.State.values)]
    report: Annotated[
        JsonObject | None,
        Doc(
            "Once embedded: `overlap` of the ten best, figures `before` and `after` on `golden` "
            "queries and on captions that were `held_out` from training, with their `change` and its "
            "interval, and why it is `worse`."
        ),
    ]
    override_reason: str | None
    job: str | None
    error: JsonObject | None
    created_by: str
    created_at: dt.datetime
    embedded_at: dt.datetime | None
    finished_at: dt.datetime | None


class LearntModelShape(Shape, kw_only=True):
    id: Annotated[str, Doc("Of a built-in space its slug.")]
    name: str
    number: int | None
    built_in: bool
    space: Annotated[str, Doc("As searches and vectors name it: id and version.")]
    parent: Annotated[str | None, Doc("What it was trained from.")]
    state: Annotated[str, Choices(LearntModel.State.values)]
    stage: Annotated[str | None, Choices(LearntModel.Stage.values)]
    method: Annotated[str | None, Choices(LearntModel.Method.values)]
    settings: JsonObject | None
    data: Annotated[
        JsonObject | None,
        Doc(
            "Datasets, counts, splits, `quality`, the report before training, and `relevance`, whether the base's "
            "chances were carried over to this model (`state`: `carried`, `same` or `none`, with a `reason`)."
        ),
    ]
    metrics: Annotated[
        JsonObject | None, Doc("On the test split, beside the parent's and the traditional methods'.")
    ]
    estimate: JsonObject | None
    cost: JsonObject | None
    encoders: Annotated[JsonObject | None, Doc("Of a built-in space.")]
    bytes: int
    sha256: str | None
    job: str | None
    error: Annotated[JsonObject | None, Doc("Why its training ended without a model.")]
    promotion: Annotated[PromotionState | None, Doc("The newest one.")]
    created_by: str | None
    created_at: dt.datetime | None
    trained_at: dt.datetime | None
    promoted_at: dt.datetime | None
    retired_at: dt.datetime | None


class LearntModelWithCurves(LearntModelShape, kw_only=True):
    curves: Maybe[Annotated[list[JsonObject], Doc("Also while it is being trained.")]] = UNSET


class NamedModel(Shape, kw_only=True):
    id: str
    name: str


class DatasetVersionShape(Shape, kw_only=True):
    id: str
    dataset: str
    name: str
    note: str
    state: Annotated[
        str,
        Choices(DatasetVersion.State.values),
        Doc("`ready` once its list is written; it never changes then."),
    ]
    made_from: Annotated[
        JsonObject,
        Doc(
            "`status`, `modality`, `tag` and `filter` that it was made from, or how many `assets` were named; empty: "
            "the whole dataset."
        ),
    ]
    assets: Annotated[int, Doc("As it was made; `gone` of them have been erased since.")]
    kinds: Annotated[JsonObject, Doc("How many of each modality, as it was made.")]
    gone: int
    digest: Annotated[
        str | None,
        Doc(
            "The SHA-256 of the sorted digests of its assets, each the SHA-256 of content and captions: the same "
            "digest means the same content and captions. Null until it is made."
        ),
    ]
    models: Maybe[
        Annotated[
            list[NamedModel],
            Doc("Which learnt from it, or are learning, the newest 50; of one version alone."),
        ]
    ] = UNSET
    job: Annotated[str | None, Doc("That makes it, where it is large.")]
    created_by: str
    created_at: dt.datetime


class DatasetVersionMade(Shape, kw_only=True):
    version: DatasetVersionShape
    job: Annotated[Job | None, Doc("Null where the version is ready.")]


class DatasetVersionComparison(Shape, kw_only=True):
    version: str
    before: Annotated[str, Doc("The version that it is compared with.")]
    added: Annotated[int, Doc("Assets that this version lists and `before` does not.")]
    removed: Annotated[int, Doc("Assets that `before` lists and this version does not.")]
    changed: Annotated[int, Doc("Assets in both whose captions differed.")]
    same: int
    alike: Annotated[bool, Doc("Whether both had the same digest when they were made.")]
    results: Annotated[list[Asset], Doc("A page of the assets that `change` asks for, as they are now.")]
    next: str | None


class FinetuneAccepted(Shape, kw_only=True):
    model: LearntModelShape
    job: Job


class PromotionAccepted(Shape, kw_only=True):
    model: LearntModelShape
    promotion: PromotionState
    job: Job


class RolledBack(Shape, kw_only=True):
    model: LearntModelShape
    live: Annotated[LearntModelShape, Doc("What serves searches now.")]


class QueryPicture(Shape, kw_only=True):
    asset: str


class GoldenQueryShape(Shape, kw_only=True):
    id: str
    text: str | None
    image: QueryPicture | None
    relevant: list[str]
    created_by: str
    created_at: dt.datetime


class ClassifierMetadata(Shape, kw_only=True):
    """Assets with this key are examples: yes where its value is this one."""

    key: str
    value: Json


class ClassifierDecisions(Shape, kw_only=True):
    """Assets that reviewers decided about are examples."""

    rule: Annotated[str | None, Doc("Whose flags; null for those of all rules.")]
    label: Annotated[
        str | None, Doc("Yes where they gave it; null for yes where they labelled or blocked the item.")
    ]


class ClassifierCounts(Shape, kw_only=True):
    yes: int
    no: int


class ClassifierVersionShape(Shape, kw_only=True):
    number: int
    state: Annotated[str, Choices(ClassifierVersion.State.values)]
    source: Annotated[str, Choices(ClassifierVersion.Source.values)]
    model: Annotated[str | None, Doc("The model whose vectors it reads; another one needs another version.")]
    stale: Annotated[
        bool, Doc("Another model answers now, so that it cannot be promoted: train a version anew.")
    ]
    tier: Annotated[str | None, Doc("`calibrated`, or `estimated, not calibrated`.")]
    report: Annotated[
        JsonObject,
        Doc(
            "`figures` by folds (precision, recall, f1, auc, brier, ece, each with `value`, `spread` and `n`), counts, "
            "`without_vectors`, `warnings`; of reviewers' decisions also `decided_both_ways`, contents of which the "
            "newest decision counts, and `embedded`, assets without stored vectors."
        ),
    ]
    job: str | None
    error: Annotated[JsonObject | None, Doc("Why its training or its promotion ended.")]
    created_by: str
    created_at: dt.datetime
    trained_at: dt.datetime | None
    promoted_at: dt.datetime | None


class ClassifierShape(Shape, kw_only=True):
    id: str
    name: str
    field: Annotated[str, Doc("What filters call its probability.")]
    words: str | None
    metadata: ClassifierMetadata | None
    decisions: ClassifierDecisions | None
    examples: ClassifierCounts
    state: Annotated[
        str,
        Choices(["draft", "live", "stale"]),
        Doc(
            "`stale`: another model answers than the one that its live version reads; filters refuse the field."
        ),
    ]
    live: Annotated[int | None, Doc("The number of the version that answers.")]
    versions: Annotated[list[ClassifierVersionShape], Doc("The newest ones, and the one that answers.")]
    created_by: str
    created_at: dt.datetime


class ClassifierExampleShape(Shape, kw_only=True):
    asset: str
    label: bool
    created_by: str
    created_at: dt.datetime


class ClassifierAccepted(Shape, kw_only=True):
    version: ClassifierVersionShape
    job: Job


class ClassifierSuggestion(Shape, kw_only=True):
    asset: str
    probability: float
    margin: Annotated[float, Doc("How far the probability lies from the decision line, |probability − 0.5|.")]


class ClassifierSuggestions(Shape, kw_only=True):
    results: list[ClassifierSuggestion]


class ClassifierAnswer(Shape, kw_only=True):
    """What a live classifier says of one asset."""

    classifier: str
    name: str
    version: Annotated[int, Doc("The number of the version that answers.")]
    state: Annotated[
        str,
        Choices(["examined", "not_examined", "stale"]),
        Doc(
            "`not_examined`: the asset has no vectors that it reads; `stale`: another model answers than the one "
            "that it was trained for."
        ),
    ]
    probability: Annotated[float | None, Doc("Of yes; null unless it was examined.")]
    tier: Annotated[str | None, Doc("`calibrated`, or `estimated, not calibrated`.")]


class AssetDetail(Asset, kw_only=True):
    classifiers: Annotated[
        Maybe[list[ClassifierAnswer]],
        Doc("What live classifiers say of it, by name; absent where there are none."),
    ] = UNSET


def detailed(asset: Asset, classifiers: list[ClassifierAnswer]) -> AssetDetail:
    return AssetDetail(**structs.asdict(asset), classifiers=classifiers or UNSET)

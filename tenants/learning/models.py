"""The registry of what a tenant's spaces learnt, the queries that judge them, and how one took the place of another;
and the tenant's classifiers."""

from __future__ import annotations

import uuid

from django.db import models

from tenants.datasets.models import Asset
from tenants.retrieval.computed_fields import field_of
from tenants.scope import TenantForeignKey, TenantModel


class LearntModel(TenantModel):
    """One space of the tenant's own: what it learnt from, how, how good it is, and whether searches use it.

    Its files lie in the storage under `space`, by `model_store`; those of a draft that is being trained in
    LEARNING_DIR/tenant/id. What a job ended with stands in `error`, also that it was cancelled.
    """

    class State(models.TextChoices):
        # Being trained, or its training ended without a result.
        DRAFT = "draft"
        CANDIDATE = "candidate"
        LIVE = "live"
        RETIRED = "retired"

    class Stage(models.TextChoices):
        # The encoders stay as they are.
        ADAPT = "adapt"
        # General pairs first, then the tenant's with the lower layers frozen.
        FULL = "full"

    class Method(models.TextChoices):
        HEADS = "heads"
        LORA = "lora"

    name = models.CharField(max_length=100)
    # Counts up within the tenant.
    number = models.PositiveIntegerField()
    # The space that it started from, as vectors name it (`prior:1`); `parent` is its row if it was learnt here.
    base = models.CharField(max_length=100)
    parent = TenantForeignKey("self", on_delete=models.SET_NULL, related_name="+", null=True, blank=True)
    state = models.CharField(max_length=9, choices=State.choices, default=State.DRAFT)
    stage = models.CharField(max_length=5, choices=Stage.choices)
    method = models.CharField(max_length=5, choices=Method.choices)
    # What was asked for: epochs, batch, seed, group_by.
    settings = models.JSONField(default=dict)
    # The datasets by id and name, counts of pairs, a digest, `warnings`; `quality` is the report before training, and
    # `held_out` the assets of the test split, or the first of them.
    data = models.JSONField(default=dict)
    # On the test split: `model`, `parent` and `traditional` by ordered pair of modalities, and differences with
    # intervals.
    metrics = models.JSONField(null=True, blank=True)
    # Points of loss, temperature and validation, as they came; bounded.
    curves = models.JSONField(default=list)
    # Before and after: `cpu_s`, `gpu_s`, `wall_s`.
    estimate = models.JSONField(default=dict)
    cost = models.JSONField(default=dict)
    bytes = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    job_id = models.UUIDField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    trained_at = models.DateTimeField(null=True, blank=True)
    promoted_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "learnt_model"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="learnt_model_name_once"),
            models.UniqueConstraint(fields=["tenant", "number"], name="learnt_model_number_once"),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(state="live"), name="learnt_model_live_once"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "parent"], name="learnt_model_by_parent")]

    @property
    def space(self) -> str:
        """Id and version of its space, as stored with every vector."""
        return space_of(self.pk)


def space_of(model_id: uuid.UUID) -> str:
    """The space of the model with this id."""
    return f"cman-{model_id}:1"


class GoldenQuery(TenantModel):
    """A query with known answers, a text or a picture of the tenant's: it judges models before they serve."""

    text = models.TextField(blank=True, default="")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "golden_query"
        indexes = [models.Index(fields=["tenant", "asset"], name="golden_query_by_asset")]


class GoldenAnswer(TenantModel):
    """An asset that a golden query has to find."""

    golden = TenantForeignKey(GoldenQuery, on_delete=models.CASCADE, related_name="answers")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+")

    class Meta(TenantModel.Meta):
        db_table = "golden_answer"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "golden", "asset"], name="golden_answer_once")
        ]
        indexes = [models.Index(fields=["tenant", "asset"], name="golden_answer_by_asset")]


class ResultLabel(TenantModel):
    """What a member said of an asset as an answer to the words of a query: right, or wrong.

    `key` is by what spellings of the words count as one (`result_labels.key_of`); `text` as the member wrote them.
    """

    key = models.CharField(max_length=64)
    text = models.TextField()
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+")
    right = models.BooleanField()
    created_by = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "result_label"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key", "asset", "created_by"], name="result_label_once")
        ]
        indexes = [models.Index(fields=["tenant", "asset"], name="result_label_by_asset")]


class Promotion(TenantModel):
    """A space on its way to serve searches: embedded beside the one that does, compared, and switched to."""

    class State(models.TextChoices):
        EMBEDDING = "embedding"
        # Embedded, and worse than what serves: it waits for a decision.
        READY = "ready"
        SWITCHED = "switched"
        ABANDONED = "abandoned"
        FAILED = "failed"

    UNDER_WAY = (State.EMBEDDING, State.READY)

    # The space on its way, and its row if it was learnt here.
    space = models.CharField(max_length=100)
    model = TenantForeignKey(
        LearntModel, on_delete=models.CASCADE, related_name="promotions", null=True, blank=True
    )
    # The space that served when it began.
    replaces = models.CharField(max_length=100)
    state = models.CharField(max_length=9, choices=State.choices, default=State.EMBEDDING)
    # Overlap of the answers, golden queries before and after, and why it would be worse.
    report = models.JSONField(null=True, blank=True)
    # Why a model that is worse is to serve all the same; empty: it is not.
    override_reason = models.CharField(max_length=500, blank=True, default="")
    job_id = models.UUIDField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    embedded_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "promotion"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"],
                # Not `in`: Postgres prints that otherwise once it was dumped and restored.
                condition=models.Q(state="embedding") | models.Q(state="ready"),
                name="promotion_one_under_way",
            )
        ]
        indexes = [models.Index(fields=["tenant", "model", "-id"], name="promotion_by_model")]


class Classifier(TenantModel):
    """A yes-or-no question about assets that a tenant asks under a name: made from words, from examples, from the
    values of a key of metadata, or from reviewers' decisions. Its versions do not change; `live` answers in filters and
    policies."""

    name = models.CharField(max_length=60)
    # By which names count as one: its letters without case.
    folded = models.CharField(max_length=120)
    # Empty where it is made from examples alone.
    words = models.CharField(max_length=200, blank=True, default="")
    # Assets with this key are examples: yes where its value is `metadata_value`.
    metadata_key = models.CharField(max_length=100, blank=True, default="")
    metadata_value = models.JSONField(null=True, blank=True)
    # Assets that reviewers decided about are examples: those with a flag of this rule, and yes where they were given
    # this label or, without one, where the flag was confirmed.
    decisions_rule = models.CharField(max_length=100, blank=True, default="")
    decisions_label = models.CharField(max_length=100, blank=True, default="")
    # The number of the version that answers.
    live = models.PositiveIntegerField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "classifier"
        constraints = [models.UniqueConstraint(fields=["tenant", "folded"], name="classifier_name_once")]

    @property
    def field(self) -> str:
        """What filters call its probability."""
        return field_of(self.name)

    @property
    def has_decisions(self) -> bool:
        """Whether reviewers' decisions are its examples."""
        return bool(self.decisions_rule or self.decisions_label)


class ClassifierExample(TenantModel):
    """What somebody said of an asset."""

    classifier = TenantForeignKey(Classifier, on_delete=models.CASCADE, related_name="examples")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+")
    label = models.BooleanField()
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "classifier_example"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "classifier", "asset"], name="classifier_example_once")
        ]
        indexes = [models.Index(fields=["tenant", "asset"], name="classifier_example_by_asset")]


class ClassifierVersion(TenantModel):
    """One head of a classifier and what it was measured at, bound to the space (`model`) whose vectors it reads.

    `head` is `ml.classification.Head.to_bytes`, a few kB. What its training ended with without a head stands in
    `error`.
    """

    class State(models.TextChoices):
        # Being trained, or its training ended without a result.
        DRAFT = "draft"
        CANDIDATE = "candidate"
        # The tenant's assets are being scored; new ones are scored by it as they come.
        PROMOTING = "promoting"
        LIVE = "live"
        RETIRED = "retired"

    class Source(models.TextChoices):
        WORDS = "words"
        EXAMPLES = "examples"
        METADATA = "metadata"
        DECISIONS = "decisions"

    # Of these, scores are written for assets that become ready.
    WRITTEN = (State.PROMOTING, State.LIVE)

    classifier = TenantForeignKey(Classifier, on_delete=models.CASCADE, related_name="versions")
    # Counts up within the classifier.
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.DRAFT)
    source = models.CharField(max_length=9, choices=Source.choices)
    model = models.CharField(max_length=100, blank=True, default="")
    head = models.BinaryField(default=b"")
    # `ml.classification.Fitted.report`, with what was left out.
    report = models.JSONField(default=dict)
    job_id = models.UUIDField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    trained_at = models.DateTimeField(null=True, blank=True)
    promoted_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "classifier_version"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "classifier", "number"], name="classifier_version_number_once"
            )
        ]
        indexes = [models.Index(fields=["tenant", "state"], name="classifier_version_by_state")]

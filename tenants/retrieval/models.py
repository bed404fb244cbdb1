"""Vectors: the truth that every index of them is derived from; the lexical index; tasks, feedback, gates and maps."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.postgres.search import SearchVectorField
from django.db import models

from tenants.accounts.models import Membership
from tenants.datasets.models import Asset
from tenants.scope import TenantForeignKey, TenantModel

# Of an index: a generation's files in this installation, or an array in memory.
MEMORY = "memory"


class VectorClock(TenantModel):
    """The tenant's sequence, taken under this row's lock.

    A plain database sequence commits out of order, so a reader of "newer than n" would skip rows.
    `pruned` is the highest tombstone that was thrown away: a reader behind it must load everything anew.

    `live` is the model that answers searches, `beside` the models whose vectors are written as well, `previous` the one
    to go back to, which is one of `beside` for as long as that is possible. Of `retired` models the vectors are being
    deleted. Who changes these and who writes vectors hold this row's lock, so that no vector is missing when a model
    becomes the live one (`tenants.retrieval.living`).
    """

    last = models.BigIntegerField(default=0)
    pruned = models.BigIntegerField(default=0)
    # The database's default is what tenants had before there was a choice; new clocks name theirs.
    live = models.CharField(max_length=100, db_default="prior:1")
    beside = models.JSONField(default=list, db_default=[])
    previous = models.CharField(max_length=100, blank=True, default="", db_default="")
    switched_at = models.DateTimeField(null=True, blank=True)
    retired = models.JSONField(default=list, db_default=[])

    class Meta(TenantModel.Meta):
        db_table = "vector_clock"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="vector_clock_once")]


class Vector(TenantModel):
    """One unit vector of an asset: float32, little endian, of its `model` (`space id:version`), which says how many."""

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="vectors")
    dataset_id = models.UUIDField()
    asset_modality = models.CharField(max_length=5)
    model = models.CharField(max_length=100)
    modality = models.CharField(max_length=5)
    seq = models.BigIntegerField()
    data = models.BinaryField()
    segment = models.JSONField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "vector"
        constraints = [models.UniqueConstraint(fields=["tenant", "seq"], name="vector_seq_once")]
        indexes = [
            models.Index(fields=["tenant", "asset", "model"], name="vector_of_asset"),
            # One model is read past the others, however many lie between.
            models.Index(fields=["tenant", "model", "seq"], name="vector_of_model"),
        ]


class VectorGap(TenantModel):
    """An asset that a model cannot have vectors of, as its file could not be read again; why stands in `reason`.

    Of one revision of the asset: another one is tried anew.
    """

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+")
    model = models.CharField(max_length=100)
    revision = models.IntegerField()
    reason = models.TextField(blank=True, default="")

    class Meta(TenantModel.Meta):
        db_table = "vector_gap"
        constraints = [models.UniqueConstraint(fields=["tenant", "asset", "model"], name="vector_gap_once")]


class Tombstone(TenantModel):
    """Says that every vector of an asset with a smaller sequence number is gone."""

    asset_id = models.UUIDField()
    seq = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "tombstone"
        constraints = [models.UniqueConstraint(fields=["tenant", "seq"], name="tombstone_seq_once")]


class LexicalEntry(TenantModel):
    """The words of an asset and of its metadata. How they are written and read: `tenants.retrieval.query.lexical`."""

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="lexical_entries")
    dataset_id = models.UUIDField()
    modality = models.CharField(max_length=5)
    words = SearchVectorField()
    # Entries of earlier releases lack the lexemes of names until upkeep has added them (`lexical.index_older_names`).
    names_indexed = models.BooleanField(default=False, db_default=False)

    class Meta(TenantModel.Meta):
        db_table = "lexical_entry"
        # The GIN index on `words` stands in the migration beside the function that reads it.
        constraints = [models.UniqueConstraint(fields=["tenant", "asset"], name="lexical_entry_once")]
        indexes = [
            models.Index(
                fields=["tenant", "asset"],
                name="lexical_entry_without_names",
                condition=models.Q(names_indexed=False),
            )
        ]


class IndexGeneration(TenantModel):
    """One immutable index over all vectors of a model up to `seq`: files under INDEX_DIR/tenant/id, derived from them;
    or a copy in another engine (tenants.retrieval.engines).

    `recall` is recall@10 against exact search on sample queries, measured before it was published; `bytes` of all
    files; `archived` says that a copy lies in the storage, so that the local files may go.
    """

    class State(models.TextChoices):
        BUILDING = "building"
        READY = "ready"
        RETIRED = "retired"
        FAILED = "failed"

    model = models.CharField(max_length=100)
    state = models.CharField(max_length=8, choices=State.choices, default=State.BUILDING)
    kind = models.CharField(max_length=40, blank=True, default="")
    seq = models.BigIntegerField()
    vectors = models.BigIntegerField(default=0)
    assets = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    recall = models.FloatField(null=True, blank=True)
    # What it took: settings of the kind, attempts with their recall, seconds, peak memory.
    details = models.JSONField(default=dict)
    reason = models.TextField(blank=True, default="")
    archived = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True, blank=True)

    @property
    def engine(self) -> str:
        """Where it lies: MEMORY, or the name of an engine."""
        # What pgvector held in an earlier release is named without a colon.
        name, colon, _ = self.kind.replace("pgvector-", "pgvector:").partition(":")
        return name if colon else MEMORY

    @property
    def is_external(self) -> bool:
        return self.engine != MEMORY

    class Meta(TenantModel.Meta):
        db_table = "index_generation"
        indexes = [models.Index(fields=["tenant", "model", "-seq"], name="index_generation_newest")]


class IndexPointer(TenantModel):
    """Which index answers for a model: none (exact search in memory), a generation, or one in another engine."""

    model = models.CharField(max_length=100)
    engine = models.CharField(max_length=10, default=MEMORY)
    current = TenantForeignKey(
        IndexGeneration, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    # Kept for a rollback.
    previous = TenantForeignKey(
        IndexGeneration, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    searched_at = models.DateTimeField(null=True, blank=True)
    # Where somebody wants it, whatever its size: the name of an engine, or `files`; empty: by its size.
    placed = models.CharField(max_length=10, blank=True, default="", db_default="")

    class Meta(TenantModel.Meta):
        db_table = "index_pointer"
        constraints = [models.UniqueConstraint(fields=["tenant", "model"], name="index_pointer_once")]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """The engine is always that of the generation which answers."""
        self.engine = self.current.engine if self.current else MEMORY
        super().save(*args, **kwargs)


class FacetChange(TenantModel):
    """Says that the metadata of an asset changed at `seq`: what an index holds of it from before counts no more."""

    asset_id = models.UUIDField()
    seq = models.BigIntegerField()

    class Meta(TenantModel.Meta):
        db_table = "facet_change"
        constraints = [models.UniqueConstraint(fields=["tenant", "seq"], name="facet_change_seq_once")]


class SearchTask(TenantModel):
    """A tenant's own task. What may stand in `weights` and `rules`: `tenants.retrieval.query.fusion_weights`."""

    slug = models.CharField(max_length=50)
    description = models.TextField(blank=True, default="")
    weights = models.JSONField()
    rules = models.JSONField(default=list)
    dynamic = models.BooleanField(default=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "search_task"
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="search_task_once")]


class Feedback(TenantModel):
    """What somebody thought of one result of a search. Neither the words nor the vectors of the query are kept.

    `rank` at which it was shown, from 1. `evidence` is what a gate learns from (`query.feedback`); empty of a
    search of one part, which has nothing to weigh.
    """

    class Kind(models.TextChoices):
        CLICK = "click"
        RELEVANT = "relevant"
        IRRELEVANT = "irrelevant"

    search_id = models.UUIDField()
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    rank = models.PositiveIntegerField()
    task = models.CharField(max_length=50)
    model = models.CharField(max_length=100)
    evidence = models.BinaryField(default=b"")
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "feedback"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "search_id", "asset", "kind"], name="feedback_once")
        ]
        indexes = [models.Index(fields=["tenant", "asset"], name="feedback_by_asset")]


class RelevanceCorrection(TenantModel):
    """What a tenant's labels say of a model's curves of relevance (`ml.alignment.relevance.Correction`).

    `report`: what it was fitted to and how it did on queries that it had not seen, beside the curves alone.
    """

    number = models.PositiveIntegerField()
    live = models.BooleanField(default=False)
    model = models.CharField(max_length=100)
    steepness = models.FloatField()
    shift = models.FloatField()
    report = models.JSONField(default=dict)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "relevance_correction"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="relevance_correction_number_once"),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(live=True), name="relevance_correction_live_once"
            ),
        ]


class SearchGate(TenantModel):
    """A gate that learnt from a tenant's feedback: its weights are a safetensors file of a few kB.

    `report`: what it was trained on and how it did on searches that it had not seen, beside the built-in gate and the
    fixed weights.
    """

    number = models.PositiveIntegerField()
    live = models.BooleanField(default=False)
    content = models.BinaryField()
    report = models.JSONField(default=dict)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "search_gate"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="search_gate_number_once"),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(live=True), name="search_gate_live_once"
            ),
        ]


class EmbeddingMap(TenantModel):
    """A picture of one model's vectors in the plane (tenants.retrieval.maps).

    The points of UMAP are a file in the storage; those of PCA are computed when they are asked for. `model` is a space
    as vectors name it; empty `dataset_ids` stand for all datasets. `total` assets fitted, of which `points` were taken.
    """

    class Method(models.TextChoices):
        PCA = "pca"
        UMAP = "umap"

    class State(models.TextChoices):
        PENDING = "pending"
        READY = "ready"
        FAILED = "failed"

    name = models.CharField(max_length=100)
    method = models.CharField(max_length=4, choices=Method.choices)
    state = models.CharField(max_length=7, choices=State.choices, default=State.PENDING)
    model = models.CharField(max_length=100)
    dataset_ids = models.JSONField(default=list)
    modality = models.CharField(max_length=5, blank=True, default="")
    params = models.JSONField(default=dict)
    total = models.PositiveIntegerField(default=0)
    points = models.PositiveIntegerField(default=0)
    # What it took, and how much of what was near is near in it.
    details = models.JSONField(default=dict)
    job_id = models.UUIDField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "embedding_map"


class ComputedField(TenantModel):
    """A number that assets have by a computation, such as a classifier's probability, as filters call it (`key`).

    `facet_key` is the key of its facets, which nobody's metadata can have (`tenants.datasets.metadata.COMPUTED`), and
    `model` the space whose vectors they were made of: filters refuse the field while another one is live. A new version
    writes its facets under another key, and is switched to here.
    """

    key = models.CharField(max_length=100)
    facet_key = models.CharField(max_length=100)
    model = models.CharField(max_length=100)

    class Meta(TenantModel.Meta):
        db_table = "computed_field"
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="computed_field_once")]


class SavedSearch(TenantModel):
    """A search that somebody keeps under a name. `query` is the body of `POST /search`, as it was validated.

    It is the workspace's where `private_to` is empty, and goes with that member otherwise. `owner` made it: empty where
    a key did, and once the member has left. Both follow the membership by foreign keys of the database.
    """

    name = models.CharField(max_length=100)
    query = models.JSONField()
    owner = models.ForeignKey(
        Membership, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", null=True
    )
    private_to = models.ForeignKey(
        Membership, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", null=True
    )
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    @property
    def is_shared(self) -> bool:
        return self.private_to_id is None

    class Meta(TenantModel.Meta):
        db_table = "saved_search"


class RecentSearch(TenantModel):
    """A search that a member made lately, for that member alone. It goes with the membership.

    `digest`: SHA-256 of `query`, so that the same search is one row.
    """

    member = models.ForeignKey(Membership, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    query = models.JSONField()
    digest = models.CharField(max_length=64)
    searched_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        db_table = "recent_search"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "member", "digest"], name="recent_search_once")
        ]


class QueryPicture(TenantModel):
    """A picture that somebody searched by (`tenants.retrieval.query_pictures`).

    Its id cannot be guessed: who is told it sees the picture. `bytes` are those of both files; `used_at` when it was
    last searched by, about.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sha256 = models.CharField(max_length=64)
    bytes = models.BigIntegerField()
    used_at = models.DateTimeField()
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "query_picture"
        constraints = [models.UniqueConstraint(fields=["tenant", "sha256"], name="query_picture_once")]


class StandingQuery(TenantModel):
    """A search that is asked of every asset that arrives (`tenants.retrieval.standing`). `query` is the body of
    `POST /search`, as it was validated, or a filter alone.

    `since`: what arrived earlier is not told. `min_score`: the cosine from which on something meets it, where relevance
    is not known. `problem`: why it finds nothing as it is. `names_assets`: it asks by assets, and goes with them.
    `of_audits`: it asks of audits (`tenants.moderation.audits.standing`), and `filter_only` as it has no vector.
    `digested` is the end of the last hour whose alerts a digest has told.
    `owner` made it: empty where a key did, and once the member has left (a foreign key of the database).
    """

    class State(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"

    class Frequency(models.TextChoices):
        AT_ONCE = "at_once"
        HOURLY = "hourly"

    name = models.CharField(max_length=100)
    query = models.JSONField()
    state = models.CharField(max_length=6, choices=State.choices, default=State.ACTIVE)
    # Alerts are kept, and no webhook is told.
    muted = models.BooleanField(default=False)
    # Whether its alerts stand in the inbox of the workspace; others are read from the beginning.
    inbox = models.BooleanField(default=True, db_default=True)
    # How often webhooks are told: of each alert, or of those of an hour together.
    frequency = models.CharField(
        max_length=7, choices=Frequency.choices, default=Frequency.AT_ONCE, db_default=Frequency.AT_ONCE
    )
    digested = models.DateTimeField(null=True, blank=True)
    min_score = models.FloatField(null=True, blank=True)
    filter_only = models.BooleanField(default=False)
    names_assets = models.BooleanField(default=False)
    of_audits = models.BooleanField(default=False, db_default=False)
    since = models.DateTimeField()
    problem = models.TextField(blank=True, default="")
    owner = models.ForeignKey(
        Membership, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", null=True
    )
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta(TenantModel.Meta):
        db_table = "standing_query"
        indexes = [
            models.Index(fields=["tenant", "filter_only"], name="standing_query_by_filter"),
            models.Index(
                fields=["tenant"], name="standing_query_by_asset", condition=models.Q(names_assets=True)
            ),
            models.Index(
                fields=["tenant"], name="standing_query_of_audits", condition=models.Q(of_audits=True)
            ),
        ]


class StandingVector(TenantModel):
    """A standing query in one model's space: float32, little endian; empty where it cannot be asked there (`problem`).

    `asked` is what asks, as relevance knows it: `text`, `image`, or empty. `words`: those that a text has to hold to be
    as likely as words make it. `familiar`: how familiar it is to a fine-tune, 0 to 1. `seq` counts changes, under the
    lock of `StandingClock`.
    """

    standing_query = TenantForeignKey(StandingQuery, on_delete=models.CASCADE, related_name="vectors")
    model = models.CharField(max_length=100)
    seq = models.BigIntegerField()
    data = models.BinaryField(default=b"")
    asked = models.CharField(max_length=5, blank=True, default="")
    words = models.JSONField(default=list)
    least = models.FloatField(default=1.0)
    familiar = models.FloatField(default=1.0)
    problem = models.TextField(blank=True, default="")

    class Meta(TenantModel.Meta):
        db_table = "standing_vector"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "standing_query", "model"], name="standing_vector_once")
        ]
        indexes = [models.Index(fields=["tenant", "model", "seq"], name="standing_vector_newer")]


class StandingClock(TenantModel):
    """Counts changes of the tenant's standing queries, so that a process reads only what is newer than what it has."""

    last = models.BigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "standing_clock"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="standing_clock_once")]


class StandingArrival(TenantModel):
    """An asset that became ready and was not yet compared with the standing queries: an outbox, emptied in the
    transaction that stores what they found."""

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+")
    made_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        db_table = "standing_arrival"
        indexes = [models.Index(fields=["tenant", "asset"], name="standing_arrival_by_asset")]


class StandingAlert(TenantModel):
    """That an asset met a standing query, once, whatever happens to either. Its id is the `webhook-id` of its event.

    `score`, `relevance`, `modality` and `segment` say by what, as a search does; empty where a filter alone asked.
    `read_at` is the workspace's, not a member's. `digest`: it waits for the digest of its hour.
    """

    standing_query = TenantForeignKey(StandingQuery, on_delete=models.CASCADE, related_name="alerts")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+")
    score = models.FloatField(null=True, blank=True)
    relevance = models.FloatField(null=True, blank=True)
    modality = models.CharField(max_length=5, blank=True, default="")
    segment = models.JSONField(null=True, blank=True)
    read_at = models.DateTimeField(null=True, blank=True)
    digest = models.BooleanField(default=False, db_default=False)
    # That met the query, where it asks of audits.
    audit = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "standing_alert"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "standing_query", "asset"], name="standing_alert_once")
        ]
        indexes = [
            models.Index(fields=["tenant", "-id"], name="standing_alert_newest"),
            models.Index(fields=["tenant", "standing_query", "-id"], name="standing_alert_by_query"),
            models.Index(fields=["tenant", "asset"], name="standing_alert_by_asset"),
            models.Index(
                fields=["tenant", "-id"], name="standing_alert_unread", condition=models.Q(read_at=None)
            ),
            models.Index(
                fields=["tenant", "standing_query"],
                name="standing_alert_digest",
                condition=models.Q(digest=True),
            ),
        ]

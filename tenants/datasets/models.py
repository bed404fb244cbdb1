"""Datasets, their assets, the blobs behind them and the typed facets that filters use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import models

from tenants.scope import TenantForeignKey, TenantModel


class Dataset(TenantModel):
    class Duplicates(models.TextChoices):
        """What becomes of an upload whose content is in the dataset already."""

        KEEP = "keep"
        SKIP = "skip"

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    metadata_schema = models.JSONField(default=dict, blank=True)
    # Assets older than this are erased by upkeep; None keeps them.
    retention_days = models.PositiveIntegerField(null=True, blank=True)
    duplicates = models.CharField(
        max_length=4, choices=Duplicates.choices, default=Duplicates.KEEP, db_default=Duplicates.KEEP
    )
    created_at = models.DateTimeField(auto_now_add=True)
    # Set when deletion was asked for: hidden at once, erased by a job.
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "dataset"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=models.Q(deleted_at=None), name="dataset_name_once"
            )
        ]


class LegalHold(TenantModel):
    """Nothing of a dataset, or of the whole tenant, may be erased or changed until this is released
    (`tenants.datasets.holds`)."""

    # None: the whole tenant. No foreign key: that there was a hold outlives the dataset.
    dataset_id = models.UUIDField(null=True, blank=True)
    reason = models.TextField()
    reference = models.CharField(max_length=200, blank=True, default="")
    set_by = models.CharField(max_length=100)
    by_operator = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.CharField(max_length=100, blank=True, default="")

    class Meta(TenantModel.Meta):
        db_table = "legal_hold"
        indexes = [
            models.Index(
                fields=["tenant", "dataset_id"],
                condition=models.Q(released_at=None),
                name="legal_hold_standing",
            )
        ]


class Blob(TenantModel):
    """Bytes of a tenant, stored once by their SHA-256.

    `references` counts the assets that use it; at zero the collector removes file and row under the row's lock.
    """

    sha256 = models.CharField(max_length=64)
    bytes = models.PositiveBigIntegerField()
    media_type = models.CharField(max_length=100)
    references = models.PositiveIntegerField(default=0)
    # Set once decoded: pixel size after orientation, and the type of the rendition without location, if one was made.
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    clean_type = models.CharField(max_length=100, blank=True, default="")
    has_thumbnail = models.BooleanField(default=False)
    # Of sound and film, once decoded: `duration_s`, `has_sound`, `has_picture`, `codecs`, `peaks` (0 to 100, for a
    # waveform); None until then.
    details = models.JSONField(null=True, blank=True)
    # Of a document, once read: `format`, `title`, `pages`, `findings`, `truncated` (tenants.datasets.documents).
    document = models.JSONField(null=True, blank=True)
    # What the malware scan said when the bytes came in (tenants.datasets.scanning); None for what came before scans.
    scan = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "blob"
        constraints = [models.UniqueConstraint(fields=["tenant", "sha256"], name="blob_once")]


class Asset(TenantModel):
    class State(models.TextChoices):
        PENDING = "pending"
        READY = "ready"
        FAILED = "failed"

    class Modality(models.TextChoices):
        TEXT = "text"
        IMAGE = "image"
        AUDIO = "audio"
        VIDEO = "video"

    # Values of `moderation` under which nobody finds an asset.
    HIDDEN = ("quarantined", "block")
    # The label of what was made here.
    GENERATED = "ai-generated"

    dataset = TenantForeignKey(Dataset, on_delete=models.CASCADE, related_name="assets")
    blob = TenantForeignKey(Blob, on_delete=models.PROTECT, related_name="assets")
    modality = models.CharField(max_length=5, choices=Modality.choices)
    status = models.CharField(max_length=7, choices=State.choices, default=State.PENDING)
    external_id = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 (NULLs are distinct)
    # The name of the file that was uploaded (`filenames.clean_filename`); empty where there was no file.
    filename = models.CharField(max_length=255, blank=True, default="", db_default="")
    # The first of the captions, and the others in their order: none of them where `caption` is empty.
    caption = models.TextField(blank=True, default="")
    more_captions = models.JSONField(default=list, blank=True, db_default=[])
    # The first words of a text asset, so that lists and results need not open its blob.
    excerpt = models.TextField(blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)
    # What of the tenant's storage the metadata takes, as it was charged; 0 of assets that are older than that.
    metadata_bytes = models.PositiveIntegerField(default=0, db_default=0)
    error = models.JSONField(null=True, blank=True)
    # What auditing decided: empty (not audited), quarantined (not yet), allow, label, review or block. Quarantined and
    # blocked assets have no vectors, so that no search shows them.
    moderation = models.CharField(max_length=11, blank=True, default="")
    # What it is to be shown with, such as `ai-generated`.
    labels = models.JSONField(default=list, blank=True)
    # The request that made it (tenants.generation), of which it may be all that is left; None for uploads.
    generation_id = models.UUIDField(null=True, blank=True)
    # The words that it was made from: where it comes from, not what it shows. Shown, and in no index.
    prompt = models.TextField(blank=True, default="", db_default="")
    revision = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "asset"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "dataset", "external_id"], name="asset_external_id_once"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "dataset", "-id"], name="asset_by_dataset"),
            models.Index(fields=["tenant", "dataset", "status", "-id"], name="asset_by_status"),
            models.Index(fields=["tenant", "blob"], name="asset_by_blob"),
            models.Index(
                fields=["tenant", "generation_id"],
                name="asset_by_generation",
                condition=models.Q(generation_id__isnull=False),
            ),
        ]

    @property
    def captions(self) -> list[str]:
        return [self.caption, *self.more_captions] if self.caption else []

    @captions.setter
    def captions(self, captions: Sequence[str]) -> None:
        self.caption, self.more_captions = (captions[0], list(captions[1:])) if captions else ("", [])

    @property
    def title(self) -> str:
        """What people know it by: its caption, else the name of its file, what it was made from, its first words; may
        be empty."""
        return self.caption or self.filename or self.prompt or self.excerpt

    def labelled(self, labels: Iterable[str]) -> list[str]:
        """These labels, and that it was made here if it was: no decision takes that away."""
        return sorted({*labels, *((self.GENERATED,) if self.generation_id else ())})


class DatasetVersion(TenantModel):
    """A named list of assets of a dataset that nobody changes (`tenants.learning.dataset_versions`)."""

    class State(models.TextChoices):
        # A job is writing the list down.
        MAKING = "making"
        READY = "ready"
        # Its job ended without one.
        FAILED = "failed"

    dataset = TenantForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    name = models.CharField(max_length=100)
    note = models.TextField(blank=True, default="")
    state = models.CharField(max_length=6, choices=State.choices, default=State.MAKING)
    # What it was made from: `status`, `modality`, `tag` and `filter`, or how many `assets` were named; empty: all.
    made_from = models.JSONField(default=dict, blank=True)
    # As it was made: how many assets, by kind, and a digest of their content and captions.
    asset_count = models.PositiveIntegerField(default=0)
    kinds = models.JSONField(default=dict, blank=True)
    digest = models.CharField(max_length=64, blank=True, default="")
    # How many of them have been erased since: counted by a trigger on `dataset_version_asset`.
    gone = models.PositiveIntegerField(default=0)
    job_id = models.UUIDField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "dataset_version"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "dataset", "name"], name="dataset_version_name_once")
        ]
        indexes = [models.Index(fields=["tenant", "dataset", "-id"], name="dataset_version_by_dataset")]


class DatasetVersionAsset(TenantModel):
    """That an asset is in a version, and the digest of its content and captions when the version was made.

    Written once: a trigger refuses changes. It goes with its asset.
    """

    version = TenantForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="+")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+")
    digest = models.BinaryField()

    class Meta(TenantModel.Meta):
        db_table = "dataset_version_asset"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version", "asset"], name="dataset_version_asset_once")
        ]
        indexes = [models.Index(fields=["tenant", "asset"], name="dataset_version_by_asset")]


class AssetTally(TenantModel):
    """So many assets more (or fewer) in a dataset, and in a status: their sum is what a count would say.

    Written by triggers on `asset`, one row a statement, so that no path can forget it and no two writers wait for each
    other; `tenants.datasets.asset_counts` adds them up. No foreign key: rows of a deletion outlive the
    dataset until then.
    """

    dataset_id = models.UUIDField()
    assets = models.BigIntegerField(default=0)
    ready = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "asset_tally"
        indexes = [models.Index(fields=["tenant", "dataset_id"], name="asset_tally_by_dataset")]


class Facet(TenantModel):
    """One filterable value of an asset's metadata, typed.

    Row-level security keeps Postgres from using indexes on JSONB and numeric operators (not leakproof); btree on
    text, float8 and bool are leakproof, hence this table beside `Asset.metadata`.
    """

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="facets")
    key = models.CharField(max_length=100)
    text = models.TextField(null=True, blank=True)  # noqa: DJ001 (NULL means: of another type)
    number = models.FloatField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "facet"
        indexes = [
            models.Index(fields=["tenant", "key", "text", "asset"], name="facet_by_text"),
            models.Index(fields=["tenant", "key", "number", "asset"], name="facet_by_number"),
            models.Index(fields=["tenant", "asset"], name="facet_by_asset"),
        ]


class TranscriptSegment(TenantModel):
    """One utterance of a recording or film: what was said, and when (seconds from the start)."""

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="transcript")
    start_s = models.FloatField()
    end_s = models.FloatField()
    text = models.TextField()
    confidence = models.FloatField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "transcript_segment"
        indexes = [models.Index(fields=["tenant", "asset", "start_s"], name="transcript_by_asset")]


class Import(TenantModel):
    """Many assets from one file, folder or bucket: what to read, how, how far it has come.

    `position` is the last row whose outcome is stored: a killed attempt goes on after it. A draft has no job yet.
    """

    class Source(models.TextChoices):
        UPLOAD = "upload"
        FOLDER = "folder"
        BUCKET = "bucket"

    dataset = TenantForeignKey(Dataset, on_delete=models.CASCADE, related_name="imports")
    source = models.CharField(max_length=6, choices=Source.choices)
    # Of an upload its name, else the folder or bucket/prefix; shown to people, never used as a path for uploads.
    location = models.CharField(max_length=1000)
    # zip, tar, csv, jsonl, parquet, or files for a folder or prefix.
    format = models.CharField(max_length=10)
    bytes = models.PositiveBigIntegerField(default=0)
    mapping = models.JSONField(default=dict)
    options = models.JSONField(default=dict, blank=True)
    # Credentials of a bucket, encrypted, and only until the import has ended.
    secret = models.BinaryField(null=True, blank=True)
    job_id = models.UUIDField(null=True, blank=True)
    position = models.BigIntegerField(default=0)
    total = models.BigIntegerField(null=True, blank=True)
    imported = models.PositiveBigIntegerField(default=0)
    duplicate = models.PositiveBigIntegerField(default=0)
    # Rows whose caption went to the asset of the same file and external id.
    merged = models.PositiveBigIntegerField(default=0, db_default=0)
    failed = models.PositiveBigIntegerField(default=0)
    # The row at which a worker died, and how often: after two deaths it is recorded as failed and passed over.
    trying = models.BigIntegerField(default=0)
    tries = models.PositiveSmallIntegerField(default=0)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "import"
        indexes = [models.Index(fields=["tenant", "dataset", "-id"], name="import_by_dataset")]


class ImportRow(TenantModel):
    """One line of an import's receipt."""

    class Outcome(models.TextChoices):
        IMPORTED = "imported"
        MERGED = "merged"
        DUPLICATE = "duplicate"
        FAILED = "failed"

    job_import = TenantForeignKey(
        Import, on_delete=models.CASCADE, related_name="rows", db_column="import_id"
    )
    row = models.BigIntegerField()
    name = models.CharField(max_length=300, blank=True, default="")
    outcome = models.CharField(max_length=9, choices=Outcome.choices)
    asset_id = models.UUIDField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True, default="")
    # Of a failed row of a table, for some weeks: pairs of column and value in the order of the source, which an object
    # in jsonb would not keep.
    record = models.JSONField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "import_row"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "job_import", "row"], name="import_row_once")
        ]
        indexes = [
            models.Index(fields=["tenant", "job_import", "outcome", "row"], name="import_row_by_outcome")
        ]


class ResumableUpload(TenantModel):
    """A file that is sent in parts, over as many requests and hosts as it takes (`tenants.datasets.resumable`).

    `offset` never exceeds what is stored. The rest is of uploads in a bucket, see `tenants.datasets.upload_bytes`.
    """

    bytes = models.PositiveBigIntegerField()
    offset = models.PositiveBigIntegerField(default=0)
    # What the client told of the file: names and values, as data.
    metadata = models.JSONField(default=dict)
    # In the past for one that has been used or thrown away, until its bytes are gone.
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    # Its bytes lie in UPLOADS_DIR of one host, where a former release put them.
    local = models.BooleanField(default=False)
    # Who writes to it or uses it, and until when without a sign of life.
    holder = models.UUIDField(null=True, blank=True)
    held_until = models.DateTimeField(null=True, blank=True)
    # The id that the bucket gave a multipart upload; empty before its first part.
    multipart = models.TextField(blank=True, default="")
    # The number that was last given to a part: no two writers ever send a part under one number.
    part_number = models.PositiveIntegerField(default=0)
    # [number, ETag] of each part in its order, then [name, bytes] of each object that waits to become part of one.
    parts = models.JSONField(default=list)
    pieces = models.JSONField(default=list)

    class Meta(TenantModel.Meta):
        db_table = "resumable_upload"
        indexes = [models.Index(fields=["tenant", "expires_at"], name="resumable_upload_expiry")]


class StreamSource(TenantModel):
    """A stream of somebody's broker whose items become assets (`tenants.pipeline.streams`).

    `position` is how far it was read, stored in the transaction that stores the assets: of Redis Streams the last id,
    of Kafka the next offset by partition, of RabbitMQ nothing, which hands back what was not acknowledged.
    """

    class Kind(models.TextChoices):
        REDIS = "redis"
        RABBITMQ = "rabbitmq"
        KAFKA = "kafka"

    class State(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"

    class OnChange(models.TextChoices):
        """What becomes of other content under an id that is there."""

        REFUSE = "refuse"
        REPLACE = "replace"

    dataset = TenantForeignKey(Dataset, on_delete=models.CASCADE, related_name="stream_sources")
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    # Without user name and password, which are sealed.
    url = models.CharField(max_length=2000)
    secret = models.BinaryField(null=True, blank=True)
    # Of the stream, queue or topic.
    topic = models.CharField(max_length=255)
    group = models.CharField(max_length=100, default="crosslight")
    # From role (id, text, metadata, key, body) to field of an item.
    mapping = models.JSONField(default=dict)
    on_change = models.CharField(max_length=7, choices=OnChange.choices, default=OnChange.REFUSE)
    # Whether a group that is new begins with what is there.
    from_start = models.BooleanField(default=True)
    state = models.CharField(max_length=6, choices=State.choices, default=State.ACTIVE)
    # What keeps it from reading, and what to do; empty where nothing does.
    problem = models.CharField(max_length=500, blank=True, default="")
    position = models.JSONField(default=dict)
    stored = models.PositiveBigIntegerField(default=0)
    duplicate = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveBigIntegerField(default=0)
    # Items that the broker held for it when it was last asked; None where that is not known.
    lag = models.PositiveBigIntegerField(null=True, blank=True)
    last_item_at = models.DateTimeField(null=True, blank=True)
    # Tries to reach the broker since it last answered.
    failures = models.PositiveIntegerField(default=0)
    job_id = models.UUIDField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "stream_source"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="stream_source_name_once")]


class StreamDeadLetter(TenantModel):
    """An item of a stream that became no asset, and why."""

    source = TenantForeignKey(StreamSource, on_delete=models.CASCADE, related_name="dead_letters")
    # The dataset of the source, by which members are narrowed.
    dataset_id = models.UUIDField()
    # Where it stood; of RabbitMQ a digest of it. One that comes again is the same letter.
    position = models.CharField(max_length=120)
    external_id = models.CharField(max_length=200, blank=True, default="")
    slug = models.CharField(max_length=50)
    reason = models.CharField(max_length=500)
    # The item as it came, as far as it was kept; `whole` where it can be replayed.
    body = models.TextField()
    whole = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "stream_dead_letter"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "source", "position"], name="stream_dead_letter_once")
        ]

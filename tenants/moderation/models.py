"""Policies, audits, reviews, the record of decisions, and lists of known content."""

from __future__ import annotations

from django.db import models
from uuid_utils.compat import uuid7

from tenants.datasets.models import Asset, Blob
from tenants.scope import TenantForeignKey, TenantModel


class AuditRequest(TenantModel):
    """An audit that was asked for, with the job that does it. Its id becomes the audit's."""

    class Source(models.TextChoices):
        # Asked for by a client, of content that need not be kept.
        REQUEST = "request"
        # An upload that a policy audits.
        UPLOAD = "upload"
        # Again, as a list or a policy changed.
        AGAIN = "again"
        # The words that somebody asked to generate from, and the file that came of it.
        PROMPT = "prompt"
        OUTPUT = "output"

    source = models.CharField(max_length=7, choices=Source.choices)
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    # The content of an audit without an asset; it counts as a reference until the audit's content is dropped.
    blob = TenantForeignKey(Blob, on_delete=models.PROTECT, related_name="+", null=True, blank=True)
    modality = models.CharField(max_length=5)
    caption = models.TextField(blank=True, default="")
    # Who the content comes from, in the client's words: strikes are counted by it.
    subject = models.CharField(max_length=200, blank=True, default="")
    policy_id = models.UUIDField(null=True, blank=True)
    job_id = models.UUIDField(null=True, blank=True)
    requested_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    # Set when the audit could not be made: type and detail.
    error = models.JSONField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "audit_request"
        indexes = [
            models.Index(fields=["tenant", "asset"], name="audit_request_by_asset"),
            models.Index(fields=["tenant", "blob"], name="audit_request_by_blob"),
            models.Index(
                fields=["tenant", "subject", "-id"],
                condition=~models.Q(subject=""),
                name="audit_request_by_subject",
            ),
        ]


class Audit(TenantModel):
    """One decision about one item. Append-only: the application's role may insert and read.

    It holds no content and no reference that an erasure would have to follow: `item` is an asset's id, kept as a number
    after the asset is gone.
    """

    item = models.UUIDField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    modality = models.CharField(max_length=5)
    source = models.CharField(max_length=7)
    decision = models.CharField(max_length=6)
    # enforce, shadow, or off where no policy was in force.
    mode = models.CharField(max_length=7)
    policy_version = models.UUIDField(null=True, blank=True)
    # Ids of the rules that fired, in order.
    rules = models.JSONField(default=list)
    verdict = models.CharField(max_length=20)
    # 0 to 100, for the order of the queue.
    severity = models.PositiveSmallIntegerField(default=0)
    # SHA-256 of the evidence's canonical JSON: erasable, and still provable.
    evidence_digest = models.CharField(max_length=64)
    # Of policy, detectors and calibration, in one digest each.
    versions = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "audit"
        indexes = [
            models.Index(fields=["tenant", "-id"], name="audit_newest"),
            models.Index(fields=["tenant", "item", "-id"], name="audit_by_item"),
            models.Index(fields=["tenant", "decision", "-id"], name="audit_by_decision"),
        ]


class Evidence(TenantModel):
    """What an audit saw. Goes with the asset, or when its time is over; the audit stays with its digest."""

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="evidence")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    document = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "audit_evidence"
        constraints = [models.UniqueConstraint(fields=["tenant", "audit"], name="audit_evidence_once")]
        indexes = [models.Index(fields=["tenant", "asset"], name="audit_evidence_by_asset")]


class AuditPicture(TenantModel):
    """A picture that a detector made for people: a mask, a heat-map. PNG, at most 512 pixels."""

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="pictures")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    name = models.CharField(max_length=100)
    content = models.BinaryField()

    class Meta(TenantModel.Meta):
        db_table = "audit_picture"
        constraints = [models.UniqueConstraint(fields=["tenant", "audit", "name"], name="audit_picture_once")]
        indexes = [models.Index(fields=["tenant", "asset"], name="audit_picture_by_asset")]


class Policy(TenantModel):
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True, default="")
    # The starter policy that it was made from, or empty.
    starter = models.CharField(max_length=50, blank=True, default="")
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "policy"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="policy_name_once")]


class PolicyVersion(TenantModel):
    """One version, never changed: the application's role may not update or delete it.

    `document` is what `tenants.moderation.rules.document` describes: `rules` in order, `thresholds` per category,
    `detectors`, `on_failure`, `quarantine`.
    """

    policy = TenantForeignKey(Policy, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    document = models.JSONField()
    # SHA-256 of the document in canonical JSON.
    digest = models.CharField(max_length=64)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "policy_version"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "policy", "number"], name="policy_version_once"),
            models.UniqueConstraint(fields=["tenant", "policy", "digest"], name="policy_version_same_once"),
        ]


class PolicyActivation(TenantModel):
    """One change of what is in force: what was asked for (`version`, `mode`), and what holds since. Append-only.

    The row with the highest number of a policy counts. At most one policy of a tenant has an enforced version.
    """

    class Mode(models.TextChoices):
        OFF = "off"
        # Decides and records, and changes nothing.
        SHADOW = "shadow"
        ENFORCE = "enforce"

    policy = TenantForeignKey(Policy, on_delete=models.CASCADE, related_name="activations")
    # Counts up within the tenant: an order that no clock can disturb.
    number = models.PositiveIntegerField()
    version = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="+")
    mode = models.CharField(max_length=7, choices=Mode.choices)
    enforced = TenantForeignKey(
        PolicyVersion, on_delete=models.CASCADE, related_name="+", null=True, blank=True
    )
    # The share of items that the enforced version decides for, by a stable hash of the item's content, so that an item
    # falls on the same side each time. For the others `rest` decides, the version that was enforced for all before;
    # where there is none, they are decided as in shadow.
    ratio = models.FloatField(default=1.0)
    rest = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    shadow = TenantForeignKey(
        PolicyVersion, on_delete=models.CASCADE, related_name="+", null=True, blank=True
    )
    # For rolling back: what held before, and the row of the other policy that this one replaced.
    before = TenantForeignKey("self", on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    displaced = TenantForeignKey("self", on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "policy_activation"
        constraints = [models.UniqueConstraint(fields=["tenant", "number"], name="policy_activation_once")]
        indexes = [models.Index(fields=["tenant", "policy", "-number"], name="policy_activation_newest")]


class ShadowDecision(TenantModel):
    """What a version would have decided about an audit that another one decided. Append-only."""

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="shadows")
    version = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="+")
    decision = models.CharField(max_length=6)
    # Ids of the rules that fired, in order.
    rules = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "shadow_decision"
        constraints = [models.UniqueConstraint(fields=["tenant", "audit", "version"], name="shadow_once")]
        indexes = [models.Index(fields=["tenant", "version", "-id"], name="shadow_by_version")]


class Backtest(TenantModel):
    """A version tried on the tenant's history. `state` is how far its job has come, so that another can go on."""

    version = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="backtests")
    job_id = models.UUIDField()
    state = models.JSONField(default=dict)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "policy_backtest"
        constraints = [models.UniqueConstraint(fields=["tenant", "job_id"], name="policy_backtest_once")]
        indexes = [models.Index(fields=["tenant", "version", "-id"], name="policy_backtest_newest")]


class Review(TenantModel):
    """One flag of one audit in the queue: closing it closes only this one.

    `kind` second is a second opinion by sampling, whose answer changes nothing by itself unless the two disagree.
    """

    class Kind(models.TextChoices):
        FLAG = "flag"
        SECOND = "second"
        APPEAL = "appeal"

    class State(models.TextChoices):
        OPEN = "open"
        CLAIMED = "claimed"
        DECIDED = "decided"
        # Nothing is left to decide: the item was erased, or a newer audit took its place.
        DROPPED = "dropped"

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="reviews")
    # None for an item that is no asset, and once the asset is erased.
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    kind = models.CharField(max_length=6, choices=Kind.choices, default=Kind.FLAG)
    # Of a second opinion: the review whose outcome it checks. Of a flag: the one about which two people disagreed.
    of_review = models.UUIDField(null=True, blank=True)
    # The rule that raised the flag, or `detector-failed`.
    rule = models.CharField(max_length=100)
    reason = models.TextField(blank=True, default="")
    severity = models.PositiveSmallIntegerField(default=0)
    state = models.CharField(max_length=7, choices=State.choices, default=State.OPEN)
    # In the audit log's words (key:… or user:…); of the claim, whose lease ends at `lease_until`.
    claimed_by = models.CharField(max_length=100, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    # Until when it should be decided.
    due_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "review"
        constraints = [
            # A flag of a rule, once for an audit, however often the audit's job runs.
            models.UniqueConstraint(
                fields=["tenant", "audit", "rule"],
                condition=models.Q(kind="flag", of_review=None),
                name="review_flag_once",
            ),
            # A second opinion, and what follows where the two disagree; a dropped one may be asked for again.
            models.UniqueConstraint(
                fields=["tenant", "of_review", "kind"],
                condition=~models.Q(of_review=None) & ~models.Q(state="dropped"),
                name="review_check_once",
            ),
            models.UniqueConstraint(
                fields=["tenant", "audit"],
                # Not a list: Postgres writes one differently after a restore, which then seems to be another index.
                condition=models.Q(kind="appeal") & (models.Q(state="open") | models.Q(state="claimed")),
                name="review_appeal_once",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "state", "-severity", "id"], name="review_queue"),
            # All that wait in one order, whoever holds them: two states in the index above would have to be sorted.
            models.Index(
                fields=["tenant", "-severity", "id"],
                condition=models.Q(state="open") | models.Q(state="claimed"),
                name="review_waiting",
            ),
            models.Index(fields=["tenant", "state", "due_at", "id"], name="review_due"),
            models.Index(fields=["tenant", "audit"], name="review_by_audit"),
            models.Index(fields=["tenant", "asset"], name="review_by_asset"),
        ]


class Outcome(TenantModel):
    """What a person decided about a review. Append-only: undoing adds a row that points at the undone one."""

    # A number and not a reference: a review goes with its asset, its outcome stays.
    review = models.UUIDField()
    audit = models.UUIDField()
    # The audit's item, or the audit itself for an item that is no asset: who decided about it before is asked by this.
    item = models.UUIDField()
    kind = models.CharField(max_length=6, choices=Review.Kind.choices, default=Review.Kind.FLAG)
    # As the review had it: figures of agreement need it when the review is gone.
    of_review = models.UUIDField(null=True, blank=True)
    # Of one bulk decision, which is undone as a whole.
    batch = models.UUIDField(null=True, blank=True)
    undoes = models.UUIDField(null=True, blank=True)
    # Of a row that undoes another: what the item stands at again.
    decision = models.CharField(max_length=6)
    # What the item stood at before.
    before = models.CharField(max_length=6, blank=True, default="")
    # What the item is to be shown with.
    labels = models.JSONField(default=list, blank=True)
    # The item of the hash list to which the content was added with this decision.
    copies = models.UUIDField(null=True, blank=True)
    reviewer = models.CharField(max_length=100)
    reason = models.TextField(blank=True, default="")
    rule = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "review_outcome"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "undoes"], name="review_outcome_undone_once")
        ]
        indexes = [
            models.Index(fields=["tenant", "review", "id"], name="review_outcome_by_review"),
            models.Index(fields=["tenant", "item", "id"], name="review_outcome_by_item"),
            models.Index(fields=["tenant", "batch"], name="review_outcome_by_batch"),
            models.Index(fields=["tenant", "rule", "-id"], name="review_outcome_by_rule"),
        ]


class Appeal(TenantModel):
    """Somebody disagrees with a decision. It is reviewed by another person than the one who decided."""

    class State(models.TextChoices):
        OPEN = "open"
        UPHELD = "upheld"
        OVERTURNED = "overturned"

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="appeals")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    review_id = models.UUIDField(null=True, blank=True)
    reason = models.TextField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    # When who appealed has read the answer in the console; until then their first page tells of it.
    seen_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "appeal"
        indexes = [
            models.Index(fields=["tenant", "audit"], name="appeal_by_audit"),
            models.Index(fields=["tenant", "asset"], name="appeal_by_asset"),
            models.Index(fields=["tenant", "state", "-id"], name="appeal_by_state"),
            models.Index(fields=["tenant", "created_by", "-id"], name="appeal_by_author"),
        ]


class Strike(TenantModel):
    """One blocked item of one subject (who sent it, in the client's words). Withdrawn when the block is."""

    subject = models.CharField(max_length=200)
    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="strikes")
    rule = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "strike"
        constraints = [models.UniqueConstraint(fields=["tenant", "audit"], name="strike_once")]
        indexes = [models.Index(fields=["tenant", "subject", "-id"], name="strike_by_subject")]


class Record(TenantModel):
    """One line: what happened to which audit, by whom, and the digest of what was said. Ids only, no content.

    `sequence` counts without gaps within a tenant (from a locked row), so that a missing line shows.
    """

    sequence = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=30)
    audit = models.UUIDField(null=True, blank=True)
    item = models.UUIDField(null=True, blank=True)
    # What else it is about: a review, an appeal, an activation, a list.
    subject = models.UUIDField(null=True, blank=True)
    policy_version = models.UUIDField(null=True, blank=True)
    decision = models.CharField(max_length=6, blank=True, default="")
    actor = models.CharField(max_length=100, blank=True, default="")
    payload_digest = models.CharField(max_length=64, blank=True, default="")
    # SHA-256 of this line (`record.lines.canonical`): tells which line of a broken seal was changed.
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        db_table = "moderation_record"
        constraints = [models.UniqueConstraint(fields=["tenant", "sequence"], name="moderation_record_once")]
        indexes = [models.Index(fields=["tenant", "audit", "sequence"], name="moderation_record_by_audit")]


class SealRow(TenantModel):
    """Lines `first` to `last`, and the digest of them and of the seal before: changing one line breaks the chain."""

    first = models.PositiveBigIntegerField()
    last = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)
    previous = models.CharField(max_length=64, blank=True, default="")
    # Part of what is digested, so written by hand.
    created_at = models.DateTimeField()
    # Ed25519 in base64, and which key it is of (`record.signatures`); empty in seals of releases before 0.3.
    signature = models.CharField(max_length=88, blank=True, default="", db_default="")
    key_id = models.CharField(max_length=16, blank=True, default="", db_default="")

    class Meta(TenantModel.Meta):
        abstract = True


class Seal(SealRow):
    """Over lines of the record of decisions."""

    class Meta(TenantModel.Meta):
        db_table = "moderation_seal"
        constraints = [models.UniqueConstraint(fields=["tenant", "first"], name="moderation_seal_once")]


class LogSeal(SealRow):
    """Over lines of the audit log (`tenants.events.models.AuditLogLine`)."""

    class Meta(TenantModel.Meta):
        db_table = "audit_log_seal"
        constraints = [models.UniqueConstraint(fields=["tenant", "first"], name="audit_log_seal_once")]


class Checkpoint(models.Model):
    """The newest seals of all tenants at a moment, chained and signed: what is kept outside (global).

    Append-only for the application's role. Why all tenants in one: docs/adr/0063-the-record-is-anchored-outside.md.
    """

    number = models.PositiveBigIntegerField(primary_key=True)
    # SHA-256 of `record.checkpoints.canonical`, and that of the checkpoint before.
    digest = models.CharField(max_length=64)
    previous = models.CharField(max_length=64, blank=True, default="")
    # Where it was to be kept, as configured when it was made.
    places = models.JSONField(default=list)
    signature = models.CharField(max_length=88)
    key_id = models.CharField(max_length=16)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "record_checkpoint"


class CheckpointHead(models.Model):
    """The newest seal of one chain of one tenant in a checkpoint (global; it outlives the tenant, as a random id)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.CASCADE, related_name="heads")
    of_tenant = models.UUIDField()
    chain = models.CharField(max_length=6)
    last = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)

    class Meta:
        db_table = "record_checkpoint_head"
        indexes = [
            models.Index(fields=["of_tenant", "chain", "-checkpoint"], name="record_checkpoint_of_tenant")
        ]


class Anchor(models.Model):
    """A checkpoint on its way to a place outside, or there (global, an outbox)."""

    class Place(models.TextChoices):
        BUCKET = "bucket"
        TIME_STAMP = "tsa"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.CASCADE, related_name="anchors")
    place = models.CharField(max_length=6, choices=Place.choices)
    tries = models.PositiveIntegerField(default=0)
    # When it is tried next; None once it is there.
    due_at = models.DateTimeField(null=True, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)
    # Why the last try failed.
    error = models.CharField(max_length=300, blank=True, default="")
    # Of the time stamp authority: the whole response (RFC 3161, section 2.4.2).
    token = models.BinaryField(null=True, blank=True)

    class Meta:
        db_table = "record_anchor"
        constraints = [models.UniqueConstraint(fields=["checkpoint", "place"], name="record_anchor_once")]
        indexes = [models.Index(fields=["due_at"], name="record_anchor_due")]


class RecordClock(TenantModel):
    """The last sequence number of a tenant's record; locked while a line is added."""

    last = models.PositiveBigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "moderation_clock"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="moderation_clock_once")]


class Stance(models.TextChoices):
    BAD = "bad"
    GOOD = "good"


class Algorithm(models.TextChoices):
    # Of the bytes.
    SHA256 = "sha256"
    # Of a picture, or of one frame of a film.
    PDQ = "pdq"
    # Of a picture: a unit vector, for crops and rotations.
    VECTOR = "vector"
    # Of a sound.
    SOUND = "sound"


class HashList(TenantModel):
    name = models.CharField(max_length=100)
    stance = models.CharField(max_length=4, choices=Stance.choices)
    description = models.TextField(blank=True, default="")
    # Counts up with every change of entries: caches of the list are told by it.
    revision = models.PositiveBigIntegerField(default=1)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "hash_list"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="hash_list_name_once")]


class HashEntry(TenantModel):
    """One hash of one known item; an item has several, which share `item`."""

    hash_list = TenantForeignKey(HashList, on_delete=models.CASCADE, related_name="entries")
    item = models.UUIDField()
    algorithm = models.CharField(max_length=6, choices=Algorithm.choices)
    content = models.BinaryField()
    note = models.CharField(max_length=500, blank=True, default="")
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "hash_entry"
        indexes = [
            models.Index(fields=["tenant", "hash_list", "algorithm"], name="hash_entry_by_list"),
            models.Index(fields=["tenant", "item"], name="hash_entry_by_item"),
        ]


class SharedHashList(models.Model):
    """A list for every tenant, kept by the operator (global: it holds no tenant's data)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True)
    stance = models.CharField(max_length=4, choices=Stance.choices)
    description = models.TextField(blank=True, default="")
    revision = models.PositiveBigIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "shared_hash_list"


class SharedHashEntry(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    hash_list = models.ForeignKey(SharedHashList, on_delete=models.CASCADE, related_name="entries")
    item = models.UUIDField()
    algorithm = models.CharField(max_length=6, choices=Algorithm.choices)
    content = models.BinaryField()
    note = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        db_table = "shared_hash_entry"

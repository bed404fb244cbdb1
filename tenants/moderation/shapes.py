"""Audits, reviews, policies, hash lists and the record as the API shows them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from ml.auditing import ESTIMATES, VERDICTS
from tenants.jobs.shapes import Job
from tenants.moderation import models
from tenants.moderation.models import Algorithm, Anchor, PolicyActivation, Stance
from tenants.moderation.record.chains import CHAINS
from tenants.moderation.rules import document as policy_document
from tenants.shapes import UNSET, Choices, Doc, JsonObject, Maybe, Page, Shape

DECISIONS = ("allow", "label", "review", "block")


class PolicyRef(Shape, kw_only=True):
    id: str
    version: int


class Authenticity(Shape, kw_only=True):
    verdict: Annotated[str, Choices(VERDICTS)]
    tier: str | None
    probability: Annotated[float | None, Doc("Of what the verdict says; only where it is an estimate.")]
    interval: list[float] | None
    evidence: list[JsonObject]
    tiers: Annotated[JsonObject, Doc("Each tier's own verdict; tiers are never averaged.")]
    looked_for: Maybe[
        Annotated[
            JsonObject,
            Doc("What each tier looked for in this item: lists of codes by tier. Audits of before lack it."),
        ]
    ] = UNSET
    estimates: Maybe[
        Annotated[
            JsonObject,
            Doc(
                "The statistical tier's verdicts about `generation` and `manipulation`. Audits of before lack it."
            ),
        ]
    ] = UNSET


class AuditDetector(Shape, kw_only=True):
    name: str
    version: str
    tier: str
    state: Annotated[str, Choices(("examined", "abstained", "not_applicable", "not_installed", "failed"))]
    reason: str
    score: float | None
    cpu_s: float
    pictures: list[str]
    evidence: list[JsonObject]


class Provenance(Shape, kw_only=True):
    c2pa: JsonObject
    declared: JsonObject
    watermark: JsonObject


class AuditLine(Shape, kw_only=True):
    id: str
    state: Annotated[str, Choices(("pending", "failed", "done"))]
    asset: str | None
    sha256: Maybe[str] = UNSET
    modality: str
    decision: Maybe[Annotated[str, Choices(DECISIONS)]] = UNSET
    mode: Maybe[Annotated[str, Choices(("enforce", "shadow", "off"))]] = UNSET
    policy: Maybe[PolicyRef | None] = UNSET
    rules_fired: Maybe[list[str]] = UNSET
    verdict: Maybe[Annotated[str, Choices(VERDICTS)]] = UNSET
    severity: Maybe[int] = UNSET
    versions: Maybe[JsonObject] = UNSET
    evidence_digest: Maybe[str] = UNSET
    created_at: dt.datetime
    error: Maybe[JsonObject] = UNSET


class Audit(AuditLine, kw_only=True):
    """`evidence` is `erased` once the asset was, or its time was over; the decision and its digest stay."""

    evidence: Maybe[Annotated[str, Choices(("kept", "erased"))]] = UNSET
    item: Maybe[JsonObject] = UNSET
    # Stored as JSON in these shapes.
    authenticity: Maybe[Annotated[JsonObject, Authenticity]] = UNSET
    provenance: Maybe[Annotated[JsonObject, Provenance]] = UNSET
    categories: Maybe[JsonObject] = UNSET
    matches: Maybe[list[JsonObject]] = UNSET
    fingerprints: Maybe[JsonObject] = UNSET
    words: Maybe[list[JsonObject]] = UNSET
    detectors: Maybe[list[Annotated[JsonObject, AuditDetector]]] = UNSET
    could_not_look: Maybe[list[str]] = UNSET
    strikes: Maybe[int] = UNSET
    document: Maybe[
        Annotated[
            JsonObject,
            Doc(
                "Of a document `format`, `title`, `pages`, `findings`, and whether there is any `hidden_text`, "
                "`active_content`, `text_by_ocr` or `not_read`."
            ),
        ]
    ] = UNSET
    classifier: Maybe[
        Annotated[
            JsonObject, Doc("What the workspace's own say, by name: `state`, `probability`, `version`.")
        ]
    ] = UNSET
    pictures: Maybe[
        Annotated[JsonObject, Doc("Ids of pictures by name: `/audits/{id}/pictures/{picture}`.")]
    ] = UNSET
    generation: Maybe[Annotated[str, Doc("Of your workspace, that the watermark names.")]] = UNSET
    appealable_until: Maybe[
        Annotated[dt.date, Doc("The last day (UTC) of appeals, where the policy sets `appeal_days`.")]
    ] = UNSET


class AuditProof(Shape, kw_only=True):
    """Why a policy's rules over facts concluded what its conditions read. A part of the evidence, and goes with it."""

    audit: str
    rules: Annotated[str, Doc("The rules over facts of the policy's version.")]
    evidence_digest: Annotated[str, Doc("SHA-256 of the evidence, the proof in it; the record seals it.")]
    proof: Annotated[
        JsonObject | None,
        Doc(
            "All facts that were told (`facts`, with `digest`) and what was examined; each that follows (`derived`) "
            "with rule, line, confidence and the facts it rests on. Null where nothing could be concluded."
        ),
    ]
    read: Annotated[JsonObject, Doc("Of each rule of the policy that fired, which conclusions it reads.")]
    otherwise: Annotated[
        JsonObject | None,
        Doc("`changes`: the smallest ones after which the policy decides otherwise; `decision` after them."),
    ]
    error: Annotated[str | None, Doc("Why nothing could be concluded.")]
    sentences: Annotated[list[str], Doc("The same in words.")]
    mismatch: Annotated[
        str | None,
        Doc("What does not fit when the proof is replayed, by code that did not make it; null else."),
    ]


class AuditPage(Shape, kw_only=True):
    results: list[AuditLine]
    next: str | None


class AuditAccepted(Shape, kw_only=True):
    audit: Audit
    job: Job


class DetectorInfo(Shape, kw_only=True):
    name: str
    version: str
    tier: Annotated[str, Choices(("cryptographic", "declared", "match", "rules", "statistical"))]
    modalities: list[str]
    categories: list[str]
    estimates: Annotated[str | None, Choices(tuple(ESTIMATES)), Doc("What its `score` is of.")]
    looks_for: Annotated[list[str], Doc("Signs of how an item was made that it looks for.")]
    sees: str
    blind_to: str
    timeout_s: float
    missing: Annotated[str | None, Doc("Null where it can run.")]


class Detectors(Shape, kw_only=True):
    results: list[DetectorInfo]


STANDINGS = ("allow", "label", "review", "block")


class Stands(Shape, kw_only=True):
    decision: Annotated[str, Choices(STANDINGS)]
    labels: list[str]


class Outcome(Shape, kw_only=True):
    id: str
    review: str
    audit: str
    kind: Annotated[str, Choices(models.Review.Kind.values)]
    rule: str
    decision: Annotated[
        str, Choices(STANDINGS), Doc("Of a row that undoes another: what the item stands at again.")
    ]
    before: Annotated[str, Doc("What the item stood at before.")]
    labels: list[str]
    reason: str
    reviewer: str
    batch: Annotated[str | None, Doc("Of a bulk decision, which is undone as a whole.")]
    undoes: str | None
    blocked_copies: bool
    created_at: dt.datetime


class Review(Shape, kw_only=True):
    id: str
    audit: str
    asset: str | None
    dataset: str | None
    modality: str
    kind: Annotated[str, Choices(models.Review.Kind.values)]
    of_review: Annotated[str | None, Doc("The flag that a second opinion is about.")]
    rule: str
    reason: str
    severity: Annotated[int, Doc("0 to 100.")]
    state: Annotated[str, Choices(models.Review.State.values)]
    claimed_by: str | None
    lease_until: dt.datetime | None
    due_at: dt.datetime
    overdue: bool
    created_at: dt.datetime
    decided_at: dt.datetime | None
    decision: str | None


class ReviewDetail(Review, kw_only=True):
    """Of a second opinion that is not given yet `stands` is null and nothing is shown of what others decided."""

    stands: Stands | None
    flags: Annotated[list[Review], Doc("The item's other flags.")]
    outcomes: Annotated[list[Outcome], Doc("Of the item's audit, the oldest first.")]
    strikes: Annotated[int, Doc("Of who sent the item, as they count now.")]


class ReviewDecided(Review, kw_only=True):
    outcome: Outcome
    stands: Annotated[Stands, Doc("What the item is now, by all its flags together.")]


class NextReview(Shape, kw_only=True):
    review: Review | None


class BulkChange(Shape, kw_only=True):
    before: Annotated[str, Choices(STANDINGS)]
    after: Annotated[str, Choices(STANDINGS)]
    count: int


class BulkSample(Shape, kw_only=True):
    review: Review
    before: Annotated[str, Choices(STANDINGS)]
    after: Annotated[str, Choices(STANDINGS)]


class BulkPreview(Shape, kw_only=True):
    count: Annotated[int, Doc("Flags that fit.")]
    looked_at: Annotated[int, Doc("Of so many of them, the oldest, the changes are told.")]
    as_of: dt.datetime
    changes: list[BulkChange]
    samples: list[BulkSample]


class BulkApplied(Shape, kw_only=True):
    batch: str
    decided: int
    left: Annotated[int, Doc("Flags that still fit: call again with this batch.")]
    as_of: dt.datetime


class NotUndone(Shape, kw_only=True):
    outcome: str
    reason: str


class BatchUndone(Shape, kw_only=True):
    batch: str
    undone: int
    left: list[NotUndone]


class QueueAges(Shape, kw_only=True):
    open: int
    claimed: int
    overdue: int
    oldest_s: float | None


class Agreement(Shape, kw_only=True):
    items: int
    agreed: int
    share: float | None
    kappa: Annotated[float | None, Doc("Cohen's; null where it is undefined.")]


class PairAgreement(Agreement, kw_only=True):
    reviewers: list[str]


class Agreements(Shape, kw_only=True):
    overall: Agreement
    pairs: list[PairAgreement]


class RulePrecision(Shape, kw_only=True):
    rule: str
    decided: int
    confirmed: Annotated[int, Doc("Flags of which people labelled or blocked the item.")]
    precision: float | None
    interval: Annotated[list[float] | None, Doc("95 %, Wilson.")]


class ReviewFigures(Shape, kw_only=True):
    days: int
    queue: QueueAges
    agreement: Agreements
    rules: list[RulePrecision]


class Appeal(Shape, kw_only=True):
    id: str
    audit: str
    asset: str | None
    review: Annotated[str | None, Doc("Its flag in the queue.")]
    reason: str
    state: Annotated[str, Choices(models.Appeal.State.values)]
    created_by: str
    created_at: dt.datetime
    decided_at: dt.datetime | None
    decided_by: Annotated[str | None, Doc("Null while it is open.")]
    answer: Annotated[str | None, Doc("What the person who decided said; null while it is open.")]


class AppealDecided(Appeal, kw_only=True):
    outcome: Outcome


class RecordLine(Shape, kw_only=True):
    sequence: int
    kind: str
    audit: str | None
    item: str | None
    subject: str | None
    policy_version: str | None
    decision: str
    actor: str
    payload_digest: str
    digest: str
    created_at: dt.datetime


class RecordBroken(Shape, kw_only=True):
    kind: Annotated[
        str,
        Choices(
            (
                *("changed-line", "missing-line", "added-line", "changed-seal", "missing-seal"),
                *("unsigned-seal", "forged-seal", "changed-clock"),
            )
        ),
    ]
    first: int
    last: int
    detail: str


class RecordFault(Shape, kw_only=True):
    kind: str
    detail: str


class RecordReport(Shape, kw_only=True):
    ok: bool
    chain: Annotated[str, Choices(tuple(CHAINS))]
    lines: int
    seals: int
    unsealed: Annotated[int, Doc("Lines that no seal covers yet.")]
    head: Annotated[str, Doc("The digest of the newest seal: note it somewhere else.")]
    head_last: int
    broken: RecordBroken | None
    known: Annotated[bool | None, Doc("Whether the digest `known` is in the chain.")]
    next: Annotated[int | None, Doc("Where to go on with `first`.")]
    signed: Annotated[int, Doc("Seals with a signature.")]
    rewritten: Annotated[int, Doc("Lines of the audit log from whose events a person was erased.")]
    outside: Annotated[
        list[RecordFault],
        Doc("What does not fit what is kept outside; looked at when `next` is null."),
    ]


class RecordKey(Shape, kw_only=True):
    id: Annotated[str, Doc("The first 16 hexadecimal digits of the SHA-256 of the raw key.")]
    public_key: Annotated[str, Doc("Ed25519, as PEM (SubjectPublicKeyInfo).")]
    since: dt.datetime
    until: Annotated[dt.datetime | None, Doc("Null for the key that signs now.")]


class RecordPlace(Shape, kw_only=True):
    place: Annotated[str, Choices(Anchor.Place.values)]
    arrived: Annotated[int, Doc("Checkpoints that are there.")]
    newest: Annotated[int | None, Doc("The number of the newest one.")]
    newest_at: dt.datetime | None
    waiting: int
    waiting_since: dt.datetime | None
    error: Annotated[str, Doc("Why the last try failed; empty where none did.")]


class RecordAnchors(Shape, kw_only=True):
    keys: list[RecordKey]
    places: list[RecordPlace]


MODES = PolicyActivation.Mode.values


class Rest(Shape, kw_only=True):
    policy: str
    version: int


class PolicyState(Shape, kw_only=True):
    mode: Annotated[str, Choices(MODES), Doc("The strongest of what it does.")]
    version: Annotated[int | None, Doc("The enforced version.")]
    ratio: Annotated[float | None, Doc("The share of items that it decides for.")]
    rest: Annotated[
        Rest | None, Doc("What decides for the other items; null: they are decided as in shadow.")
    ]
    shadow: Annotated[int | None, Doc("The version that runs in shadow.")]
    since: dt.datetime | None


class PolicyRule(Shape, kw_only=True):
    id: str
    when: str
    then: Annotated[str, Choices(policy_document.DECISIONS)]
    reason: str
    labels: list[str]
    severity: Annotated[int, Meta(ge=0, le=100)]
    stop: bool


class PolicyDocument(Shape, kw_only=True):
    rules: list[PolicyRule]
    thresholds: Mapping[str, float]
    detectors: Maybe[list[str]] = UNSET
    modalities: Maybe[list[str]] = UNSET
    options: JsonObject
    on_failure: Annotated[str, Choices(policy_document.DECISIONS)]
    quarantine: bool
    audit_uploads: bool
    second_opinion: float
    sla_hours: Mapping[str, float]
    strikes: Mapping[str, int]
    appeal_days: Maybe[int] = UNSET
    recalibrate: Maybe[JsonObject] = UNSET
    facts_rules: Maybe[str] = UNSET


class PolicyVersion(Shape, kw_only=True):
    policy: str
    version: int
    digest: Annotated[str, Doc("SHA-256 of the document in canonical JSON.")]
    document: Annotated[JsonObject, PolicyDocument]
    created_by: str
    created_at: dt.datetime


class Policy(Shape, kw_only=True):
    id: str
    name: str
    description: str
    starter: str | None
    latest_version: int
    in_force: PolicyState
    created_by: str
    created_at: dt.datetime


class PolicyProblem(Shape, kw_only=True):
    code: str
    rule: Annotated[str, Doc("Its id; empty for the whole document.")]
    pointer: str
    detail: str


class PolicyCheck(Shape, kw_only=True):
    errors: Annotated[list[PolicyProblem], Doc("Why it cannot be stored.")]
    warnings: list[PolicyProblem]
    steps: Annotated[float, Doc("What a decision may cost at most, in steps of about a microsecond.")]


class PolicyCreated(Shape, kw_only=True):
    policy: Policy
    version: PolicyVersion
    warnings: list[PolicyProblem]


class PolicyVersionAdded(Shape, kw_only=True):
    version: PolicyVersion
    warnings: list[PolicyProblem]


class PolicyActivationLine(Shape, kw_only=True):
    id: str
    number: int
    version: int
    mode: Annotated[str, Choices(MODES)]
    ratio: float
    created_by: str
    created_at: dt.datetime


class PolicyWithHistory(Policy, kw_only=True):
    activations: Annotated[list[PolicyActivationLine], Doc("The last fifty, newest first.")]


class PolicyChange(Shape, kw_only=True):
    from_: Annotated[str, Choices(policy_document.DECISIONS)] = msgspec.field(name="from")
    to: Annotated[str, Choices(policy_document.DECISIONS)]
    count: int


class ShadowSample(Shape, kw_only=True):
    audit: str
    from_: Annotated[str, Choices(policy_document.DECISIONS)] = msgspec.field(name="from")
    to: Annotated[str, Choices(policy_document.DECISIONS)]
    rules: list[str]


class ShadowComparison(Shape, kw_only=True):
    version: int
    audits: int
    changed: int
    changes: list[PolicyChange]
    samples: Annotated[list[ShadowSample], Doc("The newest that differ.")]


class StarterPolicy(Shape, kw_only=True):
    id: str
    title: str
    description: str
    document: Annotated[JsonObject, PolicyDocument]


class StarterPolicies(Shape, kw_only=True):
    results: list[StarterPolicy]


class BacktestAccepted(Shape, kw_only=True):
    job: Job


class HashList(Shape, kw_only=True):
    id: str
    name: str
    stance: Annotated[str, Choices(Stance.values)]
    description: str
    created_at: dt.datetime
    shared: Annotated[bool, Doc("The installation's list, for every workspace.")]
    entries: Annotated[int, Doc("How many items.")]


class HashListPage(Page, kw_only=True):
    results: list[HashList]
    shared: Annotated[list[HashList], Doc("All of them, on every page.")]


class HashEntry(Shape, kw_only=True):
    id: str
    algorithms: list[Annotated[str, Choices(Algorithm.values)]]
    sha256: str | None
    pdq: Annotated[str | None, Doc("Of a picture; a film has several.")]
    note: str
    created_by: str
    created_at: dt.datetime


class EntriesAdded(Shape, kw_only=True):
    added: int
    known: Annotated[int, Doc("Hashes that were on the list already.")]
    entry: Annotated[HashEntry | None, Doc("Of one file or asset.")]
    job: Annotated[Job | None, Doc("Looks for earlier copies.")]


class Match(Shape, kw_only=True):
    list: str
    name: str
    stance: Annotated[str, Choices(Stance.values)]
    shared: bool
    algorithm: Annotated[str, Choices(Algorithm.values)]
    distance: float
    limit: Annotated[float, Doc("Up to which distance it counts.")]
    entry: str
    at_s: Maybe[Annotated[float, Doc("In a film or recording.")]] = UNSET


class Fingerprints(Shape, kw_only=True):
    sha256: str | None
    pdq: str | None
    pdq_quality: Annotated[int | None, Doc("Below 50 a picture is too flat for its hash to count.")]


class Matches(Shape, kw_only=True):
    matches: list[Match]
    fingerprints: Fingerprints

"""What is kept, where, why, for how long and under which key, and who outside gets it: one table.

The console's page, `GET /data-processing` and docs/data-processing.md (`manage.py data_processing`) are made from it; a
test asks that each table of the database is in it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext, override
from django.utils.translation import gettext_lazy as _

from tenants.accounts.sign_on_models import IdentityProvider
from tenants.events.models import Webhook
from tenants.pipeline.care import shapes
from tenants.scope import tenant_scope

# To be translated when it is shown.
Text = str | Promise

POSTGRES, STORAGE, INDEX, VALKEY = _("Postgres"), _("storage"), _("indexes"), _("Valkey")
HOST, BACKUP, LOG = _("working files of a host"), _("backups"), _("logs")

# Whether a disk is encrypted nobody here knows.
PLAIN = _("the disk, where the operator encrypts it")
FILES = _("the tenant’s data key, with ENCRYPT_FILES")
AGE = _("age, with BACKUP_RECIPIENTS")

WORKSPACE = _("until deleted, at the latest with the workspace")
PERSON = _("until the account is deleted")
NOBODY = _("no one")


@dataclass(frozen=True)
class Entry:
    """One category of data. `tables` are those of the database, where it lies in Postgres; texts are lazy."""

    category: Text
    what: Text
    where: Text
    purpose: Text
    kept: Text
    encrypted: Text = PLAIN
    leaves_to: Text = NOBODY
    tables: tuple[str, ...] = ()


ENTRIES: tuple[Entry, ...] = (
    Entry(
        _("Assets"),
        _("captions, names of files, metadata, transcripts, words, dates, by dataset"),
        POSTGRES,
        _("search, moderation"),
        _(
            "until deleted, by the dataset’s retention, at the latest with the workspace; longer under a legal hold"
        ),
        tables=(
            *("dataset", "blob", "asset", "asset_tally", "facet", "transcript_segment", "lexical_entry"),
            *("legal_hold", "computed_field", "facet_change", "tombstone"),
            *("dataset_version", "dataset_version_asset"),
        ),
    ),
    Entry(
        _("Files"),
        _(
            "uploads as they came, renditions without location, thumbnails, what was read of documents and pictures "
            "of their pages"
        ),
        STORAGE,
        _("search, moderation, download"),
        _("until no asset uses them"),
        FILES,
    ),
    Entry(
        _("Vectors"),
        _("what models make of content: numbers by random id"),
        POSTGRES,
        _("search by meaning"),
        _("with their asset"),
        tables=("vector_clock", "vector", "vector_gap", "index_generation", "index_pointer"),
    ),
    Entry(
        _("Indexes and maps"),
        _("vectors, values for filters, points, by random id"),
        INDEX,
        _("fast search"),
        _("until built again, within a week of a deletion; maps until deleted"),
        _("the tenant’s data key in the storage, with ENCRYPT_FILES; the disk on hosts"),
        _("Milvus, where one is set up"),
        tables=("embedding_map",),
    ),
    Entry(
        _("Imports and uploads in progress"),
        _("files given, receipts, refused rows"),
        POSTGRES,
        _("bringing content in"),
        _(
            "files until the import has ended or for a day; refused rows for 30 days; receipts with their dataset"
        ),
        _("files: the tenant’s data key, with ENCRYPT_FILES; credentials of buckets: the tenant’s data key"),
        tables=("import", "import_row", "resumable_upload"),
    ),
    Entry(
        _("Streams from brokers"),
        _("addresses of brokers, how far they were read, items that became no asset, as they came"),
        POSTGRES,
        _("bringing content in as it arrives"),
        _(
            "until the source is deleted; items that became no asset until deleted or replayed, for 30 days at most"
        ),
        _("user names and passwords: the tenant’s data key"),
        _("brokers that the workspace names"),
        tables=("stream_source", "stream_dead_letter"),
    ),
    Entry(
        _("Searches and what is derived from them"),
        _("clicks and judgements by random id, weights, golden queries and labelled queries with their text"),
        POSTGRES,
        _("better ranking"),
        WORKSPACE,
        tables=(
            *("search_task", "feedback", "search_gate", "relevance_correction"),
            *("golden_query", "golden_answer", "result_label"),
        ),
    ),
    Entry(
        _("Saved and recent searches"),
        _("the words and filters of searches, names that people give them, who made them"),
        POSTGRES,
        _("coming back to a search"),
        _(
            "saved ones until deleted, private ones at the latest with the member; each member’s last 20 for 90 days, "
            "until cleared, at the latest with the member"
        ),
        tables=("saved_search", "recent_search"),
    ),
    Entry(
        _("Standing queries and alerts"),
        _("searches and their vectors, names that people give them, who made them; which asset met which"),
        POSTGRES,
        _("telling when something like it arrives"),
        _("queries until deleted; alerts 90 days, at the latest with their asset or query"),
        tables=(
            *("standing_query", "standing_vector", "standing_clock"),
            *("standing_arrival", "standing_alert"),
        ),
    ),
    Entry(
        _("Pictures searched by"),
        _("pictures as they were sent, small copies without metadata, their digests, who sent them"),
        POSTGRES,
        _("links to a search by a picture"),
        _(
            "30 days after their last use; as long as a saved search asks by them; at the latest with the workspace"
        ),
        _("files: the tenant’s data key, with ENCRYPT_FILES"),
        tables=("query_picture",),
    ),
    Entry(
        _("Models of the workspace"),
        _("weights, classifiers and their examples, comparisons"),
        POSTGRES,
        _("search and labels fitted to the workspace"),
        WORKSPACE,
        FILES,
        tables=("learnt_model", "promotion", "classifier", "classifier_example", "classifier_version"),
    ),
    Entry(
        _("Moderation"),
        _("audits with evidence, policies, reviews, appeals, strikes, lists of known content"),
        POSTGRES,
        _("deciding about content, explaining decisions"),
        WORKSPACE,
        tables=(
            *("audit_request", "audit", "audit_evidence", "audit_picture", "policy", "policy_version"),
            *(
                "policy_activation",
                "shadow_decision",
                "policy_backtest",
                "review",
                "review_outcome",
                "appeal",
            ),
            *("strike", "hash_list", "hash_entry", "shared_hash_list", "shared_hash_entry"),
        ),
    ),
    Entry(
        _("The record"),
        _("decisions by random id and digest, seals, checkpoints"),
        POSTGRES,
        _("proof that nothing was changed afterwards"),
        _("as long as the workspace; checkpoints as long as the installation"),
        leaves_to=_(
            "bucket and time stamp authority of the record, where they are set up: digests and random ids"
        ),
        tables=(
            *("moderation_record", "moderation_seal", "moderation_clock", "audit_log_seal", "audit_log_line"),
            *("record_checkpoint", "record_checkpoint_head", "record_anchor"),
        ),
    ),
    Entry(
        _("Generated content"),
        _("prompts, settings, who asked, marks"),
        POSTGRES,
        _("making content, showing where it came from"),
        WORKSPACE,
        leaves_to=_(
            "the time stamp authority of generated files, where one is set up: digests of signatures"
        ),
        tables=("generation", "generation_output"),
    ),
    Entry(
        _("People"),
        _("e-mail address, name, language, role, invitations"),
        POSTGRES,
        _("signing in, saying who did what"),
        _("until the account is deleted; invitations a month after they ended"),
        leaves_to=_("the mail server, where one is set up"),
        tables=("user", "user_groups", "user_user_permissions", "membership", "invitation", "custom_role"),
    ),
    Entry(
        _("Sign-ups"),
        _("e-mail address, domain, language of the page, where people may sign up by themselves"),
        POSTGRES,
        _("verifying that a mailbox belongs to who asks, bounding trials"),
        _(
            "until the link is used, at most a day after it expired; then for a year a keyed digest of the mailbox and "
            "its domain"
        ),
        leaves_to=_("the mail server"),
        tables=("sign_up",),
    ),
    Entry(
        _("Requests for more, and letters"),
        _("notes to the operator and answers; which person is told of what, without an address"),
        POSTGRES,
        _("plans and limits, telling of trials that end and of workspaces that close"),
        _("as long as the workspace; letters ninety days after they were sent"),
        leaves_to=_("the mail server"),
        tables=("plan_request", "letter"),
    ),
    Entry(
        _("Credentials"),
        _("passwords, recovery codes, keys"),
        POSTGRES,
        _("signing in"),
        PERSON,
        _("kept as digests; authenticator apps: the installation’s data key; passkeys: the public half"),
        tables=(
            *("second_factor", "passkey", "recovery_code", "api_key", "key_digest"),
            *("session", "django_session"),
        ),
    ),
    Entry(
        _("Single sign-on and provisioning"),
        _("connections, domains, what an identity provider sent of people and groups"),
        POSTGRES,
        _("signing in by the customer’s directory"),
        _("until the provider or the workspace deletes them; pending requests ten minutes"),
        _("client secrets: the tenant’s data key; tokens: digests"),
        _("the identity provider that the workspace names"),
        tables=(
            *(
                "sign_on_connection",
                "sign_on_domain",
                "identity_provider",
                "sign_on_identity",
                "sign_on_request",
            ),
            *("used_assertion", "provisioning_token", "provisioning_settings", "provisioned_user"),
            *("provisioned_group", "provisioned_member", "kept_narrowing"),
        ),
    ),
    Entry(
        _("Audit log"),
        _("who did what; of sign-ins and refusals the address"),
        POSTGRES,
        _("accountability, security"),
        _("as long as the workspace; names and addresses until the account is deleted"),
        leaves_to=_("the operator’s syslog server, where one is set up"),
        tables=("audit_event", "stream_position"),
    ),
    Entry(
        _("Webhooks"),
        _("addresses, secrets, events with random ids and states"),
        POSTGRES,
        _("telling the workspace’s own systems"),
        _("addresses until deleted; events WEBHOOK_KEEP_DAYS days"),
        _("secrets: the tenant’s data key"),
        _("addresses that the workspace names"),
        tables=("webhook", "webhook_event", "webhook_delivery", "webhook_due", "webhook_lane"),
    ),
    Entry(
        _("Jobs"),
        _("kinds, times, costs, ids, results, who asked for them"),
        POSTGRES,
        _("background work"),
        WORKSPACE,
        tables=("job", "job_note", "job_archive", "job_dispatch", "job_turn"),
    ),
    Entry(
        _("Erasures and exports"),
        _("receipts with counts; a keyed hash of what was asked for; exports as files"),
        POSTGRES,
        _("proof of erasure, taking data along"),
        _(
            "receipts as long as the workspace, that of a workspace permanently; exports EXPORT_KEEP_DAYS days"
        ),
        _("exports: age for the recipient that is given, and the tenant’s data key with ENCRYPT_FILES"),
        _("whoever downloads an export"),
        tables=("erasure", "tenant_erasure", "export"),
    ),
    Entry(
        _("Usage and limits"),
        _("counts by day"),
        POSTGRES,
        _("quotas, billing"),
        _("as long as the workspace"),
        tables=("quota_counter", "reservation", "usage_day"),
    ),
    Entry(
        _("Settings of the workspace"),
        _("name, plan, networks, origins, flags, replayable answers of the API"),
        POSTGRES,
        _("operation"),
        _("as long as the workspace; replayable answers for a day"),
        tables=("tenant", "tenant_security", "allowed_origin", "flag_tenant", "idempotent_answer"),
    ),
    Entry(
        _("Keys"),
        _("data keys, signing keys"),
        POSTGRES,
        _("encryption, signatures"),
        _("a workspace’s until it is erased; that they were destroyed stays"),
        _("the master key: a file or a KMS"),
        _("the KMS, where one is set up: wrapped keys alone"),
        tables=("data_key", "installation_secret"),
    ),
    Entry(
        _("The installation"),
        _("plans, flags, hosts, leases; the operators’ log with e-mail address, reason and slug"),
        POSTGRES,
        _("operation, accountability of operators"),
        _("as long as the installation; operators under a pseudonym once they are erased"),
        tables=(
            *(
                "plan",
                "feature_flag",
                "lease",
                "upkeep_range",
                "node",
                "node_erasure",
                "operator_act",
                "operator_request",
                "acting",
            ),
            *(
                "django_content_type",
                "auth_permission",
                "auth_group",
                "auth_group_permissions",
            ),
        ),
    ),
    Entry(
        _("Caches and counters"),
        _("rankings by id, vectors of queries under a hash, counts, messages with ids"),
        VALKEY,
        _("speed, rate limits"),
        _("seconds to an hour; counts two months"),
    ),
    Entry(
        _("Working files"),
        _("copies while a decoder, a training or a search works"),
        HOST,
        _("processing"),
        _("until the work has ended; what a killed one left, six hours"),
        leaves_to=_("Ray and Triton, where they are set up, in the operator’s network"),
    ),
    Entry(
        _("Backups"),
        _("everything above that lies in Postgres or the storage; with WAL_ARCHIVE the database’s log, too"),
        BACKUP,
        _("restoring after a loss"),
        _("BACKUP_KEEP_DAYS days"),
        AGE,
    ),
    Entry(
        _("Logs of the processes"),
        _("random ids and codes; no content, no metadata"),
        LOG,
        _("finding faults"),
        _("rotated at 10 MB, three files kept"),
        leaves_to=_("a collector of traces, where one is set up"),
    ),
)


def report(tenant_id: uuid.UUID) -> shapes.DataProcessing:
    """The table and who outside gets something of this tenant, in the shape of the API."""
    categories = [
        shapes.DataCategory(
            category=str(e.category),
            what=str(e.what),
            where=str(e.where),
            purpose=str(e.purpose),
            kept=str(e.kept),
            encrypted=str(e.encrypted),
            leaves_to=str(e.leaves_to),
            tables=list(e.tables),
        )
        for e in ENTRIES
    ]
    others = [
        shapes.Recipient(who=o.who, host=o.host, gets=o.gets, set_up_by=o.by) for o in outside(tenant_id)
    ]
    return shapes.DataProcessing(
        region=settings.DATA_REGION or None,
        backups_kept_days=settings.BACKUP_KEEP_DAYS,
        exports_kept_days=settings.EXPORT_KEEP_DAYS,
        files_encrypted=settings.ENCRYPT_FILES,
        categories=categories,
        recipients=others,
    )


def markdown() -> str:
    """docs/data-processing.md, in English and of no installation in particular."""
    with override("en"):
        rows = [
            f"| {e.category} | {e.what} | {_where(e)} | {e.purpose} | {e.kept} | {e.encrypted} | {e.leaves_to} |"
            for e in ENTRIES
        ]
    return "\n".join([HEAD, *rows, ""])


def _where(entry: Entry) -> str:
    tables = ", ".join(f"`{name}`" for name in sorted(entry.tables))
    return f"{entry.where}: {tables}" if tables else str(entry.where)


HEAD = """# Data processing

For whoever has to say what is processed here, where, and who gets it. Made by `manage.py data_processing` from the
table in `tenants/pipeline/care/data_inventory.py`, which the console shows under Data, Data processing, with what is
set up in that installation: its region (`DATA_REGION`), and every host outside that gets something.
`GET /data-processing` (scope `admin`) is the same. How it is erased, and what remains: [care of data](care-of-data.md).
Keys: [encryption](encryption.md).

**Where it is.** On the machines that the operator chose, and nowhere else: the product calls no service of its maker.
`DATA_REGION` is the operator's word for where they are, such as `Frankfurt, Germany`, and is not checked.

| category | what | where | purpose | how long | encrypted by | leaves to |
|---|---|---|---|---|---|---|"""


# --- Who outside gets something, by what is set up now -----------------------------------------------------


@dataclass(frozen=True)
class Outside:
    """Somebody outside of the installation, by host only: an address may hold credentials. `by` is who set it up."""

    who: str
    host: str
    gets: str
    by: str


def outside(tenant_id: uuid.UUID) -> list[Outside]:
    """Of the installation, and of this tenant: its webhooks and identity providers."""
    return [*_of_operator(), *_of_tenant(tenant_id)]


def _of_operator() -> Iterator[Outside]:
    named = (
        (gettext("Storage"), settings.STORAGE_URL, gettext("all stored files")),
        (gettext("Archive of the database’s log"), settings.WAL_ARCHIVE, gettext("every change of a row")),
        (gettext("Mail server"), settings.EMAIL_HOST, gettext("addresses, invitations, links for passwords")),
        (
            gettext("Bucket of the record"),
            settings.RECORD_BUCKET,
            gettext("checkpoints: digests and random ids"),
        ),
        (gettext("Time stamp authority"), settings.RECORD_TSA_URL, gettext("digests of checkpoints")),
        (gettext("Key management service"), settings.KMS_URL, gettext("wrapped data keys, ids of tenants")),
        (gettext("Syslog server"), settings.SYSLOG_URL, gettext("the audit log")),
        (gettext("Malware scanner"), settings.CLAMD_URL, gettext("uploaded files, while they are scanned")),
        (gettext("Vector database"), settings.MILVUS_URL, gettext("vectors by random id")),
        (gettext("Ray cluster"), settings.RAY_ADDRESS, gettext("files, while they are embedded")),
        (
            gettext("Inference server"),
            os.environ.get("TRITON_URL", ""),
            gettext("decoded content, while it is embedded"),
        ),
        (
            gettext("Collector of traces"),
            os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
            gettext("names of operations, random ids, times"),
        ),
    )
    for who, address, gets in named:
        if address and not address.startswith(("file:", "unix:", "/")):
            yield Outside(who, host_of(address), gets, shapes.OPERATOR)


def _of_tenant(tenant_id: uuid.UUID) -> Iterator[Outside]:
    with tenant_scope(tenant_id):
        hooks = sorted({host_of(url) for url in Webhook.objects.values_list("url", flat=True)})
        named = IdentityProvider.objects.values_list("issuer", "metadata_url")
        providers = sorted({host_of(issuer or address) for issuer, address in named if issuer or address})
    for host in hooks:
        yield Outside(
            gettext("Webhook"), host, gettext("events with random ids and states"), shapes.WORKSPACE
        )
    for host in providers:
        yield Outside(gettext("Identity provider"), host, gettext("that a person signs in"), shapes.WORKSPACE)


def host_of(address: str) -> str:
    """Without user, password, path and query; of a bucket its name."""
    if "://" not in address:
        return address.rpartition("@")[2].partition("/")[0]
    parts = urlsplit(address)
    return parts.hostname or parts.path.strip("/")

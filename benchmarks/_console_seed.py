"""A tenant as busy as the console has to bear, written beside a running stack (`_stack.beside`).

One row of each table is written by the product itself (tests.console.furnish); Postgres multiplies it, with what
differs between rows as an expression of their number. So columns that are added need nothing here, and a hundred
thousand rows take seconds. Blobs have no files. Answers who may sign in, the pages, how long it took.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

import numpy as np
from _search_load import database
from django.apps import apps
from django.db import connection

from standalone.stack import Stack
from tenants.accounts.models import ApiKey, KeyDigest, Plan, QuotaCounter, Tenant
from tenants.datasets.models import Asset, Blob, Facet
from tenants.datasets.services import create_dataset
from tenants.jobs.models import Job
from tenants.retrieval import model_routing
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.scope import tenant_scope
from tests.console.furnish import furnish

DATASETS, CHUNK = 8, 10_000
#: By a row's number: ids of version 7 in order, the same for the same table and number, a minute old at most.
ID = (
    "(lpad(to_hex({start} + n / 8), 12, '0') || '7' || substr(md5('{table}' || n || '{salt}'), 1, 3) || '8' || "
    "substr(md5('{table}' || n || '{salt}'), 4, 15))::uuid"
)


class Multiplier:
    """Writes many rows like the newest one of a table."""

    def __init__(self, tenant_id: uuid.UUID) -> None:
        self.tenant_id, self.salt = tenant_id, tenant_id.hex
        self.start = int(time.time() * 1000) - 60_000

    def id(self, model: Any, number: str = "n") -> str:
        """SQL of the id of a row that was written for this number."""
        made = ID.format(start=self.start, table=model._meta.db_table, salt=self.salt)
        return f"(SELECT {made} FROM (SELECT {number} AS n) AS number)"

    def write(self, model: Any, count: int, where: str = "true", **columns: str) -> None:
        """`count` rows numbered n from 0, copies of the newest `where`, except for these columns' expressions."""
        table = connection.ops.quote_name(model._meta.db_table)
        names = [field.column for field in model._meta.concrete_fields]
        values = {name: f"old.{connection.ops.quote_name(name)}" for name in names}
        values |= {"id": self.id(model), **{k: v for k, v in columns.items() if k in values}}
        into = ", ".join(map(connection.ops.quote_name, names))
        mine = f"tenant_id = '{self.tenant_id}' AND {where}"
        with tenant_scope(self.tenant_id), connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} ({into}) SELECT {', '.join(values[name] for name in names)} "
                f"FROM generate_series(0, {count - 1}) AS n, "
                f"(SELECT * FROM {table} WHERE {mine} ORDER BY id DESC LIMIT 1) AS old"
            )


def seed(assets: int, jobs: int) -> dict[str, Any]:
    made, begun = furnish(), time.monotonic()
    tenant_id = uuid.UUID(made["tenant"])
    rows = Multiplier(tenant_id)
    unlimited(tenant_id)
    write_assets(rows, assets)
    write_jobs(rows, jobs)
    write_moderation(rows, assets // 5, assets)
    write_rest(rows, assets)
    return {**made, "seconds": round(time.monotonic() - begun, 1), "assets": assets, "jobs": jobs}


def unlimited(tenant_id: uuid.UUID) -> None:
    plan, _ = Plan.objects.get_or_create(slug="bench", name="Bench")
    Tenant.objects.filter(pk=tenant_id).update(plan=plan, name=f"Busy {tenant_id.hex[-6:]}")


# --- Assets ----------------------------------------------------------------------------------------------


def write_assets(rows: Multiplier, count: int) -> None:
    """The first dataset has half of them, as one is always the largest; one in 400 failed, one in 1,000 waits."""
    fields = {"group": {"type": "text"}, "price": {"type": "number"}}
    with tenant_scope(rows.tenant_id):
        made = [create_dataset(name=f"Season {n}", metadata_schema=fields) for n in range(DATASETS)]
    ids = ", ".join(f"'{dataset.id}'::uuid" for dataset in made)
    dataset = f"(ARRAY[{ids}])[CASE WHEN n % 2 = 1 THEN 1 ELSE 2 + n / 2 % {DATASETS - 1} END]"
    modality = "(ARRAY['image', 'image', 'image', 'text', 'audio', 'video'])[1 + n % 6]"
    kind = (
        "(ARRAY['image/jpeg', 'image/jpeg', 'image/jpeg', 'text/plain', 'audio/wav', 'video/mp4'])[1 + n % 6]"
    )
    rows.write(
        Blob,
        count,
        sha256=f"md5('{rows.salt}' || n) || md5(n || 'b')",
        media_type=kind,
        has_thumbnail="false",
    )
    rows.write(
        Asset, count,
        dataset_id=dataset, blob_id=rows.id(Blob), modality=modality, external_id="'sku-' || n",
        status="CASE WHEN n % 400 = 7 THEN 'failed' WHEN n % 1000 = 3 THEN 'pending' ELSE 'ready' END",
        caption="'Article ' || n || ': a kettle of season ' || n % 40", excerpt="''", labels="'[]'", error="NULL",
        moderation="(ARRAY['', '', 'allow', 'label', 'block'])[1 + n % 5]",
        metadata="jsonb_build_object('group', 'g' || n % 50, 'price', n % 997 / 10.0)",
    )  # fmt: skip
    asset = rows.id(Asset, "n / 2")
    key, text = ("CASE n % 2 WHEN 0 THEN {} ELSE {} END".format(*pair) for pair in (
        ("'group'", "'price'"), ("'g' || n / 2 % 50", "NULL"),
    ))  # fmt: skip
    number = "CASE n % 2 WHEN 0 THEN NULL ELSE n / 2 % 997 / 10.0 END"
    rows.write(Facet, 2 * count, asset_id=asset, key=key, text=text, number=number)
    write_vectors(rows.tenant_id)


def write_vectors(tenant_id: uuid.UUID) -> None:
    """Of all that are ready and have none: points around forty centres, of norm 1."""
    random = np.random.default_rng(2)
    with tenant_scope(tenant_id):
        model = model_routing.live()
        left = list(Asset.objects.filter(status="ready", vectors=None).only("id", "dataset_id", "modality"))
    dimension = model_routing.space(model, tenant_id).dimension
    centres = np.random.default_rng(1).normal(size=(40, dimension))
    for first in range(0, len(left), CHUNK):
        some = left[first : first + CHUNK]
        drawn = centres[random.integers(0, 40, len(some))] + random.normal(size=(len(some), dimension))
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        made = [[NewVector("image", row.astype(np.float32))] for row in drawn]
        with tenant_scope(tenant_id):
            add_vectors(model=model, vectors=list(zip(some, made, strict=True)))


# --- Jobs, audits, reviews, and what else a year leaves ----------------------------------------------------


def write_jobs(rows: Multiplier, count: int) -> None:
    """Nine in ten succeeded. They have no dispatch, so that nobody works on them."""
    state = (
        "CASE WHEN n % 100 < 5 THEN 'failed' WHEN n % 100 < 8 THEN 'cancelled' WHEN n % 100 = 8 THEN 'queued' "
        "WHEN n % 100 = 9 THEN 'running' ELSE 'succeeded' END"
    )
    kind = "CASE WHEN n % 3 = 0 THEN 'audit_item' WHEN n % 50 = 1 THEN 'import_assets' ELSE 'embed_asset' END"
    begun = f"now() - make_interval(secs => ({count} - n) * 20)"
    ended = f"CASE WHEN n % 100 IN (8, 9) THEN NULL ELSE {begun} + interval '5 seconds' END"
    lease = "CASE WHEN n % 100 = 9 THEN now() + interval '1 day' END"
    error = (
        """CASE WHEN n % 100 < 5 THEN '{"type": "damaged", "detail": "It is not a picture."}'::jsonb END"""
    )
    rows.write(
        Job, count,
        state=state, kind=kind, queued_at=begun, started_at=begun, finished_at=ended, lease_until=lease,
        progress_total="100", progress_done="CASE WHEN n % 100 = 9 THEN 40 ELSE 100 END", error=error,
        result="NULL", parent_id="NULL",
    )  # fmt: skip


def write_moderation(rows: Multiplier, count: int, assets: int) -> None:
    from tenants.moderation.models import Audit, Evidence, Outcome, Review

    asset = rows.id(Asset, f"n * 5 % {assets}")
    rows.write(
        Audit, count,
        item=asset, severity="n % 100", policy_version="old.policy_version",
        decision="(ARRAY['allow', 'allow', 'label', 'review', 'block'])[1 + n % 5]",
        verdict="(ARRAY['no_evidence', 'likely_synthetic', 'inconclusive', 'not_examined'])[1 + n % 4]",
    )  # fmt: skip
    rows.write(Evidence, count, audit_id=rows.id(Audit), asset_id=asset)
    state = "CASE WHEN n % 10 < 5 THEN 'open' ELSE 'decided' END"
    rows.write(
        Review, count // 2, where="kind = 'flag' AND of_review IS NULL",
        audit_id=rows.id(Audit, "n * 2"), asset_id=rows.id(Asset, f"n * 10 % {assets}"),
        severity="n % 100", state=state, claimed_by="''", lease_until="NULL",
        due_at="now() + make_interval(hours => n % 96 - 24)",
        decided_at=f"CASE WHEN {state} = 'open' THEN NULL ELSE now() END",
        rule="CASE n % 2 WHEN 0 THEN 'rude' ELSE 'naked' END",
    )  # fmt: skip
    rows.write(
        Outcome, count // 4, where="undoes IS NULL",
        review=rows.id(Review, "n * 2"), audit=rows.id(Audit, "n * 4"), item=rows.id(Asset, f"n * 20 % {assets}"),
        batch="NULL", reviewer="'user:00000000-0000-0000-0000-00000000000' || n % 5",
        decision="(ARRAY['allow', 'block'])[1 + n % 2]",
    )  # fmt: skip


def write_rest(rows: Multiplier, assets: int) -> None:
    """The log, a hash list, an import with many rows, keys, and what webhooks sent."""
    from tenants.datasets.models import Import, ImportRow
    from tenants.events.models import AuditEvent
    from tenants.moderation.models import HashEntry

    rows.write(AuditEvent, assets // 2, target="'asset:' || n")
    rows.write(HashEntry, assets // 10, item="gen_random_uuid()", content="sha256(n::text::bytea)")
    rows.write(Import, 200, location="'delivery-' || n || '.csv'", total=str(assets // 10))
    with tenant_scope(rows.tenant_id):
        newest = Import.objects.order_by("-id")[0]
        ImportRow.objects.create(job_import=newest, row=10**9, name="line", outcome="imported")
        QuotaCounter.objects.filter(resource__in=("assets", "vectors")).update(used=assets)
    outcome = "CASE WHEN n % 20 = 0 THEN 'failed' WHEN n % 20 = 1 THEN 'duplicate' ELSE 'imported' END"
    rows.write(ImportRow, assets // 10, row="n", name="'line ' || n", outcome=outcome)
    write_keys(rows.tenant_id, 40)
    for model in apps.get_app_config("events").get_models():
        if "delivery" in model._meta.db_table or "attempt" in model._meta.db_table:
            rows.write(model, assets // 10)


def write_keys(tenant_id: uuid.UUID, count: int) -> None:
    keys = [ApiKey(name=f"Service {n}", prefix=f"cl{uuid.uuid4().hex[:10]}") for n in range(count)]
    with tenant_scope(tenant_id):
        ApiKey.objects.bulk_create(keys)
    KeyDigest.objects.bulk_create(
        KeyDigest(
            prefix=key.prefix, digest=os.urandom(32), tenant_id=tenant_id, key_id=key.id, scopes=["read"]
        )
        for key in keys
    )


def main(stack: Stack, given: dict[str, int]) -> dict[str, Any]:
    made = seed(given["assets"], given["jobs"])
    # Statistics as they are once autovacuum has passed; only the owner of a table may have them gathered.
    with database(stack) as cursor:
        cursor.execute("ANALYZE")
    return made

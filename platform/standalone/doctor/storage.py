"""Stored files: can they be written, and are they those that the database knows?"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from standalone.config import StackConfig
from standalone.doctor.database import rows
from standalone.doctor.findings import Check, Finding, Options, examples, fail, ok, warn
from tenants.accounts.models import Tenant
from tenants.datasets import storage
from tenants.datasets.models import Blob
from tenants.errors import ServiceError
from tenants.scope import tenant_scope

SAMPLE = 500
# A file of an upload under way has no row yet.
YOUNG_S = 3600
LOW_MB = 5 * 1024
SHARDS = [f"{number:02x}" for number in range(256)]


def usable(options: Options) -> Finding:
    """A full or read-only disk is found by writing only."""
    written = uuid.uuid4().bytes
    name = default_storage.save(f"readyz/{uuid.uuid4()}", ContentFile(written))
    try:
        with default_storage.open(name, "rb") as file:
            read = file.read()
    finally:
        default_storage.delete(name)
    if read != written:
        return fail(
            "what was written is not what is read", "Check the storage of STORAGE_URL: it does not keep data."
        )
    if default_storage.exists(name):
        return fail(
            "files cannot be deleted", "Give this user (or key) the right to delete below STORAGE_URL."
        )
    return ok(settings.STORAGE_URL)


def space(options: Options) -> Finding:
    places = [settings.DATA_DIR, *([Path(default_storage.path(""))] if _is_folder() else [])]
    place = min((path for path in places if path.exists()), key=lambda path: shutil.disk_usage(path).free)
    free, needed = shutil.disk_usage(place).free >> 20, StackConfig.from_environ().min_free_mb
    what = f"{free:,} MB free on the disk of {place}"
    if free < needed:
        return fail(what, f"Make room: a start needs {needed} MB, and uploads are refused soon.")
    return warn(what, "Make room, or move DATA_DIR to a larger disk.") if free < LOW_MB else ok(what)


def _is_folder() -> bool:
    return settings.STORAGE_URL.startswith("file:")


def blobs(options: Options) -> Finding:
    """Of a sample of blobs that assets use, or of all: is the file there, and does it hold what its name says?"""
    missing, changed, count = [], [], 0
    for tenant_id, sha256, length in _sample(None if options.deep else SAMPLE):
        path = storage.path_of(tenant_id, sha256)
        count += 1
        if not default_storage.exists(path):
            missing.append(path)
        elif not _is_sound(path, sha256, length):
            changed.append(path)
    if missing or changed:
        return _damage(missing, changed)
    return ok(f"{count} {'files' if options.deep else 'sampled files'} are there and unchanged")


def _is_sound(path: str, sha256: str, length: int) -> bool:
    if default_storage.size(path) != length:
        return False
    try:
        with default_storage.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except ServiceError:
        # Encrypted, and changed, or under a key that is not here.
        return False


def _damage(missing: list[str], changed: list[str]) -> Finding:
    parts = [f"{len(missing)} files are missing ({examples(missing)})"] if missing else []
    parts += [f"{len(changed)} files were changed ({examples(changed)})"] if changed else []
    return fail(
        "; ".join(parts),
        "Copy them from a backup (files/… in it, the same path) into the storage, or upload the same content again. "
        "Then check the disk. `manage.py doctor --deep` looks at every file.",
    )


def _sample(limit: int | None) -> Iterator[tuple[uuid.UUID, str, int]]:
    """Tenant, hash and length of blobs in use; a limited number is drawn by chance from every tenant."""
    tenants = list(Tenant.objects.values_list("pk", flat=True))
    for tenant_id in tenants:
        with tenant_scope(tenant_id):
            used = Blob.objects.filter(references__gt=0)
            share = used.order_by("?")[: max(1, limit // len(tenants))] if limit else used.order_by("pk")
            found = list(share.values_list("sha256", "bytes"))
        yield from ((tenant_id, sha256, length) for sha256, length in found)


def orphans(options: Options) -> Finding:
    """Files without a row (`--deep` only)."""
    if not options.deep:
        return ok("looked for with --deep")
    lost = [path for tenant_id in Tenant.objects.values_list("pk", flat=True) for path in _orphans(tenant_id)]
    known = {str(pk) for pk in Tenant.objects.values_list("pk", flat=True)} | {"readyz"}
    strange = sorted(set(default_storage.listdir("")[0]) - known)
    if not (lost or strange):
        return ok("every file belongs to a row")
    what = f"{len(lost)} files without a row ({examples(lost)})" if lost else ""
    more = f"folders of no tenant: {examples(strange)}" if strange else ""
    advice = "Upkeep removes such files within a day; if they stay, see the log of worker-general."
    return warn("; ".join(part for part in (what, more) if part), advice if lost else "Remove them by hand.")


def _orphans(tenant_id: uuid.UUID) -> Iterator[str]:
    for kind in (*storage.KINDS, storage.PAGES):
        stale = storage.stale_pages if kind == storage.PAGES else partial(storage.stale_files, kind=kind)
        for shard in SHARDS:
            names = set(stale(tenant_id, shard=shard, older_than_s=YOUNG_S))
            with tenant_scope(tenant_id):
                known = (
                    set(Blob.objects.filter(sha256__in=names).values_list("sha256", flat=True))
                    if names
                    else set()
                )
            yield from (storage.path_of(tenant_id, name, kind) for name in sorted(names - known))


def quotas(options: Options) -> Finding:
    """Whether the counters of stocks agree with what is stored (`--deep` only)."""
    if not options.deep:
        return ok("compared with --deep")
    drifting = []
    for tenant_id, slug in Tenant.objects.values_list("pk", "slug"):
        with tenant_scope(tenant_id):
            drifting += [f"{slug}: {what}" for what in _drift()]
    if drifting:
        return warn(
            f"counters differ from what is stored: {examples(drifting)}",
            "Work in hand explains small differences; look again when the queues are empty. If they stay, set "
            "quota_counter.used to what is stored.",
        )
    return ok("agree with what is stored")


def _drift() -> Iterator[str]:
    for resource, counted, stored in rows(STOCKS):
        if counted != stored:
            yield f"{resource} {counted:g} counted, {stored:g} stored"


STOCKS = """
    WITH stored(resource, amount) AS (
        SELECT 'assets', (SELECT count(*) FROM asset)
        UNION ALL SELECT 'bytes', (
            SELECT coalesce(sum(b.bytes + a.metadata_bytes), 0) FROM asset a JOIN blob b ON b.id = a.blob_id
        ) + (SELECT coalesce(sum(bytes), 0) FROM query_picture)
        UNION ALL SELECT 'vectors', (
            SELECT count(*) FROM vector v JOIN vector_clock k ON k.tenant_id = v.tenant_id AND k.live = v.model)
    )
    SELECT resource, coalesce(c.used, 0)::float8, amount::float8
    FROM stored LEFT JOIN quota_counter c USING (resource) WHERE coalesce(c.period, '') = ''
"""
HOUR = 3600.0

CHECKS = (
    Check("storage", usable, advice="Is STORAGE_URL right, and may this user (or key) write there?"),
    Check("disk", space),
    Check("blobs", blobs, needs="migrations", timeout_s=60, deep_timeout_s=24 * HOUR),
    Check("files-without-rows", orphans, needs="migrations", deep_timeout_s=24 * HOUR),
    Check("quotas", quotas, needs="migrations", deep_timeout_s=HOUR),
)

"""Indexes of large tenants: are their files there and whole, and are those built that are due?"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django.conf import settings
from django.core.files.storage import default_storage

from ml.indexes import files
from ml.indexes.files import NAME, GenerationDamaged, Manifest
from standalone.doctor.findings import Check, Finding, Options, examples, fail, ok, warn
from tenants.accounts.models import Tenant
from tenants.errors import ServiceError
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED
from tenants.retrieval import index
from tenants.retrieval.index import folder_of
from tenants.retrieval.models import MEMORY, IndexGeneration, IndexPointer
from tenants.scope import operator_scope, tenant_scope

HOUR = 3600.0


def files_intact(options: Options) -> Finding:
    """Of every generation that answers, or did before: the stored copy, and the files that this host has of it: their
    lengths, with `--deep` their digests."""
    wrong, here, count = [], 0, 0
    for slug, generation in _used():
        count += 1
        if generation.is_external:
            wrong += _lost_copy(slug, generation)
            continue
        cached = (folder_of(generation.tenant_id, generation.pk) / NAME).exists()
        here += cached
        problem = _local_problem(generation, options.deep) if cached else None
        if problem := problem or _stored_problem(generation, cached):
            wrong.append(f"{slug}: {problem}")
    if wrong:
        return warn(
            f"{len(wrong)} indexes are missing or damaged ({examples(wrong)})",
            "Nothing is lost: the next search, or upkeep within five minutes, fetches them or has them built anew, if "
            "beat and worker-general run. Then look for who removed files, or at the disk.",
        )
    return ok(
        f"{count} generations are whole, {here} of them on this host" if count else "no tenant needs one"
    )


def _used() -> Iterator[tuple[str, IndexGeneration]]:
    for tenant_id, slug in Tenant.objects.values_list("pk", "slug"):
        with tenant_scope(tenant_id):
            pointers = list(IndexPointer.objects.select_related("current", "previous"))
        yield from ((slug, one) for p in pointers for one in (p.current, p.previous) if one)


def _local_problem(generation: IndexGeneration, deep: bool) -> str | None:
    folder = folder_of(generation.tenant_id, generation.pk)
    try:
        return files.first_damage(folder, Manifest.read(folder).files, verify=deep)
    except GenerationDamaged as error:
        return str(error)


def _lost_copy(slug: str, generation: IndexGeneration) -> list[str]:
    """Of one in an engine that is no more nothing is expected: its index is due (`built`)."""
    with tenant_scope(generation.tenant_id):
        there = generation.engine not in index.ENGINES or index.is_there(generation)
    return [] if there else [f"{slug}: the copy {generation.pk} in {generation.engine} is gone"]


def _stored_problem(generation: IndexGeneration, cached: bool) -> str | None:
    if not generation.archived:
        # One of an earlier release is stored by the next upkeep.
        return None if cached else f"the files of {generation.pk} are gone"
    if not default_storage.exists(index.stored_path(generation.tenant_id, generation.pk, NAME)):
        return f"the stored copy of {generation.pk} is gone"
    return None


def built(options: Options) -> Finding:
    """Indexes that are due while nobody builds them; and those that no approximate index was good enough for."""
    idle, exact = [], []
    for tenant_id, slug in Tenant.objects.values_list("pk", "slug"):
        with tenant_scope(tenant_id):
            waiting = Job.objects.filter(UNFINISHED, kind__in=index.JOBS).exists()
            if not waiting and any(map(index.is_due, index.indexed_models())):
                idle.append(f"{slug}{_last_word()}")
            used = IndexPointer.objects.filter(current__kind="exact", engine=MEMORY)
            exact += [f"{slug} ({n:,} vectors)" for n in used.values_list("current__vectors", flat=True)]
    if idle:
        return fail(
            f"{len(idle)} tenants wait for an index that nobody builds ({examples(idle)})",
            "Upkeep queues it every five minutes: do beat and worker-general run? A build that failed is tried again "
            "after half an hour; what it says here, or the log of worker-general, says why.",
        )
    if exact:
        return warn(
            f"searched exactly, as no index reached a recall of {settings.INDEX_RECALL}: {examples(exact)}",
            "Their searches cost more CPU. If that matters, set INDEX_RECALL lower; the next build takes it up.",
        )
    return ok("none is due")


def _last_word() -> str:
    job = Job.objects.filter(kind__in=index.JOBS, state=Job.State.FAILED).order_by("-id").first()
    return f": {(job.error or {}).get('detail', '')[:200]}" if job else ""


def engines(options: Options) -> Finding:
    """Do the engines beside the files answer, and have they copies that no tenant's index names?"""
    told, orphans = [], []
    used = {(one.tenant_id, one.pk): one.engine for _slug, one in _used() if one.is_external}
    for name, engine in index.ENGINES.items():
        try:
            said, known = engine.describe(), set(engine.everything())
        except ServiceError as error:
            concerned = sum(1 for of in used.values() if of == name)
            return fail(
                f"{name}: {error.detail}",
                f"Searches of {concerned} tenants answer 503 until it does. Is it running, and MILVUS_URL right?",
            )
        orphans += [f"{name}: {one} of {tenant}" for tenant, one in known - used.keys() - _being_built()]
        told.append(f"{said} answers and holds {len(known)} indexes")
    if lost := {of for of in used.values() if of not in index.ENGINES and of not in index.LEFT_ENGINES}:
        return fail(
            f"indexes lie in {', '.join(sorted(lost))}, which is not set",
            "They are built anew in files. If that is not meant, set MILVUS_URL again.",
        )
    if orphans:
        return warn(
            f"{len(orphans)} copies are in use nowhere ({examples(orphans)})",
            "Upkeep drops those of its tenants within five minutes. What stays is of a tenant that is no more, or of "
            "another installation in the same database there: drop the collection by its name.",
        )
    return ok("; ".join(told) or "no engine is set, all indexes are files")


def _being_built() -> set[tuple[UUID, UUID]]:
    with operator_scope("look for copies that are being made"):
        building = IndexGeneration.objects.filter(state=IndexGeneration.State.BUILDING)
        return set(building.values_list("tenant_id", "pk"))


CHECKS = (
    Check("indexes", files_intact, needs="migrations", timeout_s=60, deep_timeout_s=24 * HOUR),
    Check("engines", engines, needs="migrations", timeout_s=60, deep_timeout_s=60),
    Check("index-builds", built, needs="migrations", timeout_s=60, deep_timeout_s=HOUR),
)

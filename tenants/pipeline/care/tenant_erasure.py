"""Erasing a whole tenant: rows of every table, files, keys in Valkey, and the people who belong nowhere else.

Only an operator does this (`manage.py erase_tenant`, or the operator's pages, where a worker runs it). Everything is
counted in the transaction that removes it, so a killed run is taken up by the next one, and the receipt stands in a
table that belongs to no tenant.
"""

from __future__ import annotations

import datetime as dt
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext

from tenants import broker
from tenants.accounts import keyring, keys, metering, rate_counter, sessions
from tenants.accounts.models import KeyDigest, Membership, Tenant
from tenants.datasets import holds, resumable, storage
from tenants.datasets.models import Asset, AssetTally
from tenants.datasets.services import may_remove_files
from tenants.errors import Conflict, NotFound
from tenants.events.models import TenantErasure
from tenants.generation import signing_keys
from tenants.jobs import nodes
from tenants.jobs.models import Node
from tenants.people.erasure import erase_everywhere
from tenants.pipeline.care.erasure_receipts import added
from tenants.retrieval import index
from tenants.scope import operator_scope, tenant_scope
from tenants.valkey import client, tenant_key

CHUNK = 1000
# A worker or request that was under way may write once more; who still writes after so many passes is not ours.
MAX_PASSES = 5
REASON = "erase a tenant"
# Of other hosts: when their jobs have learnt that the tenant is gone, how long they are waited for, how often asked.
SETTLES_S, CONFIRM_S, ASK_S = 3.0, 60.0, 0.5


def erase_tenant(*, slug: str) -> TenantErasure:
    """Erase a tenant and sign the receipt; goes on where a killed run stopped.

    Raises NotFound, Held, and Conflict while a backup is made or if something of the tenant keeps coming back.
    """
    receipt = _begin(slug)
    tenant_id = receipt.erased_tenant
    _close(tenant_id)
    # Until web processes, which remember keys and counts for a moment, have let the last request in and counted it.
    time.sleep(keys.RECENT_S + rate_counter.FRESH_S)
    for _round in range(MAX_PASSES):
        _close(tenant_id)
        _erase_people(receipt)
        for model in tables():
            _erase_rows(receipt, model)
        _erase_files(tenant_id)
        _note(receipt, {"keys": _erase_keys(tenant_id)})
        if destroyed := keyring.destroy_keys(tenant_id):
            _note(receipt, {"data_keys": len(destroyed)})
        if _drop_tenant(receipt) and not find_traces(tenant_id):
            _await_hosts(tenant_id)
            return _sign(receipt)
    raise Conflict(
        gettext("Of %(slug)s there is still: %(value)s. Stop the workers and run this again.")
        % {"slug": slug, "value": find_traces(tenant_id)}
    )


def survey(slug: str) -> dict[str, int]:
    """What there is of a tenant now, by place; see find_traces. Raises NotFound."""
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise NotFound(gettext("Unknown tenant %(slug)s.") % {"slug": f"{slug!r}"})
    return find_traces(tenant.id)


def _begin(slug: str) -> TenantErasure:
    """The open receipt for this slug, with the files counted before the first of them goes. Raises Held."""
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        receipt = TenantErasure.objects.filter(slug=slug, finished_at=None).first()
        if receipt is None:
            raise NotFound(
                gettext("Unknown tenant %(slug)s, and no erasure of one to resume.") % {"slug": f"{slug!r}"}
            )
        return receipt
    with tenant_scope(tenant.id):
        # Its receipt in the same transaction: a hold that is asked for meanwhile finds it.
        holds.refuse_held_tenant()
        receipt, _created = TenantErasure.objects.get_or_create(
            erased_tenant=tenant.id, defaults={"slug": slug}
        )
    if "files" not in receipt.removed:
        sizes = [default_storage.size(path) for path in files_of(tenant.id)]
        _note(receipt, {"files": len(sizes), "bytes": sum(sizes)})
    return receipt


def _note(receipt: TenantErasure, removed: dict[str, Any]) -> None:
    """Add counts to the receipt, in the transaction of what was removed."""
    receipt.refresh_from_db(fields=["removed"])
    receipt.removed = added(receipt.removed, removed)
    receipt.save(update_fields=["removed"])


def _close(tenant_id: uuid.UUID) -> None:
    """Let nobody in any more: keys, people and jobs."""
    Tenant.objects.filter(pk=tenant_id).update(state=Tenant.State.SUSPENDED)
    prefixes = list(KeyDigest.objects.filter(tenant_id=tenant_id).values_list("prefix", flat=True))
    KeyDigest.objects.filter(tenant_id=tenant_id, revoked_at=None).update(revoked_at=timezone.now())
    for prefix in prefixes:
        keys.forget(prefix)


def _erase_people(receipt: TenantErasure) -> None:
    """End every membership. Who belongs to no other tenant goes with it; operators stay."""
    members = Membership.objects.filter(tenant_id=receipt.erased_tenant).select_related("user")
    for member in members:
        with operator_scope(REASON):
            person, removed = member.user, {"rows": {"membership": member.delete()[0]}}
            ended = sessions.end_sessions(user=person)
            others = Membership.objects.filter(user=person).exists()
            if others or person.is_staff:
                removed["people"] = {"kept": 1, "session": ended}
            else:
                erased = {table: n for table, n in erase_everywhere(person).items() if n}
                removed["people"] = {**erased, "session": ended}
            _note(receipt, removed)


@cache
def tables() -> tuple[type[models.Model], ...]:
    """Every table with a tenant's rows, those that refer to others before these."""
    found = {m for m in apps.get_models() if any(f.attname == "tenant_id" for f in m._meta.local_fields)}
    referrers: dict[type[models.Model], set[type[models.Model]]] = {model: set() for model in found}
    for model in found:
        for field in model._meta.local_fields:
            target = field.related_model
            if target in found and target is not model:
                referrers[target].add(model)
    # Erasing assets writes them.
    referrers[AssetTally].add(Asset)
    return tuple(TopologicalSorter(referrers).static_order())


def _erase_rows(receipt: TenantErasure, model: type[models.Model]) -> None:
    removed = -1
    while removed:
        # As the operator: the application itself may not delete from the audit log.
        with operator_scope(REASON):
            rows = model._default_manager.filter(tenant_id=receipt.erased_tenant)
            ids = list(rows.values_list("pk", flat=True)[:CHUNK])
            removed = model._default_manager.filter(pk__in=ids)._raw_delete("default") if ids else 0
            if removed:
                _note(receipt, {"rows": {model._meta.db_table: removed}})


def files_of(tenant_id: uuid.UUID) -> Iterator[str]:
    """Every stored file of a tenant: blobs of all kinds, sources of imports, exports."""
    yield from storage.files_below(str(tenant_id))


def _erase_files(tenant_id: uuid.UUID) -> None:
    with transaction.atomic():
        if not may_remove_files():
            raise Conflict(
                gettext(
                    "A backup is being made, which must find the files. Run this again when it has ended."
                )
            )
        for path in list(files_of(tenant_id)):
            default_storage.delete(path)
    resumable.forget_tenant(tenant_id)
    # Under its lock: a worker may be about to renew them.
    signing_keys.forget_tenant(tenant_id)
    _remove_local(tenant_id)
    with tenant_scope(tenant_id):
        index.tidy_copies(())


def _remove_local(tenant_id: uuid.UUID) -> None:
    for folder in _local_folders(tenant_id):
        shutil.rmtree(folder, ignore_errors=True)


def erase_on_this_host() -> None:
    """Remove what this host holds of tenants that are being erased, and confirm it: every few seconds. In no scope."""
    for tenant_id in TenantErasure.objects.filter(finished_at=None).values_list("erased_tenant", flat=True):
        _remove_local(tenant_id)
        # Before that work under way may still write something.
        if not Tenant.objects.filter(pk=tenant_id).exists() and not _local_folders(tenant_id):
            nodes.confirm_erasure(tenant_id)


def erase_left_behind() -> int:
    """Remove what this host holds of tenants that were erased, while it was off; of how many. In no scope."""
    here = _tenants_here()
    erased = set(TenantErasure.objects.filter(erased_tenant__in=here).values_list("erased_tenant", flat=True))
    for tenant_id in erased:
        _remove_local(tenant_id)
    return len(erased)


def _tenants_here() -> set[uuid.UUID]:
    """Whose folders lie under this host's data directory, beside a folder storage, which is everybody's."""
    tops = [*settings.DATA_DIR.iterdir(), *settings.PROVENANCE_DIR.glob("*")]
    found = set()
    for path in (inner for top in tops if top.is_dir() and not _is_storage(top) for inner in top.iterdir()):
        with suppress(ValueError):
            found.add(uuid.UUID(path.name))
    return found


def _is_storage(folder: Path) -> bool:
    return f"file://{folder}" == settings.STORAGE_URL


def _await_hosts(tenant_id: uuid.UUID) -> None:
    """Wait until every other host that lives has confirmed that nothing is left there. Raises Conflict."""
    # A job of the tenant that another host runs learns within this time that it is gone.
    since = timezone.now() + dt.timedelta(seconds=SETTLES_S)
    ends = time.monotonic() + CONFIRM_S
    while left := nodes.unconfirmed(tenant_id, since=since):
        if time.monotonic() > ends:
            raise Conflict(
                gettext(
                    "These hosts have not confirmed yet that nothing is left there: %(value)s. Run this again."
                )
                % {"value": ", ".join(one.name for one in left)}
            )
        if timezone.now() > since:
            nodes.tell(nodes.ERASED, tenant_id)
        time.sleep(ASK_S)


def _local_folders(tenant_id: uuid.UUID) -> list[Path]:
    """What lies under this host's data directory in the tenant's name: uploads under way, emptied folders, keys."""
    places = (*settings.DATA_DIR.glob(f"*/{tenant_id}"), *settings.PROVENANCE_DIR.glob(f"*/{tenant_id}"))
    return [path for path in places if path.is_dir()]


def _erase_keys(tenant_id: uuid.UUID) -> int:
    store = client()
    removed = sum(store.delete(key) for key in list(_keys_of(tenant_id)))
    for name in (rate_counter.DIRTY, metering.COPYING):
        removed += sum(store.srem(name, member) for member in list(_members_of(name, tenant_id)))
    # Messages about webhooks, and jobs of an earlier release.
    return removed + broker.drop_messages(str(tenant_id))


def _keys_of(tenant_id: uuid.UUID) -> Iterator[bytes]:
    return client().scan_iter(tenant_key(tenant_id, "*"), CHUNK)


def _members_of(name: str, tenant_id: uuid.UUID) -> Iterator[bytes]:
    return client().sscan_iter(name, f"{tenant_id}/*", CHUNK)


def _drop_tenant(receipt: TenantErasure) -> bool:
    """Remove the tenant itself; False if somebody wrote a row of it meanwhile."""
    try:
        with operator_scope(REASON):
            # Locked: a row that refers to it now waits, and is then refused.
            tenant = Tenant.objects.select_for_update().filter(pk=receipt.erased_tenant)
            if tenant.exists() and tenant._raw_delete("default"):
                _note(receipt, {"rows": {"tenant": 1}})
    except IntegrityError:
        return False
    return True


def find_traces(tenant_id: uuid.UUID) -> dict[str, int]:
    """A walk over all tables, the storage, this machine's folders and Valkey: place -> how much is there."""
    with operator_scope("look for traces of a tenant"):
        found = {m._meta.db_table: m._default_manager.filter(tenant_id=tenant_id).count() for m in tables()}
        found["tenant"] = Tenant.objects.filter(pk=tenant_id).count()
    with tenant_scope(tenant_id):
        found["copies"] = sum(1 for _ in index.copies_of_tenant())
    found["files"] = sum(1 for _ in files_of(tenant_id))
    found["uploads"] = resumable.unfinished(tenant_id)
    found["folders"] = len(_local_folders(tenant_id))
    counted = (rate_counter.DIRTY, metering.COPYING)
    found["keys"] = sum(1 for _ in _keys_of(tenant_id))
    found["keys"] += sum(1 for name in counted for _ in _members_of(name, tenant_id))
    return {place: count for place, count in found.items() if count}


def _sign(receipt: TenantErasure) -> TenantErasure:
    now = timezone.now()
    backups = now + dt.timedelta(days=settings.BACKUP_KEEP_DAYS)
    receipt.remains = {
        "places": [
            {
                "where": "backups",
                "what": "what they held when they were made",
                "until": backups.date().isoformat(),
            },
            {
                "where": "checkpoints of the record",
                "what": "the tenant's random id, numbers of lines and digests",
                "until": None,
            },
            {"where": "this receipt", "what": "the tenant's slug and random id", "until": None},
            {
                "where": "memory of running processes",
                "what": "vectors, unreachable",
                "until": "their restart",
            },
            {"where": "logs of the processes", "what": "random ids, no content", "until": "their rotation"},
            {"where": "spool", "what": "working files without a name", "until": "six hours"},
            *map(_on_lost_host, nodes.lost()),
        ],
        "confirmed_by": nodes.take_confirmations(receipt.erased_tenant),
    }
    receipt.verified, receipt.finished_at = True, now
    receipt.save()
    return receipt


def _on_lost_host(host: Node) -> dict[str, str | None]:
    return {
        "where": f"host {host.name}, off since {host.seen_at:%Y-%m-%d %H:%M}",
        "what": "copies of indexes and working files",
        "until": "its next start",
    }


def as_dict(receipt: TenantErasure) -> dict[str, Any]:
    return {
        "id": str(receipt.id),
        "kind": "tenant",
        "slug": receipt.slug,
        "tenant": str(receipt.erased_tenant),
        "removed": receipt.removed,
        "remains": receipt.remains,
        "verified": receipt.verified,
        "created_at": receipt.created_at,
        "finished_at": receipt.finished_at,
    }

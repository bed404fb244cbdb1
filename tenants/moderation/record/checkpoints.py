"""Checkpoints: the newest seals of all tenants in one chained and signed document, which is what leaves the house.

One document for all tenants, so that a bucket or a time stamp authority is asked once every few minutes however many
tenants there are, and so that a tenant whose record is gone altogether is missed. Where it goes is in `anchors`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from tenants.accounts.models import Tenant
from tenants.events.models import TenantErasure
from tenants.moderation.models import Anchor, Checkpoint, CheckpointHead
from tenants.moderation.record import signatures
from tenants.moderation.record.chains import CHAINS, Chain
from tenants.scope import operator_scope

# An advisory lock, of the transaction that makes a checkpoint.
MAKING = 0x0C05_C4EC
AT_ONCE = 500


@dataclass(frozen=True)
class Fault:
    """Something that does not fit: what kind, and a sentence. `tenant` is whose record it is: short name, or id."""

    kind: str
    detail: str
    tenant: str = ""


@dataclass(frozen=True, order=True)
class Head:
    """A chain of a tenant reached line `last` by a seal with this digest."""

    tenant: str
    chain: str
    last: int
    digest: str


# --- Making ------------------------------------------------------------------------------------------------


def make() -> Checkpoint | None:
    """Note the seals that are new since the last checkpoint; None where it is too early or there are none."""
    places = configured_places()
    with operator_scope("checkpoint of the records"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [MAKING])
        before = Checkpoint.objects.order_by("-number").first()
        if before and timezone.now() - before.created_at < dt.timedelta(seconds=settings.RECORD_ANCHOR_S):
            return None
        heads = [head for chain in CHAINS.values() for head in _new_heads(chain)]
        return _store(before, heads, places) if heads else None


def configured_places() -> list[str]:
    found = [Anchor.Place.BUCKET] if settings.RECORD_BUCKET else []
    return [*found, *([Anchor.Place.TIME_STAMP] if settings.RECORD_TSA_URL else [])]


def _new_heads(chain: Chain) -> Iterator[Head]:
    """The newest seal of each tenant, unless the last checkpoint that has one of it has this one."""
    seals = chain.seals.objects.filter(tenant_id=OuterRef("pk")).order_by("-first")
    noted = CheckpointHead.objects.filter(of_tenant=OuterRef("pk"), chain=chain.name).order_by("-checkpoint")
    tenants = Tenant.objects.annotate(
        last=Subquery(seals.values("last")[:1]),
        digest=Subquery(seals.values("digest")[:1]),
        noted=Subquery(noted.values("digest")[:1]),
    ).exclude(last=None)
    for pk, last, digest, known in tenants.values_list("pk", "last", "digest", "noted"):
        if digest != known:
            yield Head(str(pk), chain.name, last, digest)


def _store(before: Checkpoint | None, heads: Iterable[Head], places: list[str]) -> Checkpoint:
    made = Checkpoint(
        number=before.number + 1 if before else 1,
        previous=before.digest if before else "",
        places=places,
        created_at=timezone.now(),
    )
    listed = sorted(heads)
    made.digest = hashlib.sha256(canonical(made, listed)).hexdigest()
    signed = signatures.key_ring().sign(message_of(made.digest))
    made.signature, made.key_id = signed.value, signed.key_id
    made.save(force_insert=True)
    CheckpointHead.objects.bulk_create(
        [
            CheckpointHead(checkpoint=made, of_tenant=h.tenant, chain=h.chain, last=h.last, digest=h.digest)
            for h in listed
        ],
        batch_size=1000,
    )
    Anchor.objects.bulk_create(
        [Anchor(checkpoint=made, place=place, due_at=made.created_at) for place in places]
    )
    return made


def canonical(row: Checkpoint, heads: Iterable[Head]) -> bytes:
    """What is digested: JSON with sorted keys and no blanks."""
    content = {
        "version": 1,
        "number": row.number,
        "previous": row.previous,
        "created_at": row.created_at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        "places": row.places,
        "heads": [[h.tenant, h.chain, h.last, h.digest] for h in sorted(heads)],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def message_of(digest: str) -> str:
    """What is signed."""
    return f"crosslight checkpoint 1\n{digest}"


def document_of(row: Checkpoint) -> bytes:
    """The checkpoint as it is kept elsewhere, in JSON. `signed` is the text that was digested, byte for byte."""
    content = {
        "signed": canonical(row, heads_of(row)).decode(),
        "digest": row.digest,
        "key": row.key_id,
        "signature": row.signature,
    }
    return json.dumps(content).encode()


def heads_of(row: Checkpoint) -> list[Head]:
    found = row.heads.values_list("of_tenant", "chain", "last", "digest")
    return [Head(str(tenant), chain, last, digest) for tenant, chain, last, digest in found]


# --- Verifying ---------------------------------------------------------------------------------------------


def check_chain() -> Iterator[Fault]:
    """Whether each checkpoint follows the one before, is what was signed, and none is missing between. In no scope."""
    keys, before = signatures.key_ring(), None
    for row in each():
        number = row.number
        if number != (before.number + 1 if before else 1):
            yield Fault("missing-checkpoint", f"Checkpoints before number {number} are missing.")
        elif row.previous != (before.digest if before else ""):
            yield Fault("changed-checkpoint", f"Checkpoint {number} does not follow the one before it.")
        if hashlib.sha256(canonical(row, heads_of(row))).hexdigest() != row.digest:
            yield Fault("changed-checkpoint", f"Checkpoint {number} is not what was digested.")
        elif not keys.verifies(message_of(row.digest), row.key_id, row.signature):
            yield Fault("forged-checkpoint", f"Checkpoint {number} was not signed by this installation.")
        before = row


def each() -> Iterator[Checkpoint]:
    """All checkpoints in order, some hundred at a time."""
    last = -1
    while rows := list(Checkpoint.objects.filter(number__gt=last).order_by("number")[:AT_ONCE]):
        yield from rows
        last = rows[-1].number


def check_tenant(tenant: Tenant) -> Iterator[Fault]:
    """Whether every seal of a tenant that a checkpoint names is in its chain still. In no scope."""
    heads = CheckpointHead.objects.filter(of_tenant=tenant.pk).order_by("checkpoint")
    yield from missing_heads(
        Head(str(tenant.pk), *found) for found in heads.values_list("chain", "last", "digest").iterator()
    )


def check_tenants_gone() -> Iterator[Fault]:
    """Tenants that checkpoints name, that are not there any more, and that nobody has erased. In no scope."""
    gone = (
        CheckpointHead.objects.exclude(of_tenant__in=Tenant.objects.values("pk"))
        .exclude(of_tenant__in=TenantErasure.objects.values("erased_tenant"))
        .order_by("of_tenant")
        .values_list("of_tenant", flat=True)
        .distinct()
    )
    for tenant_id in gone:
        yield _gone(str(tenant_id))


def _gone(tenant_id: str) -> Fault:
    return Fault(
        "missing-tenant", "The workspace is gone, and no receipt says that it was erased.", tenant_id
    )


def missing_heads(heads: Iterable[Head]) -> Iterator[Fault]:
    """One fault for each chain from which a noted seal is missing: the first. In no scope."""
    told: set[tuple[str, str]] = set()
    batch: list[Head] = []
    for head in heads:
        batch.append(head)
        if len(batch) == AT_ONCE:
            yield from _missing_of(batch, told)
            batch = []
    yield from _missing_of(batch, told)


def _missing_of(heads: list[Head], told: set[tuple[str, str]]) -> Iterator[Fault]:
    if not heads:
        return
    with operator_scope("compare seals with checkpoints"):
        wanted = {head.tenant for head in heads}
        slugs = {str(pk): slug for pk, slug in Tenant.objects.filter(pk__in=wanted).values_list("pk", "slug")}
        erased = {str(pk) for pk in _erased(wanted)}
        there = {
            (str(tenant), chain.name, last, digest)
            for chain in CHAINS.values()
            for tenant, last, digest in chain.seals.objects.filter(
                tenant_id__in=wanted, digest__in=[head.digest for head in heads]
            ).values_list("tenant_id", "last", "digest")
        }
    for head in heads:
        if head.tenant in erased or (head.tenant, head.chain) in told:
            continue
        if head.tenant not in slugs:
            told |= {(head.tenant, chain) for chain in CHAINS}
            yield _gone(head.tenant)
        elif (head.tenant, head.chain, head.last, head.digest) not in there:
            told.add((head.tenant, head.chain))
            yield Fault(
                "missing-seal",
                f"The seal up to line {head.last} of the {head.chain} is not in its chain any more: the chain was cut "
                "off or computed anew.",
                slugs[head.tenant],
            )


def _erased(tenants: Iterable[str]) -> Iterable[uuid.UUID]:
    return TenantErasure.objects.filter(erased_tenant__in=list(tenants)).values_list(
        "erased_tenant", flat=True
    )

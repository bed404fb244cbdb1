"""Sources of streams: a broker's address, what of it is read into which dataset, and what could not become an asset."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import vault
from tenants.accounts.services import lock_members
from tenants.accounts.vault import InvalidToken
from tenants.datasets import metadata
from tenants.datasets.models import StreamDeadLetter, StreamSource
from tenants.datasets.selectors import require_dataset
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events import ssrf_guard
from tenants.events.services import record
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED, enqueue
from tenants.names import check_name
from tenants.pipeline.streams import shapes
from tenants.scope import current_tenant_id, tenant_scope

Kind, State = StreamSource.Kind, StreamSource.State

JOB = "read_stream"
PURPOSE = b"stream\0"
MOST = 20
MAX_NAME, MAX_TOPIC, MAX_GROUP, MAX_FIELD = 200, 255, 100, 200
# Of a source: letters that are kept; at so many it pauses, as no more could be told. Each is kept for so long.
MOST_LETTERS, KEEP_DAYS = 10_000, 30
# Characters of an item that a letter keeps; a longer one cannot be replayed.
MAX_BODY = 64 << 10
SCHEMES = {Kind.REDIS: ("rediss", "redis"), Kind.RABBITMQ: ("amqps", "amqp"), Kind.KAFKA: ("kafkas", "kafka")}
ROLES = ("id", "text", "metadata", "key", "body")
MAPPING = {"id": "id", "text": "text", "metadata": "metadata", "key": "key"}


# --- Reading ---------------------------------------------------------------------------------------------


def list_sources() -> QuerySet[StreamSource]:
    """In the tenant's scope, newest first."""
    return StreamSource.objects.filter(dataset__deleted_at=None).order_by("-id")


def get_source(source_id: uuid.UUID | None, *, lock: bool = False) -> StreamSource:
    """Raises NotFound."""
    rows = list_sources().select_for_update(of=("self",)) if lock else list_sources()
    row = None if source_id is None else rows.filter(pk=source_id).first()
    if row is None:
        raise NotFound(_("This stream source does not exist."))
    return row


def list_letters(source_id: uuid.UUID) -> QuerySet[StreamDeadLetter]:
    return StreamDeadLetter.objects.filter(source=source_id).order_by("-id")


def get_letter(source_id: uuid.UUID, letter_id: uuid.UUID | None) -> StreamDeadLetter:
    """Raises NotFound."""
    row = None if letter_id is None else list_letters(source_id).filter(pk=letter_id).first()
    if row is None:
        raise NotFound(_("This dead letter does not exist."))
    return row


def login_of(row: StreamSource) -> tuple[str, str]:
    """User name and password, empty where there are none. Raises Conflict where they cannot be opened."""
    if not row.secret:
        return "", ""
    try:
        opened = json.loads(vault.unseal(bytes(row.secret), purpose=PURPOSE, owner=row.tenant_id))
    except InvalidToken as error:
        raise Conflict(
            _("The credentials of this source can no longer be read. Send its url with them again.")
        ) from error
    return opened["user"], opened["password"]


def source_shape(row: StreamSource) -> shapes.StreamSource:
    return shapes.StreamSource(
        id=str(row.id),
        name=row.name,
        kind=row.kind,
        url=row.url,
        has_credentials=bool(row.secret),
        topic=row.topic,
        group=row.group,
        dataset=str(row.dataset_id),
        mapping=row.mapping,
        on_change=row.on_change,
        from_start=row.from_start,
        state=row.state,
        problem=row.problem or None,
        position=row.position,
        stored=row.stored,
        duplicate=row.duplicate,
        refused=row.refused,
        lag=row.lag,
        dead_letters=list_letters(row.id).count(),
        last_item_at=row.last_item_at,
        job=str(row.job_id) if row.job_id else None,
        created_at=row.created_at,
    )


def letter_shape(row: StreamDeadLetter) -> shapes.StreamDeadLetter:
    return shapes.StreamDeadLetter(
        id=str(row.id),
        position=row.position,
        external_id=row.external_id or None,
        type=row.slug,
        reason=row.reason,
        body=row.body,
        replayable=row.whole,
        created_at=row.created_at,
    )


# --- Changing them ---------------------------------------------------------------------------------------


def create_source(
    *,
    dataset_id: uuid.UUID,
    name: str,
    kind: str,
    url: str,
    topic: str,
    group: str = "crosslight",
    mapping: Mapping[str, str] | None = None,
    on_change: str = StreamSource.OnChange.REFUSE,
    from_start: bool = True,
    actor: str,
) -> StreamSource:
    """A source that is read from now on. Raises Invalid, NotFound, and Conflict where there are too many.

    Whether its host may be reached is found out when it is.
    """
    broker = ssrf_guard.read_broker(url, SCHEMES[Kind(kind)])
    fields = {"name": name, "topic": topic, "group": group, "mapping": dict(mapping or MAPPING)}
    _check(fields)
    try:
        with tenant_scope(current_tenant_id()):
            # One at a time, so that they can be counted.
            lock_members()
            require_dataset(dataset_id)
            if StreamSource.objects.count() >= MOST:
                raise Conflict(
                    _("A workspace has at most %(most)s stream sources. Delete one first.") % {"most": MOST}
                )
            row = StreamSource.objects.create(
                dataset_id=dataset_id,
                kind=kind,
                url=broker.url,
                secret=_sealed(broker),
                on_change=on_change,
                from_start=from_start,
                created_by=actor,
                **fields,
            )
            _queue(row)
            record(
                actor=actor,
                verb="stream_source.created",
                target=str(row.id),
                details={"kind": kind, "url": row.url, "topic": topic},
            )
            return row
    except IntegrityError as error:
        raise Conflict(_("There is a stream source of this name already.")) from error


def update_source(*, source_id: uuid.UUID, changes: Mapping[str, Any], actor: str) -> StreamSource:
    """Change name, url, mapping or on_change. Raises NotFound, Invalid, Conflict.

    Stream, group and dataset stay: how far a source was read is told by them.
    """
    _check(changes)
    try:
        with tenant_scope(current_tenant_id()):
            row = get_source(source_id, lock=True)
            for column in ("name", "mapping", "on_change"):
                if column in changes:
                    setattr(row, column, changes[column])
            if "url" in changes:
                broker = ssrf_guard.read_broker(changes["url"], SCHEMES[Kind(row.kind)])
                row.url, row.secret = broker.url, _sealed(broker)
            row.save(update_fields=["name", "mapping", "on_change", "url", "secret"])
            record(
                actor=actor,
                verb="stream_source.changed",
                target=str(row.id),
                details={"fields": sorted(changes)},
            )
            return row
    except IntegrityError as error:
        raise Conflict(_("There is a stream source of this name already.")) from error


def pause_source(*, source_id: uuid.UUID, actor: str) -> StreamSource:
    """Read no further; what has come since waits in the broker. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        row = get_source(source_id, lock=True)
        if row.state != State.PAUSED:
            row.state = State.PAUSED
            row.save(update_fields=["state"])
            record(actor=actor, verb="stream_source.paused", target=str(row.id))
        return row


def resume_source(*, source_id: uuid.UUID, actor: str) -> StreamSource:
    """Go on from where it was read. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        row = get_source(source_id, lock=True)
        row.state, row.problem, row.failures = State.ACTIVE, "", 0
        row.save(update_fields=["state", "problem", "failures"])
        _queue(row)
        record(actor=actor, verb="stream_source.resumed", target=str(row.id))
        return row


def delete_source(*, source_id: uuid.UUID, actor: str) -> None:
    """With its dead letters; its assets stay, and the broker's group. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        row = get_source(source_id, lock=True)
        row.delete()
        record(actor=actor, verb="stream_source.deleted", target=str(source_id))


def delete_letters(*, source_id: uuid.UUID, letter_ids: Sequence[uuid.UUID] | None, actor: str) -> int:
    """Delete these dead letters (None: all); returns how many. Raises NotFound for a source that is not there."""
    with tenant_scope(current_tenant_id()):
        get_source(source_id)
        rows = StreamDeadLetter.objects.filter(source=source_id)
        if letter_ids is not None:
            rows = rows.filter(pk__in=letter_ids)
        gone = rows.delete()[0]
        record(
            actor=actor, verb="stream_source.letters_deleted", target=str(source_id), details={"count": gone}
        )
        return gone


def ensure_reading() -> None:
    """Queue what reads active sources and is not there, as after a crash; and forget old letters. In the tenant's
    scope, for upkeep."""
    rows = list(StreamSource.objects.select_related("dataset"))
    for row in rows:
        if row.state == State.ACTIVE and row.dataset.deleted_at is None:
            with transaction.atomic():
                _queue(row)
    if not rows:
        return
    old = timezone.now() - dt.timedelta(days=KEEP_DAYS)
    StreamDeadLetter.objects.filter(created_at__lt=old).delete()


def on_end(job: Job) -> None:
    """A source whose job was cancelled, or gave up, says so and waits for somebody."""
    row = StreamSource.objects.select_for_update().filter(pk=job.arguments["source"]).first()
    if row is None or not job.finished or row.job_id != job.id:
        return
    if job.state == Job.State.CANCELLED:
        problem = _("Its job was cancelled. Resume it to go on.")
    else:
        told = (job.error or {}).get("detail", "")
        problem = _("It stopped: %(detail)s Resume it to go on.") % {"detail": told}
    StreamSource.objects.filter(pk=row.pk).update(state=State.PAUSED, problem=problem[:500])


def _queue(row: StreamSource) -> None:
    if not Job.objects.filter(UNFINISHED, pk=row.job_id).exists():
        row.job_id = enqueue(kind=JOB, arguments={"source": str(row.id)}, reserve={}).id
        row.save(update_fields=["job_id"])


def _sealed(broker: ssrf_guard.Broker) -> bytes | None:
    if not broker.user and not broker.password:
        return None
    login = json.dumps({"user": broker.user, "password": broker.password})
    return vault.seal(login.encode(), purpose=PURPOSE, owner=current_tenant_id())


def _check(fields: Mapping[str, Any]) -> None:
    for name, most in (("name", MAX_NAME), ("topic", MAX_TOPIC), ("group", MAX_GROUP)):
        if name in fields:
            metadata.check_text(fields[name], f"/{name}")
            if not fields[name].strip() or len(fields[name]) > most:
                raise Invalid(_("A name has 1 to %(name)s characters.") % {"name": most}, pointer=f"/{name}")
    check_name(fields.get("name", ""))
    mapping = fields.get("mapping", MAPPING)
    if unknown := sorted(set(mapping) - set(ROLES)):
        raise Invalid(
            _("Unknown role %(name)r: there are %(roles)s.")
            % {"name": unknown[0][:60], "roles": ", ".join(ROLES)},
            pointer="/mapping",
        )
    for role, name in mapping.items():
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_FIELD:
            raise Invalid(_("Name a field of the items."), pointer=f"/mapping/{role}")
        metadata.check_text(name, f"/mapping/{role}")
    if "text" not in mapping:
        raise Invalid(_("Say which field holds the text."), pointer="/mapping/text")

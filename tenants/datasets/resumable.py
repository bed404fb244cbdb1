"""Uploads that wait to be used: each a file that grows at its end, over as many requests and hosts as it takes.

What is expected and how much is here is a row (`ResumableUpload`), which every host reads; the bytes lie in the storage
(`tenants.datasets.upload_bytes`), under ids made here; the name that a client gave is only data. The protocol that
fills them is `tenants.datasets.tus`. Why: docs/adr/0053-uploads-in-parts-go-on-at-another-host.md.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.files import File
from django.db import transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import quotas
from tenants.datasets import upload_bytes
from tenants.datasets.filenames import clean_filename
from tenants.datasets.models import ResumableUpload
from tenants.datasets.upload_bytes import FORMER, Held, Lost, place_of
from tenants.errors import (
    Conflict,
    Invalid,
    NotFound,
    NotReady,
    QuotaExceeded,
    StorageFull,
    TooLarge,
    Unavailable,
)
from tenants.scope import current_tenant_id, tenant_scope

log = logging.getLogger(__name__)

# More than this many begun uploads of one tenant are a client that never uses what it sends.
MAX_PARTIAL = 100
MAX_NAME = 200
# Files outlive their upload by this much: nothing is removed under a request that found it in time.
GRACE_S = 3600
# What one round of upkeep removes of a tenant.
AT_A_TIME = 1000
# When an upload ended that has been used or thrown away.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class PartialUpload:
    """An upload as it is now: `offset` bytes of `bytes` are here."""

    id: uuid.UUID
    bytes: int
    offset: int
    metadata: dict[str, str]
    expires_at: datetime

    @property
    def complete(self) -> bool:
        return self.offset == self.bytes

    @property
    def filename(self) -> str:
        """The file's name as the client told it, cleaned; empty where it told none."""
        return clean_filename(self.metadata.get("filename") or self.metadata.get("name"))

    @property
    def name(self) -> str:
        """The same to show and to guess a format from: never empty."""
        return self.filename[:MAX_NAME] or "upload"


class Claimed(File):
    """A finished upload; a folder takes the file over by moving it, a bucket copies its object `stored_as`."""

    def __init__(self, stream: IO[bytes], path: Path, stored_as: str | None, upload: PartialUpload) -> None:
        super().__init__(stream, name=upload.name)
        self._path, self.stored_as, self.filename = path, stored_as, upload.filename

    def temporary_file_path(self) -> str:
        return str(self._path)


def begin(*, upload_id: uuid.UUID, length: int, metadata: dict[str, str], expires_at: datetime) -> None:
    """Make room for an upload of the active tenant. Raises QuotaExceeded, StorageFull."""
    # Asked twice: the first time locks the counter, so that of two uploads at once the second counts the first.
    quotas.check_room({"bytes": length})
    quotas.check_room({"bytes": length + _expected_bytes()})
    place = upload_bytes.place()
    if place.free() < length:
        raise StorageFull
    row = ResumableUpload(id=upload_id, bytes=length, metadata=metadata, expires_at=expires_at)
    row.save(force_insert=True)
    place.begin(row)


def _expected_bytes() -> int:
    """What all begun uploads of the active tenant will have in the end."""
    begun = ResumableUpload.objects.filter(expires_at__gt=Now()).aggregate(
        count=Count("*"), bytes=Sum("bytes")
    )
    if begun["count"] >= MAX_PARTIAL:
        raise QuotaExceeded(
            _("%(waiting)s uploads were started and not used. Use or delete some of them first.")
            % {"waiting": MAX_PARTIAL},
            resource="uploads",
            limit=MAX_PARTIAL,
        )
    return int(begun["bytes"] or 0)


def find(upload_id: uuid.UUID | None) -> PartialUpload:
    """An upload of the active tenant. Raises NotFound, also for one that has expired."""
    return _existing(current_tenant_id(), upload_id)


def _existing(tenant_id: uuid.UUID, upload_id: uuid.UUID | None) -> PartialUpload:
    found = look_up(tenant_id, upload_id) if upload_id else None
    if found is None:
        raise _absent()
    return found


def _absent() -> NotFound:
    return NotFound(
        _("This upload does not exist. Unused ones are removed after %(size)s hours.")
        % {"size": settings.UPLOAD_EXPIRY_S // 3600}
    )


def look_up(tenant_id: uuid.UUID, upload_id: uuid.UUID) -> PartialUpload | None:
    """An upload if there is one."""
    with tenant_scope(tenant_id):
        row = _row(upload_id) or _take_over(tenant_id, upload_id)
    if row is None:
        return None
    try:
        return _as_value(row, place_of(tenant_id, upload_id).stored(row))
    except Lost:
        return None


def seen(held: Held) -> PartialUpload:
    """A held upload as it is now."""
    return _as_value(held.row, held.offset)


def _as_value(row: ResumableUpload, offset: int) -> PartialUpload:
    return PartialUpload(row.pk, row.bytes, offset, row.metadata, row.expires_at)


def _row(upload_id: uuid.UUID) -> ResumableUpload | None:
    return ResumableUpload.objects.filter(pk=upload_id, expires_at__gt=Now()).first()


def _take_over(tenant_id: uuid.UUID, upload_id: uuid.UUID) -> ResumableUpload | None:
    """An upload that was begun under a release that kept its facts in a file; its bytes stay where they are."""
    path = FORMER.path(tenant_id, upload_id)
    try:
        told, offset = json.loads(path.with_suffix(".json").read_text()), path.stat().st_size
    except (FileNotFoundError, ValueError):
        return None
    row = ResumableUpload(
        id=upload_id,
        bytes=told["bytes"],
        offset=offset,
        metadata=told["metadata"],
        expires_at=datetime.fromtimestamp(told["expires_at"], UTC),
        local=True,
    )
    ResumableUpload.objects.bulk_create([row], ignore_conflicts=True)
    return _row(upload_id)


def append(*, held: Held, offset: int, data: bytes) -> None:
    """Write at the end, which must be `offset`. Raises NotFound, Conflict, StorageFull, Unavailable."""
    if held.offset != offset:
        raise Conflict(_("The upload has grown in the meantime. Ask for its offset and continue from there."))
    try:
        held.append(data)
    except Lost as error:
        raise _absent() from error


@contextmanager
def locked(tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Iterator[Held | None]:
    """The upload, for nobody else; None if another holds it. It is freed when its holder is killed.

    Raises NotFound.
    """
    try:
        with place_of(tenant_id, upload_id).hold(tenant_id, upload_id) as held:
            yield held
    except Lost as error:
        raise _absent() from error


@contextmanager
def claimed(tenant_id: uuid.UUID, upload_id: uuid.UUID | None, *, at_most: int) -> Iterator[Claimed]:
    """A finished upload, to be used once: it is gone at the end, or when the transaction around this commits.

    Raises NotFound, TooLarge, NotReady (bytes are missing), Conflict (another request uses it).
    """
    waiting = _existing(tenant_id, upload_id)
    if waiting.bytes > at_most:
        raise TooLarge(
            _("This upload has %(bytes)s bytes; for this use it may have %(size)s MiB.")
            % {"bytes": waiting.bytes, "size": at_most // 2**20}
        )
    if not waiting.complete:
        raise NotReady(
            _("Of this upload %(offset)s of %(bytes)s bytes are here. Send the rest first.")
            % {"offset": waiting.offset, "bytes": waiting.bytes}
        )
    with locked(tenant_id, waiting.id) as held:
        if held is None:
            raise Conflict(_("Another request is using this upload."))
        with held.open() as (stream, path, stored_as):
            yield Claimed(stream, path, stored_as, waiting)
        transaction.on_commit(partial(discard, tenant_id, waiting.id))


@contextmanager
def file_of(tenant_id: uuid.UUID, file: Any, upload_id: str | None, *, at_most: int) -> Iterator[Any]:
    """The file of a form or the finished upload that is named instead; None if there is neither.

    Raises Invalid for both, and what `claimed` raises.
    """
    if not upload_id:
        yield file
        return
    if file is not None:
        raise Invalid(_("Send a file or name an upload, not both."), pointer="/upload")
    with claimed(tenant_id, _id(upload_id), at_most=at_most) as upload:
        yield upload


def filename_of(file: Any) -> str:
    """The cleaned name under which a file of a form or a finished upload was sent; empty where there was none."""
    return file.filename if isinstance(file, Claimed) else clean_filename(getattr(file, "name", None))


def _id(text: str) -> uuid.UUID | None:
    """The id, or None for anything but its one spelling."""
    try:
        found = uuid.UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None


def discard(tenant_id: uuid.UUID, upload_id: uuid.UUID) -> None:
    """Remove an upload, whatever is left of it; upkeep goes on where the storage cannot be reached."""
    with tenant_scope(tenant_id):
        # From here on it is absent; the row goes last, as it says what is left to do.
        ResumableUpload.objects.filter(pk=upload_id).update(expires_at=LONG_AGO)
    try:
        for place in (FORMER, upload_bytes.place()):
            place.remove(tenant_id, upload_id)
    except (Unavailable, Lost):
        log.warning("an upload is removed later", extra={"upload": str(upload_id)}, exc_info=True)
        return
    with tenant_scope(tenant_id):
        ResumableUpload.objects.filter(pk=upload_id).delete()


def discard_expired(tenant_id: uuid.UUID) -> int:
    """Remove what a tenant did not use in time, or a crash left incomplete; how many uploads and files."""
    unheld = Q(holder=None) | Q(held_until=None) | Q(held_until__lt=Now())
    over = Q(expires_at__lt=timezone.now() - timedelta(seconds=GRACE_S))
    with tenant_scope(tenant_id):
        expired = list(ResumableUpload.objects.filter(unheld, over).values_list("pk", flat=True)[:AT_A_TIME])
    for upload_id in expired:
        discard(tenant_id, upload_id)
    older_than_s = settings.UPLOAD_EXPIRY_S + GRACE_S
    return len(expired) + sum(p.tidy(tenant_id, older_than_s) for p in (upload_bytes.place(), FORMER))


def forget_tenant(tenant_id: uuid.UUID) -> None:
    """Remove what lies of a tenant's uploads beside its stored files, all of it. Raises Unavailable."""
    for place in (upload_bytes.place(), FORMER):
        place.forget(tenant_id)


def unfinished(tenant_id: uuid.UUID) -> int:
    """How many multipart uploads a bucket holds for a tenant, of which its files show nothing."""
    return len(upload_bytes.place().unfinished(tenant_id))

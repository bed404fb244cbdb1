"""Pictures that people search by, kept for a while in the tenant's storage, so that such a search has an address.

A picture has two files there, the upload as it came, which searches read, and a small copy without metadata, which is
all that is shown. The same picture again is the same row.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import quotas
from tenants.datasets import storage
from tenants.datasets.services import may_remove_files
from tenants.errors import NotFound, QuotaExceeded
from tenants.retrieval.models import QueryPicture, SavedSearch, StandingQuery
from tenants.retrieval.query.encoding import query_decoder
from tenants.scope import tenant_scope

KEEP_DAYS = 30
# Files whose row is not there (yet): an upload under way, or what a crash left.
YOUNG_S = 3_600
TOUCHED = dt.timedelta(days=1)
FOLDER, SMALL = "query", "small"


def path_of(tenant_id: uuid.UUID, picture_id: uuid.UUID, kind: str = "original") -> str:
    return f"{tenant_id}/{FOLDER}/{kind}/{picture_id}"


def keep(tenant_id: uuid.UUID, path: Path, *, actor: str) -> uuid.UUID | None:
    """The id under which the picture of a local file is kept; None where the plan has no room for it.

    Decodes it, so in no scope. Raises MediaError, Busy.
    """
    with path.open("rb") as stream:
        sha256, length = storage.digest(stream)
    if (known := _again(tenant_id, sha256)) is not None:
        return known
    with query_decoder(tenant_id) as decoding:
        small = decoding.image(path).thumbnail
    picture_id = uuid.uuid4()
    try:
        with path.open("rb") as stream:
            storage.put(path_of(tenant_id, picture_id), stream)
        storage.put(path_of(tenant_id, picture_id, SMALL), small)
        with tenant_scope(tenant_id):
            size = length + len(small)
            quotas.charge(amounts={"bytes": size})
            QueryPicture.objects.create(
                id=picture_id, sha256=sha256, bytes=size, used_at=timezone.now(), created_by=actor
            )
    except QuotaExceeded:
        _drop(tenant_id, [picture_id])
        return None
    except IntegrityError:
        # Somebody else sent the same one meanwhile.
        _drop(tenant_id, [picture_id])
        return _again(tenant_id, sha256)
    except BaseException:
        _drop(tenant_id, [picture_id])
        raise
    return picture_id


def _again(tenant_id: uuid.UUID, sha256: str) -> uuid.UUID | None:
    with tenant_scope(tenant_id):
        row = QueryPicture.objects.select_for_update().filter(sha256=sha256).first()
        if row is None:
            return None
        QueryPicture.objects.filter(pk=row.pk).update(used_at=timezone.now())
        return row.pk


def require(picture_ids: Iterable[uuid.UUID]) -> None:
    """Raises NotFound unless they are kept; they are from now on for another KEEP_DAYS. In the tenant's scope."""
    wanted = set(picture_ids)
    found = QueryPicture.objects.filter(pk__in=wanted).update(used_at=timezone.now()) if wanted else 0
    if found < len(wanted):
        raise NotFound(_("This picture is no longer kept. Choose it again."))


@contextmanager
def opened(tenant_id: uuid.UUID, picture_id: uuid.UUID) -> Iterator[Path]:
    """The picture as a local file, while the block lasts. Raises NotFound, FileDamaged."""
    with tenant_scope(tenant_id):
        row = QueryPicture.objects.filter(pk=picture_id).first()
        if row is None or row.used_at < timezone.now() - TOUCHED:
            require([picture_id])
    with ExitStack() as stack:
        try:
            there = storage.local(path_of(tenant_id, picture_id), settings.SPOOL_DIR)
            path = stack.enter_context(there)
        except FileNotFoundError as error:
            raise NotFound(_("This picture is no longer kept. Choose it again.")) from error
        yield path


def small_of(tenant_id: uuid.UUID, picture_id: uuid.UUID) -> bytes:
    """The small copy, a JPEG. Raises NotFound, FileDamaged."""
    with tenant_scope(tenant_id):
        is_there = QueryPicture.objects.filter(pk=picture_id).exists()
    with suppress(FileNotFoundError):
        if is_there:
            with storage.open_blob(path_of(tenant_id, picture_id, SMALL)) as stream:
                return stream.read()
    raise NotFound(_("This picture is no longer kept. Choose it again."))


def forget(tenant_id: uuid.UUID) -> int:
    """Remove what nobody used for KEEP_DAYS and no saved search or standing query asks by, and what a crash left; how
    many rows.

    Opens its own scopes. The row goes first: what is left of files then has none, and goes with the next run.
    """
    limit = timezone.now() - dt.timedelta(days=KEEP_DAYS)
    with tenant_scope(tenant_id):
        kept: list[str] = []
        for asking in (SavedSearch, StandingQuery):
            asked = asking.objects.filter(query__image__file__isnull=False)
            kept += asked.values_list("query__image__file", flat=True)
        old = QueryPicture.objects.filter(used_at__lt=limit).exclude(pk__in=kept)
        # Locked, so that what is used meanwhile is seen to be.
        rows = list(old.select_for_update().values_list("pk", "bytes"))
        if rows:
            QueryPicture.objects.filter(pk__in=[pk for pk, _ in rows]).delete()
            quotas.give_back(amounts={"bytes": sum(size for _, size in rows)})
    with tenant_scope(tenant_id):
        if may_remove_files():
            known = set(QueryPicture.objects.values_list("pk", flat=True))
            _drop(tenant_id, [one for one in _stored(tenant_id) if one not in known])
    return len(rows)


def _stored(tenant_id: uuid.UUID) -> set[uuid.UUID]:
    """Ids of files that are not new, unless their row has just gone."""
    found = set()
    limit = timezone.now() - dt.timedelta(seconds=YOUNG_S)
    for kind in ("original", SMALL):
        folder = f"{tenant_id}/{FOLDER}/{kind}"
        try:
            _folders, names = default_storage.listdir(folder)
        except FileNotFoundError:
            continue
        found |= {uuid.UUID(n) for n in names if default_storage.get_modified_time(f"{folder}/{n}") < limit}
    return found


def _drop(tenant_id: uuid.UUID, picture_ids: Iterable[uuid.UUID]) -> None:
    for one in picture_ids:
        for kind in ("original", SMALL):
            storage.drop(path_of(tenant_id, one, kind))

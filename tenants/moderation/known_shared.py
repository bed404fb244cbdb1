"""Lists of known content that the operator shares with every tenant. They hold no tenant's data."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Count, F
from django.utils.translation import gettext
from uuid_utils.compat import uuid7

from tenants.errors import Conflict, Invalid, NotFound
from tenants.moderation.known import MAX_NAME, Content, RawHash, checked_hash
from tenants.moderation.models import SharedHashEntry, SharedHashList

MAX_HASHES = 2_000_000
_INSERT = 5_000


def survey() -> list[tuple[SharedHashList, int]]:
    """Every list with the number of its hashes."""
    rows = SharedHashList.objects.annotate(hashes=Count("entries")).order_by("name")
    return [(row, row.hashes) for row in rows]


def import_hashes(
    *, name: str, stance: str, hashes: Sequence[RawHash], replace: bool = False
) -> tuple[int, int]:
    """Add hashes to the list of that name, which is made if there is none; how many were added and removed.

    With ``replace`` the list then has exactly these. All or nothing. Raises Invalid, Conflict.
    """
    if not 0 < len(name.strip()) <= MAX_NAME:
        raise Invalid(gettext("A name has 1 to %(name)s characters.") % {"name": MAX_NAME}, pointer="/name")
    wanted = {(raw.algorithm, checked_hash(raw, f"/hashes/{at}")): raw.note for at, raw in enumerate(hashes)}
    with transaction.atomic():
        row, _ = SharedHashList.objects.get_or_create(name=name.strip(), defaults={"stance": stance})
        row = SharedHashList.objects.select_for_update().get(pk=row.pk)
        if row.stance != stance:
            raise Conflict(
                gettext("The list %(name)s is of %(stance)s content.")
                % {"name": f"{name!r}", "stance": row.stance}
            )
        there = _contents(row)
        new = [content for content in wanted if content not in there]
        gone = [pk for content, pk in there.items() if content not in wanted] if replace else []
        if len(there) + len(new) - len(gone) > MAX_HASHES:
            raise Conflict(
                gettext("A shared list holds at most %(hashes)s hashes.") % {"hashes": f"{MAX_HASHES:,}"}
            )
        SharedHashEntry.objects.filter(pk__in=gone).delete()
        SharedHashEntry.objects.bulk_create(
            (_entry(row, content, wanted[content]) for content in new), batch_size=_INSERT
        )
        SharedHashList.objects.filter(pk=row.pk).update(revision=F("revision") + 1)
    return len(new), len(gone)


def delete_list(*, name: str) -> int:
    """How many hashes went with it. Raises NotFound."""
    with transaction.atomic():
        row = SharedHashList.objects.select_for_update().filter(name=name).first()
        if row is None:
            raise NotFound(gettext("There is no shared list %(name)s.") % {"name": f"{name!r}"})
        deleted, _ = SharedHashEntry.objects.filter(hash_list=row).delete()
        row.delete()
    return deleted


def _contents(row: SharedHashList) -> dict[Content, uuid.UUID]:
    entries = SharedHashEntry.objects.filter(hash_list=row).values_list("algorithm", "content", "pk")
    return {(algorithm, bytes(content)): pk for algorithm, content, pk in entries.iterator()}


def _entry(row: SharedHashList, content: Content, note: str) -> SharedHashEntry:
    return SharedHashEntry(hash_list=row, item=uuid7(), algorithm=content[0], content=content[1], note=note)

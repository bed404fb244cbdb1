"""Known content: lists of hashes, good and bad, of a tenant and of the operator, and what stands on them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, F, QuerySet
from django.utils.translation import gettext
from uuid_utils.compat import uuid7

from ml.hashing import image_codes
from ml.hashing.fingerprints import Fingerprints, parse_hex
from tenants.datasets import metadata
from tenants.datasets.selectors import get_asset
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record as log_event
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.moderation.known_content import matching
from tenants.moderation.models import (
    Algorithm,
    Evidence,
    HashEntry,
    HashList,
    SharedHashEntry,
    SharedHashList,
    Stance,
)
from tenants.names import check_name
from tenants.scope import current_tenant_id, tenant_scope

MAX_NOTE = 500

#: Hashes that other platforms give out; both are 64 hexadecimal digits.
RAW = (Algorithm.PDQ.value, Algorithm.SHA256.value)


# Algorithm and what is stored of it.
Content = tuple[str, bytes]


@dataclass(frozen=True)
class RawHash:
    """A hash from elsewhere: hex digits of one of ``RAW``."""

    algorithm: str
    hash: str
    note: str = ""


def contents_of(prints: Fingerprints) -> list[Content]:
    """The hashes of an item as they are stored."""
    contents = [(Algorithm.SHA256.value, bytes.fromhex(prints.sha256))] if prints.sha256 else []
    contents += [(Algorithm.PDQ.value, hashed) for hashed in filter(None, [prints.pdq])]
    contents += [(Algorithm.PDQ.value, frame.pdq) for frame in prints.frames]
    if prints.code:
        contents.append((Algorithm.VECTOR.value, prints.code + prints.points))
    if prints.sound:
        contents.append((Algorithm.SOUND.value, prints.sound))
    return list(dict.fromkeys(contents))


def in_memory(entry: HashEntry) -> bytes:
    """What of an entry's content is compared at once; points are fetched for candidates only."""
    content = bytes(entry.content)
    return content[: image_codes.BYTES] if entry.algorithm == Algorithm.VECTOR else content


def checked_hash(raw: RawHash, pointer: str) -> bytes:
    """The bytes of a hash from elsewhere. Raises Invalid."""
    if raw.algorithm not in RAW:
        raise Invalid(
            gettext("One of %(names)s.") % {"names": ", ".join(RAW)}, pointer=f"{pointer}/algorithm"
        )
    digits = parse_hex(raw.hash)
    if not digits:
        raise Invalid(gettext("A hash has 64 hexadecimal digits."), pointer=f"{pointer}/hash")
    checked_text(raw.note, f"{pointer}/note", MAX_NOTE)
    return bytes.fromhex(digits)


def checked_text(text: str, pointer: str, most: int) -> str:
    metadata.check_text(text, pointer)
    if len(text) > most:
        raise Invalid(gettext("At most %(most)s characters.") % {"most": most}, pointer=pointer)
    return text


MAX_NAME, MAX_DESCRIPTION = 100, 2_000

MAX_LISTS, MAX_HASHES = 100, 500_000

#: Where a review's blocked copies go when no list is named.
BLOCKED = "Blocked"

_INSERT = 1_000


def match(*, fingerprints: Mapping[str, object], sha256: str = "") -> list[dict[str, object]]:
    """Listed items that these are the fingerprints of, nearest first: what `matches` of an audit shows.

    ``fingerprints`` as the detector of that name gives them; ``sha256`` of the bytes. In a tenant's scope.
    """
    given = {**fingerprints, "sha256": sha256 or fingerprints.get("sha256", "")}
    return matching.match(Fingerprints.read(given))


# --- Lists ---


def create_list(*, name: str, stance: str, description: str = "", actor: str = "") -> HashList:
    """Raises Invalid, Conflict."""
    name = checked_text(name.strip(), "/name", MAX_NAME)
    check_name(name)
    if not name:
        raise Invalid(gettext("A list needs a name."), pointer="/name")
    if stance not in Stance.values:
        raise Invalid(gettext("One of %(names)s.") % {"names": ", ".join(Stance.values)}, pointer="/stance")
    description = checked_text(description, "/description", MAX_DESCRIPTION)
    with tenant_scope(current_tenant_id()):
        if HashList.objects.count() >= MAX_LISTS:
            raise Conflict(
                gettext("There are %(lists)s hash lists; delete one first.") % {"lists": MAX_LISTS}
            )
        row = HashList(name=name, stance=stance, description=description, created_by=actor)
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict(gettext("There is a hash list of that name.")) from error
        details = {"name": name, "stance": stance}
        log_event(actor=actor, verb="hash_list.created", target=str(row.id), details=details)
        return row


def get_list(list_id: uuid.UUID | None) -> HashList:
    """Raises NotFound."""
    found = HashList.objects.filter(pk=list_id).first() if list_id else None
    if found is None:
        raise NotFound(gettext("This hash list does not exist."))
    return found


def list_lists() -> QuerySet[HashList]:
    return HashList.objects.order_by("-id")


def delete_list(*, list_id: uuid.UUID, actor: str = "") -> None:
    """The list and all its hashes. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        row = _locked(list_id)
        HashEntry.objects.filter(hash_list=row)._raw_delete("default")
        row.delete()
        log_event(actor=actor, verb="hash_list.deleted", target=str(list_id), details={"name": row.name})


# --- Items ---


def add_item(
    *, list_id: uuid.UUID, fingerprints: Mapping[str, Any], note: str = "", actor: str = ""
) -> uuid.UUID:
    """Put one item on a list by all its fingerprints; its id. Raises NotFound, Invalid, Conflict."""
    contents = contents_of(Fingerprints.read(fingerprints))
    if not contents:
        raise Invalid(
            gettext("There is nothing in this content by which it could be known again."), pointer="/file"
        )
    with tenant_scope(current_tenant_id()):
        row, item = _grown(list_id, len(contents)), uuid7()
        _insert(row, [(item, *content, note) for content in contents], actor)
        _log_change(row, actor, added=1)
        return item


def add_hashes(
    *, list_id: uuid.UUID, hashes: Sequence[RawHash], actor: str = ""
) -> tuple[list[uuid.UUID], int]:
    """Put hashes from elsewhere on a list, each an item of its own; their ids, and how many were there already.

    Raises NotFound, Invalid, Conflict.
    """
    wanted = {(raw.algorithm, checked_hash(raw, f"/hashes/{at}")): raw.note for at, raw in enumerate(hashes)}
    with tenant_scope(current_tenant_id()):
        row = _grown(list_id, len(wanted))
        there = _there(row, wanted)
        new = [(uuid7(), *content, note) for content, note in wanted.items() if content not in there]
        _insert(row, new, actor)
        _log_change(row, actor, added=len(new))
        return [item for item, *_ in new], len(hashes) - len(new)


def add_asset_copies(
    *, asset_id: uuid.UUID, list_id: uuid.UUID | None, note: str = "", actor: str = ""
) -> uuid.UUID:
    """Put an asset on a bad list and look for its copies in what was audited before; the id of what was added.

    By what its last audit saw; where there is none, by its bytes, until the job that is queued has looked at the file.
    Without a list it is the one called ``BLOCKED``. Raises NotFound, Invalid, Conflict.
    """
    with tenant_scope(current_tenant_id()):
        asset = get_asset(asset_id)
        target = get_list(list_id) if list_id else _blocked(actor)
        if target.stance != Stance.BAD:
            raise Invalid(gettext("Copies are blocked by a list of bad content."), pointer="/list")
        fingerprints = {**stored_fingerprints(asset_id), "sha256": asset.blob.sha256}
        item = add_item(list_id=target.id, fingerprints=fingerprints, note=note, actor=actor)
        match_again(item_id=item, asset_id=asset_id, actor=actor)
        return item


def match_again(*, item_id: uuid.UUID, asset_id: uuid.UUID | None = None, actor: str = "") -> Job:
    """Queue the job that blocks earlier copies of a listed item. ``asset_id``: where the item came from."""
    arguments = {"item": str(item_id), "asset": str(asset_id) if asset_id else None, "actor": actor}
    with tenant_scope(current_tenant_id()):
        total = Evidence.objects.exclude(asset=None).count()
        return jobs.enqueue(kind="match_again", arguments=arguments, total=max(1, total), reserve={})


def stored_fingerprints(asset_id: uuid.UUID) -> dict[str, object]:
    """What the last audit of an asset saw; empty where nobody looked."""
    found = Evidence.objects.filter(asset_id=asset_id).order_by("-id").values_list("document__fingerprints")
    for (stored,) in found[:1]:
        return dict(stored) if isinstance(stored, dict) else {}
    return {}


def complete_item(*, item_id: uuid.UUID, fingerprints: Mapping[str, object]) -> None:
    """Add to a listed item what it lacks; nothing where it is gone."""
    with tenant_scope(current_tenant_id()):
        first = HashEntry.objects.filter(item=item_id).first()
        if first is None:
            return
        row = _locked(first.hash_list_id)
        there = set(HashEntry.objects.filter(item=item_id).values_list("algorithm", flat=True))
        new = [c for c in contents_of(Fingerprints.read(fingerprints)) if c[0] not in there]
        _insert(row, [(item_id, *content, first.note) for content in new], first.created_by)


def remove_item(
    *, item_id: uuid.UUID, actor: str = "", list_id: uuid.UUID | None = None, release: bool = False
) -> None:
    """Take an item with all its hashes off its list; nothing where it is gone. Raises NotFound with a ``list_id``.

    ``release`` also lets go, by a job, what `match_again` blocked because of it and nobody has decided about since.
    """
    with tenant_scope(current_tenant_id()):
        entries = HashEntry.objects.filter(item=item_id)
        if list_id is not None:
            entries = entries.filter(hash_list_id=list_id)
        first = entries.first()
        if first is None:
            if list_id is not None:
                raise NotFound(gettext("This entry does not exist."))
            return
        row = _locked(first.hash_list_id)
        entries.delete()
        _log_change(row, actor, removed=1)
        if release:
            arguments = {"item": str(item_id), "release": True, "actor": actor}
            jobs.enqueue(kind="match_again", arguments=arguments, reserve={})


def require_item(*, list_id: uuid.UUID | None, item_id: uuid.UUID | None) -> None:
    """Raises NotFound."""
    get_list(list_id)
    if item_id is None or not HashEntry.objects.filter(hash_list_id=list_id, item=item_id).exists():
        raise NotFound(gettext("This entry does not exist."))


def _blocked(actor: str) -> HashList:
    found = HashList.objects.filter(name=BLOCKED).first()
    description = "What reviewers blocked together with its copies."
    return found or create_list(name=BLOCKED, stance="bad", description=description, actor=actor)


def _locked(list_id: uuid.UUID) -> HashList:
    row = HashList.objects.select_for_update().filter(pk=list_id).first()
    if row is None:
        raise NotFound(gettext("This hash list does not exist."))
    return row


def _grown(list_id: uuid.UUID, more: int) -> HashList:
    row = _locked(list_id)
    if HashEntry.objects.filter(hash_list=row).count() + more > MAX_HASHES:
        raise Conflict(
            gettext("A list holds at most %(hashes)s hashes; start another one.")
            % {"hashes": f"{MAX_HASHES:,}"}
        )
    return row


def _insert(row: HashList, entries: Iterable[tuple[uuid.UUID, str, bytes, str]], actor: str) -> None:
    HashEntry.objects.bulk_create(
        (
            HashEntry(
                hash_list=row,
                item=item,
                algorithm=algorithm,
                content=content,
                note=checked_text(note, "/note", MAX_NOTE),
                created_by=actor,
            )
            for item, algorithm, content, note in entries
        ),
        batch_size=_INSERT,
    )
    HashList.objects.filter(pk=row.pk).update(revision=F("revision") + 1)


def _log_change(row: HashList, actor: str, **details: int) -> None:
    if "removed" in details:
        HashList.objects.filter(pk=row.pk).update(revision=F("revision") + 1)
    log_event(actor=actor, verb="hash_list.changed", target=str(row.id), details=details)


def _there(row: HashList, wanted: Mapping[Content, str]) -> set[Content]:
    """Which of these the list has. Of many it is quicker to go through the list."""
    entries = HashEntry.objects.filter(hash_list=row, algorithm__in=RAW)
    if len(wanted) <= _INSERT:
        entries = entries.filter(content__in=[content for _, content in wanted])
    listed = entries.values_list("algorithm", "content").iterator(chunk_size=5_000)
    return {found for algorithm, content in listed if (found := (algorithm, bytes(content))) in wanted}


MAX_SHARED_HASHES = 2_000_000

_SHARED_INSERT = 5_000


def list_shared() -> list[tuple[SharedHashList, int]]:
    """Every list with the number of its hashes."""
    rows = SharedHashList.objects.annotate(hashes=Count("entries")).order_by("name")
    return [(row, row.hashes) for row in rows]


def import_shared_hashes(
    *, name: str, stance: str, hashes: Sequence[RawHash], replace: bool = False
) -> tuple[int, int]:
    """Add hashes to the list of that name, which is made if there is none; how many were added and removed.

    With ``replace`` the list then has exactly these. All or nothing. Raises Invalid, Conflict.
    """
    if not 0 < len(name.strip()) <= MAX_NAME:
        raise Invalid(gettext("A name has 1 to %(name)s characters.") % {"name": MAX_NAME}, pointer="/name")
    check_name(name)
    wanted = {(raw.algorithm, checked_hash(raw, f"/hashes/{at}")): raw.note for at, raw in enumerate(hashes)}
    with transaction.atomic():
        row, _ = SharedHashList.objects.get_or_create(name=name.strip(), defaults={"stance": stance})
        row = SharedHashList.objects.select_for_update().get(pk=row.pk)
        if row.stance != stance:
            raise Conflict(
                gettext("The list %(name)s is of %(stance)s content.")
                % {"name": f"{name!r}", "stance": row.stance}
            )
        there = _shared_contents(row)
        new = [content for content in wanted if content not in there]
        gone = [pk for content, pk in there.items() if content not in wanted] if replace else []
        if len(there) + len(new) - len(gone) > MAX_SHARED_HASHES:
            raise Conflict(
                gettext("A shared list holds at most %(hashes)s hashes.")
                % {"hashes": f"{MAX_SHARED_HASHES:,}"}
            )
        SharedHashEntry.objects.filter(pk__in=gone).delete()
        SharedHashEntry.objects.bulk_create(
            (_shared_entry(row, content, wanted[content]) for content in new), batch_size=_SHARED_INSERT
        )
        SharedHashList.objects.filter(pk=row.pk).update(revision=F("revision") + 1)
    return len(new), len(gone)


def delete_shared_list(*, name: str) -> int:
    """How many hashes went with it. Raises NotFound."""
    with transaction.atomic():
        row = SharedHashList.objects.select_for_update().filter(name=name).first()
        if row is None:
            raise NotFound(gettext("Unknown shared list %(name)s.") % {"name": f"{name!r}"})
        deleted, _ = SharedHashEntry.objects.filter(hash_list=row).delete()
        row.delete()
    return deleted


def _shared_contents(row: SharedHashList) -> dict[Content, uuid.UUID]:
    entries = SharedHashEntry.objects.filter(hash_list=row).values_list("algorithm", "content", "pk")
    return {(algorithm, bytes(content)): pk for algorithm, content, pk in entries.iterator()}


def _shared_entry(row: SharedHashList, content: Content, note: str) -> SharedHashEntry:
    return SharedHashEntry(hash_list=row, item=uuid7(), algorithm=content[0], content=content[1], note=note)

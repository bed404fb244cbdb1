"""Searches that are kept: saved under a name, and those that a member made lately.

Each is the body of `POST /search` as it was validated there or by the console's form (the caller's concern), so that it
can be run again as it is. What else may stand in it, `checked` says.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.datasets import selectors
from tenants.datasets.metadata import check_json
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.retrieval import query_pictures, shapes
from tenants.retrieval.models import RecentSearch, SavedSearch, StandingQuery
from tenants.retrieval.query import fusion_weights
from tenants.scope import current_tenant_id, narrowing, tenant_scope

MAX_NAME, MOST_SAVED, MAX_BYTES = 100, 1_000, 32 * 1024
MOST_RECENT = 20
RECENT_DAYS = 90

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Who:
    """Who asks: `actor` in the words of the audit log, the membership where it is a member, and whether what others
    saved is theirs to change, too, and whether they see what audits say."""

    actor: str = ""
    member_id: int | None = None
    owns_workspace: bool = False
    moderates: bool = False


# --- Saved -----------------------------------------------------------------------------------------------


def list_saved(who: Who) -> QuerySet[SavedSearch]:
    """What they may see, newest first. In the tenant's scope.

    Who is narrowed to datasets sees, of what others saved, searches in named datasets alone: words and values of
    filters tell of what lies elsewhere. The database leaves out what names something that they do not see.
    """
    rows = SavedSearch.objects.filter(Q(private_to=None) | Q(private_to=who.member_id)).order_by("-id")
    to = narrowing()
    if to is None or to.datasets is None:
        return rows
    return rows.filter(Q(owner=who.member_id) | Q(query__datasets__isnull=False))


def get_saved(saved_id: uuid.UUID | None, who: Who) -> SavedSearch:
    """Raises NotFound, also for what is private to somebody else."""
    row = None if saved_id is None else list_saved(who).filter(pk=saved_id).first()
    if row is None:
        raise NotFound(_("This saved search does not exist."))
    return row


def may_change(row: SavedSearch | StandingQuery, who: Who) -> bool:
    """Whoever saved it, and owners of the workspace."""
    mine = row.owner_id == who.member_id if who.member_id is not None else row.created_by == who.actor
    return mine or who.owns_workspace


def save_search(*, who: Who, name: str, query: Body, shared: bool) -> SavedSearch:
    """Keep a search; what no member owns is shared. Raises Invalid, NotFound, Conflict where there are too many."""
    with tenant_scope(current_tenant_id()):
        kept = checked(query)
        # Nobody else could find or delete it.
        private_to = None if shared else who.member_id
        if not shared and private_to is None:
            raise Invalid(_("Only a member keeps a search for themselves."), pointer="/shared")
        if SavedSearch.objects.count() >= MOST_SAVED:
            raise Conflict(_("There are %(n)s saved searches; delete some first.") % {"n": MOST_SAVED})
        row = SavedSearch.objects.create(
            name=checked_name(name),
            query=kept,
            owner_id=who.member_id,
            private_to_id=private_to,
            created_by=who.actor,
        )
        record(actor=who.actor, verb="saved_search.created", target=str(row.id), details={"shared": shared})
        return row


def change_saved(
    *,
    who: Who,
    saved_id: uuid.UUID,
    name: str | None = None,
    query: Body | None = None,
    shared: bool | None = None,
) -> SavedSearch:
    """Change what is given. Raises NotFound, NotAllowed, Invalid."""
    with tenant_scope(current_tenant_id()):
        row = _to_change(saved_id, who)
        if name is not None:
            row.name = checked_name(name)
        if query is not None:
            row.query = checked(query)
        if shared is not None and shared != row.is_shared:
            if not shared and row.owner_id is None:
                raise Invalid(
                    _("The person who saved it is no longer a member, so it stays shared."),
                    pointer="/shared",
                )
            row.private_to_id = None if shared else row.owner_id
        row.save()
        record(actor=who.actor, verb="saved_search.changed", target=str(row.id))
        return row


def delete_saved(*, who: Who, saved_id: uuid.UUID) -> None:
    """Raises NotFound, NotAllowed."""
    with tenant_scope(current_tenant_id()):
        _to_change(saved_id, who).delete()
        record(actor=who.actor, verb="saved_search.deleted", target=str(saved_id))


def _to_change(saved_id: uuid.UUID, who: Who) -> SavedSearch:
    row = get_saved(saved_id, who)
    if not may_change(row, who):
        raise NotAllowed(_("Whoever saved the search, or an owner of the workspace, may change it."))
    return SavedSearch.objects.select_for_update().get(pk=row.pk)


def checked_name(name: str) -> str:
    """The name as it is kept. Raises Invalid."""
    words = " ".join(name.split())
    if not 1 <= len(words) <= MAX_NAME:
        raise Invalid(_("A name has 1 to %(n)s characters.") % {"n": MAX_NAME}, pointer="/name")
    check_json(words, "/name")
    return words


def checked(query: Body) -> dict[str, Any]:
    """The body as it is kept: without what is null, and without what belongs to one run of it.

    Raises Invalid for what is too long or a page of another search, NotFound for what it names and is not there. In the
    tenant's scope.
    """
    kept = {name: value for name, value in query.items() if value is not None and name != "explain"}
    if "cursor" in kept:
        raise Invalid(
            _("A cursor is a page of one search, and ends soon: save the search itself."), "/cursor"
        )
    for name in ("parts", "sequence"):
        if name in kept:
            raise Invalid(_("A search of several parts cannot be kept yet: keep its body."), f"/{name}")
    check_json(kept, "/query")
    if len(_canonical(kept)) > MAX_BYTES:
        raise Invalid(
            _("A search of more than %(n)s KiB cannot be kept.") % {"n": MAX_BYTES // 1024}, "/query"
        )
    selectors.require_datasets(list(_ids(kept.get("datasets"))))
    selectors.require_assets(assets_of(kept))
    query_pictures.require(_ids([file for file in [(kept.get("image") or {}).get("file")] if file]))
    fusion_weights.find_profile(current_tenant_id(), kept.get("task", "general"))
    return kept


def assets_of(query: Body) -> list[uuid.UUID]:
    """The assets that a search names."""
    parts = [(query.get(part) or {}).get("asset") for part in ("image", "audio", "video")]
    lists = [(query.get(part) or {}).get("assets") for part in ("like", "unlike")]
    return [*_ids(one for one in parts if one), *(found for some in lists for found in _ids(some))]


def _ids(values: Iterable[str] | None) -> Iterable[uuid.UUID]:
    return [uuid.UUID(str(one)) for one in values or ()]


def _canonical(query: Body) -> bytes:
    return json.dumps(query, sort_keys=True, ensure_ascii=False, default=str).encode()


def shape_of(row: SavedSearch) -> shapes.SavedSearch:
    return shapes.SavedSearch(
        id=str(row.id),
        name=row.name,
        query=row.query,
        shared=row.is_shared,
        created_by=row.created_by,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


# --- Recent ----------------------------------------------------------------------------------------------


def list_recent(member_id: int | None) -> list[RecentSearch]:
    """A member's own, the latest first. In the tenant's scope."""
    rows = RecentSearch.objects.filter(member=member_id, searched_at__gt=_oldest())
    return list(rows.order_by("-searched_at")[:MOST_RECENT])


def note_recent(*, member_id: int, query: Body) -> None:
    """Keep it as the member's latest search; not what is too long, or holds what no row can. In the tenant's scope."""
    kept = {name: value for name, value in query.items() if value is not None}
    try:
        check_json(kept, "/query")
    except Invalid:
        return
    if len(body := _canonical(kept)) > MAX_BYTES:
        return
    row = RecentSearch(
        member_id=member_id, query=kept, digest=hashlib.sha256(body).hexdigest(), searched_at=timezone.now()
    )
    RecentSearch.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["tenant", "member", "digest"],
        update_fields=["searched_at"],
    )
    with connection.cursor() as cursor:
        # One statement: of two searches at once, each leaves the other's row.
        cursor.execute(
            "DELETE FROM recent_search WHERE tenant_id = %s AND id IN (SELECT id FROM recent_search "
            "WHERE tenant_id = %s AND member_id = %s ORDER BY searched_at DESC, id OFFSET %s)",
            [current_tenant_id(), current_tenant_id(), member_id, MOST_RECENT],
        )


def clear_recent(member_id: int | None) -> int:
    """Forget a member's recent searches; how many. In the tenant's scope."""
    return RecentSearch.objects.filter(member=member_id).delete()[0]


def forget_recent() -> int:
    """Forget those of the active tenant that are past RECENT_DAYS; how many. In its scope."""
    return RecentSearch.objects.filter(searched_at__lte=_oldest()).delete()[0]


def _oldest() -> dt.datetime:
    return timezone.now() - dt.timedelta(days=RECENT_DAYS)

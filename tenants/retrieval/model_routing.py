"""Which models a tenant's vectors are of: the live one, which answers searches, and those that are written beside it.

    begin_dual_write(model) -> the job `embed_beside` -> switch(model) -> perhaps roll_back()
    -> end_dual_write(the other)

All of it stands in the tenant's clock (`VectorClock`), under whose lock vectors are written as well: whoever stores
vectors sees which models are written at that moment, and `switch` sees every vector that was stored before it. A search
names the model that it used, and the statement that opens it says which one is live; where the two differ the search is
made again. So a search never fails for a switch, and never mixes two models.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import Exists, F, OuterRef, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tenants.accounts import quotas
from tenants.datasets.models import Asset
from tenants.errors import Conflict, ModelUnavailable, NotFound, NotReady
from tenants.prepared import Prepared
from tenants.retrieval.index import lifecycle
from tenants.retrieval.index.vectors import locked_clock
from tenants.retrieval.model_store import (
    MAX_DIMENSION,
    default_model,
    drop_space,
    fetch_space,
    is_own,
    keep_space,
    space,
)
from tenants.retrieval.models import (
    IndexPointer,
    StandingQuery,
    StandingVector,
    Vector,
    VectorClock,
    VectorGap,
)
from tenants.scope import current_tenant_id, tenant_scope

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace

# --- What a model has not seen yet ----------------------------------------------------------------------

# Assets that searches find by a vector of the live model and would not find by one of another. A gap says that this
# revision of an asset cannot have any.
_LACKING = """
FROM (
    SELECT DISTINCT asset_id FROM vector
    WHERE tenant_id = %(tenant)s AND model = %(live)s AND seq > %(after)s AND asset_id > %(above)s
) AS found
JOIN asset a ON a.tenant_id = %(tenant)s AND a.id = found.asset_id
WHERE NOT EXISTS (
    SELECT FROM vector v WHERE v.tenant_id = %(tenant)s AND v.asset_id = a.id AND v.model = %(model)s
) AND NOT EXISTS (
    SELECT FROM vector_gap g
    WHERE g.tenant_id = %(tenant)s AND g.asset_id = a.id AND g.model = %(model)s AND g.revision = a.revision
)
"""


FIRST = uuid.UUID(int=0)


class Missing(NotReady):
    """Not everything that is found now would be found with another model; `extra["missing"]` says how much not."""

    slug, title = "model-not-embedded", "The model has not seen everything yet"


def missing(model: str, *, after: int = 0) -> int:
    """How many assets have vectors of the live model (numbered above `after`) and none of this one. In a scope."""
    return _asked("SELECT count(*) " + _LACKING, model, after=after)[0][0]


def require_whole(model: str, *, after: int = 0) -> None:
    """Raises Missing."""
    if count := missing(model, after=after):
        raise Missing(
            _("%(count)s assets have no vectors of %(model)s yet.") % {"count": count, "model": model},
            missing=count,
        )


def unasked(model: str) -> int:
    """How many standing queries have not been encoded for a model. In a scope."""
    asked = StandingVector.objects.filter(model=model, standing_query=OuterRef("pk"))
    return StandingQuery.objects.filter(~Exists(asked), filter_only=False).count()


def require_asked(model: str) -> None:
    """Raises Missing."""
    if count := unasked(model):
        raise Missing(
            ngettext(
                "%(count)s standing query is not encoded for %(model)s yet.",
                "%(count)s standing queries are not encoded for %(model)s yet.",
                count,
            )
            % {"count": count, "model": model},
            missing=count,
        )


def some_missing(model: str, *, above: uuid.UUID, count: int) -> list[uuid.UUID]:
    """The next of those assets in the order of their ids, at most `count`. In a scope."""
    page = f"SELECT a.id {_LACKING} AND a.id > %(above)s ORDER BY a.id LIMIT %(count)s"
    return [row[0] for row in _asked(page, model, above=above, count=count)]


def note_gap(asset: Asset, model: str, reason: str) -> None:
    """This revision of an asset cannot have vectors of a model. In the transaction that holds the asset's lock."""
    VectorGap.objects.update_or_create(
        asset=asset, model=model, defaults={"revision": asset.revision, "reason": reason[:1000]}
    )


def gaps(model: str) -> int:
    """How many assets a model cannot see as they are now. In a scope."""
    return len(_current_gaps(model))


def forget_gaps(*, model: str = "", asset_ids: Sequence[uuid.UUID] | None = None) -> None:
    """Of a model, of assets, or of both, so that they are tried again. In the caller's transaction."""
    rows = VectorGap.objects.filter(model=model) if model else VectorGap.objects.all()
    if asset_ids is not None:
        rows = rows.filter(asset_id__in=asset_ids)
    rows._raw_delete("default")


def _current_gaps(model: str) -> list[uuid.UUID]:
    rows = VectorGap.objects.filter(model=model).values_list("asset_id", "revision")
    known = dict(Asset.objects.filter(pk__in=[pk for pk, _ in rows]).values_list("pk", "revision"))
    return [pk for pk, revision in rows if known.get(pk) == revision]


def _asked(statement: str, model: str, *, after: int = 0, **more: Any) -> list[tuple[Any, ...]]:
    live = VectorClock.objects.values_list("live", flat=True).first() or ""
    values = {
        "tenant": current_tenant_id(),
        "live": live,
        "model": model,
        "after": after,
        "above": FIRST,
        **more,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


__all__ = [
    "MAX_DIMENSION",
    "Missing",
    "Written",
    "begin_dual_write",
    "default_model",
    "drop_space",
    "end_dual_write",
    "fetch_space",
    "forget_retired",
    "has_moved_on",
    "is_own",
    "is_written",
    "keep_space",
    "live",
    "missing",
    "note",
    "opened_spaces",
    "roll_back",
    "serving",
    "space",
    "switch",
    "written",
]

log = logging.getLogger(__name__)

# The one to go back to, and one that may become the next.
MAX_DUAL_WRITE_MODELS = 2
# Vectors of a retired model that are deleted in one transaction.
BATCH = 2_000
# Tenants whose live model a process remembers.
MOST_KNOWN = 100_000

# --- Which model answers ---------------------------------------------------------------------------------

_LIVE = Prepared("live_model", ("uuid",), "SELECT live FROM vector_clock WHERE tenant_id = $1")
_known: dict[uuid.UUID, str] = {}


def serving(tenant_id: uuid.UUID) -> str:
    """The model that answers a tenant's searches, as this process knows it: the opening of a search tells whether it
    still is, and `note` what it is instead. Asks the database once for each tenant. Needs no scope."""
    known = _known.get(tenant_id)
    if known is None:
        rows = _LIVE.rows_of(tenant_id, tenant_id)
        known = rows[0][0] if rows else default_model()
        note(tenant_id, known)
    return known


def has_moved_on(tenant_id: uuid.UUID, model: str) -> bool:
    """Whether another model answers now than the one that this process knew; then it knows that one. In no scope."""
    _known.pop(tenant_id, None)
    return serving(tenant_id) != model


def note(tenant_id: uuid.UUID, model: str) -> None:
    """Remember what an opening said."""
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    _known[tenant_id] = model


@dataclass(frozen=True)
class Written:
    """The live model, those that are written as well, and which of these can be gone back to (or empty)."""

    live: str = field(default_factory=default_model)
    beside: tuple[str, ...] = ()
    previous: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        return (self.live, *self.beside)


def written(tenant_id: uuid.UUID) -> Written:
    """What stands in the clock now. In the tenant's scope, or in none."""
    with tenant_scope(tenant_id):
        return _written_here()


def _written_here() -> Written:
    """Of the active tenant: no savepoint stands around one statement."""
    clock = VectorClock.objects.filter(tenant_id=current_tenant_id()).first()
    return _written(clock) if clock else Written()


def _written(clock: VectorClock) -> Written:
    return Written(clock.live, tuple(clock.beside), clock.previous)


def live() -> str:
    """The live model of the active tenant, now."""
    return _written_here().live


def is_written(model: str) -> bool:
    """Whether the active tenant's vectors of a model are whole: it is live, or written beside."""
    return model in _written_here().models


def opened_spaces(tenant_id: uuid.UUID) -> Mapping[str, JointSpace]:
    """The spaces that new vectors of a tenant are made in, by model, the live one first. In no scope.

    One beside that cannot be opened is left out: what lacks vectors of it shows in `missing`. Raises ModelUnavailable
    for the live one.
    """
    now = written(tenant_id)
    found = {now.live: space(now.live, tenant_id)}
    for model in now.beside:
        try:
            found[model] = space(model, tenant_id)
        except ModelUnavailable:
            log.warning("a model beside cannot be opened", extra={"model": model}, exc_info=True)
    return found


# --- A model beside --------------------------------------------------------------------------------------


def begin_dual_write(model: str, *, tenant_id: uuid.UUID | None = None) -> Written:
    """Write a model's vectors beside the live one's from now on. Safe to repeat.

    In no scope (then name the tenant), or in one. Raises ModelUnavailable, and Conflict where it is live already or
    there are as many as may be.
    """
    tenant_id = tenant_id or current_tenant_id()
    space(model, tenant_id)
    with tenant_scope(tenant_id):
        clock = locked_clock()
        if clock.live == model:
            raise Conflict(_("This model answers the searches already."))
        if model not in clock.beside:
            if len(clock.beside) >= MAX_DUAL_WRITE_MODELS:
                raise Conflict(
                    _("There are %(most_beside)s models beside the live one already: %(names)s.")
                    % {"most_beside": MAX_DUAL_WRITE_MODELS, "names": ", ".join(clock.beside)}
                )
            clock.beside = [*clock.beside, model]
        # What is left of an earlier time is still right: whoever changes an asset replaces its vectors of all models.
        clock.retired = [one for one in clock.retired if one != model]
        clock.save(update_fields=["beside", "retired"])
        return _written(clock)


def end_dual_write(model: str) -> None:
    """Write a model's vectors no more; what there is of them goes, by and by (`forget_retired`), with its indexes.

    In the tenant's scope; safe to repeat. Raises Conflict for the live one.
    """
    with tenant_scope(current_tenant_id()):
        _require_idle(live(), model)
        _let_index_go(model)
        clock = locked_clock()
        _require_idle(clock.live, model)
        _retire(clock, model)
        clock.save(update_fields=["beside", "previous", "retired"])


def _require_idle(live: str, model: str) -> None:
    if live == model:
        raise Conflict(_("This model answers the searches; switch to another one first."))


def _retire(clock: VectorClock, model: str) -> None:
    clock.beside = [one for one in clock.beside if one != model]
    clock.previous = "" if clock.previous == model else clock.previous
    if model not in clock.retired:
        clock.retired = [*clock.retired, model]
    forget_gaps(model=model)


def _let_index_go(model: str) -> None:
    """Before the clock is locked: so do those who repair an index."""
    if IndexPointer.objects.filter(model=model).exists():
        lifecycle.demote(model=model)


def forget_retired(tenant_id: uuid.UUID, *, until: float = math.inf) -> int:
    """Delete the vectors of a tenant's retired models; returns how many went. For upkeep, in no scope.

    Each BATCH is a transaction of its own, so that writers wait for none for long. After `until` (monotonic) no other
    is begun.
    """
    removed = 0
    while time.monotonic() < until and (gone := _forget_some(tenant_id)):
        removed += gone
    return removed


def _forget_some(tenant_id: uuid.UUID) -> int:
    with tenant_scope(tenant_id):
        clock = VectorClock.objects.select_for_update().first()
        if clock is None or not clock.retired:
            return 0
        model = clock.retired[0]
        asked = StandingVector.objects.filter(model=model).values_list("pk", flat=True)[:BATCH]
        if gone := StandingVector.objects.filter(pk__in=list(asked))._raw_delete("default"):
            return gone
        ids = list(Vector.objects.filter(model=model).order_by("seq").values_list("pk", flat=True)[:BATCH])
        if len(ids) < BATCH:
            clock.retired = clock.retired[1:]
            clock.save(update_fields=["retired"])
        return Vector.objects.filter(pk__in=ids)._raw_delete("default")


# --- The switch ------------------------------------------------------------------------------------------


def switch(model: str) -> Written:
    """Let a model that is written beside answer the searches, from this transaction's commit on.

    The one before is written on, for `roll_back`. In the tenant's scope; nothing happens where it is live already.
    Raises Missing where it has not seen everything (`extra["missing"]`), NotReady where its index is not there,
    Conflict where it is not written.
    """
    with tenant_scope(current_tenant_id()):
        seen = VectorClock.objects.first()
        if seen is not None and seen.live == model:
            return _written(seen)
        if seen is None or model not in seen.beside:
            raise Conflict(_("The model %(model)s is not written beside the live one.") % {"model": model})
        require_whole(model)
        require_asked(model)
        _require_index(seen.live, model)
        return _switched(model, seen)


def roll_back() -> Written:
    """Let the model before answer again. In the tenant's scope. Raises NotFound where there is none, as `switch`."""
    with tenant_scope(current_tenant_id()):
        seen = VectorClock.objects.first()
        if seen is None or not seen.previous:
            raise NotFound(_("There is no earlier model to roll back to."))
        return switch(seen.previous)


def _require_index(before: str, model: str) -> None:
    if not has_index(before, model):
        raise NotReady(_("The index for %(model)s is not there yet.") % {"model": model})


def has_index(before: str, model: str) -> bool:
    """Whether searches by a model find an index such as that of the one before: where one is needed at all."""
    indexed = dict(IndexPointer.objects.filter(current__isnull=False).values_list("model", "engine"))
    if engine := lifecycle.engine_of(before):
        return indexed.get(model) == engine
    return model in indexed or not lifecycle.is_large(model)


def _switched(model: str, seen: VectorClock) -> Written:
    """What happens under the lock is short: only what was written since `seen` is looked at again."""
    older = "" if seen.previous == model else seen.previous
    if older:
        # One step back is kept, not two.
        _let_index_go(older)
    clock = locked_clock()
    if (clock.live, clock.previous) != (seen.live, seen.previous) or model not in clock.beside:
        raise Conflict(_("Someone else has just changed the models of this workspace."))
    require_whole(model, after=seen.last)
    # Whoever keeps a standing query holds the clock's lock, too.
    require_asked(model)
    before = clock.live
    clock.beside = [before, *(one for one in clock.beside if one != model)]
    clock.live, clock.previous, clock.switched_at = model, before, timezone.now()
    if older:
        _retire(clock, older)
    # Where somebody put the index, that of the next model stays as well.
    if placed := IndexPointer.objects.filter(model=before).values_list("placed", flat=True).first():
        IndexPointer.objects.filter(model=model).update(placed=placed)
    clock.save(update_fields=["live", "previous", "switched_at", "beside", "retired"])
    # What cannot be asked in this model says so from now on.
    said = StandingVector.objects.filter(model=model, standing_query=OuterRef("pk")).values("problem")[:1]
    asked = StandingQuery.objects.filter(vectors__model=model).exclude(problem=F("vectors__problem"))
    StandingQuery.objects.filter(pk__in=asked.values("pk")).update(problem=Subquery(said))
    # What a model could not see has no vectors of it; each asset counts with those of the live one.
    fewer = Vector.objects.filter(model=before).count() - Vector.objects.filter(model=model).count()
    if fewer:
        quotas.give_back(amounts={"vectors": fewer})
    return _written(clock)

"""What a model that is written beside the live one has not seen yet."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.utils.translation import gettext as _

from tenants.datasets.models import Asset
from tenants.errors import NotReady
from tenants.retrieval.models import VectorClock, VectorGap
from tenants.scope import current_tenant_id

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

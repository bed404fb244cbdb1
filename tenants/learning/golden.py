"""Golden queries: what a tenant knows the right answers to."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.utils.translation import gettext as _

from tenants.datasets.metadata import check_text
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_assets, visible_assets
from tenants.errors import Conflict, Invalid
from tenants.events.services import record
from tenants.learning.models import GoldenAnswer, GoldenQuery
from tenants.scope import current_tenant_id, tenant_scope

MAX_QUERIES, MAX_ANSWERS, MAX_TEXT = 1_000, 100, 1_000


def add_golden_query(
    *, text: str = "", asset_id: uuid.UUID | None = None, relevant: Sequence[uuid.UUID], actor: str = ""
) -> GoldenQuery:
    """Store a text or a picture of the tenant's as a query, with the assets that it has to find.

    Raises NotFound for assets that are not there, Invalid, and Conflict where there are as many as may be.
    """
    wanted = list(dict.fromkeys(relevant))
    with tenant_scope(current_tenant_id()):
        require_assets([*wanted, *([asset_id] if asset_id else [])])
        _check(text, asset_id, wanted)
        if GoldenQuery.objects.count() >= MAX_QUERIES:
            raise Conflict(
                _("There are %(queries)s golden queries already; delete some first.")
                % {"queries": MAX_QUERIES}
            )
        row = GoldenQuery.objects.create(text=text, asset_id=asset_id, created_by=actor)
        GoldenAnswer.objects.bulk_create(GoldenAnswer(golden=row, asset_id=one) for one in wanted)
        details = {"relevant": len(wanted)}
        record(actor=actor, verb="golden_query.created", target=str(row.id), details=details)
        return row


def _check(text: str, asset_id: uuid.UUID | None, relevant: Sequence[uuid.UUID]) -> None:
    if bool(text.strip()) == (asset_id is not None):
        raise Invalid(_("A golden query is either a text or a picture."), pointer="/text")
    check_text(text, "/text")
    if len(text) > MAX_TEXT:
        raise Invalid(_("A text has at most %(text)s characters.") % {"text": MAX_TEXT}, pointer="/text")
    if not 1 <= len(relevant) <= MAX_ANSWERS:
        raise Invalid(
            _("1 to %(answers)s assets are relevant.") % {"answers": MAX_ANSWERS}, pointer="/relevant"
        )
    if asset_id in relevant:
        raise Invalid(_("A picture is no answer to itself."), pointer="/relevant")
    if asset_id and not visible_assets().filter(pk=asset_id, modality=Asset.Modality.IMAGE).exists():
        raise Invalid(_("Only a picture can be a query."), pointer="/image")


def delete_golden_query(*, golden_id: uuid.UUID, actor: str = "") -> None:
    with tenant_scope(current_tenant_id()):
        GoldenQuery.objects.filter(pk=golden_id).delete()
        record(actor=actor, verb="golden_query.deleted", target=str(golden_id))

"""What follows from what an item stands at: the asset's state, and the strike of who sent it.

The asset is the pipeline's, which stands above this package: it is called by its name.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.utils.module_loading import import_string

from tenants.datasets.models import Asset
from tenants.moderation import strikes
from tenants.moderation.cases import ALLOW, BLOCK, REVIEW, Case, Standing

APPLY = "tenants.pipeline.audits.effects.apply_decision"
HOLD = "tenants.pipeline.audits.effects.hold"


def follow(case: Case, before: Standing, *, actor: str, rule: str = "") -> Standing:
    """Make asset and strikes what the case stands at now; returns that. Nothing if it stands as before.

    In the caller's transaction, with the case locked. A shadowed or superseded audit changes nothing.
    """
    after = case.standing()
    if after == before or not case.enforced:
        return after
    if before.decision == BLOCK and after.decision == REVIEW:
        _unblock(case, actor)
    _apply(case.audit.id, case.asset_id, after.decision, after.labels, actor)
    if after.decision == REVIEW:
        # Applying a review leaves labels alone; here they go back to what they were.
        for asset in Asset.objects.select_for_update(of=("self",)).filter(pk=case.asset_id):
            asset.labels = asset.labelled(after.labels)
            asset.save(update_fields=["labels"])
    if after.decision == BLOCK and before.decision != BLOCK:
        strikes.add_for(case, rule=rule)
    elif before.decision == BLOCK and after.decision != BLOCK:
        strikes.withdraw(audit_id=case.audit.id)
    return after


def _unblock(case: Case, actor: str) -> None:
    """A block that was undone: the item is held again if its policy quarantines, else shown until it is decided."""
    if not case.document.get("quarantine"):
        _apply(case.audit.id, case.asset_id, ALLOW, (), actor)
    elif asset := Asset.objects.select_for_update(of=("self",)).filter(pk=case.asset_id).first():
        import_string(HOLD)(asset)


def _apply(
    audit_id: uuid.UUID, asset_id: uuid.UUID | None, decision: str, labels: Sequence[str], actor: str
) -> None:
    # Also for an item that is no asset: its content is kept only until it is decided.
    import_string(APPLY)(
        audit_id=audit_id, asset_id=asset_id, decision=decision, labels=list(labels), actor=actor
    )

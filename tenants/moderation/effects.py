"""What follows from what an item stands at: its asset is shown, shown with a label, held back or hidden, and who sent
it gets a strike or loses one. Every step can be taken back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from tenants.accounts import quotas
from tenants.datasets import event_payloads
from tenants.datasets.models import Asset
from tenants.datasets.services import queue_embedding
from tenants.events.services import record
from tenants.moderation import strikes
from tenants.moderation.cases import ALLOW, BLOCK, LABEL, REVIEW, Case, Standing
from tenants.retrieval import query
from tenants.retrieval.index import remove_vectors
from tenants.scope import current_tenant_id, tenant_scope

# Before its audit, where a policy says so; it looks like an asset that is not ready yet.
QUARANTINED = "quarantined"
HIDDEN = Asset.HIDDEN
BLOCKED = {
    "type": "blocked",
    "detail": "Blocked by the content policy. Whoever may moderate can see why, and take it back.",
}


def apply_standing(case: Case, before: Standing, *, actor: str, rule: str = "") -> Standing:
    """Make asset and strikes what the case stands at now; returns that. Nothing if it stands as before.

    In the caller's transaction, with the case locked. A shadowed or superseded audit changes nothing.
    """
    after = case.standing()
    if after == before or not case.enforced:
        return after
    if before.decision == BLOCK and after.decision == REVIEW:
        _unblock(case, actor)
    _apply(case, after.decision, after.labels, actor)
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
        _apply(case, ALLOW, (), actor)
    elif asset := Asset.objects.select_for_update(of=("self",)).filter(pk=case.asset_id).first():
        hold(asset)


def _apply(case: Case, decision: str, labels: Sequence[str], actor: str) -> None:
    # Also for an item that is no asset: its content is kept only until it is decided.
    apply_decision(
        audit_id=case.audit.id, asset_id=case.asset_id, decision=decision, labels=list(labels), actor=actor
    )


# --- The asset ---


def apply_decision(
    *,
    audit_id: uuid.UUID,
    asset_id: uuid.UUID | None,
    decision: str,
    labels: Sequence[str] = (),
    actor: str = "",
) -> None:
    """Make the asset what the decision says. Safe to repeat; nothing happens where the asset is gone.

    `block` takes it out of every search at once and keeps its bytes; `allow` and `label` bring back what was held, by a
    new embedding; `review` holds back only what was quarantined, and adds labels. In the caller's transaction. Raises
    QuotaExceeded where the vectors of a released asset do not fit.
    """
    if asset_id is None:
        return
    with tenant_scope(current_tenant_id()):
        asset = Asset.objects.select_for_update(of=("self",)).filter(pk=asset_id).first()
        if asset is None:
            return
        before = asset.moderation
        if decision in (ALLOW, LABEL):
            asset.labels = asset.labelled(labels)
        elif decision == REVIEW:
            # What it is shown with as long as it waits: rules that label have fired, whatever a person decides later.
            asset.labels = asset.labelled((*asset.labels, *labels))
        if decision == BLOCK:
            _hide(asset)
        elif decision == REVIEW:
            asset.moderation = before if before in HIDDEN else REVIEW
            asset.save(update_fields=["moderation", "labels"])
        else:
            _show(asset, decision)
        if asset.moderation != before:
            details = {"before": before, "after": asset.moderation, "audit": str(audit_id)}
            record(actor=actor, verb="asset.moderated", target=str(asset.id), details=details)


def _hide(asset: Asset) -> None:
    if asset.moderation == BLOCK:
        return
    asset.moderation, asset.status, asset.error = BLOCK, Asset.State.FAILED, BLOCKED
    _take_out(asset)
    event_payloads.failed(asset, BLOCKED)


def _take_out(asset: Asset) -> None:
    # An embedding under way finds that it is out of date, and stores nothing.
    asset.revision += 1
    asset.save(update_fields=["moderation", "labels", "status", "error", "revision"])
    vectors = remove_vectors(asset_ids=[asset.id])
    query.remove_texts([asset.id])
    quotas.give_back(amounts={"vectors": vectors})


def hold(asset: Asset) -> None:
    """Take a shown asset out of every search until its audit has decided. The asset is locked by the caller."""
    asset.moderation, asset.status, asset.error = QUARANTINED, Asset.State.PENDING, None
    _take_out(asset)


def _show(asset: Asset, decision: str) -> None:
    held = asset.moderation in HIDDEN
    asset.moderation = decision
    if held:
        asset.status, asset.error = Asset.State.PENDING, None
        asset.revision += 1
    asset.save(update_fields=["moderation", "labels", "status", "error", "revision"])
    if held:
        queue_embedding(asset, 1)

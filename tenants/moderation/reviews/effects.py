"""What follows from a decision: the asset's state, strikes of the sender, copies on a list, and webhooks' events."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import quotas
from tenants.datasets import event_payloads
from tenants.datasets.models import Asset
from tenants.datasets.services import queue_embedding
from tenants.errors import Conflict
from tenants.events import webhooks
from tenants.events.services import record
from tenants.moderation.models import (
    Appeal,
    Audit,
    AuditRequest,
    Evidence,
    Outcome,
    PolicyVersion,
    Review,
    Strike,
)
from tenants.moderation.reviews.cases import ALLOW, BLOCK, LABEL, REVIEW, Case, EffectiveDecision
from tenants.retrieval import query
from tenants.retrieval.index import remove_vectors
from tenants.scope import current_tenant_id, tenant_scope

DAYS = 90


def add_strike(*, audit: Audit, subject: str, rule: str = "", days: float | None = None) -> Strike | None:
    """Count the audit against who sent its item; once, however often it is called. None without a subject.

    `days`: how long it counts; by default what the audit's policy says.
    """
    if not subject:
        return None
    expires = timezone.now() + dt.timedelta(days=days or _days(audit))
    # Again after a withdrawal: the same row counts anew.
    Strike.objects.bulk_create(
        [Strike(audit=audit, subject=subject, rule=rule, expires_at=expires)],
        update_conflicts=True,
        unique_fields=["tenant", "audit"],
        update_fields=["withdrawn_at", "expires_at", "rule"],
    )
    return Strike.objects.get(audit=audit)


def add_strike_for(case: Case, *, rule: str = "") -> None:
    add_strike(audit=case.audit, subject=subject_of(case.audit.id), rule=rule, days=_days_in(case.document))


def withdraw_strike(*, audit_id: uuid.UUID) -> int:
    """The block was taken back: its strike counts no more."""
    return Strike.objects.filter(audit_id=audit_id, withdrawn_at=None).update(withdrawn_at=timezone.now())


def counting_strikes() -> QuerySet[Strike]:
    return Strike.objects.filter(withdrawn_at=None, expires_at__gt=timezone.now())


def count_strikes(*, subject: str) -> int:
    """The strikes of a subject that count now."""
    return counting_strikes().filter(subject=subject).count() if subject else 0


def subject_of(audit_id: uuid.UUID) -> str:
    """Who sent the item of an audit; empty where nobody said so, or where it was erased."""
    asked = AuditRequest.objects.filter(pk=audit_id).values_list("subject", flat=True).first()
    if asked:
        return asked
    document = Evidence.objects.filter(audit_id=audit_id).values_list("document", flat=True).first() or {}
    return str((document.get("item") or {}).get("subject") or "")


def erase_strikes_about(items: Collection[uuid.UUID]) -> int:
    """Forget the strikes for these assets, as when all that a person sent is erased; returns how many."""
    audits = Audit.objects.filter(item__in=items).values("pk")
    return Strike.objects.filter(audit__in=audits).delete()[0]


def _days(audit: Audit) -> float:
    version = PolicyVersion.objects.filter(pk=audit.policy_version).first()
    return _days_in(version.document if version else {})


def _days_in(document: Mapping[str, Any]) -> float:
    return float((document.get("strikes") or {}).get("expire_days") or DAYS)


# Before its audit, where a policy says so; it looks like an asset that is not ready yet.
QUARANTINED = "quarantined"

HIDDEN = Asset.HIDDEN

BLOCKED = {
    "type": "blocked",
    "detail": "Blocked by the content policy. Whoever may moderate can see why, and take it back.",
}


def apply_standing(case: Case, before: EffectiveDecision, *, actor: str, rule: str = "") -> EffectiveDecision:
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
        add_strike_for(case, rule=rule)
    elif before.decision == BLOCK and after.decision != BLOCK:
        withdraw_strike(audit_id=case.audit.id)
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


def block_copies(*, case: Case, list_id: uuid.UUID | None, actor: str, note: str) -> uuid.UUID:
    """Put the case's asset on a hash list; the id of what was added, by which it can be taken off again."""
    # Loads the matching of hashes, which most requests never need.
    from tenants.moderation import known_content

    if case.asset_id is None:
        raise Conflict(_("The item is no longer an asset, so its copies cannot be found."))
    return known_content.add_asset_copies(
        asset_id=case.asset_id, list_id=list_id, note=note[: known_content.MAX_NOTE], actor=actor
    )


def unblock_copies(item_id: uuid.UUID, *, actor: str) -> None:
    """Take what was added off its list again, and let its copies go that were blocked because of it."""
    from tenants.moderation import known_content

    known_content.remove_item(item_id=item_id, actor=actor, release=True)


def emit_review_opened(reviews: Iterable[Review]) -> None:
    """Somebody is asked: about a flag, for a second opinion, by an appeal, or again after an undoing."""
    webhooks.emit_all("review.opened", map(_event_payload, reviews))


def emit_review_decided(review: Review, outcome: Outcome) -> None:
    webhooks.emit(
        "review.decided", {**_event_payload(review), "outcome": outcome.id, "decision": outcome.decision}
    )


def emit_appeal(appeal: Appeal) -> None:
    """An appeal waits (again, where its decision was undone), or was decided."""
    decided = appeal.state != Appeal.State.OPEN
    webhooks.emit(
        "appeal.decided" if decided else "appeal.opened",
        {
            "appeal": appeal.id,
            "audit": appeal.audit_id,
            "asset": appeal.asset_id,
            "review": appeal.review_id,
            "state": str(appeal.state),
        },
    )


def _event_payload(review: Review) -> dict[str, object]:
    return {
        "review": review.id,
        "audit": review.audit_id,
        "asset": review.asset_id,
        "kind": str(review.kind),
        "rule": review.rule,
    }

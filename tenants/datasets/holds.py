"""Legal holds: what may not be erased or changed, because a court or somebody's duty to preserve says so.

A hold stands over one dataset, or over the whole tenant, until it is released. The services ask here before they erase;
triggers of the database refuse what did not ask (migration 0013).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from django.db import IntegrityError, connection
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts.models import Tenant
from tenants.datasets import metadata
from tenants.datasets.models import Dataset, LegalHold
from tenants.datasets.selectors import require_dataset
from tenants.datasets.shapes import LegalHold as HoldShape
from tenants.errors import Conflict, Held, Invalid, NotAllowed, NotFound
from tenants.events.models import TenantErasure
from tenants.events.services import record
from tenants.scope import current_tenant_id, tenant_scope

MAX_REASON, MAX_REFERENCE = 1000, 200
# What the triggers raise: restrict_violation.
REFUSED = "23001"
# An advisory lock of each tenant: shared by whoever erases, exclusive to whoever sets a hold, so that no erasure that
# saw none is under way when the hold is answered.
LOCK = 0x0C05_1E6A


def set_hold(
    *,
    reason: str,
    reference: str = "",
    dataset_id: uuid.UUID | None = None,
    actor: str,
    by_operator: bool = False,
) -> LegalHold:
    """From now on nothing of the dataset is erased, or without one nothing of the tenant. Raises Invalid, NotFound, and
    Conflict while the tenant is being erased."""
    fields = {
        "reason": _checked(reason, "/reason", 1, MAX_REASON),
        "reference": _checked(reference, "/reference", 0, MAX_REFERENCE),
    }
    with tenant_scope(current_tenant_id()):
        if dataset_id is not None:
            require_dataset(dataset_id)
        _lock(shared=False)
        Tenant.objects.select_for_update(no_key=True).get(pk=current_tenant_id())
        if TenantErasure.objects.filter(erased_tenant=current_tenant_id(), finished_at=None).exists():
            raise Conflict(_("This workspace is being erased. A hold would come too late."))
        hold = LegalHold.objects.create(
            **fields, dataset_id=dataset_id, set_by=actor, by_operator=by_operator
        )
        record(actor=actor, verb="hold.set", target=str(hold.id), details=_told(hold))
    return hold


def release_hold(
    *, hold_id: uuid.UUID, actor: str, owner: bool = False, by_operator: bool = False
) -> LegalHold:
    """What it held may be erased again; upkeep takes up what waited. Raises NotFound, NotAllowed, Conflict."""
    with tenant_scope(current_tenant_id()):
        hold = LegalHold.objects.select_for_update().filter(pk=hold_id).first()
        if hold is None:
            raise NotFound(_("This hold does not exist."))
        if not (owner or by_operator):
            raise NotAllowed(_("Only an owner of this workspace, or the operator, releases a hold."))
        if hold.by_operator and not by_operator:
            raise NotAllowed(_("The operator of this installation set this hold, and alone releases it."))
        if hold.released_at is not None:
            raise Conflict(_("This hold was released already."))
        hold.released_at, hold.released_by = timezone.now(), actor
        hold.save(update_fields=["released_at", "released_by"])
        record(actor=actor, verb="hold.released", target=str(hold.id), details=_told(hold))
    return hold


def _told(hold: LegalHold) -> dict[str, str | None]:
    return {"dataset": str(hold.dataset_id) if hold.dataset_id else None, "reference": hold.reference}


def _checked(text: str, pointer: str, least: int, most: int) -> str:
    kept = text.strip()
    if not least <= len(kept) <= most:
        raise Invalid(
            _("%(least)s to %(most)s characters.") % {"least": least, "most": most}, pointer=pointer
        )
    metadata.check_text(kept, pointer)
    return kept


# --- What is held ----------------------------------------------------------------------------------------


def list_holds() -> QuerySet[LegalHold]:
    """The active tenant's, the newest first; released ones, too."""
    return LegalHold.objects.order_by("-id")


def get_hold(hold_id: uuid.UUID | None) -> LegalHold:
    """Raises NotFound."""
    hold = LegalHold.objects.filter(pk=hold_id).first()
    if hold is None:
        raise NotFound(_("This hold does not exist."))
    return hold


def hold_shape(hold: LegalHold) -> HoldShape:
    """The hold in the shape of the API."""
    return HoldShape(
        id=str(hold.id),
        dataset=str(hold.dataset_id) if hold.dataset_id else None,
        reason=hold.reason,
        reference=hold.reference,
        set_by=hold.set_by,
        by_operator=hold.by_operator,
        created_at=hold.created_at,
        released_at=hold.released_at,
        released_by=hold.released_by or None,
    )


def _standing() -> QuerySet[LegalHold]:
    return LegalHold.objects.filter(released_at=None)


def is_held(dataset_id: uuid.UUID) -> bool:
    return _standing().filter(Q(dataset_id=None) | Q(dataset_id=dataset_id)).exists()


def held_datasets() -> QuerySet[Dataset]:
    """The active tenant's datasets of which nothing may be erased."""
    if _standing().filter(dataset_id=None).exists():
        return Dataset.objects.all()
    return Dataset.objects.filter(pk__in=_standing().values("dataset_id"))


# --- Before something is erased --------------------------------------------------------------------------


def refuse_held(dataset_ids: Collection[uuid.UUID | None]) -> None:
    """To be called in the transaction that erases or changes something of these datasets of the active tenant.

    Raises Held. A hold that is asked for meanwhile waits for the end of the transaction.
    """
    _lock(shared=True)
    wanted = Q(dataset_id=None) | Q(dataset_id__in=[one for one in dataset_ids if one])
    if hold := _standing().filter(wanted).order_by("id").first():
        raise Held(_reason(hold), hold=str(hold.id))


def refuse_held_tenant() -> None:
    """Before the whole active tenant goes. Raises Held for a hold over anything of it."""
    _lock(shared=True)
    if hold := _standing().order_by("id").first():
        raise Held(_reason(hold), hold=str(hold.id))


def _reason(hold: LegalHold) -> str:
    who = _("the operator of this installation") if hold.by_operator else _("an owner of this workspace")
    return _(
        "This is under legal hold since %(day)s (reference: %(reference)s), so that nothing of it may be erased or "
        "changed. It can be once %(who)s has released the hold."
    ) % {"day": f"{hold.created_at:%Y-%m-%d}", "reference": hold.reference or "–", "who": who}


@contextmanager
def refusals_explained() -> Iterator[None]:
    """The refusal of a trigger as Held: of whoever erases without having asked here."""
    try:
        yield
    except IntegrityError as error:
        if getattr(error.__cause__, "pgcode", None) != REFUSED:
            raise
        raise Held(
            _("This is under legal hold, so that nothing of it may be erased until the hold is released.")
        ) from error


def _lock(*, shared: bool) -> None:
    name = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {name}(%s, hashtext(%s))", [LOCK, str(current_tenant_id())])

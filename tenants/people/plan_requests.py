"""Requests for more: a workspace asks for a plan, a limit or what its note says; an operator grants or declines.

One is open at a time. Both sides stand in the audit log and in the operators' log; who asked is told by mail and on the
page where they asked.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts.models import RESOURCES, Plan, PlanRequest, Tenant, User
from tenants.accounts.operators import Operator, record_act
from tenants.accounts.permissions import Actor
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.people import letters, tenancies
from tenants.scope import current_tenant_id, tenant_scope

PART = "requests"
MAX_WORDS = 1000
# Kept to be shown, of each workspace.
SHOWN = 10
ABSENT = gettext_noop("This request does not exist.")
ANSWERED = gettext_noop("This request is no longer waiting for an answer.")


def is_on() -> bool:
    return settings.SELF_SERVICE.has(PART)


def require_on() -> None:
    """Raises NotFound where the installation does not offer it."""
    if not is_on():
        raise NotFound(_("On this installation nothing is asked for here."))


# --- What a workspace asks -----------------------------------------------------------------------------------


def offered_plans() -> QuerySet[Plan]:
    """Those that operators offer, but for the active tenant's own."""
    mine = Tenant.objects.filter(pk=current_tenant_id()).values("plan")
    return Plan.objects.filter(offered=True).exclude(pk__in=mine).order_by("name", "slug")


def list_requests() -> QuerySet[PlanRequest]:
    """The active tenant's, newest first."""
    return _rows().filter(tenant=current_tenant_id()).order_by("-id")


def _rows() -> QuerySet[PlanRequest]:
    return PlanRequest.objects.select_related("tenant__plan", "plan", "asked_by", "answered_by")


def ask(
    *, actor: Actor, plan: str = "", resource: str = "", amount: float | None = None, note: str
) -> PlanRequest:
    """Ask the operators. Raises Invalid, NotAllowed for who is no member, Conflict while a request is open."""
    note = checked_words(note, "/note")
    with tenant_scope(current_tenant_id()):
        lock_members()
        if actor.user_id is None:
            raise NotAllowed(_("Only members of the workspace ask for more."))
        chosen = offered_plans().filter(slug=plan).first() if plan else None
        if plan and chosen is None:
            raise Invalid(_("This plan does not exist."), pointer="/plan")
        _check_limit(resource, amount)
        try:
            with transaction.atomic():
                row = PlanRequest.objects.create(
                    tenant_id=current_tenant_id(),
                    asked_by_id=actor.user_id,
                    plan=chosen,
                    resource=resource,
                    amount=amount,
                    note=note,
                )
        except IntegrityError as error:
            raise Conflict(
                _("A request is open already. Withdraw it first, or wait for its answer.")
            ) from error
        record(actor=actor.label, verb="plan.requested", target=str(row.id), details=_told(row))
    return row


def _check_limit(resource: str, amount: float | None) -> None:
    if not resource and amount is None:
        return
    if resource not in RESOURCES:
        raise Invalid(_("Choose what should be more."), pointer="/resource")
    if amount is None:
        raise Invalid(_("Say how much it should be."), pointer="/amount")
    try:
        tenancies.checked_ceilings({resource: amount})
    except Invalid as error:
        raise Invalid(error.detail, pointer="/amount") from error


def _told(row: PlanRequest) -> dict[str, Any]:
    wanted = {"plan": row.plan_id, "resource": row.resource, "amount": row.amount}
    return {name: value for name, value in wanted.items() if value not in (None, "")}


def checked_words(text: str, pointer: str) -> str:
    """Raises Invalid for none, or too many."""
    text = text.replace("\0", "").strip()
    if not text:
        raise Invalid(_("Write a few words."), pointer=pointer)
    if len(text) > MAX_WORDS:
        raise Invalid(_("At most %(most)s characters.") % {"most": MAX_WORDS}, pointer=pointer)
    return text


def get_own(request_id: uuid.UUID | None) -> PlanRequest:
    """One of the active tenant's. Raises NotFound."""
    row = list_requests().filter(pk=request_id).first() if request_id else None
    if row is None:
        raise NotFound(_(ABSENT))
    return row


def withdraw(*, actor: Actor, request_id: uuid.UUID | None = None) -> None:
    """End the open request. Raises NotFound where there is none, Conflict where `request_id` names another."""
    with tenant_scope(current_tenant_id()):
        row = PlanRequest.objects.select_for_update().filter(tenant=current_tenant_id(), state="open").first()
        if request_id is not None and (row is None or row.pk != request_id):
            raise Conflict(_(ANSWERED), state=get_own(request_id).state)
        if row is None:
            raise NotFound(_("There is no open request."))
        row.state, row.answered_at = PlanRequest.State.WITHDRAWN, timezone.now()
        row.save(update_fields=["state", "answered_at"])
        record(actor=actor.label, verb="plan.request_withdrawn", target=str(row.id))


# --- What operators answer -----------------------------------------------------------------------------------


def list_all(*, is_open: bool) -> QuerySet[PlanRequest]:
    """Of all tenants: those that wait, the oldest first; or those that were answered, the newest first."""
    rows = _rows().filter(state="open") if is_open else _rows().exclude(state="open")
    return rows.order_by("id" if is_open else "-id")


def get_request(request_id: uuid.UUID) -> PlanRequest:
    """Raises NotFound."""
    row = _rows().filter(pk=request_id).first()
    if row is None:
        raise NotFound(_(ABSENT))
    return row


@transaction.atomic
def grant(
    *,
    by: Operator,
    label: str,
    request_id: uuid.UUID,
    plan: str,
    exceptions: Mapping[str, float | None],
    words: str = "",
) -> PlanRequest:
    """Put the tenant on this plan, with these limits of its own, and tell who asked.

    Raises NotFound, Invalid, Conflict where it was answered already.
    """
    row = _locked(request_id)
    slug = row.tenant.slug
    if plan != row.tenant.plan_id:
        tenancies.change_plan(by=by, label=label, slug=slug, plan=plan)
    if dict(exceptions) != row.tenant.exceptions:
        tenancies.set_exceptions(by=by, label=label, slug=slug, exceptions=exceptions)
    return _answer(row, by, label, PlanRequest.State.GRANTED, words.strip()[:MAX_WORDS])


@transaction.atomic
def decline(*, by: Operator, label: str, request_id: uuid.UUID, words: str) -> PlanRequest:
    """Raises NotFound, Invalid without words, Conflict where it was answered already."""
    words = checked_words(words, "/words")
    return _answer(_locked(request_id), by, label, PlanRequest.State.DECLINED, words)


def _locked(request_id: uuid.UUID) -> PlanRequest:
    """Of two operators at once the second finds it answered."""
    found = get_request(request_id)
    tenancies.locked(found.tenant.slug)
    row = PlanRequest.objects.select_for_update().select_related("tenant__plan").get(pk=request_id)
    if row.state != PlanRequest.State.OPEN:
        raise Conflict(_(ANSWERED), state=row.state)
    return row


def _answer(row: PlanRequest, by: Operator, label: str, state: str, words: str) -> PlanRequest:
    row.state, row.words, row.answered_at = state, words, timezone.now()
    row.answered_by = User.objects.filter(email=by.email).first()
    row.save(update_fields=["state", "words", "answered_at", "answered_by"])
    record_act(by=by, verb=f"request.{state}", target=row.tenant.slug, details={"request": str(row.id)})
    with tenant_scope(row.tenant_id):
        record(actor=label, verb=f"plan.request_{state}", target=str(row.id))
    if row.asked_by_id is not None:
        granted = state == PlanRequest.State.GRANTED
        letters.write(
            tenant=row.tenant,
            users=[row.asked_by_id],
            kind=letters.GRANTED if granted else letters.DECLINED,
            about=str(row.id),
            details={"words": words},
        )
    return row

"""A tenant's approval of what operators do with its data, where its owners ask for that.

Without one, operators do not act in the tenant, take its data out, invite an owner, delete it or read what its jobs
say. Suspending, resuming, plans, limits and starting failed jobs again stay possible: they keep the installation alive
and show no content. A tenant without an owner who could answer binds nobody, or nobody could help it; one that is
suspended binds operators, or they would suspend it to get in.

Every change here, and everything that needs an approval, holds the tenant's row: what begins while an approval ends is
seen by the one that comes second.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts import mail
from tenants.accounts.models import (
    Acting,
    Invitation,
    Membership,
    OperatorRequest,
    Tenant,
    User,
)
from tenants.accounts.operators import Operator, checked_reason, label_of, record_act
from tenants.accounts.permissions import Actor
from tenants.accounts.security import security_of
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.jobs.models import Job
from tenants.people.security import get_security
from tenants.scope import current_tenant_id, tenant_scope

TASK = "workers.mail_operator_request"
# How long a request waits for its answer, and how long an approval may hold.
ANSWERED_WITHIN = dt.timedelta(days=7)
LEAST_MINUTES, MOST_MINUTES = 5, 7 * 24 * 60
FULL, READ = Acting.Access.FULL, Acting.Access.READ
HIDDEN = gettext_noop("This tenant requires approval before operators read this.")


# --- What owners decide --------------------------------------------------------------------------------------


def require_approval(*, actor: Actor, required: bool) -> None:
    """Have operators ask from now on, or no longer. Who acts without an approval stops at once.

    Raises NotAllowed for who is no owner, and for API keys.
    """
    with tenant_scope(current_tenant_id()):
        _check_owner(actor)
        _check_signed_in(actor)
        row = get_security()
        if row.operator_approval == required:
            return
        row.operator_approval = required
        row.save()
        record(
            actor=actor.label,
            verb="security.changed",
            details={"operator_approval": [not required, required]},
        )
        if required:
            _stop_acting(Acting.objects.filter(tenant=row.tenant_id))
            _revoke_operators_invitations(row.tenant_id)


def _revoke_operators_invitations(tenant_id: uuid.UUID) -> None:
    """To become an owner: no member made them, and whoever holds the link need ask nobody any more."""
    unmade = Invitation.objects.filter(tenant=tenant_id, role="owner", invited_by=None)
    unmade.filter(accepted_at=None, revoked_at=None).update(revoked_at=timezone.now())


def list_requests() -> QuerySet[OperatorRequest]:
    """The active tenant's, newest first."""
    rows = OperatorRequest.objects.filter(tenant=current_tenant_id())
    return rows.select_related("operator").order_by("-id")


def get_request(request_id: uuid.UUID | None) -> OperatorRequest:
    """A request of the active tenant. Raises NotFound."""
    found = list_requests().filter(pk=request_id).first() if request_id else None
    if found is None:
        raise NotFound(_("This request does not exist."))
    return found


def count_waiting() -> int:
    """Requests of the active tenant that an owner has to answer."""
    return list_requests().filter(answer="", until__gt=timezone.now()).count()


def answer(*, actor: Actor, request_id: uuid.UUID, approve: bool) -> OperatorRequest:
    """Approve or deny a request that waits.

    Raises NotFound, NotAllowed for who is no owner, and for an approval by a key or of one's own request, Conflict.
    """
    with tenant_scope(current_tenant_id()):
        row = _locked_request(actor, request_id)
        if row.state != OperatorRequest.PENDING:
            raise Conflict(_("This request is no longer waiting for an answer."), state=row.state)
        if approve:
            _check_signed_in(actor)
            if row.operator_id == actor.user_id:
                raise NotAllowed(_("Another owner has to approve your own request."))
            row.until = timezone.now() + dt.timedelta(minutes=row.minutes)
        _note_answer(
            row, actor, OperatorRequest.Answer.APPROVED if approve else OperatorRequest.Answer.DENIED
        )
    return row


def revoke(*, actor: Actor, request_id: uuid.UUID) -> OperatorRequest:
    """Take an approval back: the operator stops at once. Raises NotFound, NotAllowed for who is no owner, Conflict."""
    with tenant_scope(current_tenant_id()):
        row = _locked_request(actor, request_id)
        if row.state != OperatorRequest.Answer.APPROVED:
            raise Conflict(_("This request is not approved, or its approval has ended."), state=row.state)
        _stop_acting(Acting.objects.filter(tenant=row.tenant_id, operator=row.operator_id))
        _note_answer(row, actor, OperatorRequest.Answer.REVOKED)
    return row


def _locked_request(actor: Actor, request_id: uuid.UUID) -> OperatorRequest:
    """Of two owners who answer at once the second sees the answer of the first."""
    _check_owner(actor)
    return get_request(request_id)


def _note_answer(row: OperatorRequest, actor: Actor, given: OperatorRequest.Answer) -> None:
    row.answer = given
    row.save(update_fields=["answer", "until"])
    details = {"operator": row.operator.email, "access": row.access}
    if given == OperatorRequest.Answer.APPROVED:
        details["until"] = row.until.isoformat(timespec="seconds")
    record(actor=actor.label, verb=f"operators.{given}", target=str(row.id), details=details)


def _check_owner(actor: Actor) -> None:
    """Hold the tenant, and raise NotAllowed for who is no owner now. An operator who acts there is nobody's member."""
    lock_members()
    if actor.user_id is None or not _owners([current_tenant_id()]).filter(user=actor.user_id).exists():
        raise NotAllowed(_("Only owners decide what operators may do here."))


def _check_signed_in(actor: Actor) -> None:
    """Raise NotAllowed for a key: it never has an owner's rights over people, and can only take away."""
    if actor.label.startswith("key:"):
        raise NotAllowed(_("An owner approves this signed in to the console, and not by an API key."))


def _owners(tenant_ids: Iterable[uuid.UUID]) -> QuerySet[Membership]:
    """Who could answer: owners who may sign in."""
    return Membership.objects.filter(tenant__in=tenant_ids, role="owner", user__is_active=True)


def _stop_acting(rows: QuerySet[Acting]) -> None:
    """Upkeep writes the lines in the logs (`impersonation.end_expired`), as it does for time that has passed."""
    rows.filter(ended_at=None, until__gt=timezone.now()).update(until=timezone.now())


# --- What operators ask --------------------------------------------------------------------------------------


def is_required(tenant: Tenant) -> bool:
    """Whether operators need the tenant's approval: its owners want it, and there is one to give it."""
    return security_of(tenant).operator_approval and _owners([tenant.id]).exists()


@transaction.atomic
def request_approval(
    *, by: Operator, user: User, tenant: Tenant, access: str, reason: str, minutes: int
) -> OperatorRequest:
    """Ask a tenant's owners, in place of an earlier request that waits; a letter tells them where e-mail works.

    Raises Invalid, Conflict where the tenant asks for no approval.
    """
    if access not in Acting.Access.values:
        raise Invalid(_("Choose whether to look only, or also to change."), pointer="/access")
    if not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        words = _("Choose %(least)s to %(most)s minutes.")
        raise Invalid(words % {"least": LEAST_MINUTES, "most": MOST_MINUTES}, pointer="/minutes")
    reason = checked_reason(reason)
    with tenant_scope(tenant.id):
        lock_members()
        if not is_required(tenant):
            raise Conflict(_("This tenant requires no approval."))
        OperatorRequest.objects.filter(tenant=tenant, operator=user, answer="").delete()
        row = OperatorRequest.objects.create(
            tenant=tenant,
            operator=user,
            access=access,
            reason=reason,
            minutes=minutes,
            until=timezone.now() + ANSWERED_WITHIN,
        )
        details: dict[str, Any] = {"access": access, "minutes": minutes}
        record_act(by=by, verb="operators.requested", target=tenant.slug, reason=reason, details=details)
        record(
            actor=label_of(user),
            verb="operators.requested",
            target=str(row.id),
            details={**details, "reason": reason},
        )
    if mail.configured():
        transaction.on_commit(partial(mail.send, TASK, str(row.id)))
    return row


def latest_request(tenant: Tenant, by: Operator) -> OperatorRequest | None:
    """The operator's newest request of this tenant."""
    return OperatorRequest.objects.filter(tenant=tenant, operator__email=by.email).order_by("-id").first()


def check(tenant: Tenant, by: Operator, access: str) -> dt.datetime | None:
    """Until when the operator's approval holds, None where none is required. Raises NotAllowed without one.

    The caller holds the tenant's row, and has not read its settings before it did.
    """
    if not is_required(tenant):
        return None
    until = approved_until(tenant, by, access)
    if until is None:
        raise NotAllowed(
            _(
                "This tenant requires approval first. On its page, under “Act as this tenant”, ask its owners with a "
                "reason and a duration. To change, export, invite an owner or delete, ask for “Look and change”."
            )
        )
    return until


def approved_until(tenant: Tenant, by: Operator, access: str = READ) -> dt.datetime | None:
    """The end of the operator's approval that lasts longest; one to change is one to look as well."""
    rows = _in_force(by).filter(tenant=tenant, **({"access": FULL} if access == FULL else {}))
    return rows.order_by("-until").values_list("until", flat=True).first()


def _in_force(by: Operator) -> QuerySet[OperatorRequest]:
    rows = OperatorRequest.objects.filter(operator__email=by.email, operator__is_staff=True)
    return rows.filter(answer=OperatorRequest.Answer.APPROVED, until__gt=timezone.now())


def hide_content(jobs: Iterable[Job], by: Operator) -> None:
    """Take out of jobs what they say of content, where their tenant has not approved that the operator reads it.

    They come with their tenants and those's settings, so that tenants that ask for nothing cost no query.
    """
    asking = {job.tenant_id for job in jobs if security_of(job.tenant).operator_approval}
    if not asking:
        return
    asking &= set(_owners(asking).values_list("tenant_id", flat=True))
    asking -= set(_in_force(by).filter(tenant__in=asking).values_list("tenant_id", flat=True))
    for job in jobs:
        if job.tenant_id in asking:
            job.error = {**job.error, "detail": HIDDEN} if job.error else job.error
            job.traceback = _(HIDDEN)


# --- The letter to owners ------------------------------------------------------------------------------------


def mail_request(request_id: uuid.UUID) -> None:
    """Tell the owners. The body of a task."""
    row = OperatorRequest.objects.select_related("tenant", "operator").filter(pk=request_id).first()
    if row is None or row.state != OperatorRequest.PENDING:
        return
    workspace = mail.single_line(row.tenant.name)

    def write() -> tuple[str, str]:
        text = _(
            "%(operator)s, operator of this installation of Crosslight, asks to work in the workspace %(workspace)s:"
            "\n\n    %(access)s, %(minutes)s min\n    %(reason)s\n\nNothing happens before an owner answers. The "
            "request ends by itself in seven days. To approve or deny it:\n\n%(link)s"
        )
        return _("An operator asks for your approval"), text % {
            "operator": row.operator.email,
            "workspace": workspace,
            "access": _("View and change") if row.access == FULL else _("View only"),
            "minutes": row.minutes,
            "reason": mail.single_line(row.reason, len(row.reason)),
            "link": f"{settings.BASE_URL}/security/operators",
        }

    owners = _owners([row.tenant_id]).values("user")
    mail.send_to_each(User.objects.filter(pk__in=owners).order_by("email"), write)

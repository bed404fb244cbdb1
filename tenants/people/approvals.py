"""A tenant's approval of what operators do with its data, where its owners ask for that.

Without one, operators who are bound by it do not act in the tenant, take its data out, invite an owner, delete it or
read what its jobs say. Suspending, resuming, plans, limits and starting failed jobs again stay possible: they keep the
installation alive and show no content. A tenant without an owner who could answer binds nobody.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterable
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts import mail
from tenants.accounts.models import Acting, Membership, OperatorRequest, Tenant, TenantSecurity, User
from tenants.accounts.operators import Operator, checked_reason, label_of, record_act
from tenants.accounts.permissions import Actor
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.jobs.models import Job
from tenants.people.security import get_security
from tenants.scope import current_tenant_id, tenant_scope

log = logging.getLogger(__name__)

TASK = "workers.mail_operator_request"
# How long a request waits for its answer, and how long an approval may hold.
ANSWERED_WITHIN = dt.timedelta(days=7)
LEAST_MINUTES, MOST_MINUTES = 5, 7 * 24 * 60
FULL, READ = Acting.Access.FULL, Acting.Access.READ
HIDDEN = gettext_noop("This tenant requires approval before operators read this.")


# --- What the tenant asks for --------------------------------------------------------------------------------


def is_asked(tenant: Tenant) -> bool:
    """Whether operators need the tenant's approval: its owners want it, and there is one to give it."""
    wanted = TenantSecurity.objects.filter(tenant=tenant, operator_approval=True).exists()
    return wanted and bool(_owners(tenant.id))


def ask_for_approval(*, actor: Actor, asked: bool) -> None:
    """Ask operators for an approval from now on, or no longer. Who acts without one stops at once.

    Raises NotAllowed for who is no owner.
    """
    with tenant_scope(current_tenant_id()):
        _require_owner(actor)
        row = get_security()
        if row.operator_approval == asked:
            return
        row.operator_approval = asked
        row.save()
        if asked:
            _stop_acting(Acting.objects.filter(tenant=current_tenant_id()))
        record(actor=actor.label, verb="operators.approval_asked", details={"asked": asked})


def list_requests() -> QuerySet[OperatorRequest]:
    """The active tenant's, newest first."""
    rows = OperatorRequest.objects.filter(tenant=current_tenant_id())
    return rows.select_related("operator").order_by("-id")


def get_request(request_id: uuid.UUID | None) -> OperatorRequest:
    """Raises NotFound."""
    found = list_requests().filter(pk=request_id).first() if request_id else None
    if found is None:
        raise NotFound(_("This request does not exist."))
    return found


def count_waiting() -> int:
    """Requests of the active tenant that somebody has to answer."""
    return list_requests().filter(answer="", until__gt=timezone.now()).count()


# --- What owners answer --------------------------------------------------------------------------------------


def answer(*, actor: Actor, request_id: uuid.UUID, approve: bool) -> OperatorRequest:
    """Approve or deny a request that waits. Raises NotFound, NotAllowed for who is no owner, Conflict."""
    with tenant_scope(current_tenant_id()):
        row = _locked_request(actor, request_id)
        if row.state != "pending":
            raise Conflict(_("This request is no longer waiting for an answer."), state=row.state)
        row.answer = OperatorRequest.Answer.APPROVED if approve else OperatorRequest.Answer.DENIED
        if approve:
            row.until = timezone.now() + dt.timedelta(minutes=row.minutes)
        _answered(row, actor, f"operators.{row.answer}")
    return row


def revoke(*, actor: Actor, request_id: uuid.UUID) -> OperatorRequest:
    """Take an approval back: the operator stops at once. Raises NotFound, NotAllowed, Conflict."""
    with tenant_scope(current_tenant_id()):
        row = _locked_request(actor, request_id)
        if row.state != OperatorRequest.Answer.APPROVED:
            raise Conflict(_("This is not approved, or no longer approved."), state=row.state)
        row.answer = OperatorRequest.Answer.REVOKED
        _stop_acting(Acting.objects.filter(tenant=row.tenant_id, operator=row.operator_id))
        _answered(row, actor, "operators.revoked")
    return row


def _locked_request(actor: Actor, request_id: uuid.UUID) -> OperatorRequest:
    _require_owner(actor)
    rows = OperatorRequest.objects.select_for_update(of=("self",)).filter(tenant=current_tenant_id())
    return rows.filter(pk=request_id).first() or get_request(request_id)


def _answered(row: OperatorRequest, actor: Actor, verb: str) -> None:
    row.answered_by, row.answered_at = actor.label[:100], timezone.now()
    row.save(update_fields=["answer", "answered_by", "answered_at", "until"])
    operator = User.objects.get(pk=row.operator_id)
    details = {
        "operator": operator.email,
        "access": row.access,
        "until": row.until.isoformat(timespec="seconds"),
    }
    record(actor=actor.label, verb=verb, target=str(row.id), details=details)


def _require_owner(actor: Actor) -> None:
    """A person who is an owner now, also by a key that they made; no operator who acts in the tenant."""
    lock_members()
    if actor.user_id is None or actor.user_id not in _owners(current_tenant_id()):
        raise NotAllowed(_("Only owners decide what operators may do here."))


def _owners(tenant_id: uuid.UUID) -> dict[uuid.UUID, str]:
    """E-mail addresses of its owners who may sign in, by the person."""
    rows = Membership.objects.filter(tenant=tenant_id, role="owner", user__is_active=True)
    return dict(rows.values_list("user_id", "user__email"))


def _stop_acting(rows: QuerySet[Acting]) -> None:
    """Upkeep writes the lines of what has ended so."""
    rows.filter(ended_at=None, until__gt=timezone.now()).update(until=timezone.now())


# --- What operators ask --------------------------------------------------------------------------------------


@transaction.atomic
def request_approval(
    *, by: Operator, user: User, tenant: Tenant, access: str, reason: str, minutes: int
) -> OperatorRequest:
    """Ask a tenant's owners, who are told by e-mail where that works. In place of an earlier request that waits.

    Raises Invalid, Conflict where the tenant asks for none.
    """
    if access not in Acting.Access.values:
        raise Invalid(_("Choose whether to look only, or also to change."), pointer="/access")
    if not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        words = _("Choose %(least)s to %(most)s minutes.")
        raise Invalid(words % {"least": LEAST_MINUTES, "most": MOST_MINUTES}, pointer="/minutes")
    reason = checked_reason(reason)
    if not is_asked(tenant):
        raise Conflict(_("This tenant requires no approval: you can act immediately."))
    OperatorRequest.objects.filter(tenant=tenant, operator=user, answer="").delete()
    row = OperatorRequest.objects.create(
        tenant=tenant,
        operator=user,
        access=access,
        reason=reason,
        minutes=minutes,
        until=timezone.now() + ANSWERED_WITHIN,
    )
    details = {"access": access, "minutes": minutes}
    record_act(by=by, verb="operator.approval_requested", target=tenant.slug, reason=reason, details=details)
    with tenant_scope(tenant.id):
        record(
            actor=label_of(user),
            verb="operators.requested",
            target=str(row.id),
            details={**details, "reason": reason},
        )
    if mail.configured():
        transaction.on_commit(partial(mail.send, TASK, str(row.id)))
    return row


def latest_request(tenant: Tenant, email: str) -> OperatorRequest | None:
    """The operator's newest request of this tenant."""
    rows = OperatorRequest.objects.filter(tenant=tenant, operator__email=email)
    return rows.order_by("-id").first()


def approved_until(tenant: Tenant, email: str, access: str) -> dt.datetime | None:
    """Until when the operator may do this in the tenant; None: not now."""
    rows = OperatorRequest.objects.filter(tenant=tenant, operator__email=email, operator__is_staff=True)
    rows = rows.filter(answer=OperatorRequest.Answer.APPROVED, until__gt=timezone.now())
    if access == FULL:
        rows = rows.filter(access=FULL)
    return rows.order_by("-until").values_list("until", flat=True).first()


def require(tenant: Tenant, by: Operator, access: str) -> dt.datetime | None:
    """Until when the operator's approval holds, or None where none is asked for. Raises NotAllowed without one."""
    if not is_asked(tenant):
        return None
    until = approved_until(tenant, by.email, access)
    if until is None:
        raise NotAllowed(
            _(
                "This tenant requires approval first. On its page, under “Act as this tenant”, ask "
                "its owners with a reason and a duration (to change, export, invite an owner or "
                "delete: “View and change”); they answer under Security, Operators."
            )
        )
    return until


def hide_content(jobs: Iterable[Job], by: Operator) -> None:
    """Take out of jobs what they say of content, where their tenant asks for an approval that is not there."""
    jobs = [job for job in jobs if job.error or "traceback" in job.__dict__]
    asking = set(
        TenantSecurity.objects.filter(
            tenant__in={job.tenant_id for job in jobs}, operator_approval=True
        ).values_list("tenant_id", flat=True)
    )
    tenants = Tenant.objects.in_bulk(asking)
    closed = {
        one.id for one in tenants.values() if _owners(one.id) and approved_until(one, by.email, READ) is None
    }
    for job in jobs:
        if job.tenant_id in closed:
            job.error = {**job.error, "detail": _(HIDDEN)} if job.error else job.error
            job.traceback = _(HIDDEN)


# --- The letter to owners ------------------------------------------------------------------------------------


def mail_request(request_id: uuid.UUID) -> None:
    """Tell the owners. The body of a task."""
    row = OperatorRequest.objects.select_related("tenant", "operator").filter(pk=request_id).first()
    if row is None or row.state != "pending":
        return
    workspace = mail.one_line(row.tenant.name)

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
            "reason": mail.one_line(row.reason, len(row.reason)),
            "link": f"{settings.BASE_URL}/security/operators",
        }

    mail.send_to_each(User.objects.filter(pk__in=_owners(row.tenant_id)).order_by("email"), write)

"""Invitations: an address may join a tenant with a role, by a link that works once within seven days.

Where e-mail works the link goes to the address and to nobody else: holding it proves that the mailbox is theirs.
Without a mail server it is shown once to whoever invited, who hands it on. Whoever may invite may have a new link made,
which ends the one before.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts import links, mail, names, passwords
from tenants.accounts.models import Acting, Invitation, Membership, Tenant, User
from tenants.accounts.permissions import Actor, may_manage
from tenants.accounts.roles import is_known
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.people import narrowing
from tenants.people.members import check_role, role_now
from tenants.scope import Narrowing, current_tenant_id, tenant_scope

LIFETIME = dt.timedelta(days=7)
MAX_OPEN = 500
MAX_EMAIL = 254
MAX_NAME = 150
OVER = gettext_noop("This invitation is no longer valid. Ask whoever invited you for another.")
OUTLIVED = gettext_noop(
    "This invitation ended when the operator who made it left the workspace. "
    "Ask an owner or admin of the workspace for another."
)
ROLE_GONE = gettext_noop(
    "The role that this invitation gives no longer exists. Ask whoever invited you for another invitation."
)
NOT_NEW = gettext_noop(
    "This address cannot be set up here. If you have an account, sign in with it; the invitation waits."
)


@dataclass(frozen=True)
class Invited:
    """`link` is empty where it was mailed."""

    invitation: Invitation
    link: str


def list_invitations() -> QuerySet[Invitation]:
    """The active tenant's open invitations, newest first."""
    now = timezone.now()
    rows = Invitation.objects.select_related("invited_by", "acting").filter(tenant=current_tenant_id())
    rows = rows.filter(accepted_at=None, revoked_at=None, expires_at__gt=now)
    return rows.filter(Q(acting=None) | Q(acting__ended_at=None, acting__until__gt=now)).order_by("-id")


def get_invitation(invitation_id: uuid.UUID | None) -> Invitation:
    """An open invitation of the active tenant. Raises NotFound."""
    found = list_invitations().filter(pk=invitation_id).first() if invitation_id else None
    if found is None:
        raise NotFound(_("This invitation does not exist."))
    return found


def invite(*, actor: Actor, email: str, role: str, to: Narrowing | None = None) -> Invited:
    """Invite an address, in place of an earlier invitation to it. It does not tell whether the address is known.

    `to`: what they will see of the tenant; None: all of it. What an operator who acts in the tenant makes ends with
    the acting.
    Raises Invalid, NotAllowed for a role that the actor may not give, Conflict for a member of the tenant.
    """
    email = _checked(email)
    token = links.new_token()
    with tenant_scope(current_tenant_id()):
        lock_members()
        check_role(role)
        if not may_manage(role_now(actor), role):
            raise NotAllowed(_("Your role cannot make someone %(role)s.") % {"role": role})
        narrowing.check(to, role)
        if Membership.objects.filter(tenant=current_tenant_id(), user__email=email).exists():
            raise Conflict(_("%(email)s belongs to this workspace already.") % {"email": email})
        for earlier in list_invitations().filter(email=email):
            _revoke(actor, earlier)
        if list_invitations().count() >= MAX_OPEN:
            raise Conflict(
                _("%(open)s invitations are open. Revoke some, or wait until they are accepted.")
                % {"open": MAX_OPEN}
            )
        datasets, queues = narrowing.columns(to)
        invitation = Invitation.objects.create(
            tenant_id=current_tenant_id(),
            email=email,
            role=role,
            datasets=datasets,
            queues=queues,
            digest=links.digest(token),
            **_made_by(actor),
        )
        details: dict[str, object] = {"role": role}
        if datasets is not None or queues is not None:
            details |= narrowing.as_kept(datasets, queues)
        record(actor=actor.label, verb="member.invited", target=str(invitation.id), details=details)
        return _deliver(invitation, token)


def renew_link(*, actor: Actor, invitation_id: uuid.UUID) -> Invited:
    """A new link for an open invitation, whose old link opens nothing any more; from now on it is the actor's.

    Raises NotFound, NotAllowed for a role that the actor may not give.
    """
    token = links.new_token()
    with tenant_scope(current_tenant_id()):
        lock_members()
        invitation = get_invitation(invitation_id)
        _check_reach(actor, invitation)
        changes = {"digest": links.digest(token), "mailed_at": None, **_made_by(actor)}
        Invitation.objects.filter(pk=invitation.pk).update(**changes)
        record(actor=actor.label, verb="invitation.link_renewed", target=str(invitation_id))
        return _deliver(get_invitation(invitation_id), token)


def _made_by(actor: Actor) -> dict[str, object]:
    """Whose an invitation is, and until when it lasts."""
    until = timezone.now() + LIFETIME
    if actor.acting_id is not None:
        until = min(until, Acting.objects.get(pk=actor.acting_id).until)
    return {"invited_by_id": actor.user_id, "acting_id": actor.acting_id, "expires_at": until}


def _deliver(invitation: Invitation, token: str) -> Invited:
    """To the mailbox of the address where e-mail works, else to whoever invites."""
    if mail.configured():
        mail.post_invitation(invitation.id)
        return Invited(invitation, "")
    return Invited(invitation, links.link(links.INVITATION, token))


def _checked(email: str) -> str:
    email = User.objects.normalize_email(email)
    try:
        validate_email(email)
    except ValidationError as error:
        raise Invalid(_("This is not an e-mail address."), pointer="/email") from error
    if len(email) > MAX_EMAIL:
        raise Invalid(
            _("An e-mail address has at most %(email)s characters.") % {"email": MAX_EMAIL}, pointer="/email"
        )
    return email


def revoke_invitation(*, actor: Actor, invitation_id: uuid.UUID) -> None:
    """End an invitation. Raises NotFound, NotAllowed for a role that the actor does not reach."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        _revoke(actor, get_invitation(invitation_id))
        record(actor=actor.label, verb="invitation.revoked", target=str(invitation_id))


def _check_reach(actor: Actor, invitation: Invitation) -> None:
    if not may_manage(role_now(actor), invitation.role):
        raise NotAllowed(_("Your role does not reach invitations for %(role)s.") % {"role": invitation.role})


def _revoke(actor: Actor, invitation: Invitation) -> None:
    _check_reach(actor, invitation)
    Invitation.objects.filter(pk=invitation.pk).update(revoked_at=timezone.now())


def mail_invitation(invitation_id: uuid.UUID) -> None:
    """Mail the link; the body of a task. Run again it mails a new link, which ends the one before."""
    rows = Invitation.objects.select_related("tenant", "invited_by", "acting")
    invitation = rows.filter(pk=invitation_id).first()
    if invitation is None or not invitation.open:
        return
    token = links.new_token()
    Invitation.objects.filter(pk=invitation_id).update(digest=links.digest(token))
    inviter = invitation.invited_by
    mail.send_invitation(
        email=invitation.email,
        inviter=(inviter.name or inviter.email) if inviter else "",
        workspace=invitation.tenant.name,
        until=invitation.expires_at,
        link=links.link(links.INVITATION, token),
    )
    Invitation.objects.filter(pk=invitation_id).update(mailed_at=timezone.now())


# --- Accepting: whoever holds the token ---


def find_by_digest(digest: bytes) -> Invitation:
    """The open invitation to which a token belongs.

    Raises NotFound when it is wrong, used, revoked or too old, or gives a role that its tenant does not have.
    """
    rows = Invitation.objects.select_related("tenant", "invited_by", "acting")
    invitation = rows.filter(digest=digest, tenant__state=Tenant.State.ACTIVE).first()
    if invitation is None or not invitation.open:
        raise NotFound(_(OUTLIVED) if invitation and invitation.outlived else _(OVER))
    if not is_known(invitation.role, invitation.tenant_id):
        raise NotFound(_(ROLE_GONE))
    return invitation


def accept_as_new(*, digest: bytes, name: str, password: str) -> tuple[User, Invitation]:
    """Make the invited person an account and a member. Raises NotFound, Invalid, Conflict for a known address."""
    invitation = find_by_digest(digest)
    name = names.check_name(name, "/name", MAX_NAME)
    workspace = (invitation.tenant.name, invitation.tenant.slug)
    passwords.check(password, User(email=invitation.email, name=name), workspace)
    # Before anything is locked, and for known addresses too, which then take as long to answer.
    hashed = make_password(password)
    with tenant_scope(invitation.tenant_id):
        invitation = _locked_invitation(digest)
        try:
            with transaction.atomic():
                user = User.objects.create(email=invitation.email, name=name, password=hashed)
        except IntegrityError as error:
            raise Conflict(_(NOT_NEW)) from error
        _join(invitation, user)
    return user, invitation


def accept(*, digest: bytes, user: User) -> Invitation:
    """Let a signed-in person join. Raises NotFound, NotAllowed if another address was invited."""
    with tenant_scope(find_by_digest(digest).tenant_id):
        invitation = _locked_invitation(digest)
        if invitation.email != user.email:
            raise NotAllowed(_("This invitation is for another address."))
        _join(invitation, user)
    return invitation


def _locked_invitation(digest: bytes) -> Invitation:
    """The invitation, locked: of two who accept at once the second finds it used."""
    lock_members()
    return find_by_digest(digest)


def _join(invitation: Invitation, user: User) -> None:
    # A member who was made one in another way keeps the role.
    Membership.objects.get_or_create(
        tenant_id=invitation.tenant_id,
        user=user,
        defaults={"role": invitation.role, "datasets": invitation.datasets, "queues": invitation.queues},
    )
    Invitation.objects.filter(pk=invitation.pk).update(accepted_at=timezone.now())
    details = {"role": invitation.role, "invitation": str(invitation.pk)}
    record(actor=str(user.pk), verb="member.joined", target=str(user.pk), details=details)


def forget_ended() -> int:
    """Delete invitations that ended a month ago, as they hold addresses."""
    return Invitation.objects.filter(expires_at__lt=timezone.now() - dt.timedelta(days=30)).delete()[0]

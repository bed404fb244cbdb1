"""The people of a workspace: members, their roles, and invitations."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import labels, narrowing
from console.access import Request, actor_of, needs, page
from console.forms import StyledForm
from console.narrowing import Choices, NarrowingForm
from console.presenters import actor_names
from tenants.accounts import keys, mail
from tenants.accounts.models import ApiKey, Invitation, Membership
from tenants.accounts.operators import OPERATOR
from tenants.accounts.permissions import ADMIN, may_manage, scopes_of
from tenants.accounts.roles import Role, list_roles, narrowing_of
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.events.models import AuditEvent
from tenants.people import invitations, members


class RoleForm(StyledForm):
    """A role; only those are offered that the person may give, and the service refuses the others."""

    role = forms.CharField(label=gettext_lazy("Role"), max_length=40, initial="editor", widget=forms.Select)

    def __init__(self, roles: list[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer_roles(roles)

    def offer_roles(self, roles: list[str]) -> None:
        offered: Any = self.fields["role"].widget
        offered.choices = [(role, labels.label_of(labels.ROLES, role)) for role in roles]


class InviteForm(RoleForm, NarrowingForm):
    """Of the roles, and of the datasets and queues, that are offered."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        widget=forms.EmailInput(attrs={"autocomplete": "off", "placeholder": "ann@example.org"}),
    )
    field_order = ("email", "role")

    def __init__(self, roles: list[str], offered: tuple[Choices, Choices], *args: Any, **kwargs: Any) -> None:
        NarrowingForm.__init__(self, offered, *args, **kwargs)
        self.offer_roles(roles)


# Verbs of the audit log under which an invitation becomes somebody's.
INVITING = ("member.invited", "invitation.link_renewed")

REFUSALS = (Conflict, Invalid, NotAllowed)


@needs(ADMIN)
def index(request: Request) -> HttpResponse:
    return _index(request, {}, 200)


def _index(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        made = keys.live_keys_by_maker()
        known = list_roles()
        offered = _offered(request, known)
        rows = [_row(request, member, made, offered) for member in members.list_members()]
        waiting = _pending_invitations(request, list(invitations.list_invitations()))
        choices = narrowing.offered()
    shown = {
        "rows": rows,
        "invitations": waiting,
        "invite_form": InviteForm(offered, choices),
        "roles": known,
        "by_mail": mail.configured(),
        "without_factor": sum(not row["second_factor"] for row in rows),
    }
    return page(request, "people.html", {**shown, **context}, status=status)


def _pending_invitations(request: Request, waiting: list[Invitation]) -> list[dict[str, Any]]:
    """Invitations with who invites, in the words of the audit log where that is no person. In the tenant's scope."""
    unnamed = [str(one.pk) for one in waiting if one.invited_by is None]
    made = AuditEvent.objects.filter(target__in=unnamed, verb__in=INVITING).order_by("id")
    actors = dict(made.values_list("target", "actor"))
    named = actor_names(actors.values())
    shown = []
    for one in waiting:
        actor = actors.get(str(one.pk), "")
        who = one.invited_by.name or one.invited_by.email if one.invited_by else named.get(actor, "")
        if actor.startswith(OPERATOR):
            who = _("Operator %(email)s") % {"email": actor.removeprefix(OPERATOR)}
        reach = may_manage(request.workspace.role, one.role)
        narrowed = one.datasets is not None or one.queues is not None
        shown.append({"invitation": one, "inviter": who, "reach": reach, "narrowed": narrowed})
    return shown


def _row(
    request: Request, member: Membership, made: dict[uuid.UUID, list[ApiKey]], offered: list[str]
) -> dict[str, object]:
    factor = getattr(member.user, "second_factor", None)
    has_app = factor is not None and factor.confirmed_at is not None
    reach = may_manage(request.workspace.role, member.role)
    return {
        "member": member,
        "second_factor": has_app or member.has_passkey,  # type: ignore[attr-defined]  # of list_members
        "me": member.user_id == request.user.pk,
        "reach": reach,
        "narrowed": narrowing_of(member) is not None,
        "narrowable": reach and ADMIN not in scopes_of(member.role),
        "role_form": RoleForm(offered, initial={"role": member.role}, prefix=str(member.user_id)),
        "keys": made.get(member.user_id, []) if reach else [],
    }


def _offered(request: Request, roles: list[Role]) -> list[str]:
    """Those of the workspace's roles that the person may give."""
    return [role.name for role in roles if may_manage(request.workspace.role, role.name)]


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def invite(request: Request) -> HttpResponse:
    """Not redirected where there is a link: it exists only in this answer."""
    with request.workspace.open():
        form = InviteForm(_offered(request, list_roles()), narrowing.offered(), request.POST)
    if form.is_valid():
        email, role = form.cleaned_data["email"], form.cleaned_data["role"]
        try:
            with request.workspace.open():
                invited = invitations.invite(
                    actor=actor_of(request), email=email, role=role, to=form.narrowing
                )
            return _invited(request, invited)
        except REFUSALS as error:
            form.refuse(error)
    return _index(request, {"invite_form": form, "open_invite": True}, 422)


def _invited(request: Request, invited: invitations.Invited) -> HttpResponse:
    if invited.link:
        context = {"link": invited.link, "link_for": invited.invitation.email, "link_kind": "invitation"}
        return _index(request, context, 201)
    said = _("The invitation to %(email)s is on its way.") % {"email": invited.invitation.email}
    messages.success(request, said)
    return redirect("console:people")


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def renew_invitation(request: Request, invitation_id: uuid.UUID) -> HttpResponse:
    """Not redirected where there is a link: it exists only in this answer."""
    try:
        with request.workspace.open():
            invited = invitations.renew_link(actor=actor_of(request), invitation_id=invitation_id)
    except NotAllowed as error:
        messages.error(request, error.detail)
        return redirect("console:people")
    return _invited(request, invited)


@needs(ADMIN, methods=("POST",))
def revoke_invitation(request: Request, invitation_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        invitations.revoke_invitation(actor=actor_of(request), invitation_id=invitation_id)
    messages.success(request, _("The invitation was revoked. Its link no longer works."))
    return redirect("console:people")


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def change_role(request: Request, user_id: uuid.UUID) -> HttpResponse:
    role = request.POST.get(f"{user_id}-role", "")
    try:
        with request.workspace.open():
            member = members.change_role(actor=actor_of(request), user_id=user_id, role=role)
        who = member.user.name or member.user.email
        messages.success(
            request,
            _("%(who)s is %(role)s now.") % {"who": who, "role": labels.label_of(labels.ROLES, member.role)},
        )
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:people")


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def remove(request: Request, user_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            ended = members.remove_member(actor=actor_of(request), user_id=user_id)
        said = _("The member was removed.")
        if ended:
            said += _(" Revoked with it: %(keys)s.") % {"keys": ", ".join(key.name for key in ended)}
        messages.success(request, said)
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:people")


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def make_link(request: Request, user_id: uuid.UUID) -> HttpResponse:
    """Not redirected: the link exists only in this answer."""
    try:
        with request.workspace.open():
            link = members.make_reset_link(actor=actor_of(request), user_id=user_id)
            user = members.get_member(user_id).user
    except REFUSALS as error:
        messages.error(request, error.detail)
        return redirect("console:people")
    return _index(request, {"link": link, "link_for": user.email, "link_kind": "password"}, 201)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def ask_second_factor(request: Request) -> HttpResponse:
    required = request.POST.get("required") == "yes"
    with request.workspace.open():
        members.require_second_factor(actor=actor_of(request), required=required)
    said = (
        _("This workspace asks all members for two-factor sign-in.")
        if required
        else _("This workspace no longer asks for two-factor sign-in.")
    )
    messages.success(request, said)
    return redirect("console:people")

"""Owners who use their password although single sign-on is enforced: each use is written down, and told."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.mail import send_mass_mail
from django.utils import timezone

from tenants.accounts import mail, sign_on
from tenants.accounts.models import Membership, Tenant, User
from tenants.accounts.permissions import ADMIN, ROLES
from tenants.events.services import record
from tenants.scope import tenant_scope

TASK = "workers.mail_break_glass"
VERB = "sign_on.break_glass_used"
# Of a session: the workspaces that were entered so in it.
NOTED = "break_glass"
LETTER = """\
{who} entered the workspace {workspace} in Crosslight with a password at {when} (UTC), although it asks for single
sign-on. The audit log has the line.

If this was not expected, end that person's sessions and have the password changed.
"""


def note_use(user: User, tenant: Tenant, session: Any) -> None:
    """Write down, once a session, that it opened a workspace past its single sign-on, and tell its admins."""
    noted = session.get(NOTED, [])
    if str(tenant.pk) in noted or not sign_on.uses_break_glass(user, tenant.pk):
        return
    with tenant_scope(tenant.pk):
        record(actor=str(user.pk), verb=VERB, target=str(user.pk))
    session[NOTED] = [*noted, str(tenant.pk)]
    if mail.configured():
        mail.send(TASK, str(tenant.pk), str(user.pk), f"{timezone.now():%Y-%m-%d %H:%M}")


def mail_use(tenant_id: uuid.UUID, user_id: uuid.UUID, when: str) -> None:
    """The letter to everybody who administers the workspace; the body of a task."""
    tenant, user = Tenant.objects.filter(pk=tenant_id).first(), User.objects.filter(pk=user_id).first()
    if tenant is None or user is None:
        return
    text = LETTER.format(who=user.email, workspace=mail.single_line(tenant.name), when=when)
    roles = [role for role, scopes in ROLES.items() if ADMIN in scopes]
    admins = Membership.objects.filter(tenant=tenant_id, role__in=roles, user__is_active=True)
    addresses = admins.order_by("user__email").values_list("user__email", flat=True)
    # Over one connection, opened before the first: a try that fails has mailed nobody yet.
    send_mass_mail(("A password was used past single sign-on", text, None, [one]) for one in addresses)

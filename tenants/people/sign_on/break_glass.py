"""Owners who use their password although single sign-on is enforced: each use is written down, and told."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import mail, sign_on
from tenants.accounts.models import Tenant, User
from tenants.events.services import record
from tenants.scope import tenant_scope

TASK = "workers.mail_break_glass"
VERB = "sign_on.break_glass_used"
# Of a session: the workspaces that were entered so in it.
NOTED = "break_glass"


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
    workspace = mail.single_line(tenant.name)

    def write() -> tuple[str, str]:
        text = _(
            "%(who)s entered the workspace %(workspace)s in Crosslight with a password at %(when)s (UTC), although it "
            "asks for single sign-on. The audit log has the line. If this was not expected, end that person’s sessions "
            "and change the password."
        )
        given = {"who": user.email, "workspace": workspace, "when": when}
        return _("A password was used past single sign-on"), text % given

    mail.send_to_each(mail.admins_of(tenant_id), write)
